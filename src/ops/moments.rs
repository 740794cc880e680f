//! Moments of activation derivatives: all the data an MLP section's M' needs
//! (closed forms, sections 4 and 5).
//!
//! With quadrature points (w, alpha): d = sum w act'(alpha x). A gated MLP has the two derivative
//! vectors p = sum w alpha act'(alpha g) u and q = sum w act(alpha g), stacked to one row of 2m.

use super::activation::Activation;
use super::gram::syrk;
use crate::device::{Arena, Real, View};

/// h += sum of the rows d; s += d'd, lower triangle.
#[derive(Clone, Debug)]
pub struct Args {
    pub act: Activation,
    /// Quadrature points (weight, alpha).
    pub nodes: Vec<(f64, f64)>,
    /// Pre-activations (gate of a gated MLP), `[n, m]`
    pub pre: View,
    /// The linear branch of a gated MLP, `[n, m]`
    pub up: Option<View>,
    /// `[1, m]`, gated `[1, 2m]`
    pub h: View,
    /// `[m, m]`, gated `[2m, 2m]`, contiguous
    pub s: View,
}

/// Derivative rows of an MLP, `[n, m]`, gated `[n, 2m]`, for backends that write them to scratch memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Derivatives<'a> {
    pub act: Activation,
    /// Quadrature points (weight, alpha).
    pub nodes: &'a [(f64, f64)],
    pub pre: View,
    pub up: Option<View>,
}

impl Derivatives<'_> {
    /// Numbers in a row.
    pub fn cols(&self) -> usize {
        self.pre.cols * if self.up.is_some() { 2 } else { 1 }
    }
}

impl Args {
    pub(super) fn derivatives(&self) -> Derivatives<'_> {
        Derivatives { act: self.act, nodes: &self.nodes, pre: self.pre, up: self.up }
    }
}

/// Writes the derivative row of one token: m numbers, gated 2m.
pub fn derivative_row<T: Real>(act: Activation, nodes: &[(f64, f64)], pre: &[T], up: Option<&[T]>, out: &mut [T]) {
    out.fill(T::ZERO);
    for &(w, alpha) in nodes {
        let (w, alpha) = (T::of(w), T::of(alpha));
        match up {
            None => out.iter_mut().zip(pre).for_each(|(d, x)| *d += w * act.derivative(alpha * *x)),
            Some(up) => {
                let (p, q) = out.split_at_mut(pre.len());
                for (((p, q), g), u) in p.iter_mut().zip(q).zip(pre).zip(up) {
                    *p += w * alpha * act.derivative(alpha * *g) * *u;
                    *q += w * act.value(alpha * *g);
                }
            }
        }
    }
}

/// Runs on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let (n, width) = (a.pre.rows, a.h.cols);
    let mut d = vec![T::ZERO; n * width];
    for (i, d) in d.chunks_exact_mut(width).enumerate() {
        derivative_row(a.act, &a.nodes, m.row(&a.pre, i), a.up.as_ref().map(|u| m.row(u, i)), d);
    }
    let h = m.real_mut(a.h.buffer);
    for d in d.chunks_exact(width) {
        h.iter_mut().zip(d).for_each(|(h, d)| *h += *d);
    }
    let mut s = m.take(a.s.buffer);
    syrk(&mut s, &d, n, width);
    m.put(a.s.buffer, s);
}
