//! The PTX kernels of `ops::loss`: parameter blocks and configurations. It launches nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::tuning::registers;
use crate::device::DType;

params! {
    /// `loss_rows_sm80`: the cross-entropy of each row, and whether it is predicted right.
    pub struct LossRowsParams {
        /// Address of `[rows, cols]`, row stride `stride`.
        pub logits: u64,
        /// Address of `[from + period]` u32.
        pub labels: u64,
        /// Address of `[rows, 2]` f64.
        pub out: u64,
        pub cols: u32,
        /// Elements.
        pub stride: u32,
        pub from: u32,
        /// Rows after which the labels begin again.
        pub period: u32,
    }
}

params! {
    /// `loss_fold_sm80`: sums over the rows of each run.
    pub struct LossFoldParams {
        /// Address of `[runs * rows, 2]` f64.
        pub losses: u64,
        /// Address of `[1]` u32, or 0.
        pub index: u64,
        /// Address of `[out_rows, 2]`, row stride `stride`.
        pub out: u64,
        pub rows: u32,
        pub out_rows: u32,
        /// Elements.
        pub stride: u32,
        /// Runs of a chunk.
        pub chunk: u32,
    }
}

/// Threads of a row's CTA.
const THREADS: u32 = 256;

/// Of `loss_rows_sm80`.
pub fn rows_configuration(dtype: DType) -> Configuration {
    let warps = THREADS / 32;
    let constants = element(dtype).int("WARPS", warps as usize).int("REGISTERS", registers(4, THREADS) as usize);
    Configuration { name: dtype.name().into(), constants, threads: THREADS, shared: warps * dtype.bytes() as u32 }
}

/// Of `loss_fold_sm80`.
pub fn fold_configuration(dtype: DType) -> Configuration {
    let constants = element(dtype).int("REGISTERS", 64);
    Configuration { name: dtype.name().into(), constants, threads: 32, shared: 0 }
}

pub static ROWS: Kernel = Kernel {
    name: "loss_rows_sm80",
    operation: "loss",
    language: Language::SM80,
    source: include_str!("../../kernels/loss_rows_sm80.ptx"),
    params: LossRowsParams::FIELDS,
    configurations: || [DType::F32, DType::F64].map(rows_configuration).to_vec(),
};

pub static FOLD: Kernel = Kernel {
    name: "loss_fold_sm80",
    operation: "loss",
    language: Language::SM80,
    source: include_str!("../../kernels/loss_fold_sm80.ptx"),
    params: LossFoldParams::FIELDS,
    configurations: || [DType::F32, DType::F64].map(fold_configuration).to_vec(),
};
