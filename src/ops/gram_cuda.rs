//! The CUDA launchers of [`super::gram`], f64 and f32: centred rows, partial tiles of slabs, and the
//! fold of the slabs in f64.

use super::gram::{AddArgs, Args};
use super::offload::Bound;
use crate::device::cuda::{Call, Cuda, CudaArena};
use crate::device::{DType, View};
use crate::error::Result;
use crate::kernel::gram::{CentreParams, GramShape, Plan, centre, choose};

/// Multiple of bytes at which each part of the scratch memory begins.
const PART: u64 = 256;

/// Elements from one row to the next of the centred copy of a matrix of `cols` columns: rows start at
/// multiples of 16 bytes.
fn centred_stride(cols: usize, dtype: DType) -> usize {
    cols.next_multiple_of(16 / dtype.bytes())
}

fn plan(cuda: &Cuda, dtype: DType, rows: usize, cols: usize, aligned: bool) -> Result<Plan> {
    choose(&GramShape { dtype, rows: rows as u32, cols: cols as u32, aligned }, &cuda.limits())
}

fn fits(x: &View) -> bool {
    x.rows > 0 && x.cols > 0 && x.rows.max(x.cols).max(x.stride) < 1 << 30
}

/// Bytes of the partial tiles.
fn partial_bytes(plan: &Plan) -> u64 {
    plan.partials() * plan.shape.dtype.bytes() as u64
}

/// Bytes of the centred copy of `x`, rounded up to the start of the next part.
fn centred_bytes(x: &View, dtype: DType) -> u64 {
    ((x.rows * centred_stride(x.cols, dtype) * dtype.bytes()) as u64).next_multiple_of(PART)
}

/// The views that the kernels touch and their scratch bytes; `None` where there is no kernel.
pub(super) fn footprint(a: &Args, cuda: &Cuda, dtype: DType) -> Option<(Vec<View>, u64)> {
    let plan = fits(&a.x).then(|| plan(cuda, dtype, a.x.rows, a.x.cols, true).ok())??;
    Some((vec![a.x, a.mean, a.m2], centred_bytes(&a.x, dtype) + partial_bytes(&plan)))
}

/// Resolves a launch; `None` where there is no kernel for it.
pub(super) fn bind(a: &Args, m: &CudaArena) -> Result<Option<Bound<Call>>> {
    if footprint(a, m.cuda(), m.dtype()).is_none() {
        return Ok(None);
    }
    let (cuda, dtype, View { rows, cols, stride, .. }) = (m.cuda(), m.dtype(), a.x);
    let (centred, centred_stride) = (m.scratch(), centred_stride(cols, dtype) as u32);
    let partials = centred + centred_bytes(&a.x, dtype);
    let centring = centre(dtype, cols as u32);
    let params = CentreParams {
        x: m.view(&a.x),
        mean: m.view(&a.mean),
        centred,
        rows: rows as u32,
        cols: cols as u32,
        stride: stride as u32,
        centred_stride,
    };
    let first = cuda.call(centring.kernel, &centring.configuration, centring.grid, &params)?;
    let plan = plan(cuda, dtype, rows, cols, true)?;
    let [tiles, fold] = products(cuda, &plan, (centred, centred_stride), partials, m.view(&a.m2), false)?;
    Ok(Some(Bound { calls: vec![first, tiles, fold], reads: vec![a.x], writes: vec![a.mean, a.m2], zeroed: vec![a.m2] }))
}

/// The same for [`AddArgs`]; there is no kernel for `x x'`.
pub(super) fn add_footprint(a: &AddArgs, cuda: &Cuda, dtype: DType) -> Option<(Vec<View>, u64)> {
    if a.transpose || !fits(&a.x) {
        return None;
    }
    let plan = plan(cuda, dtype, a.x.rows, a.x.cols, false).ok()?;
    Some((vec![a.x, a.out], partial_bytes(&plan)))
}

/// Resolves a launch; `None` where there is no kernel for it.
pub(super) fn add_bind(a: &AddArgs, m: &CudaArena) -> Result<Option<Bound<Call>>> {
    if add_footprint(a, m.cuda(), m.dtype()).is_none() {
        return Ok(None);
    }
    let (cuda, dtype, x, stride) = (m.cuda(), m.dtype(), m.view(&a.x), a.x.stride);
    let aligned = x.is_multiple_of(16) && (stride * dtype.bytes()).is_multiple_of(16);
    let plan = plan(cuda, dtype, a.x.rows, a.x.cols, aligned)?;
    let calls = products(cuda, &plan, (x, stride as u32), m.scratch(), m.view(&a.out), true)?;
    Ok(Some(Bound { calls: calls.into(), reads: vec![a.x, a.out], writes: vec![a.out], zeroed: vec![] }))
}

/// The partial tiles of `x'x`, and their fold into `out` `[cols, cols]`.
fn products(cuda: &Cuda, plan: &Plan, x: (u64, u32), partials: u64, out: u64, add: bool) -> Result<[Call; 2]> {
    let (gram, fold) = (&plan.gram, plan.fold(plan.shape.dtype)?);
    let params = plan.gram_params(x.0, x.1, partials);
    let tiles = cuda.call(gram.kernel, &gram.configuration, gram.grid, &params)?;
    let params = plan.fold_params(partials, out, plan.shape.cols, add);
    Ok([tiles, cuda.call(fold.kernel, &fold.configuration, fold.grid, &params)?])
}
