//! The operations that can be timed, one file a family: how the launch of each is made at a shape, and its useful
//! arithmetic. They know no backend.

mod attention;
mod closed;
pub mod maps;
mod mlp;
mod norms;
mod probes;
mod text;

use super::work::Family;

/// All operations, in the order in which they are run.
pub const FAMILIES: &[Family] = &[
    Family { title: "products", ops: maps::OPS },
    Family { title: "MLPs", ops: mlp::OPS },
    Family { title: "attention", ops: attention::OPS },
    Family { title: "its closed forms", ops: closed::OPS },
    Family { title: "norms", ops: norms::OPS },
    Family { title: "text", ops: text::OPS },
    Family { title: "probes and masks", ops: probes::OPS },
];

/// The quadrature of closed forms: the plain gradient, as a run has it unless told otherwise.
const NODES: [(f64, f64); 1] = [(1.0, 1.0)];

/// A product of sizes as a number of operations.
fn product(sizes: &[usize]) -> f64 {
    sizes.iter().map(|&n| n as f64).product()
}

/// Pairs of positions `s <= t` of a sequence.
fn pairs(positions: usize) -> f64 {
    product(&[positions, positions + 1]) / 2.0
}

/// Shared by the tests of the families.
#[cfg(test)]
mod count {
    use super::super::work::{Shape, Work};
    use crate::device::DType;

    /// The useful operations that a family states for a shape.
    pub fn flops(op: &str, shape: &str) -> usize {
        let shape: Shape = shape.parse().unwrap();
        let work = Work::new(op.parse().unwrap(), DType::F64, &shape).unwrap().unwrap();
        let flops = work.costs().flops;
        assert_eq!(flops, flops.round(), "{op}");
        flops as usize
    }

    /// Bytes that a family states for a shape, over those of an f64.
    pub fn elements(op: &str, shape: &str) -> f64 {
        let shape: Shape = shape.parse().unwrap();
        Work::new(op.parse().unwrap(), DType::F64, &shape).unwrap().unwrap().costs().bytes / 8.0
    }
}
