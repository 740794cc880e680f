//! The PTX kernels of SoLU and its derivative: parameter blocks and configurations. They launch nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::sheet::THREADS;
use crate::device::DType;

params! {
    /// `softmax_sm80`: `s = softmax(x)` row by row, or `x s`.
    pub struct SoftmaxParams {
        /// Address of `[rows, cols]`, row stride `x_stride`.
        pub x: u64,
        /// Address of `[rows, cols]`, row stride `y_stride`.
        pub y: u64,
        /// At least 1.
        pub cols: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub y_stride: u32,
        /// 0 writes `s`, 1 writes `x s`.
        pub solu: u32,
    }
}

params! {
    /// `solu_tangent_sm80`: `dy = J dx` or `J' dx` for SoLU's Jacobian at x.
    pub struct SoluTangentParams {
        /// Address of `[rows, cols]`, row stride `x_stride`.
        pub x: u64,
        /// Address of `softmax(x)` `[rows, cols]`, contiguous.
        pub s: u64,
        /// Address of `[probes * rows, cols]`, row stride `dx_stride`.
        pub dx: u64,
        /// Address of `[probes * rows, cols]`, row stride `dy_stride`.
        pub dy: u64,
        pub rows: u32,
        pub cols: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub dx_stride: u32,
        pub dy_stride: u32,
        /// 0 for `J`, 1 for `J'`.
        pub transpose: u32,
    }
}

/// Warps of a CTA.
const WARPS: u32 = THREADS / 32;

/// The configuration of either kernel for a dtype.
pub fn configuration(dtype: DType) -> Configuration {
    let shared = WARPS * dtype.bytes() as u32;
    let constants = element(dtype).ints([("WARPS", WARPS), ("REGISTERS", 48)]);
    Configuration { name: dtype.name().into(), constants, threads: THREADS, shared }
}

fn configurations() -> Vec<Configuration> {
    vec![configuration(DType::F32), configuration(DType::F64)]
}

pub static SOFTMAX: Kernel = Kernel {
    name: "softmax_sm80",
    operation: "activation",
    language: Language::SM80,
    source: include_str!("../../kernels/softmax_sm80.ptx"),
    params: SoftmaxParams::FIELDS,
    configurations,
};

pub static TANGENT: Kernel = Kernel {
    name: "solu_tangent_sm80",
    operation: "activation_tangent",
    language: Language::SM80,
    source: include_str!("../../kernels/solu_tangent_sm80.ptx"),
    params: SoluTangentParams::FIELDS,
    configurations,
};
