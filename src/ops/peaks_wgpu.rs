//! The wgpu launchers of [`super::peaks`]: what is found of every sample, then the lists.

use super::extents::fit;
use super::offload::{Scratch, WgpuPlace};
use super::peaks::{Args, TILE};
use super::pieces::{Piece, pieces};
use crate::device::View;
use crate::device::wgpu::Recorded;
use crate::error::Result;
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::peaks::{LISTS, MOST_POSITIONS, PEAKS, PeakListParams, PeaksParams, lists, peaks};

/// x with a sample a row, so that samples stay whole.
fn samples(a: &Args) -> View {
    let x = a.x;
    View { rows: x.rows / a.positions, cols: (a.positions - 1) * x.stride + x.cols, stride: a.positions * x.stride, ..x }
}

fn plan(a: &Args, limits: &Limits) -> Option<Vec<Piece>> {
    let views = [&a.max, &a.at, &a.picked, &a.bars.least, &a.passed.values];
    let sizes = a.check().is_ok() && fit([&a.x]) && fit([&a.max, &a.at, &a.picked, &a.bars.least]);
    let lists = a.passed.values.rows > 0 && a.passed.values.cols > 0 && fit([&a.passed.values]);
    let ints = [a.counts.len, a.passed.cells.len, a.bars.most.len].into_iter().all(|len| len <= limits.binding);
    // The lists take what was found of all samples at a time.
    let held = views.iter().all(|v| v.rows.saturating_mul(v.stride) <= limits.binding);
    let fits = sizes && lists && ints && held && a.positions <= MOST_POSITIONS;
    fits.then(|| pieces(a.max.rows, 1, [&samples(a)], [], limits.binding)).flatten()
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fits(a: &Args, limits: &Limits) -> Option<Scratch> {
    plan(a, limits).map(|_| Scratch::new())
}

/// The launches of an operation for which there are kernels.
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let Some(pieces) = plan(a, &at.limits()) else { return Ok(Vec::new()) };
    let (width, tiles) = (a.x.cols as u32, a.x.cols.div_ceil(TILE));
    let (positions, skip) = (a.positions as u32, a.skip as u32);
    let mut calls = Vec::new();
    for piece in &pieces {
        let [max, position, picked] = [a.max, a.at, a.picked].map(|v| piece.rows_of(&v));
        let mut storage = at.storage();
        let params = PeaksParams {
            samples: piece.n(),
            positions,
            skip,
            width,
            tiles: tiles as u32,
            x_offset: storage.read(&piece.rows_of(&samples(a)))?,
            x_stride: a.x.stride as u32,
            max_offset: storage.write(&max)?,
            max_stride: max.stride as u32,
            at_offset: storage.write(&position)?,
            at_stride: position.stride as u32,
            picked_offset: storage.write(&picked)?,
            picked_stride: picked.stride as u32,
            first_at: storage.ints(a.first)?,
            earlier: piece.rows.start as u32,
            counts_at: storage.write_ints(a.counts)?,
            seed: a.seed,
        };
        calls.push(at.record(&PEAKS, &peaks(), storage, &params, tiles as u64)?);
    }
    let values = a.passed.values;
    let mut storage = at.storage();
    let params = PeakListParams {
        samples: a.max.rows as u32,
        positions,
        skip,
        width,
        tiles: tiles as u32,
        max_offset: storage.read(&a.max)?,
        max_stride: a.max.stride as u32,
        at_offset: storage.read(&a.at)?,
        at_stride: a.at.stride as u32,
        picked_offset: storage.read(&a.picked)?,
        picked_stride: a.picked.stride as u32,
        first_at: storage.ints(a.first)?,
        least_offset: storage.read(&a.bars.least)?,
        most_at: storage.ints(a.bars.most)?,
        cells_at: storage.write_ints(a.passed.cells)?,
        values_offset: storage.write(&values)?,
        values_stride: values.stride as u32,
        capacity: values.cols as u32,
        seed: a.seed,
    };
    calls.push(at.record(&LISTS, &lists(), storage, &params, tiles as u64)?);
    Ok(calls)
}
