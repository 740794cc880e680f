//! The CUDA launcher of batched matrix products, for the operations that are made of them, and of
//! [`super::gram::CrossArgs`].

use super::gram::CrossArgs;
use super::offload::Place;
use crate::device::cuda::Call;
use crate::device::{DType, View};
use crate::error::{Error, Result};
use crate::kernel::product::{ProductParams, ProductShape, choose};
use crate::kernel::tuning::Limits;

/// A batch of matrices on the device, in the dtype of the program: element (i, j) of the matrix
/// (z0, z1, z2) lies `i row + j column + z0 batch[0] + z1 batch[1] + z2 batch[2]` elements behind `at`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    pub at: u64,
    pub row: usize,
    pub column: usize,
    pub batch: [usize; 3],
}

impl Operand {
    /// A row-major matrix at an address, whose rows are `stride` elements apart.
    pub fn rows(at: u64, stride: usize) -> Self {
        Self { at, row: stride, column: 1, batch: [0; 3] }
    }
    /// A view.
    pub fn view(at: &Place, v: &View) -> Self {
        Self::rows(at.view(v), v.stride)
    }
    /// Every matrix transposed.
    pub fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }
    /// With these elements from one value of a batch index to the next.
    pub fn batched(self, batch: [usize; 3]) -> Self {
        Self { batch, ..self }
    }
}

/// C[z] = alpha A[z] B[z], or `+=`, for z = (z0, z1, z2), with A `[m, k]`, B `[k, n]` and C `[m, n]`.
///
/// An element is summed in the order of k, in chains of 512: the same bits whatever the strides and
/// whatever else is in the batch. C may not overlap with A or B.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub a: Operand,
    pub b: Operand,
    pub c: Operand,
    pub m: usize,
    pub n: usize,
    /// 0 gives matrices of zeros.
    pub k: usize,
    /// Values of each batch index.
    pub batch: [usize; 3],
    pub alpha: f64,
    /// Adds to C.
    pub accumulate: bool,
    /// Leaves what lies above the diagonal of each C untouched.
    pub lower: bool,
}

impl Product {
    /// C = A B, for `[m, n, k]`.
    pub fn new([m, n, k]: [usize; 3], a: Operand, b: Operand, c: Operand) -> Self {
        Self { a, b, c, m, n, k, batch: [1; 3], alpha: 1.0, accumulate: false, lower: false }
    }
    /// The launch. What [`fits`] refuses, an empty batch among it, is an error.
    pub fn call(&self, at: &Place) -> Result<Call> {
        let Self { a, b, c, alpha, .. } = *self;
        let shape = shape(at.dtype(), [self.m, self.n, self.k], self.batch);
        let strides = [a.row, a.column, b.row, b.column, c.row, c.column].map(u32::try_from);
        let (Some(shape), [Ok(a_row), Ok(a_column), Ok(b_row), Ok(b_column), Ok(c_row), Ok(c_column)]) = (shape, strides) else {
            return Err(Error::shape("product", format!("{self:?}"), "sizes and strides below 2^32"));
        };
        let (launch, column_tiles) = choose(&shape, &at.limits())?;
        let [a_batch, b_batch, c_batch] = [a, b, c].map(|o| o.batch.map(|stride| stride as u64));
        let params = ProductParams {
            a: a.at,
            b: b.at,
            c: c.at,
            a_batch0: a_batch[0],
            a_batch1: a_batch[1],
            a_batch2: a_batch[2],
            b_batch0: b_batch[0],
            b_batch1: b_batch[1],
            b_batch2: b_batch[2],
            c_batch0: c_batch[0],
            c_batch1: c_batch[1],
            c_batch2: c_batch[2],
            alpha,
            m: shape.m,
            n: shape.n,
            k: shape.k,
            batch1: shape.batch[1],
            batch2: shape.batch[2],
            a_row,
            a_column,
            b_row,
            b_column,
            c_row,
            c_column,
            column_tiles,
            lower: self.lower.into(),
            accumulate: self.accumulate.into(),
        };
        at.call(launch.kernel, &launch.configuration, launch.grid, &params)
    }
}

fn shape(dtype: DType, sizes: [usize; 3], batch: [usize; 3]) -> Option<ProductShape> {
    let ([Ok(m), Ok(n), Ok(k)], [Ok(z0), Ok(z1), Ok(z2)]) = (sizes.map(u32::try_from), batch.map(u32::try_from)) else {
        return None;
    };
    Some(ProductShape { dtype, m, n, k, batch: [z0, z1, z2] })
}

/// Whether there is a kernel for a batch of products of `[m, n, k]`: not for an empty one.
pub(super) fn fits(dtype: DType, sizes: [usize; 3], batch: [usize; 3], limits: &Limits) -> bool {
    shape(dtype, sizes, batch).is_some_and(|shape| choose(&shape, limits).is_ok())
}

/// Bytes of scratch memory that [`CrossArgs`] takes; `None` where there is no kernel for it.
pub(super) fn cross_scratch(c: &CrossArgs, dtype: DType, limits: &Limits) -> Option<u64> {
    fits(dtype, [c.a.cols, c.b.cols, c.a.rows], [1; 3], limits).then_some(0)
}

/// The call of `out += a'b`.
pub(super) fn cross_bind(c: &CrossArgs, at: &mut Place) -> Result<Vec<Call>> {
    let [a, b, out] = [c.a, c.b, c.out].map(|v| Operand::view(at, &v));
    let product = Product::new([c.a.cols, c.b.cols, c.a.rows], a.transposed(), b, out);
    Ok(vec![Product { accumulate: true, ..product }.call(at)?])
}
