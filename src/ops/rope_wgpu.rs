//! The wgpu launcher of [`super::rope`].

use super::extents::fit;
use super::offload::{Scratch, WgpuPlace};
use super::pieces::{Piece, holds, pieces};
use super::rope::Args;
use crate::device::wgpu::Recorded;
use crate::error::Result;
use crate::kernel::sheet::Sheet;
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::rope::{self, ROPE, RopeParams};

/// The rows that a launch can bind; `None` where one alone is too large.
fn cut(a: &Args, limits: &Limits) -> Option<Vec<Piece>> {
    pieces(a.x.view.rows, 1, [&a.x.view, &a.y.view], [], limits.binding)
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fits(a: &Args, limits: &Limits) -> Option<Scratch> {
    let some = a.heads > 0 && a.d_head > 0 && a.positions.len > 0 && a.cos.rows > 0 && holds(&a.cos, limits.binding);
    (some && fit([&a.x.view, &a.y.view]) && cut(a, limits).is_some()).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let half = a.cos.cols;
    let cols = (a.heads * (a.d_head - half)) as u32;
    let each = |piece: Piece| {
        let (x, y) = (piece.rows_of(&a.x.view), piece.rows_of(&a.y.view));
        let sheet = Sheet::new(piece.n(), cols, rope::DEEP);
        let mut storage = at.storage();
        let [x_offset, y_offset] = storage.write_in_place(&x, &y)?;
        storage.weight(&a.cos)?;
        storage.weight(&a.sin)?;
        let params = RopeParams {
            rows: piece.n(),
            cols,
            n: a.positions.len as u32,
            first: (piece.rows.start % a.positions.len) as u32,
            d_head: a.d_head as u32,
            half: half as u32,
            positions_bound: a.cos.rows as u32,
            positions_offset: storage.ints(a.positions)?,
            x_pitch: a.x.pitch as u32,
            y_pitch: a.y.pitch as u32,
            x_offset,
            x_stride: x.stride as u32,
            y_offset,
            y_stride: y.stride as u32,
            sign: if a.inverse { -1.0 } else { 1.0 },
            log_columns: sheet.log_columns,
            column_tiles: sheet.tiles[1],
        };
        at.record(&ROPE, &rope::configuration(x.buffer == y.buffer), storage, &params, sheet.count())
    };
    cut(a, &at.limits()).unwrap_or_default().into_iter().map(each).collect()
}
