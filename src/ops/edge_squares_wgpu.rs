//! The wgpu launchers of [`super::edge_squares`]: derivative rows in scratch memory, sums of squares for each slab of
//! tokens, and their fold.

use super::edge_squares::{Args, RankOneArgs, Side};
use super::extents::countable;
use super::moments_wgpu::{Rows, column_sums, largest, points};
use super::offload::{Scratch, Storage, WgpuPlace};
use super::pieces::{Piece, pieces};
use crate::device::wgpu::Recorded;
use crate::device::{Tensor, View};
use crate::error::Result;
use crate::kernel::edges::Slabs;
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::edges::{EDGES, EdgeParams, EdgeShape, RANK_ONE, RankOneParams, slabs};

/// Whether the edges `[k_out, k_in]` are one row of numbers that a binding holds, and sums over tokens are exact.
fn edges_fit(out: &View, [k_out, k_in]: [usize; 2], limits: &Limits) -> bool {
    let edges = k_out.saturating_mul(k_in);
    let held = out.is_contiguous() && (out.rows, out.cols) == (k_out, k_in) && (1..=limits.binding.min(1 << 30)).contains(&edges);
    held && limits.exact_sums
}

/// Whether a weight is `[rows, cols]` and a binding holds it.
fn weight_fits(t: &Tensor, rows: usize, cols: usize, limits: &Limits) -> bool {
    (t.rows, t.cols) == (rows, cols) && rows.saturating_mul(cols) <= limits.binding
}

fn slabs_of(piece: &Piece, out: &View, limits: &Limits) -> Option<Slabs> {
    slabs(piece.n(), out.cols as u32, out.rows as u32, limits)
}

/// Bytes of the sums of all slabs of the piece that has most of them.
fn partial_bytes(pieces: &[Piece], out: &View, limits: &Limits) -> u64 {
    let of = |piece| slabs_of(piece, out, limits).map_or(0, |slabs| 4 * u64::from(slabs.count) * (out.rows * out.cols) as u64);
    pieces.iter().map(of).max().unwrap_or(0)
}

/// The edges as the one row that the sums of slabs are added to.
fn as_row(out: &View) -> View {
    out.reshape(1, out.rows * out.cols)
}

/// The sums of slabs in a scratch buffer.
fn partials<'a>(number: usize, slabs: Slabs, out: &View, at: &'a WgpuPlace) -> Rows<'a> {
    let cols = out.rows * out.cols;
    Rows { buffer: at.scratch(number), rows: slabs.count as usize, cols, stride: cols }
}

fn plan(a: &Args, limits: &Limits) -> Option<Vec<Piece>> {
    let (hidden, k_in, k_out) = (a.pre.cols, a.u_t.cols, a.v.cols);
    let fits = edges_fit(&a.out, [k_out, k_in], limits)
        && weight_fits(&a.u_t, a.derivatives().cols(), k_in, limits)
        && weight_fits(&a.v, hidden, k_out, limits)
        && weight_fits(&a.b, k_in, k_out, limits)
        && a.f_hat.cols == k_in;
    fits.then(|| a.derivatives().pieces(&[a.f_hat], limits)).flatten()
}

/// Scratch memory: the derivative rows of a piece, and the sums of its slabs. `None` where there is no kernel.
pub(super) fn fits(a: &Args, limits: &Limits) -> Option<Scratch> {
    let pieces = plan(a, limits)?;
    Some(vec![largest(&pieces, a.derivatives().stride()), partial_bytes(&pieces, &a.out, limits)])
}

/// The launches of an operation for which there are kernels.
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let limits = at.limits();
    let Some(pieces) = plan(a, &limits) else { return Ok(Vec::new()) };
    let (all, nodes) = (a.derivatives(), points(at, a.nodes.iter().copied())?);
    let (k_in, k_out) = (a.u_t.cols, a.v.cols);
    let quads = k_in.is_multiple_of(4) && k_out.is_multiple_of(4);
    let gates = if a.up.is_some() { 2 } else { 1 };
    let mut calls = Vec::new();
    for piece in &pieces {
        let Some(slabs) = slabs_of(piece, &a.out, &limits) else { continue };
        let (d, sums) = (all.rows(piece, at.scratch(0)), partials(1, slabs, &a.out, at));
        calls.extend(all.record(piece, &nodes, d.buffer, at)?);
        let shape = EdgeShape { n: piece.n(), k_in: k_in as u32, k_out: k_out as u32, slabs, quads };
        let plan = shape.squares(gates, a.v.rows as u32, &limits)?;
        let units = plan.tiles * u64::from(slabs.count);
        let f = piece.rows_of(&a.f_hat);
        let mut storage = at.storage();
        let d_offset = storage.read_buffer(d.buffer, 0..(d.rows - 1) * d.stride + d.cols)?;
        let f_offset = storage.read(&f)?;
        for weight in [&a.u_t, &a.v, &a.b] {
            storage.weight(weight)?;
        }
        storage.write_buffer(sums.buffer, 0..sums.rows * sums.cols)?;
        let params = EdgeParams {
            units: units as u32,
            tiles: plan.tiles as u32,
            column_tiles: plan.column_tiles as u32,
            n: piece.n(),
            hidden: a.pre.cols as u32,
            k_in: k_in as u32,
            k_out: k_out as u32,
            d_offset,
            d_stride: d.stride as u32,
            f_offset,
            f_stride: f.stride as u32,
            u_offset: 0,
            u_stride: k_in as u32,
            v_offset: 0,
            v_stride: k_out as u32,
            b_stride: k_out as u32,
            slab_tokens: slabs.tokens,
            one: 1.0,
            zero: 0.0,
        };
        calls.push(at.record(&EDGES, plan.configuration(), storage, &params, units)?);
        calls.push(column_sums(at, &sums, None, &as_row(&a.out))?);
    }
    Ok(calls)
}

