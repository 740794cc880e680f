//! The WGSL kernels of `ops::peaks`: parameter blocks and configurations. It launches nothing.

use super::super::params::{Params, params};
use super::super::peaks::{BINS, LOWEST};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;

params! {
    /// `peaks_f32`: the largest activations of samples, random ones, and counts by size.
    pub struct PeaksParams {
        pub samples: u32,
        /// Of a sample, at most [`MOST_POSITIONS`].
        pub positions: u32,
        /// Positions at the start of a sample that are passed over.
        pub skip: u32,
        pub width: u32,
        /// Workgroups: 32 neurons each.
        pub tiles: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub max_offset: u32,
        pub max_stride: u32,
        pub at_offset: u32,
        pub at_stride: u32,
        pub picked_offset: u32,
        pub picked_stride: u32,
        pub first_at: u32,
        /// Samples that other launches have before these.
        pub earlier: u32,
        pub counts_at: u32,
        pub seed: u32,
    }
}

params! {
    /// `peak_lists_f32`: lists of the activations that pass bars.
    pub struct PeakListParams {
        pub samples: u32,
        pub positions: u32,
        pub skip: u32,
        pub width: u32,
        /// Workgroups: 32 neurons each.
        pub tiles: u32,
        /// Elements, as all offsets and strides.
        pub max_offset: u32,
        pub max_stride: u32,
        pub at_offset: u32,
        pub at_stride: u32,
        pub picked_offset: u32,
        pub picked_stride: u32,
        pub first_at: u32,
        pub least_offset: u32,
        pub most_at: u32,
        pub cells_at: u32,
        pub values_offset: u32,
        pub values_stride: u32,
        /// Places of a list.
        pub capacity: u32,
        pub seed: u32,
    }
}

/// Most positions of a sample: what a count of 16 bits holds.
pub const MOST_POSITIONS: usize = 65_535;

const THREADS: u32 = 256;

/// The configuration of `peaks_f32`.
pub fn peaks() -> Configuration {
    let constants = Constants::default().int("THREADS", THREADS as usize).int("BINS", BINS).int("LOWEST", LOWEST);
    Configuration { name: "32".into(), constants, threads: THREADS, shared: 64 * BINS as u32 + 8 * THREADS }
}

/// The configuration of `peak_lists_f32`.
pub fn lists() -> Configuration {
    let constants = Constants::default().int("THREADS", THREADS as usize);
    Configuration { name: "32".into(), constants, threads: THREADS, shared: THREADS / 8 }
}

pub static PEAKS: Kernel = Kernel {
    name: "peaks_f32",
    operation: "peaks",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/peaks_f32.wgsl"),
    params: PeaksParams::FIELDS,
    configurations: || vec![peaks()],
};

pub static LISTS: Kernel = Kernel {
    name: "peak_lists_f32",
    operation: "peaks",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/peak_lists_f32.wgsl"),
    params: PeakListParams::FIELDS,
    configurations: || vec![lists()],
};
