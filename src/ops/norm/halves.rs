//! LayerNorm in two halves: the variance, and the normalisation by a variance that is given.

use super::{inverse_deviation, probe_rows};
use crate::device::{Arena, Real, View};
use crate::error::Result;
use crate::ops::{check, outputs::Outputs, rows};

/// `c = x - mean(x)`.
fn centre<T: Real>(x: &[T], c: &mut [T]) {
    let mean = rows::mean(x);
    rows::map(x, c, |x| x - mean);
}

/// `d (1/s) / dv = -1/2 s^-3`, and 0 where `v` is clamped.
fn inverse_deviation_slope<T: Real>(v: T, eps: f64) -> T {
    if v < T::ZERO {
        return T::ZERO;
    }
    let inverse = inverse_deviation(v, eps);
    T::of(-0.5) * inverse * inverse * inverse
}

/// `v = mean(c^2)`.
#[derive(Clone, Debug)]
pub struct VarianceArgs {
    /// `[n, D]`.
    pub x: View,
    /// Output `[n, 1]`.
    pub v: View,
}

impl VarianceArgs {
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        let op = "variance";
        check::view(op, "x", &self.x, self.x.rows, self.x.cols)?;
        check::view(op, "v", &self.v, self.x.rows, 1)?;
        check::apart(op, &[&self.v], &[&self.x])
    }
}

/// Runs [`VarianceArgs`].
pub fn cpu_variance<T: Real>(a: &VarianceArgs, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.v]);
    let mut c = vec![T::ZERO; a.x.cols];
    for i in 0..a.x.rows {
        centre(m.row(&a.x, i), &mut c);
        out.row(&a.v, i)[0] = rows::dot(&c, &c) / T::of(c.len() as f64);
    }
    out.put(m);
}

/// Tangent of [`VarianceArgs`]: `dv = 2/D c . dx`.
#[derive(Clone, Debug)]
pub struct VarianceTangent {
    /// The primal input `[n, D]`.
    pub x: View,
    /// `[R*n, D]`.
    pub dx: View,
    /// Output `[R*n, 1]`.
    pub dv: View,
}

impl VarianceTangent {
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        let op = "variance tangent";
        check::view(op, "x", &self.x, self.x.rows, self.x.cols)?;
        check::probes(op, "dx", &self.dx, self.x.rows, self.x.cols)?;
        check::view(op, "dv", &self.dv, self.dx.rows, 1)?;
        check::apart(op, &[&self.dv], &[&self.x, &self.dx])
    }
}

/// Runs [`VarianceTangent`].
pub fn cpu_variance_tangent<T: Real>(a: &VarianceTangent, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.dv]);
    let mut c = vec![T::ZERO; a.x.cols];
    let factor = T::of(2.0 / a.x.cols as f64);
    for i in 0..a.x.rows {
        centre(m.row(&a.x, i), &mut c);
        for row in probe_rows(i, a.x.rows, &a.dx) {
            out.row(&a.dv, row)[0] = factor * rows::dot(&c, m.row(&a.dx, row));
        }
    }
    out.put(m);
}

/// Cotangent of [`VarianceArgs`]: `dx = 2/D dv c`, added to what `dx` holds if `accumulate`.
#[derive(Clone, Debug)]
pub struct VarianceCotangent {
    /// The primal input `[n, D]`.
    pub x: View,
    /// `[R*n, 1]`.
    pub dv: View,
    /// Output `[R*n, D]`.
    pub dx: View,
    pub accumulate: bool,
}

impl VarianceCotangent {
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        let op = "variance cotangent";
        check::view(op, "x", &self.x, self.x.rows, self.x.cols)?;
        check::probes(op, "dx", &self.dx, self.x.rows, self.x.cols)?;
        check::view(op, "dv", &self.dv, self.dx.rows, 1)?;
        check::apart(op, &[&self.dx], &[&self.x, &self.dv])
    }
}

