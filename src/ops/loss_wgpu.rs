//! The wgpu launchers of [`super::loss`]: the loss of every row, then the sums of every run.

use super::extents::rows_fit;
use super::loss::{Args, ProbeArgs};
use super::offload::{Scratch, WgpuPlace};
use super::pieces::pieces;
use crate::device::wgpu::Recorded;
use crate::device::{IntBuffer, View};
use crate::error::Result;
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::loss::{COUNTED, FOLD, LossFoldParams, LossRowsParams, ROWS, fold, rows};

/// Some runs over the labels from `from` on, `rows` each.
struct Runs {
    logits: View,
    labels: IntBuffer,
    from: usize,
    rows: usize,
    index: Option<IntBuffer>,
    out: View,
}

impl Runs {
    /// Scratch memory: two numbers a row.
    fn fits(&self, limits: &Limits) -> Option<Scratch> {
        let count = self.logits.rows;
        let whole = self.rows > 0 && count.is_multiple_of(self.rows) && self.from.saturating_add(self.rows) <= self.labels.len;
        let out = self.out.cols == 2 && self.out.rows > 0;
        let held = count.saturating_mul(2) <= limits.binding && self.labels.len <= limits.binding;
        let fits = rows_fit([&self.logits, &self.out]) && whole && out && held;
        (fits && pieces(count, 1, [&self.logits], [], limits.binding).is_some()).then(|| vec![8 * count as u64])
    }
    fn bind(&self, at: &WgpuPlace) -> Result<Vec<Recorded>> {
        let (count, losses) = (self.logits.rows, at.scratch(0));
        let mut calls = Vec::new();
        for piece in pieces(count, 1, [&self.logits], [], at.limits().binding).unwrap_or_default() {
            let logits = piece.rows_of(&self.logits);
            let mut storage = at.storage();
            let params = LossRowsParams {
                rows: piece.n(),
                cols: logits.cols as u32,
                logits_offset: storage.read(&logits)?,
                logits_stride: logits.stride as u32,
                labels_at: storage.ints(self.labels)? + self.from as u32,
                period: self.rows as u32,
                first_row: piece.rows.start as u32,
                losses_offset: storage.write_buffer(losses, 0..2 * count)?,
                not_a_number: f32::NAN.to_bits(),
            };
            calls.push(at.record(&ROWS, &rows(), storage, &params, u64::from(piece.n()))?);
        }
        let runs = count / self.rows;
        let mut storage = at.storage();
        let params = LossFoldParams {
            rows: self.rows as u32,
            runs: runs as u32,
            losses_offset: storage.read_buffer(losses, 0..2 * count)?,
            index_at: storage.ints_if(self.index)?,
            out_offset: storage.write(&self.out)?,
            out_stride: self.out.stride as u32,
            out_rows: self.out.rows as u32,
            flags: if self.index.is_some() { COUNTED } else { 0 },
            one: 1.0,
        };
        calls.push(at.record(&FOLD, &fold(), storage, &params, runs as u64)?);
        Ok(calls)
    }
}

fn of(a: &Args) -> Runs {
    let Args { logits, labels, from, out } = *a;
    Runs { logits, labels, from, rows: logits.rows, index: None, out }
}

fn of_probes(a: &ProbeArgs) -> Runs {
    let ProbeArgs { logits, labels, index, out } = *a;
    Runs { logits, labels, from: 0, rows: labels.len, index: Some(index), out }
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fits(a: &Args, limits: &Limits) -> Option<Scratch> {
    of(a).fits(limits)
}

/// The launches of [`Args`].
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    of(a).bind(at)
}

/// The same for [`ProbeArgs`].
pub(super) fn probe_fits(a: &ProbeArgs, limits: &Limits) -> Option<Scratch> {
    of_probes(a).fits(limits)
}

/// The launches of [`ProbeArgs`].
pub(super) fn probe_bind(a: &ProbeArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    of_probes(a).bind(at)
}
