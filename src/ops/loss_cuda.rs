//! The CUDA launchers of [`super::loss`]: the loss of every row, then the sums of every run.

use super::extents::rows_fit;
use super::loss::{Args, ProbeArgs};
use super::offload::Place;
use crate::device::cuda::Call;
use crate::device::{DType, IntBuffer, View};
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

/// Some runs over the labels from `from` on, `rows` each.
struct Runs {
    logits: View,
    labels: IntBuffer,
    from: usize,
    rows: usize,
    index: Option<IntBuffer>,
    out: View,
}

impl Runs {
    fn bind(&self, at: &mut Place) -> Result<Vec<Call>> {
        let (dtype, runs) = (at.dtype(), self.logits.rows / self.rows);
        let losses = at.scratch();
        let each = LossRowsParams {
            logits: at.view(&self.logits),
            labels: at.ints(self.labels),
            out: losses,
            cols: self.logits.cols as u32,
            stride: self.logits.stride as u32,
            from: self.from as u32,
            period: self.rows as u32,
        };
        let fold = LossFoldParams {
            losses,
            index: self.index.map_or(0, |b| at.ints(b)),
            out: at.view(&self.out),
            rows: self.rows as u32,
            out_rows: self.out.rows as u32,
            stride: self.out.stride as u32,
            chunk: runs as u32,
        };
        Ok(vec![
            at.call(&ROWS, &rows_configuration(dtype), [self.logits.rows as u32, 1, 1], &each)?,
            at.call(&FOLD, &fold_configuration(dtype), [runs as u32, 1, 1], &fold)?,
        ])
    }
}

/// The calls of [`Args`].
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let Args { logits, labels, from, out } = *a;
    Runs { logits, labels, from, rows: logits.rows, index: None, out }.bind(at)
}

/// The calls of [`ProbeArgs`].
pub(super) fn probe_bind(a: &ProbeArgs, at: &mut Place) -> Result<Vec<Call>> {
    let ProbeArgs { logits, labels, index, out } = *a;
    Runs { logits, labels, from: 0, rows: labels.len, index: Some(index), out }.bind(at)
}
