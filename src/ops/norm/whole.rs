//! Whole norms over rows: LayerNorm and RMSNorm with gain and bias, their tangents and cotangents.

use super::{inverse_deviation, probe_rows};
use crate::device::{Arena, Real, Tensor, View};
use crate::error::Result;
use crate::ops::{check, outputs::Outputs, rows};

/// Which rows have norm 1 before gain and bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `c = x - mean(x)`: LayerNorm (Ba et al. 2016).
    Layer,
    /// `c = x`: RMSNorm (Zhang and Sennrich 2019).
    Rms,
}

impl Kind {
    /// What is taken off a row: its mean, or nothing.
    fn shift<T: Real>(self, x: &[T]) -> T {
        match self {
            Kind::Layer => rows::mean(x),
            Kind::Rms => T::ZERO,
        }
    }
    /// Writes `n = c / s` and returns `1 / s`, with `s = sqrt(mean(c^2) + eps)`.
    fn unit<T: Real>(self, x: &[T], eps: f64, n: &mut [T]) -> T {
        let shift = self.shift(x);
        rows::map(x, n, |x| x - shift);
        let inverse = inverse_deviation(rows::dot(n, n) / T::of(n.len() as f64), eps);
        n.iter_mut().for_each(|n| *n *= inverse);
        inverse
    }
}

/// `y = c / sqrt(mean(c^2) + eps) * w + b`, with `c` as [`Kind`] says.
#[derive(Clone, Debug)]
pub struct Args {
    pub kind: Kind,
    /// `[n, D]`.
    pub x: View,
    /// Output `[n, D]`.
    pub y: View,
    /// The constant under the root.
    pub eps: f64,
    /// Gain `[1, D]`; 1 if absent.
    pub w: Option<Tensor>,
    /// Bias `[1, D]`; 0 if absent.
    pub b: Option<Tensor>,
}

impl Args {
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        let (op, n, d) = ("norm", self.x.rows, self.x.cols);
        check::view(op, "x", &self.x, n, d)?;
        check::view(op, "y", &self.y, n, d)?;
        self.w.iter().try_for_each(|w| check::tensor(op, "w", w, 1, d))?;
        self.b.iter().try_for_each(|b| check::tensor(op, "b", b, 1, d))?;
        check::apart(op, &[&self.y], &[&self.x])
    }
}

/// Runs [`Args`] on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.y]);
    let (w, b) = (a.w.as_ref().map(Tensor::slice::<T>), a.b.as_ref().map(Tensor::slice::<T>));
    for i in 0..a.x.rows {
        let y = out.row(&a.y, i);
        a.kind.unit(m.row(&a.x, i), a.eps, y);
        if let Some(w) = w {
            y.iter_mut().zip(w).for_each(|(y, &w)| *y *= w);
        }
        if let Some(b) = b {
            y.iter_mut().zip(b).for_each(|(y, &b)| *y += b);
        }
    }
    out.put(m);
}

/// Tangent of [`Args`]: with `n = c / s` and `dc` made of `dx` as `c` is of `x`,
/// `dy = (dc - n mean(n dc)) / s * w`.
#[derive(Clone, Debug)]
pub struct Tangent {
    pub kind: Kind,
    /// The primal input `[n, D]`.
    pub x: View,
    /// `[R*n, D]`.
    pub dx: View,
    /// Output `[R*n, D]`.
    pub dy: View,
    /// The constant under the root.
    pub eps: f64,
    /// Gain `[1, D]`; 1 if absent.
    pub w: Option<Tensor>,
}

impl Tangent {
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        check_probes("norm tangent", &self.x, [("dx", &self.dx), ("dy", &self.dy)], &self.w)?;
        check::apart("norm tangent", &[&self.dy], &[&self.x, &self.dx])
    }
}

