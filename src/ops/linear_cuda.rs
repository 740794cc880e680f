//! The CUDA launcher of [`super::linear`], f32 and f64, with elementwise activations.

use super::linear::Args;
use super::offload::Place;
use crate::device::DType;
use crate::device::cuda::Call;
use crate::error::Result;
use crate::kernel::linear::{LinearParams, LinearShape, choose};
use crate::kernel::tuning::Limits;

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, _: DType, _: &Limits) -> Option<u64> {
    a.fits().then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let (x, y, w) = (at.view(&a.x), at.view(&a.y), at.matrix(&a.w)?);
    let bias = a.bias.as_ref().map_or(Ok(0), |bias| at.matrix(bias))?;
    let pre = a.pre.map_or(0, |p| at.view(&p));
    let pre_stride = a.pre.map_or(0, |p| p.stride);
    let (w_stride, element) = (a.w.tensor.cols, at.dtype().bytes() as u64);
    let rows = [(x, a.x.stride), (y, a.y.stride), (w, w_stride), (pre, pre_stride)];
    let aligned = rows.iter().all(|(at, stride)| at % 16 == 0 && (*stride as u64 * element).is_multiple_of(16));
    let shape = LinearShape {
        dtype: at.dtype(),
        n: a.x.rows as u32,
        k: a.x.cols as u32,
        m: a.y.cols as u32,
        transpose: a.transpose,
        epilogue: a.epilogue(),
        aligned,
    };
    let plan = choose(&shape, &at.limits())?;
    let params = LinearParams {
        x,
        w,
        bias,
        y,
        pre,
        n: shape.n,
        k: shape.k,
        m: shape.m,
        x_stride: a.x.stride as u32,
        w_stride: w_stride as u32,
        y_stride: a.y.stride as u32,
        pre_stride: pre_stride as u32,
        column_tiles: plan.column_tiles,
    };
    let launch = &plan.launch;
    Ok(vec![at.call(launch.kernel, &launch.configuration, launch.grid, &params)?])
}
