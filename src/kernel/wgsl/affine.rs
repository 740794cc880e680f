//! The WGSL kernel of copies, fills and scaled rows: parameter block and configurations. It launches nothing.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::sheet::THREADS;
use super::super::template::Constants;

params! {
    /// `affine_f32`: `y = scale x w + b`, or `y +=` it.
    pub struct AffineParams {
        pub rows: u32,
        /// Elements, or quads of them in the configuration that goes by quads, as all offsets and strides.
        pub cols: u32,
        pub x_offset: u32,
        pub x_stride: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        pub scale: f32,
        /// [`HAS_X`], [`HAS_W`], [`HAS_B`], [`ADDS`].
        pub flags: u32,
        /// Of the [`super::super::sheet::Sheet`] over `[rows, cols]`, [`DEEP`] rows an invocation.
        pub log_columns: u32,
        pub column_tiles: u32,
    }
}

/// There is an x; it is of ones otherwise.
pub const HAS_X: u32 = 1;
/// There is a w; it is of ones otherwise.
pub const HAS_W: u32 = 2;
/// There is a b; it is of zeros otherwise.
pub const HAS_B: u32 = 4;
/// y is added to.
pub const ADDS: u32 = 8;

/// Elements of an invocation.
pub const DEEP: u32 = 4;

/// The configuration, by quads where every row of x and y starts at a multiple of 16 bytes and has whole quads.
pub fn configuration(quads: bool) -> Configuration {
    let constants = super::vector(Constants::default().int("DEEP", DEEP as usize), quads);
    Configuration { name: if quads { "v4" } else { "v1" }.into(), constants, threads: THREADS, shared: 0 }
}

pub static AFFINE: Kernel = Kernel {
    name: "affine_f32",
    operation: "copy",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/affine_f32.wgsl"),
    params: AffineParams::FIELDS,
    configurations: || [false, true].map(configuration).into(),
};
