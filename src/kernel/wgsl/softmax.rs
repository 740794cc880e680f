//! The WGSL kernels of SoLU and its derivative: parameter blocks and configurations. They launch nothing.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::reduce::{ROWS, row, ways};

params! {
    /// `softmax_f32`: `y = softmax(x)` row by row, or `x softmax(x)`.
    pub struct SoftmaxParams {
        pub rows: u32,
        /// At least 1.
        pub cols: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        /// 0 writes the softmax, 1 its product with x.
        pub solu: u32,
    }
}

params! {
    /// `solu_tangent_f32`: `dy = J dx` or `J' dx` for SoLU's Jacobian at x.
    pub struct SoluTangentParams {
        /// Of x and of `softmax(x)`, which is contiguous.
        pub rows: u32,
        pub cols: u32,
        /// Rows of dx and dy.
        pub stacked: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub dx_offset: u32,
        pub dx_stride: u32,
        pub dy_offset: u32,
        pub dy_stride: u32,
        pub transpose: u32,
    }
}

/// Of `softmax_f32`, with `threads` of [`row_threads`](super::reduce::row_threads) for a row: memory for a maximum and a sum.
pub fn configuration(threads: u32) -> Configuration {
    row(threads, 2)
}

/// Of `solu_tangent_f32`: memory for a sum.
pub fn tangent_configuration(threads: u32) -> Configuration {
    row(threads, 1)
}

pub static SOFTMAX: Kernel = Kernel {
    name: "softmax_f32",
    operation: "activation",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/softmax_f32.wgsl"),
    params: SoftmaxParams::FIELDS,
    configurations: || ways(ROWS.map(configuration)),
};

pub static TANGENT: Kernel = Kernel {
    name: "solu_tangent_f32",
    operation: "activation_tangent",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/solu_tangent_f32.wgsl"),
    params: SoluTangentParams::FIELDS,
    configurations: || ways(ROWS.map(tangent_configuration)),
};
