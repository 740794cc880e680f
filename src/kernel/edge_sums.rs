//! The PTX kernels that sum edges from tangents and cotangents: parameter blocks and configurations. They launch
//! nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::sheet::THREADS;
use crate::device::DType;

params! {
    /// `edge_tangents_sm80`: `out[i, j] += sum_t y[r * n + t, i]^2` for the feature `j = index * probes + r`.
    pub struct EdgeTangentParams {
        /// Address of `[probes * n, k_out]`, row stride `y_stride`.
        pub y: u64,
        /// Address of `[1]` u32.
        pub index: u64,
        /// Address of `[k_out, k_in]`, row stride `out_stride`.
        pub out: u64,
        pub n: u32,
        pub k_out: u32,
        pub k_in: u32,
        pub probes: u32,
        /// Elements, as all strides.
        pub y_stride: u32,
        pub out_stride: u32,
    }
}

params! {
    /// `edge_cotangents_sm80`: `out[i, j] += sum over samples of (sum_s g_sj f_sj)^2`, or without the square, for each
    /// probe of the output feature i.
    pub struct EdgeCotangentParams {
        /// Address of `[probes * n, k_in]`, row stride `g_stride`.
        pub g: u64,
        /// Address of `[n, k_in]`, row stride `f_stride`.
        pub f: u64,
        /// Address of `[1]` u32.
        pub index: u64,
        /// Address of `[k_out, k_in]`, row stride `out_stride`.
        pub out: u64,
        pub n: u32,
        pub k_in: u32,
        /// At least 1.
        pub k_out: u32,
        pub probes: u32,
        /// Probes in all.
        pub count: u32,
        /// Of each sample, at least 1.
        pub positions: u32,
        /// 0 without the square, 1 with it.
        pub squared: u32,
        /// Elements, as all strides.
        pub g_stride: u32,
        pub f_stride: u32,
        pub out_stride: u32,
    }
}

/// Warps of a CTA: parts that a sum over rows is cut into.
const WARPS: u32 = THREADS / 32;

/// The configuration of either kernel for a dtype.
pub fn configuration(dtype: DType) -> Configuration {
    let constants = element(dtype).ints([("WARPS", WARPS), ("REGISTERS", 64)]);
    Configuration { name: dtype.name().into(), constants, threads: THREADS, shared: WARPS * 32 * 8 }
}

fn configurations() -> Vec<Configuration> {
    vec![configuration(DType::F32), configuration(DType::F64)]
}

pub static TANGENTS: Kernel = Kernel {
    name: "edge_tangents_sm80",
    operation: "edge_tangents",
    language: Language::SM80,
    source: include_str!("../../kernels/edge_tangents_sm80.ptx"),
    params: EdgeTangentParams::FIELDS,
    configurations,
};

pub static COTANGENTS: Kernel = Kernel {
    name: "edge_cotangents_sm80",
    operation: "edge_cotangents",
    language: Language::SM80,
    source: include_str!("../../kernels/edge_cotangents_sm80.ptx"),
    params: EdgeCotangentParams::FIELDS,
    configurations,
};
