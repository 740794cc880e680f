//! The CUDA launchers of [`super::mask`], f32 and f64.

use super::extents::fit;
use super::mask::{Args, ReadoutArgs};
use super::offload::Place;
use super::probes_cuda::{Chunk, chunk};
use crate::device::DType;
use crate::device::cuda::Call;
use crate::error::Result;
use crate::kernel::chunk::{Form, READOUT, ReadoutParams, readout, readout_grid};
use crate::kernel::tuning::Limits;

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, _: DType, _: &Limits) -> Option<u64> {
    fit([&a.f_hat, &a.y]).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let table = at.tensor(&a.masks)?;
    let (n, count) = (a.f_hat.rows, a.masks.rows);
    chunk(at, Form::Mask, &Chunk { x: Some(a.f_hat), table, index: a.index, y: a.y, n, probes: a.y.rows / n, count })
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn readout_scratch(a: &ReadoutArgs, _: DType, _: &Limits) -> Option<u64> {
    let owners = a.owners.iter().all(|owner| u32::try_from(*owner).is_ok());
    (owners && fit([&a.x, &a.y])).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn readout_bind(a: &ReadoutArgs, at: &mut Place) -> Result<Vec<Call>> {
    let (n, k) = (a.y.rows as u32, a.y.cols as u32);
    let owners: Vec<u32> = a.owners.iter().map(|owner| *owner as u32).collect();
    let params = ReadoutParams {
        x: at.view(&a.x),
        w_t: at.tensor(&a.w_t)?,
        owners: at.constants(bytemuck::cast_slice(&owners))?,
        index: at.ints(a.index),
        y: at.view(&a.y),
        n,
        d: a.x.cols as u32,
        k,
        probes: (a.x.rows / a.y.rows) as u32,
        x_stride: a.x.stride as u32,
        y_stride: a.y.stride as u32,
    };
    Ok(vec![at.call(&READOUT, &readout(at.dtype()), readout_grid(n, k), &params)?])
}
