//! The PTX kernel of an MLP's derivative rows: parameter block and configurations. It launches nothing.

use super::element::element;
use super::linear::Elementwise;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::sheet::{Sheet, THREADS};
use super::tuning::{Launch, registers};
use crate::device::DType;

params! {
    /// `derivatives_sm80`: `d = sum w act'(alpha pre)`; gated `p = sum w alpha act'(alpha pre) up` and
    /// `q = sum w act(alpha pre)`.
    pub struct DerivativeParams {
        /// Address of `[rows, cols]`, row stride `pre_stride`.
        pub pre: u64,
        /// Address of `[rows, cols]`, row stride `up_stride`; 0 where there is no gate.
        pub up: u64,
        /// Address of `[count][2]` f64: weight and alpha of each quadrature point.
        pub nodes: u64,
        /// Address of `[rows, cols]`, row stride `out_stride`; a gated row holds p, then q.
        pub out: u64,
        pub rows: u32,
        pub cols: u32,
        /// Elements, as all strides.
        pub pre_stride: u32,
        pub up_stride: u32,
        pub out_stride: u32,
        /// At least 1.
        pub count: u32,
        /// Of the [`Sheet`] over `[rows, cols]`, one row a thread.
        pub log_columns: u32,
        /// Elements from p to q.
        pub second: u32,
    }
}

fn configuration(dtype: DType, act: Elementwise) -> Configuration {
    Configuration {
        name: format!("{}-{}", dtype.name(), act.name()),
        constants: element(dtype).int("REGISTERS", registers(4, THREADS) as usize).word("ACTIVATION", act.name()),
        threads: THREADS,
        shared: 0,
    }
}

/// The launch over `[rows, cols]`, and its [`DerivativeParams::log_columns`].
pub fn launch(dtype: DType, act: Elementwise, rows: u32, cols: u32) -> (Launch, u32) {
    let Sheet { log_columns, tiles: [down, across] } = Sheet::new(rows, cols, 1);
    let launch = Launch { kernel: &DERIVATIVES, configuration: configuration(dtype, act), grid: [down, across, 1] };
    (launch, log_columns)
}

pub(super) static DERIVATIVES: Kernel = Kernel {
    name: "derivatives_sm80",
    operation: "moments",
    language: Language::SM80,
    source: include_str!("../../kernels/derivatives_sm80.ptx"),
    params: DerivativeParams::FIELDS,
    configurations: || {
        let all = |dtype| Elementwise::ALL.map(|act| configuration(dtype, act));
        [DType::F32, DType::F64].into_iter().flat_map(all).collect()
    },
};
