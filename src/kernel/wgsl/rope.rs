//! The WGSL kernel of `ops::rope`: parameter block and configurations. It launches nothing.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::sheet::THREADS;
use super::super::template::Constants;

params! {
    /// `rope_f32`: pairs of columns of each head, rotated by the angle of the row's position.
    pub struct RopeParams {
        pub rows: u32,
        /// Columns of the sheet: `heads * (d_head - half)`.
        pub cols: u32,
        /// At least 1: row i has the position of number `(first + i) % n`.
        pub n: u32,
        pub first: u32,
        pub d_head: u32,
        /// Pairs of a head: at most `d_head / 2`.
        pub half: u32,
        /// Positions in the tables.
        pub positions_bound: u32,
        pub positions_offset: u32,
        /// Columns from one head to the next.
        pub x_pitch: u32,
        pub y_pitch: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        /// 1 rotates, -1 rotates back.
        pub sign: f32,
        /// Of the [`super::super::sheet::Sheet`] over `[rows, cols]`, [`DEEP`] rows an invocation.
        pub log_columns: u32,
        pub column_tiles: u32,
    }
}

/// Rows of an invocation.
pub const DEEP: u32 = 4;

/// The configuration, in place where y is x.
pub fn configuration(in_place: bool) -> Configuration {
    let constants = super::in_place(Constants::default().int("DEEP", DEEP as usize), in_place);
    Configuration { name: if in_place { "in_place" } else { "apart" }.into(), constants, threads: THREADS, shared: 0 }
}

pub static ROPE: Kernel = Kernel {
    name: "rope_f32",
    operation: "rope",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/rope_f32.wgsl"),
    params: RopeParams::FIELDS,
    configurations: || [false, true].map(configuration).into(),
};
