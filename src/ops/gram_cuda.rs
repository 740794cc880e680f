//! The CUDA launchers of [`super::gram`], f64 and f32: centred rows, partial tiles of slabs, and the
//! fold of the slabs in f64.

use super::extents::{MOST, rows_fit};
use super::gram::{AddArgs, Args};
use super::offload::Place;
use super::parts::Parts;
use super::product_cuda::{self, Operand, Product};
use crate::device::cuda::Call;
use crate::device::{DType, View};
use crate::error::Result;
use crate::kernel::gram::{CentreParams, GramShape, Plan, centre, choose};
use crate::kernel::tuning::Limits;

/// Bytes of the partial tiles.
fn partial_bytes(plan: &Plan) -> u64 {
    plan.partials() * plan.shape.dtype.bytes() as u64
}

/// The centred copy of `x` and the address of the partial tiles, with all their bytes: addresses from `start` on, or
/// offsets with a start of 0.
fn parts(x: &View, start: u64, dtype: DType, limits: &Limits) -> Option<(Rows, u64, u64)> {
    let mut centred = rows_fit([x]).then(|| Rows::in_scratch(x.rows, x.cols, dtype))?;
    let mut parts = Parts::new(start);
    centred.at = parts.take(centred.bytes(dtype));
    let partials = parts.take(centred.gram_bytes(dtype, limits)?);
    Some((centred, partials, parts.bytes()))
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, dtype: DType, limits: &Limits) -> Option<u64> {
    parts(&a.x, 0, dtype, limits).map(|(.., bytes)| bytes)
}

/// The calls of a launch for which there are kernels.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let Some((centred, partials, _)) = parts(&a.x, at.scratch(), at.dtype(), &at.limits()) else { return Ok(Vec::new()) };
    let centring = centre(at.dtype(), a.x.cols as u32);
    let params = CentreParams {
        x: at.view(&a.x),
        mean: at.view(&a.mean),
        centred: centred.at,
        rows: a.x.rows as u32,
        cols: a.x.cols as u32,
        stride: a.x.stride as u32,
        centred_stride: centred.stride as u32,
    };
    let mut calls = vec![at.call(centring.kernel, &centring.configuration, centring.grid, &params)?];
    calls.extend(centred.products(at, true, partials, &a.m2, false)?);
    Ok(calls)
}

/// The same for [`AddArgs`].
pub(super) fn add_scratch(a: &AddArgs, dtype: DType, limits: &Limits) -> Option<u64> {
    if a.transpose {
        let shape = [a.x.rows, a.x.rows, a.x.cols];
        return product_cuda::fits(dtype, shape, [1; 3], limits).then_some(0);
    }
    rows_fit([&a.x]).then(|| Rows::of(&a.x, 0).plan(dtype, limits, is_aligned(&a.x, dtype)))?.map(|plan| partial_bytes(&plan))
}

/// Whether every row of `x` starts at a multiple of 16 bytes; buffers start at multiples of more.
fn is_aligned(x: &View, dtype: DType) -> bool {
    [x.offset, x.stride].iter().all(|n| (n * dtype.bytes()).is_multiple_of(16))
}

/// The calls of a launch for which there are kernels.
pub(super) fn add_bind(a: &AddArgs, at: &mut Place) -> Result<Vec<Call>> {
    if a.transpose {
        let (x, out) = (Operand::rows(at.view(&a.x), a.x.cols), Operand::rows(at.view(&a.out), a.x.rows));
        let product =
            Product { accumulate: true, lower: true, ..Product::new([a.x.rows, a.x.rows, a.x.cols], x, x.transposed(), out) };
        return Ok(vec![product.call(at)?]);
    }
    Rows::of(&a.x, at.view(&a.x)).products(at, is_aligned(&a.x, at.dtype()), at.scratch(), &a.out, true)
}

/// Rows on the device that a Gram matrix adds up: `[rows, cols]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub at: u64,
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
}

impl Rows {
    /// Rows in scratch memory, of which the address is still to come; each starts at a multiple of 16 bytes.
    pub fn in_scratch(rows: usize, cols: usize, dtype: DType) -> Self {
        Self { at: 0, rows, cols, stride: cols.next_multiple_of(16 / dtype.bytes()) }
    }
    /// A view at an address.
    fn of(x: &View, at: u64) -> Self {
        Self { at, rows: x.rows, cols: x.cols, stride: x.stride }
    }
    /// Their bytes.
    pub fn bytes(&self, dtype: DType) -> u64 {
        (self.rows * self.stride * dtype.bytes()) as u64
    }
    /// The kernels, for rows that start at multiples of 16 bytes if `aligned`; `None` where none fits.
    fn plan(&self, dtype: DType, limits: &Limits, aligned: bool) -> Option<Plan> {
        let fits = self.rows > 0 && self.cols > 0 && self.rows.max(self.stride) < MOST;
        let shape = GramShape { dtype, rows: self.rows as u32, cols: self.cols as u32, aligned };
        fits.then(|| choose(&shape, limits).ok())?
    }
    /// Bytes of scratch memory that [`Rows::add_to`] takes; `None` where there is no kernel.
    pub fn gram_bytes(&self, dtype: DType, limits: &Limits) -> Option<u64> {
        Some(partial_bytes(&self.plan(dtype, limits, true)?))
    }
    /// `out += x'x` on the lower triangle of `out`, contiguous, of rows that start at multiples of 16 bytes.
    pub fn add_to(&self, at: &Place, partials: u64, out: &View) -> Result<Vec<Call>> {
        self.products(at, true, partials, out, true)
    }
    /// The partial tiles of `x'x`, and their fold into `out` `[cols, cols]`, or onto it if `add`.
    fn products(&self, at: &Place, aligned: bool, partials: u64, out: &View, add: bool) -> Result<Vec<Call>> {
        let Some(plan) = self.plan(at.dtype(), &at.limits(), aligned) else { return Ok(Vec::new()) };
        let (gram, fold) = (&plan.gram, plan.fold(plan.shape.dtype)?);
        let params = plan.gram_params(self.at, self.stride as u32, partials);
        let tiles = at.call(gram.kernel, &gram.configuration, gram.grid, &params)?;
        let params = plan.fold_params(partials, at.view(out), plan.shape.cols, add);
        Ok(vec![tiles, at.call(fold.kernel, &fold.configuration, fold.grid, &params)?])
    }
}
