//! The PTX kernel of `ops::trie_match`: parameter block, configurations and grid. It launches nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::tuning::registers;
use crate::device::DType;

params! {
    /// `trie_match_sm80`: the predictions of tries. The arrays are those of `ops::forest::Forest`.
    pub struct TrieMatchParams {
        /// Address of `[rows]` u32.
        pub keys: u64,
        /// Address of `[rows]` u32.
        pub first: u64,
        /// Address of `[rows + 1]` u32.
        pub slots: u64,
        /// Address of `[capacity]`, `stride` apart.
        pub values: u64,
        /// Address of `[lists + 2]` u32.
        pub root_offsets: u64,
        /// Address of `[roots]` u32.
        pub root_node: u64,
        /// Address of `[roots]` u32.
        pub root_neuron: u64,
        /// Address of `[neurons + 1]` u32.
        pub offsets: u64,
        /// Address of `[nodes]` u32, as those that follow.
        pub key: u64,
        pub first_child: u64,
        pub children: u64,
        pub wildcard: u64,
        pub start: u64,
        /// Address of `[nodes]` f32.
        pub value: u64,
        pub rows: u32,
        pub capacity: u32,
        /// Elements.
        pub stride: u32,
        /// Keys that tokens have.
        pub lists: u32,
        /// 0 the deepest match, 1 the shallowest, 2 the largest.
        pub choice: u32,
    }
}

/// Warps of a CTA, each with a token.
const WARPS: u32 = 8;
/// CTAs that zero the slots that no row has.
const ZEROING: u32 = 32;

/// The CTAs for that many rows.
pub fn grid(rows: u32) -> [u32; 3] {
    [ZEROING + rows.div_ceil(WARPS), 1, 1]
}

/// The configuration for values of a dtype.
pub fn configuration(dtype: DType) -> Configuration {
    let threads = 32 * WARPS;
    let from_f32 = if dtype == DType::F32 { "mov.f32" } else { "cvt.f64.f32" };
    let sizes = element(dtype).int("WARPS", WARPS as usize).int("ZEROING", ZEROING as usize);
    let constants = sizes.word("FROM_F32", from_f32).int("REGISTERS", registers(3, threads) as usize);
    Configuration { name: dtype.name().into(), constants, threads, shared: 0 }
}

pub static TRIE_MATCH: Kernel = Kernel {
    name: "trie_match_sm80",
    operation: "trie_match",
    language: Language::SM80,
    source: include_str!("../../kernels/trie_match_sm80.ptx"),
    params: TrieMatchParams::FIELDS,
    configurations: || [DType::F32, DType::F64].map(configuration).to_vec(),
};
