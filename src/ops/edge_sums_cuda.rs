//! The CUDA launchers of the edges that are summed from tangents and cotangents: [`TangentArgs`] and
//! [`CotangentArgs`] of [`super::edge_squares`], f32 and f64.

use super::edge_squares::{CotangentArgs, TangentArgs};
use super::extents::{fit, tiles_fit};
use super::offload::Place;
use crate::device::DType;
use crate::device::cuda::Call;
use crate::error::Result;
use crate::kernel::edge_sums::{COTANGENTS, EdgeCotangentParams, EdgeTangentParams, TANGENTS, configuration};
use crate::kernel::tuning::Limits;

/// Columns of a CTA of either kernel.
const COLUMNS: usize = 32;

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn tangent_scratch(a: &TangentArgs, _: DType, _: &Limits) -> Option<u64> {
    (a.probes > 0 && tiles_fit(a.probes) && fit([&a.y, &a.out])).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn tangent_bind(a: &TangentArgs, at: &mut Place) -> Result<Vec<Call>> {
    let params = EdgeTangentParams {
        y: at.view(&a.y),
        index: at.ints(a.index),
        out: at.view(&a.out),
        n: (a.y.rows / a.probes) as u32,
        k_out: a.y.cols as u32,
        k_in: a.out.cols as u32,
        probes: a.probes as u32,
        y_stride: a.y.stride as u32,
        out_stride: a.out.stride as u32,
    };
    let grid = [a.y.cols.div_ceil(COLUMNS) as u32, a.probes as u32, 1];
    Ok(vec![at.call(&TANGENTS, &configuration(at.dtype()), grid, &params)?])
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn cotangent_scratch(a: &CotangentArgs, _: DType, _: &Limits) -> Option<u64> {
    let fits = a.probes > 0 && a.positions > 0 && a.count < 1 << 30 && tiles_fit(a.probes);
    (fits && fit([&a.g, &a.f_hat, &a.out])).then_some(0)
}

/// The call of a launch for which there is a kernel. Without the square every position is a sample of its own.
pub(super) fn cotangent_bind(a: &CotangentArgs, at: &mut Place) -> Result<Vec<Call>> {
    let params = EdgeCotangentParams {
        g: at.view(&a.g),
        f: at.view(&a.f_hat),
        index: at.ints(a.index),
        out: at.view(&a.out),
        n: a.f_hat.rows as u32,
        k_in: a.out.cols as u32,
        k_out: a.out.rows as u32,
        probes: a.probes as u32,
        count: a.count as u32,
        positions: if a.squared { a.positions as u32 } else { 1 },
        squared: a.squared.into(),
        g_stride: a.g.stride as u32,
        f_stride: a.f_hat.stride as u32,
        out_stride: a.out.stride as u32,
    };
    let grid = [a.out.cols.div_ceil(COLUMNS) as u32, a.probes.min(a.out.rows) as u32, 1];
    Ok(vec![at.call(&COTANGENTS, &configuration(at.dtype()), grid, &params)?])
}
