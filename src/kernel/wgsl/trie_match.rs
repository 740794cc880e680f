//! The WGSL kernel of `ops::trie_match`: parameter block, configuration and grid. It launches nothing.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;

params! {
    /// `trie_match_f32`: the predictions of tries. The arrays are those of `ops::forest::Forest`, in one binding.
    pub struct TrieMatchParams {
        pub rows: u32,
        pub capacity: u32,
        /// Keys that tokens have.
        pub lists: u32,
        /// 0 the deepest match, 1 the shallowest, 2 the largest.
        pub choice: u32,
        /// Elements, as all that follow.
        pub keys_at: u32,
        pub first_at: u32,
        pub slots_at: u32,
        pub values_offset: u32,
        pub values_stride: u32,
        /// Where each array begins; the offsets of the lists are the first.
        pub root_node: u32,
        pub root_neuron: u32,
        pub offsets: u32,
        pub key: u32,
        pub first_child: u32,
        pub children: u32,
        pub wildcard: u32,
        pub start: u32,
        pub value: u32,
    }
}

const THREADS: u32 = 256;
/// Workgroups that zero the slots that no row has.
const ZEROING: u32 = 32;

/// The workgroups for that many rows.
pub fn groups(rows: u32) -> u64 {
    u64::from(ZEROING) + u64::from(rows.div_ceil(THREADS / 32))
}

/// The only configuration.
pub fn configuration() -> Configuration {
    let constants = Constants::default().ints([("THREADS", THREADS), ("ZEROING", ZEROING)]);
    Configuration { name: "32".into(), constants, threads: THREADS, shared: 0 }
}

pub static TRIE_MATCH: Kernel = Kernel {
    name: "trie_match_f32",
    operation: "trie_match",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/trie_match_f32.wgsl"),
    params: TrieMatchParams::FIELDS,
    configurations: || vec![configuration()],
};
