//! What is timed: operations at shapes, their useful arithmetic and the fewest bytes they can move,
//! and their random inputs. Knows no backend.

use std::str::FromStr;

use clap::ValueEnum;
use rayon::prelude::*;
use serde::Serialize;

use crate::device::{DType, Real};
use crate::error::{Error, Result};
use crate::ops::activation::Activation;
use crate::ops::probes::splitmix;

/// Rows of a token of the tangent epilogue: one primal and 15 tangents.
pub const SLAB: usize = crate::ops::linear::TANGENT_ROWS;
/// The activation behind the linear maps.
pub const ACTIVATION: Activation = Activation::Gelu;
/// The most elements of one matrix: what the 32-bit strides and sizes of the kernels' parameters, and
/// a host that must hold the inputs, have room for.
const MAX_ELEMENTS: usize = 1 << 33;

/// An operation that is timed.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// The lower triangle of (x - mean)'(x - mean), for `x` `[n, k]` and its column means.
    Gram,
    /// y = gelu(x W + b), for `x` `[n, k]` and W `[k, m]`.
    Linear,
    /// The same on slabs of one primal row and 15 tangents, which get gelu'(z_0) z_r and no bias.
    Tangent,
}

impl Op {
    pub const ALL: [Op; 3] = [Op::Gram, Op::Linear, Op::Tangent];

    pub fn name(self) -> &'static str {
        match self {
            Op::Gram => "gram",
            Op::Linear => "linear",
            Op::Tangent => "tangent",
        }
    }
    /// Numbers that a shape of this operation has.
    fn sizes(self) -> usize {
        if self == Op::Gram { 2 } else { 3 }
    }
}

/// Ragged shapes that the interpreter and a software adapter do in seconds.
pub fn ragged_shapes(op: Op) -> &'static [&'static str] {
    match op {
        Op::Gram => &["300x130"],
        Op::Linear => &["130x70x150"],
        Op::Tangent => &["144x70x150"],
    }
}

/// `--shape`: sizes with `x` between them, `NxD` for gram and `NxKxM` for linear and tangent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(Vec<usize>);

impl FromStr for Shape {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let sizes: Option<Vec<usize>> = text.split('x').map(|s| s.parse().ok().filter(|n| *n > 0)).collect();
        let sizes = sizes.filter(|s| s.len() == 2 || s.len() == 3);
        sizes.map(Shape).ok_or_else(|| "expected NxD (gram) or NxKxM (linear, tangent), as in 4096x768x3072".into())
    }
}

impl Shape {
    /// Whether some operation of the list has shapes of this many numbers.
    pub fn fits_any(&self, ops: &[Op]) -> bool {
        ops.iter().any(|op| op.sizes() == self.0.len())
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("x"))
    }
}

/// An operation at a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub op: Op,
    pub dtype: DType,
    /// Rows of x.
    pub n: usize,
    /// Columns of x.
    pub k: usize,
    /// Columns of the result: those of W, or `k` for gram.
    pub m: usize,
}

impl Work {
    /// The operation at one of the given shapes; `None` if the shape is for another operation.
    pub fn new(op: Op, dtype: DType, shape: &Shape) -> Result<Option<Self>> {
        if shape.0.len() != op.sizes() {
            return Ok(None);
        }
        let (n, k, m) = (shape.0[0], shape.0[1], *shape.0.last().unwrap_or(&0));
        let fits = |a: usize, b: usize| a.checked_mul(b).is_some_and(|elements| elements <= MAX_ELEMENTS);
        if !(fits(n, k) && fits(k, m) && fits(n, m) && [n, k, m].iter().all(|&s| s <= u32::MAX as usize)) {
            return Err(Error::flag("--shape", shape.to_string(), format!("at most {MAX_ELEMENTS} elements a matrix")));
        }
        if op == Op::Tangent && !n.is_multiple_of(SLAB) {
            return Err(Error::flag("--shape", shape.to_string(), format!("rows in slabs of {SLAB} for tangent")));
        }
        Ok(Some(Self { op, dtype, n, k, m }))
    }
    /// As on the command line.
    pub fn shape(&self) -> String {
        match self.op {
            Op::Gram => format!("{}x{}", self.n, self.k),
            Op::Linear | Op::Tangent => format!("{}x{}x{}", self.n, self.k, self.m),
        }
    }
    /// Floating point operations that the result needs: two for each product and sum, the lower
    /// triangle of a Gram matrix alone, without means and epilogues.
    pub fn flops(&self) -> f64 {
        let (n, k, m) = (self.n as f64, self.k as f64, self.m as f64);
        match self.op {
            Op::Gram => n * k * (k + 1.0),
            Op::Linear | Op::Tangent => 2.0 * n * k * m,
        }
    }
    /// Bytes that any implementation moves: each input read once, each result (of a Gram
    /// matrix the lower triangle) written once.
    pub fn bytes(&self) -> f64 {
        let (n, k, m, size) = (self.n as f64, self.k as f64, self.m as f64, self.dtype.bytes() as f64);
        match self.op {
            Op::Gram => (n * k + k * (k + 1.0) / 2.0) * size,
            Op::Linear | Op::Tangent => (n * k + k * m + m + n * m) * size,
        }
    }
    /// Bytes of the inputs alone.
    pub fn input_bytes(&self) -> u64 {
        let weights = if self.op == Op::Gram { 0 } else { (self.k + 1) * self.m };
        ((self.n * self.k + weights) * self.dtype.bytes()) as u64
    }
    /// Bytes of host memory that a row of a GPU takes: the inputs, and the result in its type and in f64.
    pub fn host_memory(&self) -> u64 {
        self.input_bytes() + ((8 + self.dtype.bytes()) * self.result_len()) as u64
    }
    /// Elements of the result as a row-major matrix.
    pub fn result_len(&self) -> usize {
        if self.op == Op::Gram { self.k * self.k } else { self.n * self.m }
    }
}

