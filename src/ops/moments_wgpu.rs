//! The wgpu launcher of [`super::moments`]: derivative rows in scratch memory, their column sums and their Gram matrix. The
//! rows and the sums also serve other operations.

use super::extents::countable;
use super::moments::{Args, Derivatives};
use super::offload::{Scratch, WgpuPlace};
use super::pieces::{Piece, pieces};
use super::product_wgpu::{Operand, gram_add};
use crate::device::View;
use crate::device::wgpu::{Recorded, WgpuBuffer};
use crate::error::Result;
use crate::kernel::sheet::Sheet;
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::sums::{
    COLUMN_SUMS, ColumnSumParams, DEEP, DERIVATIVES, DerivativeParams, GATED, HAS_WEIGHTS, derivatives, log_columns,
};

/// Rows from the first element of a scratch buffer on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    pub buffer: &'a WgpuBuffer,
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
}

impl Rows<'_> {
    /// `out += x'x` on the lower triangle.
    pub fn add_to(&self, out: &View, at: &WgpuPlace, calls: &mut Vec<Recorded>) -> Result<()> {
        gram_add(Operand::rows(self.buffer, 0, self.stride), [self.rows, self.cols], false, out, at, calls)
    }
}

/// A view whose rows are those of `v` in number and lie in a buffer of their own: what `pieces` is told of scratch memory.
pub(super) fn in_scratch(v: &View, stride: usize) -> View {
    View { offset: 0, cols: stride, stride, ..*v }
}

/// Elements from one row to the next of rows in scratch memory: whole quads.
pub(super) fn row_stride(cols: usize) -> usize {
    cols.next_multiple_of(4)
}

/// Bytes of `stride` elements for every row of the largest of some pieces.
pub(super) fn largest(pieces: &[Piece], stride: usize) -> u64 {
    pieces.iter().map(|piece| 4 * (piece.rows.len() * stride) as u64).max().unwrap_or(0)
}

impl Derivatives<'_> {
    /// Elements from one row to the next in scratch memory.
    pub fn stride(&self) -> usize {
        row_stride(self.cols())
    }
    /// How the rows are cut, those of `others` with them; `None` where there is no kernel.
    pub fn pieces(&self, others: &[View], limits: &Limits) -> Option<Vec<Piece>> {
        let Self { pre, up, .. } = self;
        let views = || [pre].into_iter().chain(up).chain(others);
        let agrees = up.is_none_or(|up| (up.rows, up.cols) == (pre.rows, pre.cols));
        let known = self.act.is_elementwise() && !self.nodes.is_empty() && pre.rows > 0 && pre.cols > 0;
        let fits = known && agrees && countable(views()) && views().all(|v| v.rows == pre.rows);
        let scratch = in_scratch(pre, self.stride());
        fits.then(|| pieces(pre.rows, 1, views().chain([&scratch]), [], limits.binding)).flatten()
    }
    /// The launch that writes those of a piece to a scratch buffer.
    pub fn record(&self, piece: &Piece, nodes: &WgpuBuffer, out: &WgpuBuffer, at: &WgpuPlace) -> Result<Option<Recorded>> {
        let Some(act) = self.act.elementwise() else { return Ok(None) };
        let (pre, up) = (piece.rows_of(&self.pre), self.up.map(|up| piece.rows_of(&up)));
        let sheet = Sheet::new(piece.n(), pre.cols as u32, DEEP);
        let mut storage = at.storage();
        let params = DerivativeParams {
            rows: piece.n(),
            cols: pre.cols as u32,
            pre_offset: storage.read(&pre)?,
            pre_stride: pre.stride as u32,
            up_offset: storage.read_if(up.as_ref())?,
            up_stride: up.map_or(0, |up| up.stride) as u32,
            out_offset: {
                storage.read_buffer(nodes, 0..2 * self.nodes.len())?;
                storage.write_buffer(out, 0..piece.rows.len() * self.stride())?
            },
            out_stride: self.stride() as u32,
            count: self.nodes.len() as u32,
            flags: if up.is_some() { GATED } else { 0 },
            log_columns: sheet.log_columns,
            column_tiles: sheet.tiles[1],
        };
        at.record(&DERIVATIVES, &derivatives(act), storage, &params, sheet.count()).map(Some)
    }
    /// Those of a piece in a scratch buffer.
    pub fn rows<'a>(&self, piece: &Piece, buffer: &'a WgpuBuffer) -> Rows<'a> {
        Rows { buffer, rows: piece.rows.len(), cols: self.cols(), stride: self.stride() }
    }
}

/// A table of pairs on the device; of zeros where there are none.
pub(super) fn points(at: &WgpuPlace, points: impl Iterator<Item = (f64, f64)>) -> Result<WgpuBuffer> {
    let mut table: Vec<f32> = points.flat_map(|(w, a)| [w as f32, a as f32]).collect();
    table.resize(table.len().max(2), 0.0);
    at.constants(bytemuck::cast_slice(&table))
}

/// The launch of `out += sum of the rows, each times its weight`, for out `[1, cols]`; weights are numbers from the first
/// element of a buffer on, or 1.
pub(super) fn column_sums(at: &WgpuPlace, x: &Rows, weights: Option<&WgpuBuffer>, out: &View) -> Result<Recorded> {
    let log_columns = log_columns(x.rows, x.cols);
    let mut storage = at.storage();
    let params = ColumnSumParams {
        rows: x.rows as u32,
        cols: x.cols as u32,
        x_offset: storage.read_buffer(x.buffer, 0..(x.rows - 1) * x.stride + x.cols)?,
        x_stride: x.stride as u32,
        weights_offset: match weights {
            Some(weights) => storage.read_buffer(weights, 0..x.rows)?,
            None => storage.read_if(None)?,
        },
        out_offset: storage.write(out)?,
        flags: if weights.is_some() { HAS_WEIGHTS } else { 0 },
        log_columns,
        one: 1.0,
        zero: 0.0,
    };
    let groups = x.cols.div_ceil(1 << log_columns) as u64;
    at.record(&COLUMN_SUMS, &crate::kernel::wgsl::sums::column_sums(), storage, &params, groups)
}

fn plan(a: &Args, limits: &Limits) -> Option<Vec<Piece>> {
    let width = a.derivatives().cols();
    let fits = a.s.is_contiguous()
        && (a.s.rows, a.s.cols, a.h.rows, a.h.cols) == (width, width, 1, width)
        && countable([&a.h, &a.s])
        && width.saturating_mul(width) <= limits.binding;
    (fits && limits.exact_sums).then(|| a.derivatives().pieces(&[], limits)).flatten()
}

/// Scratch memory: the derivative rows of a piece. `None` where there is no kernel.
pub(super) fn fits(a: &Args, limits: &Limits) -> Option<Scratch> {
    plan(a, limits).map(|pieces| vec![largest(&pieces, a.derivatives().stride())])
}

/// The launches of an operation for which there are kernels.
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let Some(pieces) = plan(a, &at.limits()) else { return Ok(Vec::new()) };
    let (all, nodes) = (a.derivatives(), points(at, a.nodes.iter().copied())?);
    let mut calls = Vec::new();
    for piece in &pieces {
        let rows = all.rows(piece, at.scratch(0));
        calls.extend(all.record(piece, &nodes, rows.buffer, at)?);
        calls.push(column_sums(at, &rows, None, &a.h)?);
        rows.add_to(&a.s, at, &mut calls)?;
    }
    Ok(calls)
}