/// Runs [`VarianceCotangent`].
pub fn cpu_variance_cotangent<T: Real>(a: &VarianceCotangent, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.dx]);
    let mut c = vec![T::ZERO; a.x.cols];
    for i in 0..a.x.rows {
        centre(m.row(&a.x, i), &mut c);
        for row in probe_rows(i, a.x.rows, &a.dx) {
            let factor = T::of(2.0 / a.x.cols as f64) * m.row(&a.dv, row)[0];
            let dx = out.row(&a.dx, row);
            if a.accumulate {
                dx.iter_mut().zip(&c).for_each(|(dx, &c)| *dx += factor * c);
            } else {
                rows::map(&c, dx, |c| factor * c);
            }
        }
    }
    out.put(m);
}

/// `y = c / sqrt(max(v, 0) + eps)`.
#[derive(Clone, Debug)]
pub struct NormaliseArgs {
    /// `[n, D]`.
    pub x: View,
    /// `[n, 1]`.
    pub v: View,
    /// Output `[n, D]`.
    pub y: View,
    /// The constant under the root.
    pub eps: f64,
}

impl NormaliseArgs {
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        let op = "normalise";
        check::view(op, "x", &self.x, self.x.rows, self.x.cols)?;
        check::view(op, "v", &self.v, self.x.rows, 1)?;
        check::view(op, "y", &self.y, self.x.rows, self.x.cols)?;
        check::apart(op, &[&self.y], &[&self.x, &self.v])
    }
}

/// Runs [`NormaliseArgs`].
pub fn cpu_normalise<T: Real>(a: &NormaliseArgs, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.y]);
    for i in 0..a.x.rows {
        let y = out.row(&a.y, i);
        centre(m.row(&a.x, i), y);
        let inverse = inverse_deviation(m.row(&a.v, i)[0], a.eps);
        y.iter_mut().for_each(|y| *y *= inverse);
    }
    out.put(m);
}

/// Tangent of [`NormaliseArgs`]: `dy = (dx - mean(dx)) / s - 1/2 s^-3 c dv`, without the term of `dv`
/// where `v < 0`.
#[derive(Clone, Debug)]
pub struct NormaliseTangent {
    /// The primal input `[n, D]`.
    pub x: View,
    /// The primal input `[n, 1]`.
    pub v: View,
    /// `[R*n, D]`.
    pub dx: View,
    /// `[R*n, 1]`.
    pub dv: View,
    /// Output `[R*n, D]`.
    pub dy: View,
    /// The constant under the root.
    pub eps: f64,
}

impl NormaliseTangent {
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        let op = "normalise tangent";
        check::view(op, "x", &self.x, self.x.rows, self.x.cols)?;
        check::view(op, "v", &self.v, self.x.rows, 1)?;
        check::probes(op, "dx", &self.dx, self.x.rows, self.x.cols)?;
        check::view(op, "dv", &self.dv, self.dx.rows, 1)?;
        check::view(op, "dy", &self.dy, self.dx.rows, self.x.cols)?;
        check::apart(op, &[&self.dy], &[&self.x, &self.v, &self.dx, &self.dv])
    }
}

/// Runs [`NormaliseTangent`].
pub fn cpu_normalise_tangent<T: Real>(a: &NormaliseTangent, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.dy]);
    let mut c = vec![T::ZERO; a.x.cols];
    for i in 0..a.x.rows {
        centre(m.row(&a.x, i), &mut c);
        let v = m.row(&a.v, i)[0];
        let (inverse, slope) = (inverse_deviation(v, a.eps), inverse_deviation_slope(v, a.eps));
        for row in probe_rows(i, a.x.rows, &a.dx) {
            let dx = m.row(&a.dx, row);
            let (mean, share) = (rows::mean(dx), slope * m.row(&a.dv, row)[0]);
            for ((dy, &dx), &c) in out.row(&a.dy, row).iter_mut().zip(dx).zip(&c) {
                *dy = (dx - mean) * inverse + share * c;
            }
        }
    }
    out.put(m);
}

/// Cotangent of [`NormaliseArgs`]: `dx = (dy - mean(dy)) / s` and `dv = -1/2 s^-3 c . dy`, 0 where
/// `v < 0`.
#[derive(Clone, Debug)]
pub struct NormaliseCotangent {
    /// The primal input `[n, D]`.
    pub x: View,
    /// The primal input `[n, 1]`.
    pub v: View,
    /// `[R*n, D]`.
    pub dy: View,
    /// Output `[R*n, D]`.
    pub dx: View,
    /// Output `[R*n, 1]`; may share the buffer of `dx`.
    pub dv: View,
    /// The constant under the root.
    pub eps: f64,
}

