//! The programs that are timed: the operations as a run launches them.

use super::work::{ACTIVATION, Data, Op, Work};
use crate::device::{Builder, Program, Real, Tensor, View};
use crate::ops::linear::Matrix;
use crate::ops::{Launch, gram, linear};

/// W and the bias of a linear map.
#[derive(Clone, Debug)]
pub struct Weights {
    w: Matrix,
    bias: Matrix,
}

impl Weights {
    /// Those of `data`; `None` for gram, which has none.
    pub fn new<T: Real>(work: &Work, data: &Data<T>) -> Option<Self> {
        if work.op == Op::Gram {
            return None;
        }
        let widen = |x: &[T]| x.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
        let w = Tensor::from_f64(T::DTYPE, work.k, work.m, widen(&data.w));
        let bias = Tensor::row(T::DTYPE, widen(&data.bias));
        Some(Self { w: Matrix::whole(&w), bias: Matrix::whole(&bias) })
    }
}

/// A program with the views of its input and its results.
#[derive(Clone, Debug)]
pub struct Timed {
    pub program: Program<Launch>,
    /// `[n, k]`
    pub x: View,
    /// `[n, m]`, or the centred Gram matrix `[k, k]`, of which the lower triangle counts.
    pub y: View,
    /// `[1, k]`: the column means of x, for gram.
    pub mean: Option<View>,
}

impl Timed {
    /// The operation on `n` rows.
    pub fn new(work: &Work, n: usize, weights: Option<&Weights>) -> Self {
        let mut b = Builder::new(work.dtype);
        let x = b.matrix(n, work.k);
        match weights {
            None => {
                let (mean, m2) = (b.matrix(1, work.k), b.matrix(work.k, work.k));
                b.push(Launch::Gram(gram::Args { x, mean, m2 }));
                Self { program: b.finish(), x, y: m2, mean: Some(mean) }
            }
            Some(Weights { w, bias }) => {
                let y = b.matrix(n, work.m);
                let (bias, act, tangent) = (Some(bias.clone()), Some(ACTIVATION), work.op == Op::Tangent);
                b.push(Launch::Linear(linear::Args { bias, act, tangent, ..linear::Args::new(x, w.clone(), y) }));
                Self { program: b.finish(), x, y, mean: None }
            }
        }
    }
}
