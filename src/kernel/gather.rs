//! The PTX kernels of `ops::gather`: parameter blocks and configurations. They launch nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::sheet::THREADS;
use crate::device::DType;

params! {
    /// `gather_sm80`: `y[j] = x[chosen[j]]`.
    pub struct GatherParams {
        /// Address of `[probes][n, cols]`, row stride `x_stride`.
        pub x: u64,
        /// Elements from one probe's rows of `x` to the next's.
        pub x_probe: u64,
        /// Address of `[m]` u32, each below `n`.
        pub chosen: u64,
        /// Address of `[rows, cols]`, row stride `y_stride`.
        pub y: u64,
        /// `probes * m`.
        pub rows: u32,
        pub cols: u32,
        /// At least 1.
        pub m: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub y_stride: u32,
        /// Of the [`super::sheet::Sheet`] over `[rows, cols]`, [`DEEP`] rows a thread.
        pub log_columns: u32,
    }
}

params! {
    /// `scatter_sm80`: `y[i] = sum of x[j] over chosen[j] = i`, in the order of j.
    pub struct ScatterParams {
        /// Address of `[probes * m, cols]`, row stride `x_stride`.
        pub x: u64,
        /// Address of `[m]` u32, each below `n`.
        pub chosen: u64,
        /// Address of `[rows, cols]`, row stride `y_stride`.
        pub y: u64,
        /// `probes * n`.
        pub rows: u32,
        pub cols: u32,
        /// At least 1.
        pub n: u32,
        pub m: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub y_stride: u32,
    }
}

/// Elements that a thread has in flight.
pub const DEEP: u32 = 4;
/// Warps of a CTA.
const WARPS: u32 = THREADS / 32;

/// The configuration of either kernel for a dtype.
pub fn configuration(dtype: DType) -> Configuration {
    let constants = element(dtype).ints([("DEEP", DEEP), ("WARPS", WARPS), ("REGISTERS", 48)]);
    Configuration { name: dtype.name().into(), constants, threads: THREADS, shared: 0 }
}

/// CTAs of [`SCATTER`] for `y` `[rows, cols]`.
pub fn scatter_grid(rows: u32, cols: u32) -> [u32; 3] {
    [rows.div_ceil(WARPS), cols.div_ceil(32 * DEEP), 1]
}

fn configurations() -> Vec<Configuration> {
    vec![configuration(DType::F32), configuration(DType::F64)]
}

pub static GATHER: Kernel = Kernel {
    name: "gather_sm80",
    operation: "gather",
    language: Language::SM80,
    source: include_str!("../../kernels/gather_sm80.ptx"),
    params: GatherParams::FIELDS,
    configurations,
};

pub static SCATTER: Kernel = Kernel {
    name: "scatter_sm80",
    operation: "scatter",
    language: Language::SM80,
    source: include_str!("../../kernels/scatter_sm80.ptx"),
    params: ScatterParams::FIELDS,
    configurations,
};
