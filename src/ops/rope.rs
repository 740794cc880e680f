//! Rotary position embedding (Su et al. 2021) with half-split pairs, as in GPT-NeoX and Llama.

use super::packing::Heads;
use super::{check, outputs::Outputs};
use crate::device::{Arena, IntBuffer, Real, Tensor};
use crate::error::{Error, Result};

/// Rotates the coordinates `j` and `j + r / 2` of each head, `j < r / 2`, by the angle of the row's
/// position: `y_j = x_j cos - x_{j + r/2} sin`, `y_{j + r/2} = x_{j + r/2} cos + x_j sin`. The
/// coordinates from `r` on pass by.
#[derive(Clone, Debug)]
pub struct Args {
    /// `[R * n]` rows of `heads` heads of `d_head` columns: activations, or the tangents or cotangents
    /// of `R` probes.
    pub x: Heads,
    /// Output of the same shape: the heads of `x` themselves, or heads in another buffer.
    pub y: Heads,
    pub heads: usize,
    pub d_head: usize,
    /// `[positions, r / 2]`: cosines of the angles, times a factor where the model has one.
    pub cos: Tensor,
    /// `[positions, r / 2]`: sines, times the same factor.
    pub sin: Tensor,
    /// `[n]`: the position of each row, below the rows of `cos`: whoever fills the buffer has checked
    /// them.
    pub positions: IntBuffer,
    /// The transpose, for cotangents: the sines with the other sign.
    pub inverse: bool,
}

impl Args {
    /// Whether the shapes agree and `y` is `x` or in a buffer of its own.
    pub fn check(&self) -> Result<()> {
        let (op, n, rows) = ("rope", self.positions.len, self.x.view.rows);
        check::probes(op, "x", &self.x.view, n, self.x.view.cols)?;
        self.x.check(op, "x", rows, self.heads, self.d_head)?;
        self.y.check(op, "y", rows, self.heads, self.d_head)?;
        check::tensor(op, "sin", &self.sin, self.cos.rows, self.cos.cols)?;
        if 2 * self.cos.cols > self.d_head {
            let found = format!("{} angles for heads of {} columns", self.cos.cols, self.d_head);
            return Err(Error::shape(op, found, "at most half as many angles as columns"));
        }
        if self.x == self.y { Ok(()) } else { check::apart(op, &[&self.y.view], &[&self.x.view]) }
    }
}

