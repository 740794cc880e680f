//! The wgpu launchers of [`super::probes`].

use super::extents::fit;
use super::offload::{Scratch, WgpuPlace};
use super::pieces::{Piece, holds, pieces, spans};
use super::probes::{Args, BasisArgs, ChunkArgs, FeatureArgs, splitmix};
use crate::device::wgpu::Recorded;
use crate::device::{IntBuffer, Tensor, View};
use crate::error::Result;
use crate::kernel::probes::KINDS;
use crate::kernel::sheet::Sheet;
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::chunk::{self, CHUNK, ChunkParams, Form};
use crate::kernel::wgsl::probes::{
    self, COLUMNS, PROBE_ROWS, PROBE_SUMS, ProbeParams, ROWS, rows_configuration, sums_configuration,
};

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fits(a: &Args, limits: &Limits) -> Option<Scratch> {
    let some = a.probes > 0 && a.positions > 0 && a.kind.sources() > 0 && fit([&a.y]);
    let counted = some && a.kind.count(a.features(), a.positions) < 1 << 31;
    let bound = counted && a.c_t.as_ref().is_none_or(|c| holds(c, limits.binding));
    (bound && pieces(a.y.rows / a.probes, a.probes, [], [&a.y], limits.binding).is_some()).then(Scratch::new)
}

/// The launches of an operation for which there are kernels.
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let all = pieces(a.y.rows / a.probes, a.probes, [], [&a.y], at.limits().binding).unwrap_or_default();
    all.iter().map(|piece| probes_of(at, a, piece)).collect()
}

fn probes_of(at: &WgpuPlace, a: &Args, piece: &Piece) -> Result<Recorded> {
    let y = piece.stack_of(&a.y);
    let (rows, cols) = (y.rows as u32, y.cols as u32);
    let (name, over_features) = a.kind.form();
    let sums = over_features && a.c_t.is_some();
    let (features, seed) = (a.features(), splitmix(a.seed));
    let sheet = Sheet::new(rows, cols, probes::DEEP);
    let mut storage = at.storage();
    storage.weight_if(a.c_t.as_ref())?;
    let (index_offset, first_offset) = (storage.ints(a.index)?, storage.ints(a.first)?);
    let params = ProbeParams {
        seed_low: seed as u32,
        seed_high: (seed >> 32) as u32,
        rows,
        cols,
        n: piece.n(),
        first_row: piece.rows.start as u32,
        first_probe: piece.probes.start as u32,
        probes: a.probes as u32,
        positions: a.positions as u32,
        features: features as u32,
        sources: a.kind.sources() as u32,
        count: a.kind.count(features, a.positions) as u32,
        kind: KINDS.iter().take_while(|kind| **kind != name).count() as u32,
        has_table: a.c_t.is_some().into(),
        index_offset,
        first_offset,
        y_offset: storage.write(&y)?,
        y_stride: y.stride as u32,
        log_columns: sheet.log_columns,
        column_tiles: if sums { cols.div_ceil(COLUMNS) } else { sheet.tiles[1] },
    };
    if sums {
        let groups = u64::from(rows.div_ceil(ROWS)) * u64::from(params.column_tiles);
        return at.record(&PROBE_SUMS, &sums_configuration(), storage, &params, groups);
    }
    at.record(&PROBE_ROWS, &rows_configuration(), storage, &params, sheet.count())
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn chunk_fits(a: &ChunkArgs, limits: &Limits) -> Option<Scratch> {
    (fit([&a.x, &a.y]) && spans(&a.x, limits.binding) && rows_of_chunk(a).pieces(limits).is_some()).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn chunk_bind(a: &ChunkArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    rows_of_chunk(a).bind(at)
}

fn rows_of_chunk(a: &ChunkArgs) -> Chunk<'_> {
    Chunk { form: Form::Rows, x: Some(a.x), table: None, index: a.index, y: a.y, n: a.y.rows, probes: 1, count: a.x.rows }
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn basis_fits(a: &BasisArgs, limits: &Limits) -> Option<Scratch> {
    (a.rows < 1 << 30 && fit([&a.y]) && basis(a).pieces(limits).is_some()).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn basis_bind(a: &BasisArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    basis(a).bind(at)
}

fn basis(a: &BasisArgs) -> Chunk<'_> {
    let (d, n) = (a.y.cols, a.y.rows / a.y.cols);
    Chunk { form: Form::Basis, x: None, table: None, index: a.index, y: a.y, n, probes: d, count: a.rows }
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn feature_fits(a: &FeatureArgs, limits: &Limits) -> Option<Scratch> {
    (fit([&a.f_hat, &a.y]) && features_of_chunk(a).pieces(limits).is_some()).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn feature_bind(a: &FeatureArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    features_of_chunk(a).bind(at)
}

fn features_of_chunk(a: &FeatureArgs) -> Chunk<'_> {
    let (n, count) = (a.f_hat.rows, a.c_pinv.rows);
    let table = Some(&a.c_pinv);
    Chunk { form: Form::Features, x: Some(a.f_hat), table, index: a.index, y: a.y, n, probes: a.probes, count }
}

/// The rows of one chunk; see [`ChunkParams`].
pub(super) struct Chunk<'a> {
    pub form: Form,
    pub x: Option<View>,
    pub table: Option<&'a Tensor>,
    pub index: IntBuffer,
    pub y: View,
    pub n: usize,
    pub probes: usize,
    pub count: usize,
}

impl Chunk<'_> {
    /// The rows of y that launches can bind, and those of x with them but for [`Form::Rows`], which may read all of x.
    pub fn pieces(&self, limits: &Limits) -> Option<Vec<Piece>> {
        let x = self.x.as_ref().filter(|_| self.form != Form::Rows);
        let table = self.table.is_none_or(|t| holds(t, limits.binding));
        if table { pieces(self.n, self.probes, x, [&self.y], limits.binding) } else { None }
    }
    pub fn bind(&self, at: &WgpuPlace) -> Result<Vec<Recorded>> {
        let all = self.pieces(&at.limits()).unwrap_or_default();
        all.iter().map(|piece| self.launch(at, piece)).collect()
    }
    fn launch(&self, at: &WgpuPlace, piece: &Piece) -> Result<Recorded> {
        let y = piece.stack_of(&self.y);
        let x = self.x.map(|x| if self.form == Form::Rows { x } else { piece.rows_of(&x) });
        let sheet = Sheet::new(y.rows as u32, y.cols as u32, chunk::DEEP);
        let mut storage = at.storage();
        let x_offset = storage.read_if(x.as_ref())?;
        storage.weight_if(self.table)?;
        let params = ChunkParams {
            rows: y.rows as u32,
            cols: y.cols as u32,
            n: piece.n(),
            first_row: piece.rows.start as u32,
            first_probe: piece.probes.start as u32,
            whole_n: self.n as u32,
            probes: self.probes as u32,
            count: self.count as u32,
            form: self.form as u32,
            index_offset: storage.ints(self.index)?,
            x_offset,
            x_stride: x.map_or(0, |x| x.stride) as u32,
            y_offset: storage.write(&y)?,
            y_stride: y.stride as u32,
            log_columns: sheet.log_columns,
            column_tiles: sheet.tiles[1],
        };
        at.record(&CHUNK, &chunk::configuration(), storage, &params, sheet.count())
    }
}
