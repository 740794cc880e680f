//! The WGSL kernel that asks an adapter whether its arithmetic keeps error-free transformations
//! exact.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;
use super::gram::Product;

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

pub static PROBE: Kernel = Kernel {
    name: "probe_f32",
    operation: "probe",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/probe_f32.wgsl"),
    params: ProbeParams::FIELDS,
    configurations: || Product::ALL.map(configuration).into(),
};
