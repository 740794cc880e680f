//! The WGSL kernels of `ops::gather`: parameter blocks and configurations. They launch nothing.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::sheet::THREADS;
use super::super::template::Constants;

params! {
    /// `gather_f32`: `y[j] = x[chosen[j]]`.
    pub struct GatherParams {
        /// `probes * m`.
        pub rows: u32,
        pub cols: u32,
        /// Rows chosen for a probe, at least 1.
        pub m: u32,
        /// Rows of a probe, at least 1.
        pub n: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        /// The first of `chosen` in its binding.
        pub chosen_offset: u32,
        /// Of the [`super::super::sheet::Sheet`] over `[rows, cols]`, [`DEEP`] rows an invocation.
        pub log_columns: u32,
        pub column_tiles: u32,
    }
}

params! {
    /// `scatter_f32`: `y[i] = sum of x[j] over chosen[j] = i`, in the order of j.
    pub struct ScatterParams {
        /// `probes * n`.
        pub rows: u32,
        pub cols: u32,
        /// Rows chosen for a probe.
        pub m: u32,
        /// Rows of a probe, at least 1.
        pub n: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        /// The first of `chosen` in its binding.
        pub chosen_offset: u32,
        /// Workgroups along a row.
        pub column_tiles: u32,
    }
}

/// Elements of an invocation of `gather_f32`.
pub const DEEP: u32 = 4;
/// Columns of a workgroup of `scatter_f32`, and numbers that it looks through at a time.
pub const COLUMNS: u32 = 256;

/// Of `gather_f32`.
pub fn configuration() -> Configuration {
    let constants = Constants::default().int("DEEP", DEEP as usize);
    Configuration { name: "sheet".into(), constants, threads: THREADS, shared: 0 }
}

/// Of `scatter_f32`: memory for a bit of each number that it looks through.
pub fn scatter_configuration() -> Configuration {
    let constants = Constants::default().int("WORDS", COLUMNS as usize / 32);
    Configuration { name: "row".into(), constants, threads: COLUMNS, shared: COLUMNS / 8 }
}

pub static GATHER: Kernel = Kernel {
    name: "gather_f32",
    operation: "gather",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/gather_f32.wgsl"),
    params: GatherParams::FIELDS,
    configurations: || vec![configuration()],
};

pub static SCATTER: Kernel = Kernel {
    name: "scatter_f32",
    operation: "scatter",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/scatter_f32.wgsl"),
    params: ScatterParams::FIELDS,
    configurations: || vec![scatter_configuration()],
};
