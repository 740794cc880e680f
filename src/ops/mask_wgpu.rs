//! The wgpu launchers of [`super::mask`].

use super::extents::fit;
use super::mask::{Args, ReadoutArgs};
use super::offload::{Scratch, WgpuPlace};
use super::pieces::{Piece, holds, pieces};
use super::probes_wgpu::Chunk;
use crate::device::wgpu::Recorded;
use crate::error::Result;
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::chunk::{Form, LINES, READOUT, ReadoutParams, readout_configuration};

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fits(a: &Args, limits: &Limits) -> Option<Scratch> {
    (fit([&a.f_hat, &a.y]) && rows(a).pieces(limits).is_some()).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    rows(a).bind(at)
}

fn rows(a: &Args) -> Chunk<'_> {
    let (n, count) = (a.f_hat.rows, a.masks.rows);
    let table = Some(&a.masks);
    Chunk { form: Form::Mask, x: Some(a.f_hat), table, index: a.index, y: a.y, n, probes: a.y.rows / n, count }
}

/// The rows that launches can bind; `None` where one alone is too large.
fn cut(a: &ReadoutArgs, limits: &Limits) -> Option<Vec<Piece>> {
    pieces(a.y.rows, a.x.rows / a.y.rows, [&a.y], [&a.x], limits.binding)
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn readout_fits(a: &ReadoutArgs, limits: &Limits) -> Option<Scratch> {
    let owners = a.owners.iter().all(|owner| *owner < 1 << 31) && a.owners.len() <= limits.binding;
    (owners && fit([&a.x, &a.y]) && holds(&a.w_t, limits.binding) && cut(a, limits).is_some()).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn readout_bind(a: &ReadoutArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let owners: Vec<u32> = a.owners.iter().map(|owner| *owner as u32).collect();
    let owners = at.constants(bytemuck::cast_slice(&owners))?;
    let each = |piece: Piece| {
        let (x, y) = (piece.stack_of(&a.x), piece.rows_of(&a.y));
        let mut storage = at.storage();
        let x_offset = storage.read(&x)?;
        storage.weight(&a.w_t)?;
        storage.read_buffer(&owners, 0..a.owners.len())?;
        let row_tiles = piece.n().div_ceil(LINES);
        let params = ReadoutParams {
            n: piece.n(),
            d: x.cols as u32,
            k: y.cols as u32,
            bound: piece.probes.len() as u32,
            first_probe: piece.probes.start as u32,
            probes: (a.x.rows / a.y.rows) as u32,
            index_offset: storage.ints(a.index)?,
            x_offset,
            x_stride: x.stride as u32,
            y_offset: storage.write(&y)?,
            y_stride: y.stride as u32,
            row_tiles,
        };
        at.record(&READOUT, &readout_configuration(), storage, &params, y.cols as u64 * u64::from(row_tiles))
    };
    cut(a, &at.limits()).unwrap_or_default().into_iter().map(each).collect()
}
