//! The CUDA launchers of [`super::gather`], f32 and f64.

use super::extents::fit;
use super::gather::{Args, ScatterArgs};
use super::offload::Place;
use crate::device::DType;
use crate::device::cuda::Call;
use crate::error::Result;
use crate::kernel::gather::{self, GATHER, GatherParams, SCATTER, ScatterParams, scatter_grid};
use crate::kernel::sheet::Sheet;
use crate::kernel::tuning::Limits;

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, _: DType, _: &Limits) -> Option<u64> {
    fit([&a.x, &a.y]).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let (rows, m) = (a.y.rows, a.rows.len);
    let sheet = Sheet::new(rows as u32, a.y.cols as u32, gather::DEEP);
    let params = GatherParams {
        x: at.view(&a.x),
        x_probe: (a.x.rows * m / rows * a.x.stride) as u64,
        chosen: at.ints(a.rows),
        y: at.view(&a.y),
        rows: rows as u32,
        cols: a.y.cols as u32,
        m: m as u32,
        x_stride: a.x.stride as u32,
        y_stride: a.y.stride as u32,
        log_columns: sheet.log_columns,
    };
    Ok(vec![at.call(&GATHER, &gather::configuration(at.dtype()), sheet.grid(1), &params)?])
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scatter_scratch(a: &ScatterArgs, _: DType, _: &Limits) -> Option<u64> {
    fit([&a.x, &a.y]).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn scatter_bind(a: &ScatterArgs, at: &mut Place) -> Result<Vec<Call>> {
    let (rows, cols, m) = (a.y.rows as u32, a.y.cols as u32, a.rows.len);
    let params = ScatterParams {
        x: at.view(&a.x),
        chosen: at.ints(a.rows),
        y: at.view(&a.y),
        rows,
        cols,
        n: (a.y.rows * m / a.x.rows) as u32,
        m: m as u32,
        x_stride: a.x.stride as u32,
        y_stride: a.y.stride as u32,
    };
    Ok(vec![at.call(&SCATTER, &gather::configuration(at.dtype()), scatter_grid(rows, cols), &params)?])
}
