//! The wgpu launchers of [`super::loss`]: the loss of every row, then the sums of every run.

use super::extents::rows_fit;
use super::loss::Runs;
use super::offload::{Scratch, WgpuPlace};
use super::pieces::pieces;
use crate::device::wgpu::Recorded;
use crate::error::Result;
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::loss::{COUNTED, FOLD, LossFoldParams, LossRowsParams, ROWS, fold, rows};

/// Scratch memory of the losses or of those of probes: two numbers a row. `None` where there is no kernel.
pub(super) fn fits(a: impl Into<Runs>, limits: &Limits) -> Option<Scratch> {
    let a = a.into();
    let count = a.logits.rows;
    let whole = a.rows > 0 && count.is_multiple_of(a.rows) && a.from.saturating_add(a.rows) <= a.labels.len;
    let out = a.out.cols == 2 && a.out.rows > 0;
    let held = count.saturating_mul(2) <= limits.binding && a.labels.len <= limits.binding;
    let fits = rows_fit([&a.logits, &a.out]) && whole && out && held;
    (fits && pieces(count, 1, [&a.logits], [], limits.binding).is_some()).then(|| vec![8 * count as u64])
}

/// The launches of the losses or of those of probes.
pub(super) fn bind(a: impl Into<Runs>, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let a = a.into();
    let (count, losses) = (a.logits.rows, at.scratch(0));
    let mut calls = Vec::new();
    for piece in pieces(count, 1, [&a.logits], [], at.limits().binding).unwrap_or_default() {
        let logits = piece.rows_of(&a.logits);
        let mut storage = at.storage();
        let params = LossRowsParams {
            rows: piece.n(),
            cols: logits.cols as u32,
            logits_offset: storage.read(&logits)?,
            logits_stride: logits.stride as u32,
            labels_at: storage.ints(a.labels)? + a.from as u32,
            period: a.rows as u32,
            first_row: piece.rows.start as u32,
            losses_offset: storage.write_buffer(losses, 0..2 * count)?,
            not_a_number: f32::NAN.to_bits(),
        };
        calls.push(at.record(&ROWS, &rows(), storage, &params, u64::from(piece.n()))?);
    }
    let runs = count / a.rows;
    let mut storage = at.storage();
    let params = LossFoldParams {
        rows: a.rows as u32,
        runs: runs as u32,
        losses_offset: storage.read_buffer(losses, 0..2 * count)?,
        index_at: storage.ints_if(a.index)?,
        out_offset: storage.write(&a.out)?,
        out_stride: a.out.stride as u32,
        out_rows: a.out.rows as u32,
        flags: if a.index.is_some() { COUNTED } else { 0 },
        one: 1.0,
    };
    calls.push(at.record(&FOLD, &fold(), storage, &params, runs as u64)?);
    Ok(calls)
}
