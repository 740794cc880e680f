//! The wgpu launchers of [`super::gated`], with elementwise activations.

use super::activation_wgpu::{derivatives, derivatives_fit, values, values_fit};
use super::gated::{Args, TangentArgs};
use super::offload::{Scratch, WgpuPlace};
use crate::device::wgpu::Recorded;
use crate::error::Result;
use crate::kernel::wgsl::Limits;

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fits(a: &Args, limits: &Limits) -> Option<Scratch> {
    (a.act.is_elementwise() && values_fit([&a.g, &a.u, &a.h], limits)).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    a.act.elementwise().map_or(Ok(Vec::new()), |act| values(at, act, 1.0, &a.g, Some(&a.u), &a.h))
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn tangent_fits(a: &TangentArgs, limits: &Limits) -> Option<Scratch> {
    let served = derivatives_fit([&a.g, &a.u], [&a.dg, &a.du, &a.dh], limits);
    (a.act.is_elementwise() && served).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn tangent_bind(a: &TangentArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    a.act.elementwise().map_or(Ok(Vec::new()), |act| derivatives(at, act, &a.products()))
}
