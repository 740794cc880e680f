//! The PTX kernel that counts the runs of repeated launches.

use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::template::Constants;

params! {
    /// `count_sm80`: `number += 1`.
    pub struct CountParams {
        /// Address of `[1]` u32.
        pub number: u64,
    }
}

/// The only configuration.
pub fn configuration() -> Configuration {
    Configuration { name: "1".into(), constants: Constants::default().int("REGISTERS", 16), threads: 1, shared: 0 }
}

pub static COUNT: Kernel = Kernel {
    name: "count_sm80",
    operation: "repeat",
    language: Language::SM80,
    source: include_str!("../../kernels/count_sm80.ptx"),
    params: CountParams::FIELDS,
    configurations: || vec![configuration()],
};
