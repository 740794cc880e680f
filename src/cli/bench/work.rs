//! What is timed: the operations by their names, and their shapes as people write them.

use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::case::{Case, Costs, Output, Parts};
use super::ops;
use crate::device::DType;
use crate::error::{Error, Result};
use crate::ops::Launch;

/// Tangents, cotangents or masks of one chunk.
pub const PROBES: usize = 8;
/// The most elements of one matrix: what the 32-bit strides and sizes of the kernels' parameters, and
/// a host that must hold the inputs, have room for.
const MAX_ELEMENTS: usize = 1 << 33;
/// The largest product of the sizes of a shape: no number that follows from them overflows.
const MAX_PRODUCT: u128 = 1 << 54;

/// More bytes than the CPU goes through while a check lasts.
const CHECK_BYTES: u64 = 8 << 30;

/// An operation that can be timed.
#[derive(Debug)]
pub struct Spec {
    pub name: &'static str,
    /// The letters of its sizes. The first one counts samples: rows, tokens or sequences that are computed alike.
    pub letters: &'static str,
    /// Samples come in multiples of this.
    pub slab: usize,
    /// The last size is at least this: derivatives of fewer numbers are differences of equal ones.
    pub least: usize,
    /// The launch at the given sizes and its useful floating point operations.
    pub build: fn(&mut Parts, &[usize]) -> (Launch, f64),
    /// Whether [`super::reference`] computes it on its own.
    pub recomputed: bool,
    pub shapes: Shapes,
}

/// Default shapes.
#[derive(Debug)]
pub struct Shapes {
    /// Models like a small GPT-2 at the batch of a run.
    pub cuda: &'static [&'static str],
    /// The same at a batch that one binding of any adapter holds.
    pub wgpu: &'static [&'static str],
    /// What takes about a second on a few cores.
    pub cpu: &'static [&'static str],
    /// Ragged ones that an interpreter or a software adapter does in about a second.
    pub ragged: &'static [&'static str],
}

/// The operations of one kind, for the help.
#[derive(Debug)]
pub struct Family {
    pub title: &'static str,
    pub ops: &'static [Spec],
}

/// A choice of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Op(pub &'static Spec);

impl Op {
    pub fn all() -> impl Iterator<Item = Op> {
        ops::FAMILIES.iter().flat_map(|f| f.ops).map(Op)
    }
}

impl FromStr for Op {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let names = || Op::all().map(|op| op.0.name).collect::<Vec<_>>().join(", ");
        Op::all().find(|op| op.0.name == text).ok_or_else(|| format!("expected one of {}", names()))
    }
}

impl Serialize for Op {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_str(self.0.name)
    }
}

impl Spec {
    /// Numbers that a shape has.
    fn sizes(&self) -> usize {
        self.letters.split('x').count()
    }
    /// `NxD of gram`
    pub fn takes(&self) -> String {
        format!("{} of {}", self.letters, self.name)
    }
}

/// The operations and the letters of their sizes, for the help.
pub fn list() -> String {
    let mut text = String::from("Operations, with the sizes of --shape:\n");
    for family in ops::FAMILIES {
        let all: Vec<String> = family.ops.iter().map(|op| format!("{} {}", op.name, op.letters)).collect();
        let mut line = format!("  {}:", family.title);
        for (i, op) in all.iter().enumerate() {
            let comma = if i + 1 < all.len() { "," } else { "" };
            if line.len() + op.len() + 2 > 98 {
                text += &format!("{line}\n");
                line = "   ".into();
            }
            line += &format!(" {op}{comma}");
        }
        text += &format!("{line}\n");
    }
    text + "  N rows, S sequences of T tokens, D width, H heads, M neurons, K features, V vocabulary"
}

/// `--shape`: sizes with `x` between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(Vec<usize>);

impl FromStr for Shape {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let sizes: Option<Vec<usize>> = text.split('x').map(|s| s.parse().ok().filter(|n| *n > 0)).collect();
        let sizes = sizes.filter(|s| Op::all().any(|op| op.0.sizes() == s.len()));
        sizes.map(Shape).ok_or_else(|| "expected sizes with x between them, as in 4096x768x3072".into())
    }
}

impl Shape {
    /// Whether some operation of the list has shapes of this many numbers.
    pub fn fits_any(&self, ops: &[Op]) -> bool {
        ops.iter().any(|op| op.0.sizes() == self.0.len())
    }
    /// The next larger sizes that are multiples of 4.
    pub fn in_quads(&self) -> Self {
        Self(self.0.iter().map(|n| n.next_multiple_of(4)).collect())
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("x"))
    }
}

/// An operation at a shape.
#[derive(Clone, Debug)]
pub struct Work {
    pub op: Op,
    pub dtype: DType,
    pub sizes: Vec<usize>,
}

