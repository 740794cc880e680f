//! The CUDA launchers of [`super::gram`], f64 and f32: centred rows, partial tiles of slabs, and the
//! fold of the slabs in f64.

use super::gram::{AddArgs, Args};
use super::offload::Place;
use super::product_cuda::{self, Operand, Product};
use crate::device::cuda::Call;
use crate::device::{DType, View};
use crate::error::Result;
use crate::kernel::gram::{CentreParams, GramShape, Plan, centre, choose};
use crate::kernel::tuning::Limits;

/// Multiple of bytes at which each part of the scratch memory begins.
const PART: u64 = 256;

/// Elements from one row to the next of the centred copy of a matrix of `cols` columns: rows start at
/// multiples of 16 bytes.
fn centred_stride(cols: usize, dtype: DType) -> usize {
    cols.next_multiple_of(16 / dtype.bytes())
}

/// The kernels for x, whose rows start at multiples of 16 bytes if `aligned`; `None` where none fits.
fn plan(x: &View, limits: &Limits, dtype: DType, aligned: bool) -> Option<Plan> {
    let fits = x.rows > 0 && x.cols > 0 && x.rows.max(x.cols).max(x.stride) < 1 << 30;
    let shape = GramShape { dtype, rows: x.rows as u32, cols: x.cols as u32, aligned };
    fits.then(|| choose(&shape, limits).ok())?
}

/// Bytes of the partial tiles.
fn partial_bytes(plan: &Plan) -> u64 {
    plan.partials() * plan.shape.dtype.bytes() as u64
}

/// Bytes of the centred copy of `x`, rounded up to the start of the next part.
fn centred_bytes(x: &View, dtype: DType) -> u64 {
    ((x.rows * centred_stride(x.cols, dtype) * dtype.bytes()) as u64).next_multiple_of(PART)
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, dtype: DType, limits: &Limits) -> Option<u64> {
    let plan = plan(&a.x, limits, dtype, true)?;
    Some(centred_bytes(&a.x, dtype) + partial_bytes(&plan))
}

/// The calls of a launch for which there are kernels.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let (dtype, View { rows, cols, stride, .. }) = (at.dtype(), a.x);
    let Some(plan) = plan(&a.x, &at.limits(), dtype, true) else { return Ok(Vec::new()) };
    let (centred, centred_stride) = (at.scratch(), centred_stride(cols, dtype) as u32);
    let partials = centred + centred_bytes(&a.x, dtype);
    let centring = centre(dtype, cols as u32);
    let params = CentreParams {
        x: at.view(&a.x),
        mean: at.view(&a.mean),
        centred,
        rows: rows as u32,
        cols: cols as u32,
        stride: stride as u32,
        centred_stride,
    };
    let first = at.call(centring.kernel, &centring.configuration, centring.grid, &params)?;
    let [tiles, fold] = products(at, &plan, (centred, centred_stride), partials, at.view(&a.m2), false)?;
    Ok(vec![first, tiles, fold])
}

/// The same for [`AddArgs`].
pub(super) fn add_scratch(a: &AddArgs, dtype: DType, limits: &Limits) -> Option<u64> {
    if a.transpose {
        let shape = [a.x.rows, a.x.rows, a.x.cols];
        return product_cuda::fits(dtype, shape, [1; 3], limits).then_some(0);
    }
    add_plan(a, limits, dtype).map(|plan| partial_bytes(&plan))
}

fn add_plan(a: &AddArgs, limits: &Limits, dtype: DType) -> Option<Plan> {
    // Buffers start at multiples of more than 16 bytes.
    let aligned = [a.x.offset, a.x.stride].iter().all(|n| (n * dtype.bytes()).is_multiple_of(16));
    plan(&a.x, limits, dtype, aligned)
}

/// The calls of a launch for which there are kernels.
pub(super) fn add_bind(a: &AddArgs, at: &mut Place) -> Result<Vec<Call>> {
    if a.transpose {
        let (x, out) = (Operand::rows(at.view(&a.x), a.x.cols), Operand::rows(at.view(&a.out), a.x.rows));
        let product =
            Product { accumulate: true, lower: true, ..Product::new([a.x.rows, a.x.rows, a.x.cols], x, x.transposed(), out) };
        return Ok(vec![product.call(at)?]);
    }
    let Some(plan) = add_plan(a, &at.limits(), at.dtype()) else { return Ok(Vec::new()) };
    let x = (at.view(&a.x), a.x.stride as u32);
    products(at, &plan, x, at.scratch(), at.view(&a.out), true).map(Vec::from)
}

/// Rows on the device that a Gram matrix adds up: `[rows, cols]`, each row at a multiple of 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub at: u64,
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
}

impl Rows {
    /// Rows in scratch memory, of which the address is still to come.
    pub fn in_scratch(rows: usize, cols: usize, dtype: DType) -> Self {
        Self { at: 0, rows, cols, stride: centred_stride(cols, dtype) }
    }
    /// Their bytes.
    pub fn bytes(&self, dtype: DType) -> u64 {
        (self.rows * self.stride * dtype.bytes()) as u64
    }
    fn plan(&self, dtype: DType, limits: &Limits) -> Option<Plan> {
        let fits = self.rows > 0 && self.cols > 0 && self.rows.max(self.stride) < 1 << 30;
        let shape = GramShape { dtype, rows: self.rows as u32, cols: self.cols as u32, aligned: true };
        fits.then(|| choose(&shape, limits).ok())?
    }
    /// Bytes of scratch memory that [`Rows::add_to`] takes; `None` where there is no kernel.
    pub fn gram_bytes(&self, dtype: DType, limits: &Limits) -> Option<u64> {
        Some(partial_bytes(&self.plan(dtype, limits)?))
    }
    /// `out += x'x` on the lower triangle of `out`, contiguous.
    pub fn add_to(&self, at: &Place, partials: u64, out: &View) -> Result<Vec<Call>> {
        let plan = self.plan(at.dtype(), &at.limits());
        plan.map_or(Ok(Vec::new()), |plan| {
            products(at, &plan, (self.at, self.stride as u32), partials, at.view(out), true).map(Vec::from)
        })
    }
}

/// The partial tiles of `x'x`, and their fold into `out` `[cols, cols]`.
fn products(at: &Place, plan: &Plan, x: (u64, u32), partials: u64, out: u64, add: bool) -> Result<[Call; 2]> {
    let (gram, fold) = (&plan.gram, plan.fold(plan.shape.dtype)?);
    let params = plan.gram_params(x.0, x.1, partials);
    let tiles = at.call(gram.kernel, &gram.configuration, gram.grid, &params)?;
    let params = plan.fold_params(partials, out, plan.shape.cols, add);
    Ok([tiles, at.call(fold.kernel, &fold.configuration, fold.grid, &params)?])
}
