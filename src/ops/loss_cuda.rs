//! The CUDA launchers of [`super::loss`]: the loss of every row, then the sums of every run.

use super::extents::rows_fit;
use super::loss::{Args, ProbeArgs, Runs};
use super::offload::Place;
use crate::device::cuda::Call;
use crate::device::{DType, View};
use crate::error::Result;
use crate::kernel::loss::{FOLD, LossFoldParams, LossRowsParams, ROWS, fold_configuration, rows_configuration};
use crate::kernel::tuning::Limits;

/// Bytes of the losses of the rows: two f64 each.
fn bytes(logits: &View) -> Option<u64> {
    rows_fit([logits]).then_some(16 * logits.rows as u64)
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, _: DType, _: &Limits) -> Option<u64> {
    bytes(&a.logits)
}

/// The same for [`ProbeArgs`].
pub(super) fn probe_scratch(a: &ProbeArgs, _: DType, _: &Limits) -> Option<u64> {
    bytes(&a.logits).filter(|_| a.labels.len > 0 && a.out.rows > 0)
}

/// The calls of [`Args`] or [`ProbeArgs`].
pub(super) fn bind(a: impl Into<Runs>, at: &mut Place) -> Result<Vec<Call>> {
    let a = a.into();
    let (dtype, runs) = (at.dtype(), a.logits.rows / a.rows);
    let losses = at.scratch();
    let each = LossRowsParams {
        logits: at.view(&a.logits),
        labels: at.ints(a.labels),
        out: losses,
        cols: a.logits.cols as u32,
        stride: a.logits.stride as u32,
        from: a.from as u32,
        period: a.rows as u32,
    };
    let fold = LossFoldParams {
        losses,
        index: a.index.map_or(0, |b| at.ints(b)),
        out: at.view(&a.out),
        rows: a.rows as u32,
        out_rows: a.out.rows as u32,
        stride: a.out.stride as u32,
        chunk: runs as u32,
    };
    Ok(vec![
        at.call(&ROWS, &rows_configuration(dtype), [a.logits.rows as u32, 1, 1], &each)?,
        at.call(&FOLD, &fold_configuration(dtype), [runs as u32, 1, 1], &fold)?,
    ])
}
