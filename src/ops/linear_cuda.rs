//! The CUDA launcher of [`super::linear`]: f32, with elementwise activations.

use super::linear::{Args, Matrix};
use super::offload::Bound;
use crate::device::cuda::{Call, CudaArena, Lane};
use crate::error::Result;
use crate::kernel::linear::{LinearParams, LinearShape, choose};

/// Resolves a launch, its weights uploaded through `lane`; `None` where there is no kernel for it.
pub(super) fn bind(a: &Args, m: &CudaArena, lane: &mut Lane) -> Result<Option<Bound<Call>>> {
    if a.kernel_views(m.dtype()).is_none() {
        return Ok(None);
    }
    let cuda = m.cuda();
    let mut at = |matrix: &Matrix| {
        let offset = (matrix.row * matrix.tensor.cols + matrix.col) * m.dtype().bytes();
        Ok(cuda.tensor(&matrix.tensor, lane)? + offset as u64)
    };
    let (x, y, w) = (m.view(&a.x), m.view(&a.y), at(&a.w)?);
    let bias = a.bias.as_ref().map_or(Ok(0), at)?;
    let weights = [Some(&a.w), a.bias.as_ref()].into_iter().flatten().map(|matrix| matrix.tensor.clone()).collect();
    let pre = a.pre.map_or(0, |p| m.view(&p));
    let pre_stride = a.pre.map_or(0, |p| p.stride);
    let (w_stride, element) = (a.w.tensor.cols, m.dtype().bytes() as u64);
    let rows = [(x, a.x.stride), (y, a.y.stride), (w, w_stride), (pre, pre_stride)];
    let aligned = rows.iter().all(|(at, stride)| at % 16 == 0 && (*stride as u64 * element).is_multiple_of(16));
    let shape = LinearShape {
        n: a.x.rows as u32,
        k: a.x.cols as u32,
        m: a.y.cols as u32,
        transpose: a.transpose,
        epilogue: a.epilogue(),
        aligned,
    };
    let plan = choose(&shape, &cuda.limits())?;
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
    let call = cuda.call(launch.kernel, &launch.configuration, launch.grid, &params)?;
    let calls = vec![Call { weights, ..call }];
    let reads = [a.x].into_iter().chain(a.accumulate.then_some(a.y)).collect();
    Ok(Some(Bound { calls, reads, writes: [a.y].into_iter().chain(a.pre).collect(), zeroed: vec![] }))
}