fn row_of(side: &Side) -> Option<&View> {
    if let Side::Rows(v) = side { Some(v) } else { None }
}

fn rank_one_plan(a: &RankOneArgs, limits: &Limits) -> Option<Vec<Piece>> {
    let (k_in, k_out) = (a.z1.rows, a.z1.cols);
    let side = |side: &Side, k: usize| match side {
        Side::Rows(v) => v.cols == k,
        Side::Constant(t) => weight_fits(t, 1, k, limits),
    };
    let views = || [&a.f_hat, &a.s, &a.g].into_iter().chain(row_of(&a.l)).chain(row_of(&a.y));
    let fits = edges_fit(&a.out, [k_out, k_in], limits)
        && weight_fits(&a.z1, k_in, k_out, limits)
        && weight_fits(&a.z0, k_in, k_out, limits)
        && side(&a.l, k_in)
        && side(&a.y, k_out)
        && (a.f_hat.cols, a.s.cols, a.g.cols) == (k_in, 1, 1)
        && countable(views())
        && views().all(|v| v.rows == a.f_hat.rows);
    fits.then(|| pieces(a.f_hat.rows, 1, views(), [], limits.binding)).flatten().filter(|pieces| !pieces.is_empty())
}

/// Scratch memory of [`RankOneArgs`]: the sums of the slabs of a piece. `None` where there is no kernel.
pub(super) fn rank_one_fits(a: &RankOneArgs, limits: &Limits) -> Option<Scratch> {
    rank_one_plan(a, limits).map(|pieces| vec![partial_bytes(&pieces, &a.out, limits)])
}

/// The launches of [`RankOneArgs`].
pub(super) fn rank_one_bind(a: &RankOneArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let limits = at.limits();
    let (k_in, k_out) = (a.z1.rows as u32, a.z1.cols as u32);
    let mut calls = Vec::new();
    for piece in &rank_one_plan(a, &limits).unwrap_or_default() {
        let Some(slabs) = slabs_of(piece, &a.out, &limits) else { continue };
        let sums = partials(0, slabs, &a.out, at);
        let [f, s, g] = [a.f_hat, a.s, a.g].map(|v| piece.rows_of(&v));
        let side = |side: &Side, storage: &mut Storage| -> Result<[u32; 2]> {
            match side {
                Side::Rows(v) => Ok([storage.read(&piece.rows_of(v))?, v.stride as u32]),
                Side::Constant(t) => storage.weight(t).map(|()| [0, 0]),
            }
        };
        let mut storage = at.storage();
        let (f_offset, s_offset, g_offset) = (storage.read(&f)?, storage.read(&s)?, storage.read(&g)?);
        let ([l_offset, l_stride], [y_offset, y_stride]) = (side(&a.l, &mut storage)?, side(&a.y, &mut storage)?);
        storage.weight(&a.z1)?;
        storage.weight(&a.z0)?;
        storage.write_buffer(sums.buffer, 0..sums.rows * sums.cols)?;
        let in_quads = [k_in, k_out, f_offset, f.stride as u32, l_offset, l_stride, y_offset, y_stride];
        let quads = in_quads.iter().all(|n| n.is_multiple_of(4));
        let plan = EdgeShape { n: piece.n(), k_in, k_out, slabs, quads }.rank_one(&limits)?;
        let units = plan.tiles * u64::from(slabs.count);
        let params = RankOneParams {
            units: units as u32,
            tiles: plan.tiles as u32,
            column_tiles: plan.column_tiles as u32,
            n: piece.n(),
            k_in,
            k_out,
            f_offset,
            f_stride: f.stride as u32,
            s_offset,
            s_stride: s.stride as u32,
            g_offset,
            g_stride: g.stride as u32,
            l_offset,
            l_stride,
            y_offset,
            y_stride,
            z_stride: k_out,
            slab_tokens: slabs.tokens,
            one: 1.0,
            zero: 0.0,
        };
        calls.push(at.record(&RANK_ONE, plan.configuration(), storage, &params, units)?);
        calls.push(column_sums(at, &sums, None, &as_row(&a.out))?);
    }
    Ok(calls)
}
