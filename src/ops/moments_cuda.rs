//! The CUDA launcher of [`super::moments`]: derivative rows in scratch memory, their column sums and
//! their Gram matrix. The rows and the sums also serve other operations.

use super::extents::countable;
use super::gram_cuda::Rows;
use super::moments::{Args, Derivatives};
use super::offload::Place;
use super::parts::Parts;
use crate::device::DType;
use crate::device::cuda::Call;
use crate::error::Result;
use crate::kernel::column_sums::{self, ColumnSumParams};
use crate::kernel::derivatives::{self, DerivativeParams};
use crate::kernel::tuning::Limits;

impl Derivatives<'_> {
    /// The rows without their address; `None` where there is no kernel.
    pub fn scratch_rows(&self, dtype: DType) -> Option<Rows> {
        let cols = self.cols();
        let fits = self.act.is_elementwise() && !self.nodes.is_empty() && self.pre.rows > 0 && self.pre.cols > 0;
        let countable = countable([&self.pre].into_iter().chain(&self.up)) && self.pre.rows.saturating_mul(cols) < 1 << 31;
        (fits && countable).then(|| Rows::in_scratch(self.pre.rows, cols, dtype))
    }
    /// The launch that writes them.
    pub fn call(&self, at: &mut Place, rows: &Rows) -> Result<Vec<Call>> {
        let Some(act) = self.act.elementwise() else { return Ok(Vec::new()) };
        let nodes = points(at, self.nodes.iter().copied())?;
        let (launch, log_columns) = derivatives::launch(at.dtype(), act, rows.rows as u32, self.pre.cols as u32);
        let params = DerivativeParams {
            pre: at.view(&self.pre),
            up: self.up.map_or(0, |up| at.view(&up)),
            nodes,
            out: rows.at,
            rows: rows.rows as u32,
            cols: self.pre.cols as u32,
            pre_stride: self.pre.stride as u32,
            up_stride: self.up.map_or(0, |up| up.stride as u32),
            out_stride: rows.stride as u32,
            count: self.nodes.len() as u32,
            log_columns,
            second: self.pre.cols as u32,
        };
        Ok(vec![at.call(launch.kernel, &launch.configuration, launch.grid, &params)?])
    }
}

/// A table of pairs on the device; address 0 for an empty one.
pub(super) fn points(at: &mut Place, points: impl Iterator<Item = (f64, f64)>) -> Result<u64> {
    let table: Vec<f64> = points.flat_map(|(w, a)| [w, a]).collect();
    if table.is_empty() { Ok(0) } else { at.constants(bytemuck::cast_slice(&table)) }
}

/// The launch of `out += sum of the rows, each times its weight`: weights are `[rows]`, or 1 at address 0.
pub(super) fn column_sums(at: &Place, x: &Rows, weights: u64, out: u64) -> Result<Call> {
    let launch = column_sums::launch(at.dtype(), x.cols as u32);
    let params = ColumnSumParams {
        x: x.at,
        weights,
        out,
        rows: x.rows as u32,
        cols: x.cols as u32,
        stride: x.stride as u32,
        weight_stride: 1,
    };
    at.call(launch.kernel, &launch.configuration, launch.grid, &params)
}

/// The derivative rows and the bytes of the partial tiles of their Gram matrix.
fn plan(a: &Args, dtype: DType, limits: &Limits) -> Option<(Rows, u64)> {
    let rows = a.derivatives().scratch_rows(dtype)?;
    let fits = a.s.is_contiguous() && countable([&a.h, &a.s]);
    fits.then(|| rows.gram_bytes(dtype, limits)).flatten().map(|bytes| (rows, bytes))
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, dtype: DType, limits: &Limits) -> Option<u64> {
    let (rows, partials) = plan(a, dtype, limits)?;
    let mut parts = Parts::new(0);
    parts.take(rows.bytes(dtype));
    parts.take(partials);
    Some(parts.bytes())
}

/// The calls of a launch for which there are kernels.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let Some((mut rows, _)) = plan(a, at.dtype(), &at.limits()) else { return Ok(Vec::new()) };
    let mut parts = Parts::new(at.scratch());
    rows.at = parts.take(rows.bytes(at.dtype()));
    let mut calls = a.derivatives().call(at, &rows)?;
    calls.push(column_sums(at, &rows, 0, at.view(&a.h))?);
    calls.extend(rows.add_to(at, parts.take(0), &a.s)?);
    Ok(calls)
}
