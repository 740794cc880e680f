//! The PTX kernels of `ops::norm_moments`: parameter blocks and configurations. They launch nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::tuning::{Launch, registers};
use crate::device::DType;

params! {
    /// `norm_terms_sm80`: `c = x - mean(x)`, `s = sum w / sigma` and `g = offset + scale sum w a / sigma^3` of
    /// each row, `sigma = sqrt(a v + eps)`.
    pub struct TermParams {
        /// Address of `[rows, cols]`, row stride `x_stride`.
        pub x: u64,
        /// Address of `[rows]`, `v_stride` apart; 0 for mean(c^2).
        pub v: u64,
        /// Address of `[count][2]` f64: the weight w of each quadrature point, and the power a of its alpha.
        pub nodes: u64,
        /// Address of `[rows, cols]`, row stride `c_stride`.
        pub c: u64,
        /// Address of `[rows]`, `s_stride` apart.
        pub s: u64,
        /// Address of `[rows]`, `g_stride` apart.
        pub g: u64,
        pub eps: f64,
        pub offset: f64,
        pub scale: f64,
        pub rows: u32,
        pub cols: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub v_stride: u32,
        pub c_stride: u32,
        pub s_stride: u32,
        pub g_stride: u32,
        /// 0 gives s = 0 and g = offset.
        pub count: u32,
    }
}

params! {
    /// `norm_weigh_sm80`: rows times the root of their weight in a Gram matrix.
    pub struct WeighParams {
        /// Address of `[rows, cols]`, row stride `c_stride`.
        pub c: u64,
        /// Address of `[rows, cols]`, row stride `y_stride`: `c A`, of which [`Root::Quadratic`] alone reads.
        pub y: u64,
        /// Address of `[rows]`.
        pub s: u64,
        /// Address of `[rows]`.
        pub k: u64,
        /// Address of `[rows, cols]`, row stride `out_stride`; may be that of `y`.
        pub out: u64,
        pub rows: u32,
        pub cols: u32,
        /// Elements, as all strides.
        pub c_stride: u32,
        pub y_stride: u32,
        pub out_stride: u32,
        /// A [`Root`].
        pub mode: u32,
    }
}

/// The factor of a row, for its scales s1 and k3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// `|k3|`.
    Slope = 0,
    /// `sqrt(k3)`.
    OfSlope = 1,
    /// `sqrt(k3 s1)`.
    OfBoth = 2,
    /// `|k3| sqrt(max(c.y, 0))`.
    Quadratic = 3,
}

/// Threads of a CTA: a warp a row.
const THREADS: u32 = 256;

fn configurations() -> Vec<Configuration> {
    [DType::F32, DType::F64].map(configuration).into()
}

fn configuration(dtype: DType) -> Configuration {
    let constants = element(dtype).int("REGISTERS", registers(4, THREADS) as usize);
    Configuration { name: dtype.name().into(), constants, threads: THREADS, shared: 0 }
}

fn launch(kernel: &'static Kernel, dtype: DType, rows: u32) -> Launch {
    Launch { kernel, configuration: configuration(dtype), grid: [rows.div_ceil(THREADS / 32), 1, 1] }
}

/// The launch of `norm_terms_sm80`.
pub fn terms(dtype: DType, rows: u32) -> Launch {
    launch(&TERMS, dtype, rows)
}

/// The launch of `norm_weigh_sm80`.
pub fn weigh(dtype: DType, rows: u32) -> Launch {
    launch(&WEIGH, dtype, rows)
}

pub(super) static TERMS: Kernel = Kernel {
    name: "norm_terms_sm80",
    operation: "norm_moments",
    language: Language::SM80,
    source: include_str!("../../kernels/norm_terms_sm80.ptx"),
    params: TermParams::FIELDS,
    configurations,
};
pub(super) static WEIGH: Kernel = Kernel {
    name: "norm_weigh_sm80",
    operation: "norm_moments",
    language: Language::SM80,
    source: include_str!("../../kernels/norm_weigh_sm80.ptx"),
    params: WeighParams::FIELDS,
    configurations,
};