/// Runs [`Tangent`] on one CPU thread.
pub fn cpu_tangent<T: Real>(a: &Tangent, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.dy]);
    let (d, w) = (a.x.cols, a.w.as_ref().map(Tensor::slice::<T>));
    let mut unit = vec![T::ZERO; d];
    for i in 0..a.x.rows {
        let inverse = a.kind.unit(m.row(&a.x, i), a.eps, &mut unit);
        for row in probe_rows(i, a.x.rows, &a.dx) {
            let (dx, dy) = (m.row(&a.dx, row), out.row(&a.dy, row));
            let shift = a.kind.shift(dx);
            rows::map(dx, dy, |dx| dx - shift);
            let share = rows::dot(&unit, dy) / T::of(d as f64);
            dy.iter_mut().zip(&unit).for_each(|(dy, &n)| *dy = (*dy - n * share) * inverse);
            if let Some(w) = w {
                dy.iter_mut().zip(w).for_each(|(dy, &w)| *dy *= w);
            }
        }
    }
    out.put(m);
}

/// Cotangent of [`Args`]: with `g = w dy` and `n = c / s`, `dx = (g - n mean(n g)) / s`, less
/// `mean(g) / s` for LayerNorm; added to what `dx` holds if `accumulate`.
#[derive(Clone, Debug)]
pub struct Cotangent {
    pub kind: Kind,
    /// The primal input `[n, D]`.
    pub x: View,
    /// `[R*n, D]`.
    pub dy: View,
    /// Output `[R*n, D]`.
    pub dx: View,
    /// The constant under the root.
    pub eps: f64,
    /// Gain `[1, D]`; 1 if absent.
    pub w: Option<Tensor>,
    pub accumulate: bool,
}

impl Cotangent {
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        check_probes("norm cotangent", &self.x, [("dy", &self.dy), ("dx", &self.dx)], &self.w)?;
        check::apart("norm cotangent", &[&self.dx], &[&self.x, &self.dy])
    }
}

/// Runs [`Cotangent`] on one CPU thread.
pub fn cpu_cotangent<T: Real>(a: &Cotangent, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.dx]);
    let (d, w) = (a.x.cols, a.w.as_ref().map(Tensor::slice::<T>));
    let (mut unit, mut g) = (vec![T::ZERO; d], vec![T::ZERO; d]);
    for i in 0..a.x.rows {
        let inverse = a.kind.unit(m.row(&a.x, i), a.eps, &mut unit);
        for row in probe_rows(i, a.x.rows, &a.dy) {
            g.copy_from_slice(m.row(&a.dy, row));
            if let Some(w) = w {
                g.iter_mut().zip(w).for_each(|(g, &w)| *g *= w);
            }
            let (shift, share) = (a.kind.shift(&g), rows::dot(&unit, &g) / T::of(d as f64));
            let dx = out.row(&a.dx, row).iter_mut().zip(g.iter().zip(&unit));
            if a.accumulate {
                dx.for_each(|(dx, (&g, &n))| *dx += (g - shift - n * share) * inverse);
            } else {
                dx.for_each(|(dx, (&g, &n))| *dx = (g - shift - n * share) * inverse);
            }
        }
    }
    out.put(m);
}

