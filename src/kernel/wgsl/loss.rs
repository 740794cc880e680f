//! The WGSL kernels of `ops::loss`: parameter blocks and configurations. It launches nothing.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;
use super::reduce::{barriers, row, ways};

params! {
    /// `loss_rows_f32`: the cross-entropy of every row of logits, and whether its largest logit is the label's.
    pub struct LossRowsParams {
        pub rows: u32,
        pub cols: u32,
        /// Elements, as all offsets and strides.
        pub logits_offset: u32,
        pub logits_stride: u32,
        /// Place of the label of the first row of a run.
        pub labels_at: u32,
        /// Rows of a run: each has the same labels.
        pub period: u32,
        /// Number of the first row among those of all runs.
        pub first_row: u32,
        pub losses_offset: u32,
        /// The bits of a NaN.
        pub not_a_number: u32,
    }
}

params! {
    /// `loss_fold_f32`: adds the losses of every run of a chunk to the sums of the run.
    pub struct LossFoldParams {
        /// Of a run.
        pub rows: u32,
        /// Of a chunk.
        pub runs: u32,
        /// Elements, as all offsets and strides.
        pub losses_offset: u32,
        pub index_at: u32,
        pub out_offset: u32,
        pub out_stride: u32,
        /// Runs in all.
        pub out_rows: u32,
        /// [`COUNTED`].
        pub flags: u32,
        /// 1; see `shaders/frag/two_sum.wgsl`.
        pub one: f32,
    }
}

/// The chunk has a number; it is the first otherwise.
pub const COUNTED: u32 = 1;

/// Invocations of a row.
const ROW: u32 = 256;
/// Invocations of a run.
const RUN: u32 = 64;

/// The configuration of `loss_rows_f32`.
pub fn rows() -> Configuration {
    row(ROW, 3)
}

/// The configuration of `loss_fold_f32`.
pub fn fold() -> Configuration {
    barriers(Configuration { name: "run".into(), constants: Constants::default(), threads: RUN, shared: 8 * RUN })
}

pub static ROWS: Kernel = Kernel {
    name: "loss_rows_f32",
    operation: "loss",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/loss_rows_f32.wgsl"),
    params: LossRowsParams::FIELDS,
    configurations: || ways([rows()]),
};

pub static FOLD: Kernel = Kernel {
    name: "loss_fold_f32",
    operation: "loss",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/loss_fold_f32.wgsl"),
    params: LossFoldParams::FIELDS,
    configurations: || ways([fold()]),
};
