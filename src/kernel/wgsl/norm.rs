//! The WGSL kernels of `ops::norm`: parameter blocks and configurations. It launches nothing.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::reduce::{ROWS, row, ways};

params! {
    /// `norm_f32`: `y = c / sqrt(mean(c^2) + eps) * w + b`, row by row.
    pub struct NormParams {
        pub rows: u32,
        pub cols: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        pub eps: f32,
        /// `1 / cols`.
        pub share: f32,
        /// [`RMS`], [`HAS_W`], [`HAS_B`].
        pub flags: u32,
    }
}

params! {
    /// `norm_slope_f32`: tangents or cotangents of `norm_f32`.
    pub struct SlopeParams {
        /// Rows of x.
        pub rows: u32,
        pub cols: u32,
        pub probes: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub dx_offset: u32,
        pub dx_stride: u32,
        pub dy_offset: u32,
        pub dy_stride: u32,
        pub eps: f32,
        /// `1 / cols`.
        pub share: f32,
        /// [`RMS`], [`HAS_W`], [`TRANSPOSE`], [`ADDS`].
        pub flags: u32,
    }
}

params! {
    /// `norm_half_f32`: the halves of a LayerNorm, with tangents and cotangents.
    pub struct HalfParams {
        /// Rows of x, and of what is stacked.
        pub rows: u32,
        pub stacked: u32,
        pub cols: u32,
        /// One of [`Half`], by its place.
        pub pass_number: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub v_offset: u32,
        pub v_stride: u32,
        pub dx_offset: u32,
        pub dx_stride: u32,
        pub dv_offset: u32,
        pub dv_stride: u32,
        pub out_offset: u32,
        pub out_stride: u32,
        pub out_v_offset: u32,
        pub out_v_stride: u32,
        pub eps: f32,
        /// `1 / cols`.
        pub share: f32,
        /// 1 adds to `out`; the cotangent of the variance only.
        pub accumulate: u32,
    }
}

/// Nothing is taken off a row.
pub const RMS: u32 = 1;
/// There is a gain.
pub const HAS_W: u32 = 2;
/// There is a bias.
pub const HAS_B: u32 = 4;
/// Cotangents, in the place of tangents.
pub const TRANSPOSE: u32 = 8;
/// What is there is added to.
pub const ADDS: u32 = 16;

/// Probes of a workgroup of `norm_slope_f32`, which share a row of x.
pub const PROBES: u32 = 8;

/// Of `norm_f32`, with `threads` of [`row_threads`](super::reduce::row_threads) for a row: memory for a sum.
pub fn configuration(threads: u32) -> Configuration {
    row(threads, 1)
}

/// Of `norm_slope_f32`: memory for two sums.
pub fn slope_configuration(threads: u32) -> Configuration {
    let base = row(threads, 2);
    Configuration { constants: base.constants.int("PROBES", PROBES as usize), ..base }
}

/// Of `norm_half_f32`: memory for two sums; `joint` where its outputs are views of one buffer.
pub fn half_configuration(threads: u32, joint: bool) -> Configuration {
    let base = row(threads, 2);
    let name = format!("{}-{}", if joint { "joint" } else { "apart" }, base.name);
    Configuration { name, constants: super::joint(base.constants, "OUT_V", ["out", "out_v"], joint), ..base }
}

pub static NORM: Kernel = Kernel {
    name: "norm_f32",
    operation: "norm",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/norm_f32.wgsl"),
    params: NormParams::FIELDS,
    configurations: || ways(ROWS.map(configuration)),
};

pub static SLOPE: Kernel = Kernel {
    name: "norm_slope_f32",
    operation: "norm",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/norm_slope_f32.wgsl"),
    params: SlopeParams::FIELDS,
    configurations: || ways(ROWS.map(slope_configuration)),
};

pub static HALF: Kernel = Kernel {
    name: "norm_half_f32",
    operation: "norm",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/norm_half_f32.wgsl"),
    params: HalfParams::FIELDS,
    configurations: || ways(ROWS.into_iter().flat_map(|threads| [false, true].map(|joint| half_configuration(threads, joint)))),
};
