//! The fused operations that programs are made of: one file each, with its arguments, its CPU form
//! and its tests.

pub mod attention_edges;
mod attention_math;
pub mod attention_moments;
#[cfg(test)]
mod attention_reference;

pub use attention_math::Attention;
