//! The WGSL kernels that sum edges from tangents and cotangents: parameter blocks and configurations. It launches nothing.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::reduce::ways;

params! {
    /// `edge_tangents_f32`: `out[i, j] += sum_t y[r n + t, i]^2` for the feature `j = index * of_chunk + first_probe + r`.
    pub struct EdgeTangentParams {
        pub n: u32,
        pub k_out: u32,
        pub k_in: u32,
        /// Probes of this launch, and of a chunk.
        pub probes: u32,
        pub of_chunk: u32,
        /// Probes of the chunk that other launches have.
        pub first_probe: u32,
        /// Elements, as all offsets and strides.
        pub y_offset: u32,
        pub y_stride: u32,
        pub index_at: u32,
        pub out_offset: u32,
        pub out_stride: u32,
        /// Of [`super::sums::log_columns`].
        pub log_columns: u32,
        /// Workgroups of a probe.
        pub column_groups: u32,
        /// 1; see `shaders/frag/two_sum.wgsl`.
        pub one: f32,
        /// 0; see `shaders/frag/add_up.wgsl`.
        pub zero: f32,
    }
}

params! {
    /// `edge_cotangents_f32`: `out[i, j] += sum over samples of (sum_s g_sj f_sj)^2`, or without the square, for each
    /// probe of the output feature i.
    pub struct EdgeCotangentParams {
        pub samples: u32,
        /// Of each sample.
        pub positions: u32,
        pub k_in: u32,
        pub k_out: u32,
        /// Probes of this launch, and of a chunk.
        pub probes: u32,
        pub of_chunk: u32,
        /// Probes of the chunk that other launches have.
        pub first_probe: u32,
        /// Probes in all.
        pub count: u32,
        /// 0 without the square, 1 with it.
        pub squared: u32,
        /// Elements, as all offsets and strides.
        pub g_offset: u32,
        pub g_stride: u32,
        pub f_offset: u32,
        pub f_stride: u32,
        pub index_at: u32,
        pub out_offset: u32,
        pub out_stride: u32,
        /// Of [`super::sums::log_columns`].
        pub log_columns: u32,
        /// Workgroups of a row of out.
        pub column_groups: u32,
        /// 1; see `shaders/frag/two_sum.wgsl`.
        pub one: f32,
        /// 0; see `shaders/frag/add_up.wgsl`.
        pub zero: f32,
    }
}

/// The configuration of either kernel.
pub fn configuration() -> Configuration {
    super::sums::lanes()
}

pub static TANGENTS: Kernel = Kernel {
    name: "edge_tangents_f32",
    operation: "edge_tangents",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/edge_tangents_f32.wgsl"),
    params: EdgeTangentParams::FIELDS,
    configurations: || ways([configuration()]),
};

pub static COTANGENTS: Kernel = Kernel {
    name: "edge_cotangents_f32",
    operation: "edge_cotangents",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/edge_cotangents_f32.wgsl"),
    params: EdgeCotangentParams::FIELDS,
    configurations: || ways([configuration()]),
};
