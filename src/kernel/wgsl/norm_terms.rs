//! The WGSL kernels of `ops::norm_moments`: parameter blocks and configurations. It launches nothing.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::reduce::{ROWS, row, ways};

params! {
    /// `norm_terms_f32`: `c = x - mean(x)`, `s = sum w / sigma` and `g = shift + scale sum w a / sigma^3` of each row,
    /// `sigma = sqrt(a v + eps)`.
    pub struct TermParams {
        pub rows: u32,
        pub cols: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub v_offset: u32,
        pub v_stride: u32,
        pub c_offset: u32,
        pub c_stride: u32,
        pub s_offset: u32,
        pub s_stride: u32,
        pub g_offset: u32,
        pub g_stride: u32,
        /// Quadrature points; 0 gives s = 0 and g = shift.
        pub count: u32,
        /// [`HAS_V`].
        pub flags: u32,
        /// `cols` as a number.
        pub width: f32,
        pub eps: f32,
        pub shift: f32,
        pub scale: f32,
    }
}

params! {
    /// `norm_weigh_f32`: rows times the root of their weight in a Gram matrix.
    pub struct WeighParams {
        pub rows: u32,
        pub cols: u32,
        /// Elements from one row to the next, of c and of what is written.
        pub stride: u32,
        /// A [`super::super::norm_terms::Root`].
        pub mode: u32,
    }
}

/// The variance is given; it is that of the row otherwise.
pub const HAS_V: u32 = 1;

/// The configuration of either kernel, with `threads` of [`row_threads`](super::reduce::row_threads) for a row.
pub fn configuration(threads: u32) -> Configuration {
    row(threads, 1)
}

pub static TERMS: Kernel = Kernel {
    name: "norm_terms_f32",
    operation: "norm_moments",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/norm_terms_f32.wgsl"),
    params: TermParams::FIELDS,
    configurations: || ways(ROWS.map(configuration)),
};

pub static WEIGH: Kernel = Kernel {
    name: "norm_weigh_f32",
    operation: "norm_moments",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/norm_weigh_f32.wgsl"),
    params: WeighParams::FIELDS,
    configurations: || ways(ROWS.map(configuration)),
};
