//! The CUDA launchers of [`super::copy`], f32 and f64.

use super::copy::{Args, FillArgs, ScaleArgs};
use super::extents::fit;
use super::offload::Place;
use crate::device::cuda::Call;
use crate::device::{DType, View};
use crate::error::Result;
use crate::kernel::affine::{self, AFFINE, AffineParams};
use crate::kernel::sheet::Sheet;
use crate::kernel::tuning::Limits;

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, _: DType, _: &Limits) -> Option<u64> {
    ((a.x.rows, a.x.cols) == (a.y.rows, a.y.cols) && fit([&a.x, &a.y])).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    affine(at, Some(&a.x), [0, 0], a.scale, &a.y, a.accumulate)
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn fill_scratch(a: &FillArgs, _: DType, _: &Limits) -> Option<u64> {
    fit([&a.y]).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn fill_bind(a: &FillArgs, at: &mut Place) -> Result<Vec<Call>> {
    affine(at, None, [0, 0], a.value, &a.y, false)
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scale_scratch(a: &ScaleArgs, _: DType, _: &Limits) -> Option<u64> {
    let cols = [Some(&a.w), a.bias.as_ref()].into_iter().flatten().all(|t| t.cols == a.y.cols);
    (cols && (a.x.rows, a.x.cols) == (a.y.rows, a.y.cols) && fit([&a.x, &a.y])).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn scale_bind(a: &ScaleArgs, at: &mut Place) -> Result<Vec<Call>> {
    let w = at.tensor(&a.w)?;
    let b = a.bias.as_ref().map_or(Ok(0), |b| at.tensor(b))?;
    affine(at, Some(&a.x), [w, b], 1.0, &a.y, a.accumulate)
}

/// `y = scale x w + b`, or `y +=` it; an address of 0 leaves its part out, no x is one of ones.
fn affine(at: &Place, x: Option<&View>, [w, b]: [u64; 2], scale: f64, y: &View, accumulate: bool) -> Result<Vec<Call>> {
    let sheet = Sheet::new(y.rows as u32, y.cols as u32, affine::DEEP);
    let params = AffineParams {
        x: x.map_or(0, |x| at.view(x)),
        w,
        b,
        y: at.view(y),
        scale,
        rows: y.rows as u32,
        cols: y.cols as u32,
        x_stride: x.map_or(0, |x| x.stride) as u32,
        y_stride: y.stride as u32,
        log_columns: sheet.log_columns,
        accumulate: accumulate.into(),
    };
    Ok(vec![at.call(&AFFINE, &affine::configuration(at.dtype()), sheet.grid(1), &params)?])
}
