//! The PTX kernel of token and position embeddings: parameter block and configurations. It launches nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::sheet::THREADS;
use crate::device::DType;

params! {
    /// `embed_sm80`: `y = scale W_E[token] + W_pos[position] + row`.
    pub struct EmbedParams {
        /// Address of `[rows]` u32, each below the rows of `w_e`.
        pub tokens: u64,
        /// Address of `[rows]` u32, each below the rows of `w_pos`; not read unless `listed`.
        pub positions: u64,
        /// Address of `[vocabulary, cols]`, contiguous.
        pub w_e: u64,
        /// Address of `[positions, cols]`, contiguous; 0 for zeros.
        pub w_pos: u64,
        /// Address of `[cols]`; 0 for zeros.
        pub row: u64,
        /// Address of `[rows, cols]`, row stride `y_stride`.
        pub y: u64,
        /// Address of `[rows, cols]`, row stride `token_stride`, for `W_E[token]`; 0 where it is not asked for.
        pub token_out: u64,
        /// Address of `[rows, cols]`, row stride `pos_stride`, for `W_pos[position]`; 0 where it is not asked for.
        pub pos_out: u64,
        pub scale: f64,
        pub rows: u32,
        pub cols: u32,
        /// At least 1.
        pub seq: u32,
        /// 0: row i has the position `i % seq`; 1: it has `positions[i]`.
        pub listed: u32,
        /// Elements, as all strides.
        pub y_stride: u32,
        pub token_stride: u32,
        pub pos_stride: u32,
        /// Of the [`super::sheet::Sheet`] over `[rows, cols]`, [`DEEP`] rows a thread.
        pub log_columns: u32,
    }
}

/// Elements that a thread has in flight.
pub const DEEP: u32 = 4;

/// The configuration for a dtype.
pub fn configuration(dtype: DType) -> Configuration {
    let constants = element(dtype).ints([("DEEP", DEEP), ("REGISTERS", 64)]);
    Configuration { name: dtype.name().into(), constants, threads: THREADS, shared: 0 }
}

pub static EMBED: Kernel = Kernel {
    name: "embed_sm80",
    operation: "embed",
    language: Language::SM80,
    source: include_str!("../../kernels/embed_sm80.ptx"),
    params: EmbedParams::FIELDS,
    configurations: || vec![configuration(DType::F32), configuration(DType::F64)],
};