fn check_probes(op: &'static str, x: &View, [a, b]: [(&str, &View); 2], w: &Option<Tensor>) -> Result<()> {
    check::view(op, "x", x, x.rows, x.cols)?;
    check::probes(op, a.0, a.1, x.rows, x.cols)?;
    check::view(op, b.0, b.1, a.1.rows, x.cols)?;
    w.iter().try_for_each(|w| check::tensor(op, "w", w, 1, x.cols))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;
    use crate::ops::fixture::{Fixture, assert_adjoint, assert_close, central, numbers, read};

    const EPS: f64 = 1e-3;
    const KINDS: [Kind; 2] = [Kind::Layer, Kind::Rms];

    /// Ragged shapes `[n, D]` that leave remainders in every vector width.
    const SHAPES: [(usize, usize); 3] = [(1, 1), (3, 37), (5, 64)];

    fn reference(kind: Kind, x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
        let d = w.len();
        let row = |x: &[f64]| {
            let mean = if kind == Kind::Layer { x.iter().sum::<f64>() / d as f64 } else { 0.0 };
            let v = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / d as f64;
            (0..d).map(|j| (x[j] - mean) / (v + EPS).sqrt() * w[j] + b[j]).collect::<Vec<_>>()
        };
        x.chunks(d).flat_map(row).collect()
    }

    fn values<T: Real>(kind: Kind, n: usize, d: usize, bound: f64) {
        let (x, w, b) = (numbers(n * d, 1), numbers(d, 2), numbers(d, 3));
        let mut f = Fixture::default();
        let tensor = |data: &[f64]| Some(Tensor::row(T::DTYPE, data.to_vec()));
        let affine = Args { kind, x: f.input(n, d, &x), y: f.output(n, d), eps: EPS, w: tensor(&w), b: tensor(&b) };
        let plain = Args { y: f.output(n, d), w: None, b: None, ..affine.clone() };
        affine.check().unwrap();
        plain.check().unwrap();
        let mut m = f.arena::<T>();
        cpu(&affine, &mut m);
        cpu(&plain, &mut m);
        assert_close(&read(&m, &affine.y), &reference(kind, &x, &w, &b), bound);
        assert_close(&read(&m, &plain.y), &reference(kind, &x, &vec![1.0; d], &vec![0.0; d]), bound);
    }

    #[test]
    fn values_agree_with_the_definitions() {
        for kind in KINDS {
            for (n, d) in SHAPES {
                values::<f64>(kind, n, d, 1e-14);
                values::<f32>(kind, n, d, 3e-6);
            }
        }
    }

    #[test]
    fn tangents_agree_with_differences_and_cotangents_are_adjoint() {
        let (n, d, probes) = (3, 37, 2);
        let (x, gain, b) = (numbers(n * d, 1), numbers(d, 2), vec![0.0; d]);
        let (v, w, held) = (numbers(probes * n * d, 3), numbers(probes * n * d, 4), numbers(probes * n * d, 5));
        for (kind, gain) in KINDS.into_iter().flat_map(|kind| [(kind, Some(&gain)), (kind, None)]) {
            let mut f = Fixture::default();
            let tensor = gain.map(|gain| Tensor::row(DType::F64, gain.clone()));
            let mut input = |data| f.input(probes * n, d, data);
            let (dx, dy, more) = (input(&v), input(&w), input(&held));
            let x_view = f.input(n, d, &x);
            let t = Tangent { kind, x: x_view, dx, dy: f.output(probes * n, d), eps: EPS, w: tensor.clone() };
            let dx = f.output(probes * n, d);
            let c = Cotangent { kind, x: x_view, dy, dx, eps: EPS, w: tensor, accumulate: false };
            let added = Cotangent { dx: more, accumulate: true, ..c.clone() };
            t.check().unwrap();
            c.check().unwrap();
            let mut m = f.arena::<f64>();
            cpu_tangent(&t, &mut m);
            cpu_cotangent(&c, &mut m);
            cpu_cotangent(&added, &mut m);
            let (jv, jw) = (read(&m, &t.dy), read(&m, &c.dx));
            let ones = vec![1.0; d];
            for r in 0..probes {
                let part = r * n * d..(r + 1) * n * d;
                let want = central(|x| reference(kind, x, gain.unwrap_or(&ones), &b), &x, &v[part.clone()]);
                assert_close(&jv[part.clone()], &want, 1e-8);
                assert_adjoint(&jv[part.clone()], &w[part.clone()], &v[part.clone()], &jw[part]);
            }
            let sum: Vec<f64> = held.iter().zip(&jw).map(|(a, b)| a + b).collect();
            assert_close(&read(&m, &added.dx), &sum, 1e-15);
        }
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let mut f = Fixture::default();
        let (x, y) = (f.output(3, 4), f.output(3, 4));
        let good = Args { kind: Kind::Rms, x, y, eps: EPS, w: None, b: None };
        assert!(good.check().is_ok());
        assert!(Args { y: x, ..good.clone() }.check().is_err());
        let w = Some(Tensor::row(DType::F64, vec![1.0; 5]));
        let error = Args { w: w.clone(), ..good }.check().unwrap_err();
        assert_eq!(error.to_string(), "operation norm: found w [1, 5]; expected w [1, 4]");
        let tangent = Tangent { kind: Kind::Layer, x, dx: f.output(6, 4), dy: f.output(6, 4), eps: EPS, w: None };
        assert!(tangent.check().is_ok());
        assert!(Tangent { dx: f.output(7, 4), ..tangent.clone() }.check().is_err());
        let Tangent { kind, x, dx, dy, eps, .. } = tangent;
        assert!(Cotangent { kind, x, dy, dx, eps, w, accumulate: false }.check().is_err());
    }
}