impl NormaliseCotangent {
    /// Whether the shapes agree and the outputs have buffers of their own.
    pub fn check(&self) -> Result<()> {
        let op = "normalise cotangent";
        check::view(op, "x", &self.x, self.x.rows, self.x.cols)?;
        check::view(op, "v", &self.v, self.x.rows, 1)?;
        check::probes(op, "dy", &self.dy, self.x.rows, self.x.cols)?;
        check::view(op, "dx", &self.dx, self.dy.rows, self.x.cols)?;
        check::view(op, "dv", &self.dv, self.dy.rows, 1)?;
        check::apart(op, &[&self.dx, &self.dv], &[&self.x, &self.v, &self.dy])
    }
}

/// Runs [`NormaliseCotangent`].
pub fn cpu_normalise_cotangent<T: Real>(a: &NormaliseCotangent, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.dx, &a.dv]);
    let mut c = vec![T::ZERO; a.x.cols];
    for i in 0..a.x.rows {
        centre(m.row(&a.x, i), &mut c);
        let v = m.row(&a.v, i)[0];
        let (inverse, slope) = (inverse_deviation(v, a.eps), inverse_deviation_slope(v, a.eps));
        for row in probe_rows(i, a.x.rows, &a.dy) {
            let dy = m.row(&a.dy, row);
            let mean = rows::mean(dy);
            rows::map(dy, out.row(&a.dx, row), |dy| (dy - mean) * inverse);
            out.row(&a.dv, row)[0] = slope * rows::dot(&c, dy);
        }
    }
    out.put(m);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::fixture::{Fixture, assert_adjoint, assert_close, central, numbers, part, read};

    const EPS: f64 = 1e-3;

    /// Ragged shapes `[n, D]` that leave remainders in every vector width.
    const SHAPES: [(usize, usize); 3] = [(1, 1), (3, 37), (5, 64)];

    fn centred(row: &[f64]) -> Vec<f64> {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        row.iter().map(|x| x - mean).collect()
    }
    fn variance(x: &[f64], d: usize) -> Vec<f64> {
        x.chunks(d).map(|row| centred(row).iter().map(|c| c * c).sum::<f64>() / d as f64).collect()
    }
    fn normalise(x: &[f64], v: &[f64], d: usize) -> Vec<f64> {
        let row = |(x, v): (&[f64], &f64)| centred(x).into_iter().map(|c| c / (v.max(0.0) + EPS).sqrt()).collect::<Vec<_>>();
        x.chunks(d).zip(v).flat_map(row).collect()
    }

    /// Positive and negative variances, the latter to be clamped.
    fn variances(n: usize) -> Vec<f64> {
        numbers(n, 9).iter().map(|x| x + 0.1 * x.signum()).collect()
    }

    fn halves<T: Real>(n: usize, d: usize, bound: f64) {
        let (x, v) = (numbers(n * d, 4), variances(n));
        let mut f = Fixture::default();
        let first = VarianceArgs { x: f.input(n, d, &x), v: f.output(n, 1) };
        let second = NormaliseArgs { x: first.x, v: f.input(n, 1, &v), y: f.output(n, d), eps: EPS };
        first.check().unwrap();
        second.check().unwrap();
        let mut m = f.arena::<T>();
        cpu_variance(&first, &mut m);
        cpu_normalise(&second, &mut m);
        assert_close(&read(&m, &first.v), &variance(&x, d), bound);
        assert_close(&read(&m, &second.y), &normalise(&x, &v, d), bound);
    }

    #[test]
    fn halves_agree_with_the_definitions() {
        assert!(variances(5).iter().any(|&v| v < 0.0) && variances(5).iter().any(|&v| v > 0.0));
        for (n, d) in SHAPES {
            halves::<f64>(n, d, 1e-14);
            halves::<f32>(n, d, 3e-6);
        }
    }

    #[test]
    fn variance_tangents() {
        let (n, d, probes) = (3, 37, 4);
        let (x, dx, w) = (numbers(n * d, 1), numbers(probes * n * d, 2), numbers(probes * n, 3));
        let mut f = Fixture::default();
        let t = VarianceTangent { x: f.input(n, d, &x), dx: f.input(probes * n, d, &dx), dv: f.output(probes * n, 1) };
        let c = VarianceCotangent { x: t.x, dv: f.input(probes * n, 1, &w), dx: f.output(probes * n, d), accumulate: false };
        let held = numbers(probes * n * d, 4);
        let more = VarianceCotangent { dx: f.input(probes * n, d, &held), accumulate: true, ..c.clone() };
        t.check().unwrap();
        c.check().unwrap();
        more.check().unwrap();
        let mut m = f.arena::<f64>();
        cpu_variance_tangent(&t, &mut m);
        cpu_variance_cotangent(&c, &mut m);
        cpu_variance_cotangent(&more, &mut m);
        let (jv, jw) = (read(&m, &t.dv), read(&m, &c.dx));
        for r in 0..probes {
            let want = central(|x| variance(x, d), &x, &dx[r * n * d..(r + 1) * n * d]);
            assert_close(&jv[r * n..(r + 1) * n], &want, 1e-6);
        }
        assert_adjoint(&jv, &w, &dx, &jw);
        let sum: Vec<f64> = held.iter().zip(&jw).map(|(a, b)| a + b).collect();
        assert_close(&read(&m, &more.dx), &sum, 1e-15);
    }

    #[test]
    fn normalise_tangents() {
        let (n, d, probes) = (5, 37, 3);
        // The input rows are (v, x), as between the two halves.
        let rows: Vec<f64> =
            variances(n).iter().zip(numbers(n * d, 1).chunks(d)).flat_map(|(v, x)| [&[*v], x].concat()).collect();
        let (tangents, w) = (numbers(probes * n * (d + 1), 2), numbers(probes * n * d, 3));
        let mut f = Fixture::default();
        let (primal, input) = (f.input(n, d + 1, &rows), f.input(probes * n, d + 1, &tangents));
        let (x, v) = (primal.columns(1, d), primal.columns(0, 1));
        let dy = f.output(probes * n, d);
        let t = NormaliseTangent { x, v, dx: input.columns(1, d), dv: input.columns(0, 1), dy, eps: EPS };
        let (dy, output) = (f.input(probes * n, d, &w), f.output(probes * n, d + 1));
        let c = NormaliseCotangent { x, v, dy, dx: output.columns(1, d), dv: output.columns(0, 1), eps: EPS };
        t.check().unwrap();
        c.check().unwrap();
        let mut m = f.arena::<f64>();
        cpu_normalise_tangent(&t, &mut m);
        cpu_normalise_cotangent(&c, &mut m);
        let (jv, jw) = (read(&m, &t.dy), read(&m, &output));
        let whole = |rows: &[f64]| {
            let x: Vec<f64> = rows.chunks(d + 1).flat_map(|r| r[1..].to_vec()).collect();
            let v: Vec<f64> = rows.chunks(d + 1).map(|r| r[0]).collect();
            normalise(&x, &v, d)
        };
        for r in 0..probes {
            let want = central(whole, &rows, &tangents[r * n * (d + 1)..(r + 1) * n * (d + 1)]);
            assert_close(&jv[r * n * d..(r + 1) * n * d], &want, 1e-6);
        }
        assert_adjoint(&jv, &w, &tangents, &jw);
        let clamped: Vec<bool> = (0..probes * n).map(|i| rows[(i % n) * (d + 1)] < 0.0).collect();
        assert!(part(&m, &c.dv).iter().zip(clamped).all(|(dv, clamped)| (*dv == 0.0) == clamped));
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let mut f = Fixture::default();
        let (x, y) = (f.output(3, 4), f.output(3, 4));
        assert!(NormaliseArgs { x, v: y, y: f.output(3, 4), eps: EPS }.check().is_err());
        assert!(VarianceTangent { x, dx: f.output(6, 4), dv: f.output(3, 1) }.check().is_err());
    }
}
