//! The WGSL kernel that adds the slabs of a Gram matrix: parameter block and configuration. It launches nothing.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;

params! {
    /// `gram_fold_f32`: the sums over slabs of partial tiles, on and below the diagonal, and zeros above.
    pub struct GramFoldParams {
        pub cols: u32,
        /// Rows and columns of a partial tile.
        pub tile: u32,
        pub first_tile: u32,
        pub tiles: u32,
        pub slabs: u32,
        /// Elements, as the stride.
        pub m2_offset: u32,
        pub m2_stride: u32,
        /// 1; see `shaders/frag/two_sum.wgsl`.
        pub one: f32,
    }
}

/// Elements of a workgroup, all of one partial tile.
pub const THREADS: u32 = 256;

/// The only configuration.
pub fn configuration() -> Configuration {
    Configuration { name: "pairs".into(), constants: Constants::default(), threads: THREADS, shared: 0 }
}

pub static GRAM_FOLD: Kernel = Kernel {
    name: "gram_fold_f32",
    operation: "gram",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/gram_fold_f32.wgsl"),
    params: GramFoldParams::FIELDS,
    configurations: || vec![configuration()],
};
