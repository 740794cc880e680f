//! The PTX kernels that ask a device what it can do: the peaks of its arithmetic, and how its tensor
//! cores round. They compute nothing for a run.

use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::template::Constants;
use crate::device::DType;

params! {
    /// `peak_f32_sm80`, `peak_f64_sm80`.
    pub struct PeakParams {
        /// Address of `[CTAs][threads]`.
        pub out: u64,
        /// At least 1.
        pub rounds: u32,
        /// What the first numbers are counted from.
        pub first: u32,
    }
}

params! {
    /// `rounding_bf16_sm80`.
    pub struct RoundingParams {
        /// Address of `[32][4]` f32.
        pub out: u64,
        /// At least 1.
        pub rounds: u32,
        /// The bits of two bf16: `a` in the lower half, `b` in the upper.
        pub factors: u32,
    }
}

/// Threads of a CTA of the peak kernels.
const THREADS: u32 = 256;
/// Chains of f32 that a thread keeps in flight: a step takes 4 clocks and a warp gets every fourth, so
/// that 8 warps on each quarter of a multiprocessor cover it many times over.
const CHAINS_F32: u32 = 16;
const UNROLL_F32: u32 = 8;
/// Accumulators of f64 products that a warp keeps in flight.
const CHAINS_F64: u32 = 8;
const UNROLL_F64: u32 = 8;

/// The kernel that reaches the peak of a type, its configuration, and the floating point operations
/// that one CTA does in one round: two for each product and sum.
pub fn peak(dtype: DType) -> (&'static Kernel, Configuration, f64) {
    let steps = |chains: u32, unroll: u32| f64::from(chains * unroll);
    match dtype {
        DType::F32 => (&PEAK_F32, peak_f32(), 2.0 * f64::from(THREADS) * steps(CHAINS_F32, UNROLL_F32)),
        // A product of 8 x 4 and 4 x 8 for each warp.
        DType::F64 => (&PEAK_F64, peak_f64(), 2.0 * 8.0 * 8.0 * 4.0 * f64::from(THREADS / 32) * steps(CHAINS_F64, UNROLL_F64)),
    }
}

/// The kernel that sums equal products, and its configuration.
pub fn rounding() -> (&'static Kernel, Configuration) {
    (&ROUNDING, warp())
}

fn peak_configuration(chains: u32, unroll: u32, registers: u32) -> Configuration {
    let constants = [("CHAINS", chains), ("UNROLL", unroll), ("REGISTERS", registers)];
    let constants = Constants::default().ints(constants);
    Configuration { name: format!("{chains}x{unroll}"), constants, threads: THREADS, shared: 0 }
}

fn peak_f32() -> Configuration {
    peak_configuration(CHAINS_F32, UNROLL_F32, 40)
}

fn peak_f64() -> Configuration {
    peak_configuration(CHAINS_F64, UNROLL_F64, 40)
}

fn warp() -> Configuration {
    Configuration { name: "warp".into(), constants: Constants::default().int("REGISTERS", 16), threads: 32, shared: 0 }
}

pub(super) static PEAK_F32: Kernel = Kernel {
    name: "peak_f32_sm80",
    operation: "probe",
    language: Language::SM80,
    source: include_str!("../../kernels/peak_f32_sm80.ptx"),
    params: PeakParams::FIELDS,
    configurations: || vec![peak_f32()],
};
pub(super) static PEAK_F64: Kernel = Kernel {
    name: "peak_f64_sm80",
    operation: "probe",
    language: Language::SM80,
    source: include_str!("../../kernels/peak_f64_sm80.ptx"),
    params: PeakParams::FIELDS,
    configurations: || vec![peak_f64()],
};
pub(super) static ROUNDING: Kernel = Kernel {
    name: "rounding_bf16_sm80",
    operation: "probe",
    language: Language::SM80,
    source: include_str!("../../kernels/rounding_bf16_sm80.ptx"),
    params: RoundingParams::FIELDS,
    configurations: || vec![warp()],
};
