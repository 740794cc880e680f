//! The CUDA launchers of [`super::probes`], f32 and f64.

use super::extents::fit;
use super::offload::Place;
use super::probes::{Args, BasisArgs, ChunkArgs, FeatureArgs, splitmix};
use crate::device::cuda::Call;
use crate::device::{DType, IntBuffer, View};
use crate::error::Result;
use crate::kernel::chunk::{self, CHUNK, ChunkParams, Form};
use crate::kernel::probes::{self, KINDS, ROWS, RowParams, SUMS, SumParams, sums_grid};
use crate::kernel::sheet::Sheet;
use crate::kernel::tuning::Limits;

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, _: DType, _: &Limits) -> Option<u64> {
    let count = a.kind.count(a.features(), a.positions);
    (a.probes > 0 && a.positions > 0 && a.kind.sources() > 0 && count < 1 << 31 && fit([&a.y])).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let (rows, cols) = (a.y.rows as u32, a.y.cols as u32);
    let (name, over_features) = a.kind.form();
    let kind = KINDS.iter().take_while(|kind| **kind != name).count() as u32;
    let (features, sources) = (a.features(), a.kind.sources());
    let sheet = Sheet::new(rows, cols, probes::DEEP);
    let params = RowParams {
        seed: splitmix(a.seed),
        c_t: a.c_t.as_ref().map_or(Ok(0), |c| at.tensor(c))?,
        index: at.ints(a.index),
        first: at.ints(a.first),
        y: at.view(&a.y),
        rows,
        cols,
        n: rows / a.probes as u32,
        probes: a.probes as u32,
        positions: a.positions as u32,
        features: features as u32,
        sources: sources as u32,
        count: a.kind.count(features, a.positions) as u32,
        kind,
        identity: a.c_t.is_none().into(),
        y_stride: a.y.stride as u32,
        log_columns: sheet.log_columns,
    };
    if over_features && a.c_t.is_some() {
        let RowParams { seed, c_t, index, first, y, n, probes, positions, features, sources, count, y_stride, .. } = params;
        let params =
            SumParams { seed, c_t, index, first, y, rows, cols, n, probes, positions, features, sources, count, kind, y_stride };
        return Ok(vec![at.call(&SUMS, &probes::sums(at.dtype()), sums_grid(rows, cols), &params)?]);
    }
    Ok(vec![at.call(&ROWS, &probes::rows(at.dtype()), sheet.grid(1), &params)?])
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn chunk_scratch(a: &ChunkArgs, _: DType, _: &Limits) -> Option<u64> {
    fit([&a.x, &a.y]).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn chunk_bind(a: &ChunkArgs, at: &mut Place) -> Result<Vec<Call>> {
    let all = Chunk { x: Some(a.x), table: 0, index: a.index, y: a.y, n: a.y.rows, probes: 1, count: a.x.rows };
    chunk(at, Form::Rows, &all)
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn basis_scratch(a: &BasisArgs, _: DType, _: &Limits) -> Option<u64> {
    (a.rows < 1 << 30 && fit([&a.y])).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn basis_bind(a: &BasisArgs, at: &mut Place) -> Result<Vec<Call>> {
    let (d, n) = (a.y.cols, a.y.rows / a.y.cols);
    chunk(at, Form::Basis, &Chunk { x: None, table: 0, index: a.index, y: a.y, n, probes: d, count: a.rows })
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn feature_scratch(a: &FeatureArgs, _: DType, _: &Limits) -> Option<u64> {
    fit([&a.f_hat, &a.y]).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn feature_bind(a: &FeatureArgs, at: &mut Place) -> Result<Vec<Call>> {
    let table = at.tensor(&a.c_pinv)?;
    let (n, count) = (a.f_hat.rows, a.c_pinv.rows);
    chunk(at, Form::Features, &Chunk { x: Some(a.f_hat), table, index: a.index, y: a.y, n, probes: a.probes, count })
}

/// What [`Form`] needs; see [`ChunkParams`].
pub(super) struct Chunk {
    pub x: Option<View>,
    pub table: u64,
    pub index: IntBuffer,
    pub y: View,
    pub n: usize,
    pub probes: usize,
    pub count: usize,
}

/// The rows of one chunk.
pub(super) fn chunk(at: &Place, form: Form, c: &Chunk) -> Result<Vec<Call>> {
    let sheet = Sheet::new(c.y.rows as u32, c.y.cols as u32, chunk::DEEP);
    let params = ChunkParams {
        x: c.x.map_or(0, |x| at.view(&x)),
        table: c.table,
        index: at.ints(c.index),
        y: at.view(&c.y),
        rows: c.y.rows as u32,
        cols: c.y.cols as u32,
        n: c.n as u32,
        probes: c.probes as u32,
        count: c.count as u32,
        x_stride: c.x.map_or(0, |x| x.stride) as u32,
        y_stride: c.y.stride as u32,
        log_columns: sheet.log_columns,
    };
    Ok(vec![at.call(&CHUNK, &chunk::chunk(at.dtype(), form), sheet.grid(1), &params)?])
}
