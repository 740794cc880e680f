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
