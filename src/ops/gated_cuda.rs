//! The CUDA launchers of [`super::gated`], f32 and f64, with elementwise activations.

use super::activation_cuda::{derivative_fits, derivatives, values};
use super::extents::fit;
use super::gated::{Args, TangentArgs};
use super::offload::Place;
use crate::device::DType;
use crate::device::cuda::Call;
use crate::error::Result;
use crate::kernel::tuning::Limits;

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, _: DType, _: &Limits) -> Option<u64> {
    (a.act.is_elementwise() && fit([&a.g, &a.u, &a.h])).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let call = a.act.elementwise().map(|act| values(at, act, 1.0, &a.g, Some(&a.u), &a.h));
    call.into_iter().collect()
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn tangent_scratch(a: &TangentArgs, _: DType, _: &Limits) -> Option<u64> {
    (a.act.is_elementwise() && fit([&a.u]) && derivative_fits(&a.g, [&a.dg, &a.du, &a.dh])).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn tangent_bind(a: &TangentArgs, at: &mut Place) -> Result<Vec<Call>> {
    let call = a.act.elementwise().map(|act| derivatives(at, act, &a.products()));
    call.into_iter().collect()
}
