//! The WGSL kernels that ask an adapter whether its arithmetic keeps error-free transformations exact, and whether its
//! subgroups join numbers as barriers do.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;
use super::gram::Product;
use super::reduce::Reduce;

params! {
    /// `probe_f32`: sums and products of pairs, with their rounding errors; chains of products.
    pub struct ProbeParams {
        pub count: u32,
        /// 1; see `shaders/frag/two_sum.wgsl`.
        pub one: f32,
        /// 0; see `shaders/frag/two_product_fma.wgsl`.
        pub zero: f32,
    }
}

params! {
    /// `probe_reduce_f32`: numbers of a workgroup joined by barriers and by subgroups.
    pub struct ReduceParams {
        /// Pairs, at least 1.
        pub count: u32,
    }
}

/// Quads of a workgroup.
pub const THREADS: u32 = 64;
/// Products of a chain.
pub const CHAIN: u32 = 16;

/// The configuration that forms products in this way.
pub fn configuration(product: Product) -> Configuration {
    Configuration {
        name: product.name().into(),
        constants: Constants::default().word("PRODUCT", product.name()).int("CHAIN", CHAIN as usize),
        threads: THREADS,
        shared: 0,
    }
}

/// Invocations of a workgroup of `probe_reduce_f32`.
pub const REDUCED: u32 = 256;

/// Of `probe_reduce_f32`: memory for two pairs of each invocation.
pub fn reduce_configuration() -> Configuration {
    let constants = Constants::default().word("REDUCE", Reduce::Subgroup.name());
    Configuration { name: Reduce::Subgroup.name().into(), constants, threads: REDUCED, shared: 16 * REDUCED }
}

pub static PROBE: Kernel = Kernel {
    name: "probe_f32",
    operation: "probe",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/probe_f32.wgsl"),
    params: ProbeParams::FIELDS,
    configurations: || Product::ALL.map(configuration).into(),
};

pub static REDUCE: Kernel = Kernel {
    name: "probe_reduce_f32",
    operation: "probe",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/probe_reduce_f32.wgsl"),
    params: ReduceParams::FIELDS,
    configurations: || vec![reduce_configuration()],
};
