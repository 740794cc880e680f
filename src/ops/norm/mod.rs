//! LayerNorm and RMSNorm over rows, whole or (LayerNorm) in two halves, with tangents and cotangents.
//!
//! With `c = x - mean(x)`, `v = mean(c^2)` and `s = sqrt(v + eps)` LayerNorm is `y = c / s`, then
//! `y * w + b` (Ba et al. 2016); RMSNorm takes `c = x` (Zhang and Sennrich 2019). The halves are the
//! variance `x -> v` and the normalisation `(v, x) -> c / s`, which takes `v` as an input of its own:
//! where a basis cuts the network between the two, the `v` it is given need not be the variance of
//! `x` and may be negative. It is then clamped at 0, and the derivative with respect to it is 0.

mod halves;
mod whole;

pub use halves::{
    NormaliseArgs, NormaliseCotangent, NormaliseTangent, VarianceArgs, VarianceCotangent, VarianceTangent, cpu_normalise,
    cpu_normalise_cotangent, cpu_normalise_tangent, cpu_variance, cpu_variance_cotangent, cpu_variance_tangent,
};
pub use whole::{Args, Cotangent, Kind, Tangent, cpu, cpu_cotangent, cpu_tangent};

use crate::device::{Real, View};

/// `1 / sqrt(max(v, 0) + eps)`.
fn inverse_deviation<T: Real>(v: T, eps: f64) -> T {
    T::ONE / Real::sqrt(Real::max(v, T::ZERO) + T::of(eps))
}

/// The rows of all probes that belong to row `i` of `n`.
fn probe_rows(i: usize, n: usize, all: &View) -> impl Iterator<Item = usize> + use<> {
    (i..all.rows).step_by(n)
}