/// Runs [`Args`] on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.y.view]);
    let (half, positions) = (a.cos.cols, m.int(a.positions));
    let (cos, sin) = (a.cos.slice::<T>(), a.sin.slice::<T>());
    let sign = if a.inverse { -T::ONE } else { T::ONE };
    for i in 0..a.x.view.rows {
        let angles = positions[i % positions.len()] as usize * half;
        let (cos, sin) = (&cos[angles..][..half], &sin[angles..][..half]);
        for h in 0..a.heads {
            let y = out.row(&a.y.head(h, a.d_head), i);
            if a.x != a.y {
                y.copy_from_slice(m.row(&a.x.head(h, a.d_head), i));
            }
            let (left, right) = y[..2 * half].split_at_mut(half);
            for ((left, right), (&cos, &sin)) in left.iter_mut().zip(right).zip(cos.iter().zip(sin)) {
                let (l, r, sin) = (*left, *right, sign * sin);
                *left = l * cos - r * sin;
                *right = r * cos + l * sin;
            }
        }
    }
    out.put(m);
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, assert_adjoint, assert_close, numbers, part, read};
    use super::*;
    use crate::device::View;

    const HEADS: usize = 3;
    const D_HEAD: usize = 10;
    const HALF: usize = 4;
    const POSITIONS: [u32; 5] = [0, 1, 2, 0, 6];

    fn table<T: Real>(f: fn(f64) -> f64) -> Tensor {
        let angle = |i: usize| (i / HALF) as f64 * 0.3 / (1.0 + (i % HALF) as f64);
        Tensor::from_f64(T::DTYPE, 7, HALF, (0..7 * HALF).map(|i| f(angle(i))).collect())
    }

    /// Each pair as a complex number times `e^(i angle)`.
    fn reference(x: &[f64]) -> Vec<f64> {
        let mut y = x.to_vec();
        for (i, (x, y)) in x.chunks(D_HEAD).zip(y.chunks_mut(D_HEAD)).enumerate() {
            for j in 0..HALF {
                let angle = f64::from(POSITIONS[i / HEADS % POSITIONS.len()]) * 0.3 / (1.0 + j as f64);
                y[j] = x[j] * angle.cos() - x[j + HALF] * angle.sin();
                y[j + HALF] = x[j] * angle.sin() + x[j + HALF] * angle.cos();
            }
        }
        y
    }

    /// Three heads with two columns between them, of a wider buffer.
    fn heads(f: &mut Fixture, rows: usize) -> (View, Heads) {
        let all = f.output(rows, HEADS * (D_HEAD + 2) + 3);
        (all, Heads { view: all.columns(3, HEADS * (D_HEAD + 2)), pitch: D_HEAD + 2 })
    }
    fn fill(f: &mut Fixture, x: Heads, data: &[f64]) {
        for h in 0..HEADS {
            let rows = data.chunks(HEADS * D_HEAD).flat_map(|row| &row[h * D_HEAD..(h + 1) * D_HEAD]);
            f.set(x.head(h, D_HEAD), &rows.copied().collect::<Vec<_>>());
        }
    }
    fn contents<T: Real>(m: &Arena<T>, x: Heads) -> Vec<f64> {
        let parts: Vec<Vec<f64>> = (0..HEADS).map(|h| part(m, &x.head(h, D_HEAD))).collect();
        (0..x.view.rows).flat_map(|i| parts.iter().flat_map(move |p| p[i * D_HEAD..(i + 1) * D_HEAD].to_vec())).collect()
    }

    fn rotate<T: Real>(x: &[f64], in_place: bool, inverse: bool) -> Vec<f64> {
        let mut f = Fixture::default();
        let rows = x.len() / (HEADS * D_HEAD);
        let (all, from) = heads(&mut f, rows);
        fill(&mut f, from, x);
        let (all, to) = if in_place { (all, from) } else { heads(&mut f, rows) };
        let (cos, sin, positions) = (table::<T>(f64::cos), table::<T>(f64::sin), f.ints(&POSITIONS));
        let a = Args { x: from, y: to, heads: HEADS, d_head: D_HEAD, cos, sin, positions, inverse };
        a.check().unwrap();
        let mut m = f.arena::<T>();
        cpu(&a, &mut m);
        let written = read(&m, &all).iter().filter(|x| !x.is_nan()).count();
        assert_eq!(written, x.len(), "only the columns of heads are written");
        contents(&m, to)
    }

    #[test]
    fn pairs_are_rotated_by_the_angle_of_their_position() {
        let x = numbers(2 * POSITIONS.len() * HEADS * D_HEAD, 1);
        for in_place in [false, true] {
            assert_close(&rotate::<f64>(&x, in_place, false), &reference(&x), 1e-15);
            assert_close(&rotate::<f32>(&x, in_place, false), &reference(&x), 2e-7);
        }
    }

    #[test]
    fn the_inverse_is_the_transpose() {
        let (v, w) = (numbers(POSITIONS.len() * HEADS * D_HEAD, 1), numbers(POSITIONS.len() * HEADS * D_HEAD, 2));
        assert_adjoint(&rotate::<f64>(&v, false, false), &w, &v, &rotate::<f64>(&w, true, true));
        assert_close(&rotate::<f64>(&rotate::<f64>(&v, true, false), false, true), &v, 1e-15);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let mut f = Fixture::default();
        let (_, x) = heads(&mut f, 5);
        let (cos, sin, positions) = (table::<f64>(f64::cos), table::<f64>(f64::sin), f.ints(&POSITIONS));
        let good = Args { x, y: x, heads: HEADS, d_head: D_HEAD, cos, sin, positions, inverse: false };
        assert!(good.check().is_ok());
        let shifted = Heads { view: x.view.columns(1, x.view.cols - 1), ..x };
        assert!(Args { y: shifted, ..good.clone() }.check().is_err());
        assert!(Args { heads: HEADS + 1, ..good.clone() }.check().is_err());
        assert!(Args { positions: f.ints(&[0, 0]), ..good.clone() }.check().is_err());
        let error = Args { d_head: 7, ..good }.check().unwrap_err().to_string();
        assert_eq!(
            error,
            "operation rope: found 4 angles for heads of 7 columns; expected at most half as many angles as columns"
        );
    }
}