/// Random inputs of a [`Work`].
#[derive(Debug)]
pub struct Data<T> {
    /// `[n, k]`
    pub x: Vec<T>,
    /// `[k, m]`; empty for gram
    pub w: Vec<T>,
    /// `[m]`; empty for gram
    pub bias: Vec<T>,
}

impl<T: Real> Data<T> {
    /// Inputs that depend on the shape and `seed` alone: x and bias in [-1, 1) around a mean of 1/4,
    /// W scaled so that the results are of the size of x.
    pub fn new(work: &Work, seed: u64) -> Self {
        let weights = if work.op == Op::Gram { 0 } else { work.k * work.m };
        let bias = if work.op == Op::Gram { 0 } else { work.m };
        Self {
            x: random(work.n * work.k, seed, 1.0, 0.25),
            w: random(weights, seed ^ 0x57, (3.0 / work.k as f64).sqrt(), 0.0),
            bias: random(bias, seed ^ 0xB1, 1.0, 0.25),
        }
    }
}

/// `len` numbers, uniform over `mean - scale .. mean + scale`.
fn random<T: Real>(len: usize, seed: u64, scale: f64, mean: f64) -> Vec<T> {
    let key = splitmix(seed);
    let unit = |i: usize| (splitmix(key ^ i as u64) >> 11) as f64 / (1u64 << 53) as f64;
    (0..len).into_par_iter().with_min_len(1 << 16).map(|i| T::of(mean + scale * (2.0 * unit(i) - 1.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(op: Op, dtype: DType, shape: &str) -> Result<Option<Work>> {
        Work::new(op, dtype, &shape.parse().unwrap())
    }

    #[test]
    fn arithmetic_and_bytes_are_those_of_the_definition() {
        let (n, k) = (7usize, 5usize);
        let gram = work(Op::Gram, DType::F32, "7x5").unwrap().unwrap();
        // A multiplication and an addition for each row and each pair i >= j.
        let pairs = (0..k).map(|i| i + 1).sum::<usize>();
        assert_eq!(gram.flops(), (2 * n * pairs) as f64);
        assert_eq!(gram.bytes(), (4 * (n * k + pairs)) as f64);
        assert_eq!((gram.input_bytes(), gram.result_len(), gram.shape().as_str()), (140, 25, "7x5"));
        let linear = work(Op::Linear, DType::F64, "7x5x3").unwrap().unwrap();
        assert_eq!(linear.flops(), (2 * 7 * 5 * 3) as f64);
        assert_eq!(linear.bytes(), ((7 * 5 + 5 * 3 + 3 + 7 * 3) * 8) as f64);
        assert_eq!((linear.input_bytes(), linear.result_len(), linear.shape().as_str()), (8 * 53, 21, "7x5x3"));
    }

    #[test]
    fn shapes_are_for_operations_with_as_many_numbers() {
        assert_eq!(work(Op::Gram, DType::F32, "7x5x3").unwrap(), None);
        assert_eq!(work(Op::Linear, DType::F32, "7x5").unwrap(), None);
        assert!(work(Op::Tangent, DType::F32, "32x5x3").unwrap().is_some());
        for bad in ["", "7", "7x", "0x5", "7x5x3x2", "ax5", "7x-5", "7 x5"] {
            assert!(bad.parse::<Shape>().is_err(), "{bad}");
        }
        let fits = |shape: &str| shape.parse::<Shape>().unwrap().fits_any(&[Op::Linear]);
        assert!(fits("1x2x3") && !fits("1x2"));
    }

    #[test]
    fn illegal_sizes_are_named() {
        let message = |op, shape| work(op, DType::F32, shape).unwrap_err().to_string();
        assert_eq!(message(Op::Tangent, "24x5x3"), "--shape: found 24x5x3; expected rows in slabs of 16 for tangent");
        assert!(message(Op::Gram, "9999999999x9999999999").contains("elements a matrix"));
        assert!(message(Op::Linear, "18446744073709551615x2x2").contains("elements a matrix"));
    }

    #[test]
    fn inputs_depend_on_the_seed_and_fill_their_range() {
        let work = work(Op::Linear, DType::F64, "64x32x8").unwrap().unwrap();
        let [a, b, c] = [3, 3, 4].map(|seed| Data::<f64>::new(&work, seed));
        assert!(a.x == b.x && a.w == b.w && a.x != c.x && a.x[..256] != a.w[..]);
        assert_eq!((a.x.len(), a.w.len(), a.bias.len()), (64 * 32, 32 * 8, 8));
        let (low, high) = a.x.iter().fold((0.0f64, 0.0f64), |(l, h), &x| (l.min(x), h.max(x)));
        assert!((-0.75..-0.7).contains(&low) && (1.2..1.25).contains(&high), "{low} {high}");
    }
}
