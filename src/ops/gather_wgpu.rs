//! The wgpu launchers of [`super::gather`].

use super::extents::fit;
use super::gather::{Args, ScatterArgs};
use super::offload::{Scratch, WgpuPlace};
use super::pieces::{Piece, pieces};
use crate::device::View;
use crate::device::wgpu::Recorded;
use crate::error::Result;
use crate::kernel::sheet::Sheet;
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::gather::{
    self, COLUMNS, GATHER, GatherParams, SCATTER, ScatterParams, configuration, scatter_configuration,
};

/// A stack as one row a probe, gaps between rows counted in.
fn by_probe(v: &View, probes: usize) -> View {
    let n = v.rows / probes;
    View { rows: probes, cols: (n - 1) * v.stride + v.cols, stride: n * v.stride, ..*v }
}

/// The probes that a launch can bind together, of stacks of whole probes; `None` where one alone is too large.
fn cut(few: &View, many: &View, chosen: usize, limits: &Limits) -> Option<Vec<Piece>> {
    let probes = few.rows / chosen;
    pieces(1, probes, [], [&by_probe(few, probes), &by_probe(many, probes)], limits.binding)
}

/// The rows of a piece's probes.
fn of_probes(v: &View, piece: &Piece, probes: usize) -> View {
    let n = v.rows / probes;
    v.slice_rows(piece.probes.start * n, piece.probes.len() * n)
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fits(a: &Args, limits: &Limits) -> Option<Scratch> {
    (fit([&a.x, &a.y]) && cut(&a.y, &a.x, a.rows.len, limits).is_some()).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let (m, probes) = (a.rows.len, a.y.rows / a.rows.len);
    let all = cut(&a.y, &a.x, m, &at.limits()).unwrap_or_default();
    let each = |piece: Piece| {
        let (x, y) = (of_probes(&a.x, &piece, probes), of_probes(&a.y, &piece, probes));
        let sheet = Sheet::new(y.rows as u32, y.cols as u32, gather::DEEP);
        let mut storage = at.storage();
        let (x_offset, chosen_offset) = (storage.read(&x)?, storage.ints(a.rows)?);
        let params = GatherParams {
            rows: y.rows as u32,
            cols: y.cols as u32,
            m: m as u32,
            n: (a.x.rows / probes) as u32,
            x_offset,
            x_stride: x.stride as u32,
            y_offset: storage.write(&y)?,
            y_stride: y.stride as u32,
            chosen_offset,
            log_columns: sheet.log_columns,
            column_tiles: sheet.tiles[1],
        };
        at.record(&GATHER, &configuration(), storage, &params, sheet.count())
    };
    all.into_iter().map(each).collect()
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn scatter_fits(a: &ScatterArgs, limits: &Limits) -> Option<Scratch> {
    (fit([&a.x, &a.y]) && cut(&a.x, &a.y, a.rows.len, limits).is_some()).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn scatter_bind(a: &ScatterArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let (m, probes) = (a.rows.len, a.x.rows / a.rows.len);
    let all = cut(&a.x, &a.y, m, &at.limits()).unwrap_or_default();
    let each = |piece: Piece| {
        let (x, y) = (of_probes(&a.x, &piece, probes), of_probes(&a.y, &piece, probes));
        let column_tiles = (y.cols as u32).div_ceil(COLUMNS);
        let mut storage = at.storage();
        let (x_offset, chosen_offset) = (storage.read(&x)?, storage.ints(a.rows)?);
        let params = ScatterParams {
            rows: y.rows as u32,
            cols: y.cols as u32,
            m: m as u32,
            n: (a.y.rows / probes) as u32,
            x_offset,
            x_stride: x.stride as u32,
            y_offset: storage.write(&y)?,
            y_stride: y.stride as u32,
            chosen_offset,
            column_tiles,
        };
        at.record(&SCATTER, &scatter_configuration(), storage, &params, y.rows as u64 * u64::from(column_tiles))
    };
    all.into_iter().map(each).collect()
}
