//! The WGSL kernel that measures the peak of an adapter's arithmetic: parameter block and configuration. It launches
//! nothing.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;

params! {
    /// `peak_f32`: chains of fma on registers.
    pub struct PeakParams {
        /// Workgroups.
        pub groups: u32,
        /// Passes of [`UNROLL`] steps of every chain.
        pub rounds: u32,
        /// Where the chains begin.
        pub first: f32,
        /// What a step adds: 1.
        pub one: f32,
    }
}

/// Invocations of a workgroup.
pub const THREADS: u32 = 256;
/// Chains of an invocation, in fours.
pub const QUADS: u32 = 4;
/// Steps of a chain in a round.
pub const UNROLL: u32 = 8;

/// Floating point operations of a workgroup in a round: two an fma.
pub fn flops() -> f64 {
    f64::from(2 * THREADS * 4 * QUADS * UNROLL)
}

/// The only configuration.
pub fn configuration() -> Configuration {
    let constants = Constants::default().ints([("QUADS", QUADS), ("UNROLL", UNROLL)]);
    Configuration { name: "fma".into(), constants, threads: THREADS, shared: 0 }
}

pub static PEAK: Kernel = Kernel {
    name: "peak_f32",
    operation: "probe",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/peak_f32.wgsl"),
    params: PeakParams::FIELDS,
    configurations: || vec![configuration()],
};
