//! The WGSL kernel that counts the runs of repeated launches.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;

params! {
    /// `count_u32`: `number += 1`.
    pub struct CountParams {
        /// The element of its binding.
        pub number: u32,
    }
}

/// The only configuration.
pub fn configuration() -> Configuration {
    Configuration { name: "1".into(), constants: Constants::default(), threads: 1, shared: 0 }
}

pub static COUNT: Kernel = Kernel {
    name: "count_u32",
    operation: "repeat",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/count_u32.wgsl"),
    params: CountParams::FIELDS,
    configurations: || vec![configuration()],
};