impl Work {
    /// The operation at one of the given shapes; `None` if the shape is for another operation.
    pub fn new(op: Op, dtype: DType, shape: &Shape) -> Result<Option<Self>> {
        if shape.0.len() != op.0.sizes() {
            return Ok(None);
        }
        let refused = |expected: String| Err(Error::flag("--shape", shape.to_string(), expected));
        let product = shape.0.iter().try_fold(1u128, |p, &n| p.checked_mul(n as u128)).filter(|p| *p <= MAX_PRODUCT);
        let work = Self { op, dtype, sizes: shape.0.clone() };
        let small = product.is_some() && shape.0.iter().all(|&n| n <= u32::MAX as usize);
        if !small || work.plan().costs.largest > MAX_ELEMENTS {
            return refused(format!("at most {MAX_ELEMENTS} elements a matrix"));
        }
        if !shape.0[0].is_multiple_of(op.0.slab) {
            return refused(format!("rows in slabs of {} for {}", op.0.slab, op.0.name));
        }
        if shape.0.last().is_some_and(|&last| last < op.0.least) {
            return refused(format!("rows of at least {} numbers for {}", op.0.least, op.0.name));
        }
        Ok(Some(work))
    }
    /// As on the command line.
    pub fn shape(&self) -> String {
        Shape(self.sizes.clone()).to_string()
    }
    /// Samples: the first size.
    pub fn samples(&self) -> usize {
        self.sizes[0]
    }
    /// The same for fewer samples.
    pub fn with_samples(&self, samples: usize) -> Self {
        let mut fewer = self.clone();
        fewer.sizes[0] = samples;
        fewer
    }
    /// The work with weights and numbers that depend on sizes and `seed` alone.
    pub fn case(&self, seed: u64) -> Case {
        self.build(Parts::new(self.dtype, self.dtype, seed, false))
    }
    /// The same numbers for a program in f64.
    pub fn reference(&self, seed: u64) -> Case {
        self.build(Parts::new(DType::F64, self.dtype, seed, false))
    }
    /// What the work takes.
    pub fn plan(&self) -> Case {
        self.build(Parts::new(self.dtype, self.dtype, 0, true))
    }
    /// The costs alone.
    pub fn costs(&self) -> Costs {
        self.plan().costs
    }
    fn build(&self, mut parts: Parts) -> Case {
        let (launch, flops) = (self.op.0.build)(&mut parts, &self.sizes);
        parts.case(launch, flops)
    }
    /// Bytes of host memory that a row of a GPU takes: what goes in, what comes out in its type and in f64, weights, and what
    /// the check takes of its own.
    pub fn host_memory(&self) -> u64 {
        let plan = self.plan();
        let out = plan.outputs.iter().filter_map(Output::view).map(|v| 16 * v.buffer.len as u64).sum::<u64>();
        plan.bytes().saturating_add(plan.costs.weights).saturating_add(out).saturating_add(self.check_memory())
    }
    /// Bytes that fewer samples take in their type and in f64.
    pub fn check_memory(&self) -> u64 {
        if self.op.0.recomputed { 0 } else { self.plan().bytes().saturating_mul(3).min(CHECK_BYTES) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(op: &str, shape: &str) -> Result<Option<Work>> {
        Work::new(op.parse().unwrap(), DType::F32, &shape.parse().unwrap())
    }

    #[test]
    fn names_are_the_fields_and_each_stands_once() {
        let names: Vec<&str> = Op::all().map(|op| op.0.name).collect();
        let plain = |name: &str| name.bytes().all(|c| c.is_ascii_lowercase() || c == b'-');
        assert!(names.iter().all(|name| plain(name) && names.iter().filter(|n| n == &name).count() == 1), "{names:?}");
        assert!("nonsense".parse::<Op>().unwrap_err().contains("gram, linear, "));
    }

    #[test]
    fn every_default_shape_is_one_of_its_operation() {
        for op in Op::all() {
            let Shapes { cuda, wgpu, cpu, ragged } = &op.0.shapes;
            for shapes in [cuda, wgpu, cpu, ragged] {
                assert!(!shapes.is_empty(), "{}", op.0.name);
                for shape in *shapes {
                    assert!(work(op.0.name, shape).unwrap().is_some(), "{} {shape}", op.0.name);
                }
            }
        }
    }

    #[test]
    fn shapes_are_for_operations_with_as_many_numbers() {
        assert!(work("gram", "7x5x3").unwrap().is_none() && work("linear", "7x5").unwrap().is_none());
        assert!(work("tangent", "32x5x3").unwrap().is_some());
        for bad in ["", "7", "7x", "0x5", "7x5x3x2x2x2", "ax5", "7x-5", "7 x5"] {
            assert!(bad.parse::<Shape>().is_err(), "{bad}");
        }
        let fits = |shape: &str| shape.parse::<Shape>().unwrap().fits_any(&["linear".parse().unwrap()]);
        assert!(fits("1x2x3") && !fits("1x2"));
    }

    #[test]
    fn illegal_sizes_are_named() {
        let message = |op, shape| work(op, shape).unwrap_err().to_string();
        assert_eq!(message("tangent", "24x5x3"), "--shape: found 24x5x3; expected rows in slabs of 16 for tangent");
        let narrow = message("norm-tangent", "5x7");
        assert_eq!(narrow, "--shape: found 5x7; expected rows of at least 8 numbers for norm-tangent");
        assert!(message("gram", "9999999999x9999999999").contains("elements a matrix"));
        assert!(message("linear", "18446744073709551615x2x2").contains("elements a matrix"));
        assert!(message("linear", "2x4294967295x4194304").contains("elements a matrix"));
        assert!(message("attention", "65536x65536x65536x64").contains("elements a matrix"));
    }
}
