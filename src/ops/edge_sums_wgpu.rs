//! The wgpu launchers of the edges that are summed from tangents and cotangents: [`TangentArgs`] and [`CotangentArgs`] of
//! [`super::edge_squares`].

use super::edge_squares::{CotangentArgs, TangentArgs};
use super::extents::fit;
use super::offload::{Scratch, WgpuPlace};
use super::pieces::{Piece, pieces};
use crate::device::View;
use crate::device::wgpu::Recorded;
use crate::error::Result;
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::edge_sums::{COTANGENTS, EdgeCotangentParams, EdgeTangentParams, TANGENTS, configuration};
use crate::kernel::wgsl::sums::log_columns;

/// Elements that a view spans.
fn span(v: &View) -> usize {
    v.rows.saturating_sub(1).saturating_mul(v.stride).saturating_add(v.cols)
}

fn tangent_pieces(a: &TangentArgs, limits: &Limits) -> Option<Vec<Piece>> {
    let whole = a.probes > 0 && a.y.rows.is_multiple_of(a.probes) && a.y.cols == a.out.rows;
    let fits = whole && limits.exact_sums && fit([&a.y, &a.out]) && span(&a.out) <= limits.binding;
    fits.then(|| pieces(a.y.rows / a.probes, a.probes, [], [&a.y], limits.binding)).flatten()
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn tangent_fits(a: &TangentArgs, limits: &Limits) -> Option<Scratch> {
    tangent_pieces(a, limits).map(|_| Scratch::new())
}

/// The launches of an operation for which there is a kernel.
pub(super) fn tangent_bind(a: &TangentArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let call = |piece: Piece| {
        let y = piece.stack_of(&a.y);
        let log_columns = log_columns(piece.rows.len(), y.cols);
        let column_groups = y.cols.div_ceil(1 << log_columns);
        let mut storage = at.storage();
        let params = EdgeTangentParams {
            n: piece.n(),
            k_out: y.cols as u32,
            k_in: a.out.cols as u32,
            probes: piece.probes.len() as u32,
            of_chunk: a.probes as u32,
            first_probe: piece.probes.start as u32,
            y_offset: storage.read(&y)?,
            y_stride: y.stride as u32,
            index_at: storage.ints(a.index)?,
            out_offset: storage.write(&a.out)?,
            out_stride: a.out.stride as u32,
            log_columns,
            column_groups: column_groups as u32,
            one: 1.0,
            zero: 0.0,
        };
        at.record(&TANGENTS, &configuration(), storage, &params, (column_groups * piece.probes.len()) as u64)
    };
    tangent_pieces(a, &at.limits()).unwrap_or_default().into_iter().map(call).collect()
}

/// Pieces of whole probes: samples are not cut.
fn cotangent_pieces(a: &CotangentArgs, limits: &Limits) -> Option<Vec<Piece>> {
    let n = a.f_hat.rows;
    let whole = a.probes > 0 && a.positions > 0 && n.is_multiple_of(a.positions) && a.g.rows == a.probes * n;
    let agrees = whole && (a.g.cols, a.f_hat.cols) == (a.out.cols, a.out.cols) && a.count < 1 << 30;
    let fits = agrees && limits.exact_sums && fit([&a.g, &a.f_hat, &a.out]) && span(&a.out) <= limits.binding;
    let all = fits.then(|| pieces(n, a.probes, [&a.f_hat], [&a.g], limits.binding)).flatten()?;
    all.iter().all(|piece| piece.rows == (0..n)).then_some(all)
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn cotangent_fits(a: &CotangentArgs, limits: &Limits) -> Option<Scratch> {
    cotangent_pieces(a, limits).map(|_| Scratch::new())
}

/// The launches of an operation for which there is a kernel. Without the square every position is a sample of its own.
pub(super) fn cotangent_bind(a: &CotangentArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let positions = if a.squared { a.positions } else { 1 };
    let (samples, k_in) = (a.f_hat.rows / positions, a.out.cols);
    let log_columns = log_columns(samples, k_in);
    let column_groups = k_in.div_ceil(1 << log_columns);
    let call = |piece: Piece| {
        let g = piece.stack_of(&a.g);
        let mut storage = at.storage();
        let params = EdgeCotangentParams {
            samples: samples as u32,
            positions: positions as u32,
            k_in: k_in as u32,
            k_out: a.out.rows as u32,
            probes: piece.probes.len() as u32,
            of_chunk: a.probes as u32,
            first_probe: piece.probes.start as u32,
            count: a.count as u32,
            squared: a.squared.into(),
            g_offset: storage.read(&g)?,
            g_stride: g.stride as u32,
            f_offset: storage.read(&a.f_hat)?,
            f_stride: a.f_hat.stride as u32,
            index_at: storage.ints(a.index)?,
            out_offset: storage.write(&a.out)?,
            out_stride: a.out.stride as u32,
            log_columns,
            column_groups: column_groups as u32,
            one: 1.0,
            zero: 0.0,
        };
        let rows = piece.probes.len().min(a.out.rows);
        at.record(&COTANGENTS, &configuration(), storage, &params, (column_groups * rows) as u64)
    };
    cotangent_pieces(a, &at.limits()).unwrap_or_default().into_iter().map(call).collect()
}
