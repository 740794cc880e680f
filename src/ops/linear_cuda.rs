//! The CUDA launcher of [`super::linear`]: f32, with elementwise activations.

use super::activation::Activation;
use super::linear::{Args, Matrix};
use super::offload::Bound;
use crate::device::cuda::{Call, CudaArena, Lane};
use crate::device::{DType, View};
use crate::error::Result;
use crate::kernel::linear::{Elementwise, Epilogue, LinearParams, LinearShape, choose};

/// The activation as the kernels name it; `None` for SoLU, which needs whole rows.
pub fn elementwise(act: Activation) -> Option<Elementwise> {
    Some(match act {
        Activation::Relu => Elementwise::Relu,
        Activation::Gelu => Elementwise::Gelu,
        Activation::GeluNew => Elementwise::GeluNew,
        Activation::Silu => Elementwise::Silu,
        Activation::Tanh => Elementwise::Tanh,
        Activation::Sigmoid => Elementwise::Sigmoid,
        Activation::Identity => Elementwise::Identity,
        Activation::Solu => return None,
    })
}

/// What becomes of `x W + b` in a launch that passes its check.
pub fn epilogue(a: &Args) -> Epilogue {
    let act = a.act.and_then(elementwise).unwrap_or(Elementwise::Identity);
    match (a.accumulate, a.tangent) {
        (true, _) => Epilogue::Add,
        (false, true) => Epilogue::Tangent(act),
        (false, false) => Epilogue::Store(act),
    }
}

/// The views that the kernel touches; `None` where there is no kernel.
pub(super) fn footprint(a: &Args, dtype: DType) -> Option<Vec<View>> {
    let most = |v: &View| v.rows.max(v.cols).max(v.stride) < 1 << 30;
    let empty = a.x.rows == 0 || a.x.cols == 0 || a.y.cols == 0;
    let fits = most(&a.x) && most(&a.y) && a.pre.as_ref().is_none_or(most) && a.w.tensor.cols < 1 << 30;
    if dtype != DType::F32 || a.check().is_err() || empty || !fits {
        return None;
    }
    Some([a.x, a.y].into_iter().chain(a.pre).collect())
}

/// Resolves a launch, its weights uploaded through `lane`; `None` where there is no kernel for it.
pub(super) fn bind(a: &Args, m: &CudaArena, lane: &mut Lane) -> Result<Option<Bound<Call>>> {
    if footprint(a, m.dtype()).is_none() {
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
        epilogue: epilogue(a),
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
