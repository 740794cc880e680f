//! The CUDA launcher of [`super::rope`], f32 and f64.

use super::extents::fit;
use super::offload::Place;
use super::rope::Args;
use crate::device::DType;
use crate::device::cuda::Call;
use crate::error::Result;
use crate::kernel::rope::{self, ROPE, RopeParams};
use crate::kernel::sheet::Sheet;
use crate::kernel::tuning::Limits;

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, _: DType, _: &Limits) -> Option<u64> {
    (a.heads > 0 && a.d_head > 0 && a.positions.len > 0 && fit([&a.x.view, &a.y.view])).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let (rows, half) = (a.x.view.rows as u32, a.cos.cols);
    let sheet = Sheet::new(rows, (a.heads * (a.d_head - half)) as u32, rope::DEEP);
    let params = RopeParams {
        x: at.view(&a.x.view),
        y: at.view(&a.y.view),
        cos: at.tensor(&a.cos)?,
        sin: at.tensor(&a.sin)?,
        positions: at.ints(a.positions),
        sign: if a.inverse { -1.0 } else { 1.0 },
        rows,
        n: a.positions.len as u32,
        heads: a.heads as u32,
        d_head: a.d_head as u32,
        half: half as u32,
        x_pitch: a.x.pitch as u32,
        y_pitch: a.y.pitch as u32,
        x_stride: a.x.view.stride as u32,
        y_stride: a.y.view.stride as u32,
        log_columns: sheet.log_columns,
    };
    Ok(vec![at.call(&ROPE, &rope::configuration(at.dtype()), sheet.grid(1), &params)?])
}
