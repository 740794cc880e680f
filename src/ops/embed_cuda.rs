//! The CUDA launchers of [`super::embed`] and [`super::token_embed`], f32 and f64.

use super::embed::Args;
use super::extents::fit;
use super::offload::Place;
use super::token_embed;
use crate::device::DType;
use crate::device::cuda::Call;
use crate::error::Result;
use crate::kernel::embed::{self, EMBED, EmbedParams};
use crate::kernel::sheet::Sheet;
use crate::kernel::tuning::Limits;

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, _: DType, _: &Limits) -> Option<u64> {
    fit([Some(&a.y), a.token_out.as_ref(), a.pos_out.as_ref()].into_iter().flatten()).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let outside = |at: &Place, v: Option<_>| v.map_or((0, 0), |v: crate::device::View| (at.view(&v), v.stride as u32));
    let ((token_out, token_stride), (pos_out, pos_stride)) = (outside(at, a.token_out), outside(at, a.pos_out));
    let params = EmbedParams {
        tokens: at.ints(a.tokens),
        positions: 0,
        w_e: at.tensor(&a.w_e)?,
        w_pos: at.tensor(&a.w_pos)?,
        row: 0,
        y: at.view(&a.y),
        token_out,
        pos_out,
        scale: 1.0,
        rows: a.y.rows as u32,
        cols: a.y.cols as u32,
        seq: a.seq as u32,
        listed: 0,
        y_stride: a.y.stride as u32,
        token_stride,
        pos_stride,
        log_columns: 0,
    };
    call(at, params)
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn token_scratch(a: &token_embed::Args, _: DType, _: &Limits) -> Option<u64> {
    fit([&a.y]).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn token_bind(a: &token_embed::Args, at: &mut Place) -> Result<Vec<Call>> {
    let params = EmbedParams {
        tokens: at.ints(a.tokens),
        positions: a.w_pos.as_ref().map_or(0, |_| at.ints(a.positions)),
        w_e: at.tensor(&a.w_e)?,
        w_pos: a.w_pos.as_ref().map_or(Ok(0), |w| at.tensor(w))?,
        row: a.row.as_ref().map_or(Ok(0), |row| at.tensor(row))?,
        y: at.view(&a.y),
        token_out: 0,
        pos_out: 0,
        scale: a.scale.unwrap_or(1.0),
        rows: a.y.rows as u32,
        cols: a.y.cols as u32,
        seq: 1,
        listed: a.w_pos.is_some().into(),
        y_stride: a.y.stride as u32,
        token_stride: 0,
        pos_stride: 0,
        log_columns: 0,
    };
    call(at, params)
}

/// The launch, spread over its sheet.
fn call(at: &Place, params: EmbedParams) -> Result<Vec<Call>> {
    let sheet = Sheet::new(params.rows, params.cols, embed::DEEP);
    let params = EmbedParams { log_columns: sheet.log_columns, ..params };
    Ok(vec![at.call(&EMBED, &embed::configuration(at.dtype()), sheet.grid(1), &params)?])
}
