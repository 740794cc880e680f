//! The WGSL kernel of token and position embeddings: parameter block and configuration. It launches nothing.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::sheet::THREADS;
use super::super::template::Constants;

params! {
    /// `embed_f32`: `y = scale W_E[token] + W_pos[position] + row`.
    pub struct EmbedParams {
        pub rows: u32,
        pub cols: u32,
        /// At least 1.
        pub seq: u32,
        /// The tokens whose embeddings the binding holds: the first, and how many.
        pub first_token: u32,
        pub tokens_bound: u32,
        /// Rows of W_pos.
        pub positions_bound: u32,
        /// The first of the tokens in their binding, and of the positions in theirs.
        pub tokens_offset: u32,
        pub positions_offset: u32,
        /// Elements, as all offsets and strides.
        pub w_e_offset: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        pub scale: f32,
        /// [`HAS_TOKEN`], [`HAS_POSITION`], [`HAS_ROW`], [`LISTED`], [`BRAIN`].
        pub flags: u32,
        /// Of the [`super::super::sheet::Sheet`] over `[rows, cols]`, [`DEEP`] rows an invocation.
        pub log_columns: u32,
        pub column_tiles: u32,
    }
}

/// The token's embedding is part of the sum; rows of tokens that are not bound are left alone.
pub const HAS_TOKEN: u32 = 1;
/// The position's is.
pub const HAS_POSITION: u32 = 2;
/// The row is.
pub const HAS_ROW: u32 = 4;
/// Row i has the position `positions[i]`, and not `i % seq`.
pub const LISTED: u32 = 8;
/// Of a table in halves: they are bf16, not f16.
pub const BRAIN: u32 = 16;

/// Elements of an invocation.
pub const DEEP: u32 = 4;

/// For a table of tokens in f32 or in `halves`.
pub fn configuration(halves: bool) -> Configuration {
    let (name, element) = if halves { ("half", "u32") } else { ("wide", "f32") };
    let constants = Constants::default().int("DEEP", DEEP as usize).word("TABLE", name).word("W_E_ELEMENT", element);
    Configuration { name: name.into(), constants, threads: THREADS, shared: 0 }
}

pub static EMBED: Kernel = Kernel {
    name: "embed_f32",
    operation: "embed",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/embed_f32.wgsl"),
    params: EmbedParams::FIELDS,
    configurations: || [false, true].map(configuration).into(),
};
