//! The fused operations that programs are made of: one file each, with its arguments, its CPU form
//! and its tests.
//!
//! Activations are rows `[n, d]`. The tangents or cotangents of `R` probes are stacked probe-major:
//! row `r * n + i` belongs to row `i` of the activations.

pub mod activation;
pub mod attention;
mod check;
pub mod embed;
#[cfg(test)]
mod fixture;
pub mod loss;
pub mod norm;
mod outputs;
mod rows;
