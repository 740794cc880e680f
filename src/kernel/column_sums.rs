//! The PTX kernel of weighted column sums: parameter block and configurations. It launches nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::tuning::{Launch, registers};
use crate::device::DType;

params! {
    /// `column_sums_sm80`: `out[c] += sum_i weights[i] x[i, c]`, in f64 and in an order that follows from `rows`.
    pub struct ColumnSumParams {
        /// Address of `[rows, cols]`, row stride `stride`.
        pub x: u64,
        /// Address of `[rows]`, `weight_stride` apart; 0 for ones.
        pub weights: u64,
        /// Address of `[cols]`.
        pub out: u64,
        pub rows: u32,
        pub cols: u32,
        /// Elements, as all strides.
        pub stride: u32,
        pub weight_stride: u32,
    }
}

/// Threads of a CTA.
const THREADS: u32 = 512;

fn configuration(dtype: DType, columns: u32) -> Configuration {
    let constants = [("COLUMNS", columns), ("REGISTERS", registers(2, THREADS))];
    // An f64 sum for each thread.
    Configuration {
        name: format!("{columns}-{}", dtype.name()),
        constants: element(dtype).ints(constants),
        threads: THREADS,
        shared: 8 * THREADS,
    }
}

/// The launch over `cols` columns. Whether a CTA takes one of them or 32 follows from their number alone.
pub fn launch(dtype: DType, cols: u32) -> Launch {
    let columns = if cols < 8 { 1 } else { 32 };
    Launch { kernel: &COLUMN_SUMS, configuration: configuration(dtype, columns), grid: [cols.div_ceil(columns), 1, 1] }
}

pub(super) static COLUMN_SUMS: Kernel = Kernel {
    name: "column_sums_sm80",
    operation: "moments",
    language: Language::SM80,
    source: include_str!("../../kernels/column_sums_sm80.ptx"),
    params: ColumnSumParams::FIELDS,
    configurations: || {
        let both = |columns| [DType::F32, DType::F64].map(|dtype| configuration(dtype, columns));
        [1, 32].into_iter().flat_map(both).collect()
    },
};
