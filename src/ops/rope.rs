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
