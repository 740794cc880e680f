//! The PTX kernel of `ops::peaks`: parameter block and configurations. It launches nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::tuning::registers;
use crate::device::DType;

params! {
    /// `peaks_sm80`: the largest activations of samples, random ones, counts by size, and lists of those that pass bars.
    pub struct PeaksParams {
        /// Address of `[samples * positions, width]`, row stride `x_stride`.
        pub x: u64,
        /// Address of `[samples, width]`, row stride `max_stride`.
        pub max: u64,
        /// Address of `[samples, width]`, row stride `at_stride`.
        pub at: u64,
        /// Address of `[samples, width]`, row stride `picked_stride`.
        pub picked: u64,
        /// Address of `[1]` u32: the number of the first sample.
        pub first: u64,
        /// Address of `[width, bins]` u32.
        pub counts: u64,
        /// Address of `[width]`: what the largest must be above to be listed.
        pub least: u64,
        /// Address of `[2, width]` u32: the largest keys that are listed.
        pub most: u64,
        /// Address of `[tiles, 2, 1 + 2 * capacity]` u32: counts, cells and positions of the lists.
        pub cells: u64,
        /// Address of `[tiles, 2, capacity]`, row stride `values_stride`.
        pub values: u64,
        pub samples: u32,
        pub positions: u32,
        /// Positions at the start of a sample that are passed over.
        pub skip: u32,
        pub width: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub max_stride: u32,
        pub at_stride: u32,
        pub picked_stride: u32,
        pub values_stride: u32,
        /// Places of a list.
        pub capacity: u32,
        pub seed: u32,
    }
}

/// Bins of the counts.
pub const BINS: usize = 128;
/// The exponent of the least bin, in quarters of octaves below 1.
pub const LOWEST: usize = 4 * 16;
/// Warps of a CTA.
const WARPS: u32 = 16;
/// Neurons of a CTA.
pub const NEURONS: u32 = 32;

/// The configuration for a dtype.
pub fn configuration(dtype: DType) -> Configuration {
    let threads = 32 * WARPS;
    let to_f32 = if dtype == DType::F32 { "mov.f32" } else { "cvt.rn.f32.f64" };
    let sizes = element(dtype).int("WARPS", WARPS as usize).int("BINS", BINS).int("LOWEST", LOWEST);
    let constants = sizes.word("TO_F32", to_f32).int("REGISTERS", registers(2, threads) as usize);
    let shared = 4 * 33 * BINS as u32 + WARPS * NEURONS * (dtype.bytes() as u32 + 4);
    Configuration { name: dtype.name().into(), constants, threads, shared }
}

pub static PEAKS: Kernel = Kernel {
    name: "peaks_sm80",
    operation: "peaks",
    language: Language::SM80,
    source: include_str!("../../kernels/peaks_sm80.ptx"),
    params: PeaksParams::FIELDS,
    configurations: || [DType::F32, DType::F64].map(configuration).to_vec(),
};
