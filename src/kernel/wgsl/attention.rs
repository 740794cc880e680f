//! The WGSL kernels of attention and of its derivatives: parameter blocks and configurations. They launch nothing.
//!
//! A workgroup owns 32 queries of one head (or 32 keys) and a group of columns of its results, and walks over the rows that
//! belong together with them in tiles. Heads of any width are served: scores are summed over a few columns at a time, and
//! wide heads take several workgroups, each of which computes the scores again.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;
use super::joint;

params! {
    /// `attention_spans_u32`: what each query of packed sequences sees.
    pub struct SpansParams {
        /// Queries.
        pub m: u32,
        /// Rows of keys.
        pub n: u32,
        /// Rows of every sequence, or 0.
        pub seq: u32,
        /// Without [`HAS_ASKING`] query `i` is row `i row_step + row_first`.
        pub row_step: u32,
        pub row_first: u32,
        /// Whether a query sees no key behind it.
        pub causal: u32,
        /// Keys that a query sees at most, or 0.
        pub window: u32,
        /// [`HAS_SEEN`], [`HAS_ASKING`].
        pub flags: u32,
        /// Elements, as all offsets.
        pub first_offset: u32,
        pub end_offset: u32,
        pub seen_offset: u32,
        pub asking_offset: u32,
        pub table_offset: u32,
    }
}

/// Some keys are hidden.
pub const HAS_SEEN: u32 = 1;
/// The rows of queries are given.
pub const HAS_ASKING: u32 = 2;

params! {
    /// The block of all other kernels; each reads what it needs. Row `i` of head `h` of an operand begins at
    /// `_offset + i _row + h _head`, in elements.
    #[derive(Default)]
    pub struct AttentionParams {
        /// Workgroups.
        pub units: u32,
        /// Tiles of [`ROWS`] queries or keys a head.
        pub tiles: u32,
        /// Groups of columns of a head's results.
        pub chunks: u32,
        pub m: u32,
        pub n: u32,
        /// Of queries.
        pub heads: u32,
        /// Heads of queries that read one head of keys; at least 1.
        pub group: u32,
        pub d_head: u32,
        pub d_v: u32,
        pub scale: f32,
        /// Of the scores; 0 where there is none.
        pub cap: f32,
        /// `1 / cap`, or 0.
        pub uncap: f32,
        /// Whether `attention_forward_f32` writes statistics.
        pub notes: u32,
        pub table_offset: u32,
        pub statistics_offset: u32,
        pub q_offset: u32,
        pub q_row: u32,
        pub q_head: u32,
        pub k_offset: u32,
        pub k_row: u32,
        pub k_head: u32,
        pub v_offset: u32,
        pub v_row: u32,
        pub v_head: u32,
        pub dq_offset: u32,
        pub dq_row: u32,
        pub dq_head: u32,
        pub dk_offset: u32,
        pub dk_row: u32,
        pub dk_head: u32,
        pub dv_offset: u32,
        pub dv_row: u32,
        pub dv_head: u32,
        /// Of z, its tangents or its cotangents.
        pub z_offset: u32,
        pub z_row: u32,
        pub z_head: u32,
        /// Of the pattern.
        pub p_offset: u32,
        pub p_row: u32,
        /// Columns of the pattern.
        pub longest: u32,
    }
}

/// Invocations of `attention_spans_u32`, a row each.
pub const SPANS: u32 = 256;
/// Numbers of the table for each query, and for each key.
pub const OF_QUERY: u64 = 5;
pub const OF_KEY: u64 = 3;

/// Queries or keys of a workgroup.
pub const ROWS: u32 = 32;
/// Columns of results of a workgroup: the few where they hold a head.
const COLUMNS: [u32; 2] = [32, 64];

/// What the kernels keep in workgroup memory.
#[derive(Clone, Copy)]
struct Tile {
    /// Lines of a tile of the other rows.
    others: u32,
    /// Columns that scores are summed over at a time.
    depth: u32,
    /// Pairs of own and other lines for scores, lines of results that are added up, vectors of weights for each of the
    /// others, and vectors that invocations exchange.
    pairs: u32,
    values: u32,
    weights: u32,
    exchanged: u32,
}

const FORWARD_TILE: Tile = Tile { others: 32, depth: 32, pairs: 1, values: 1, weights: 8, exchanged: 64 };
const PATTERN_TILE: Tile = Tile { values: 0, weights: 0, exchanged: 0, ..FORWARD_TILE };
const TANGENT_TILE: Tile = Tile { others: 16, depth: 16, pairs: 2, values: 2, weights: 16, exchanged: 128 };
const QUERIES_TILE: Tile = Tile { pairs: 1, values: 1, ..TANGENT_TILE };
const KEYS_TILE: Tile = Tile { pairs: 1, exchanged: 0, ..TANGENT_TILE };

impl Tile {
    fn configuration(self, columns: u32) -> Configuration {
        let Tile { others, depth, pairs, values, weights, exchanged } = self;
        let staged = (pairs * (ROWS + others) * (depth / 4 + 1)).max(values * others * (columns / 4));
        let constants = [("ROWS", ROWS), ("COLUMNS", columns), ("OTHERS", others), ("DEPTH", depth), ("STAGED", staged)];
        Configuration {
            name: format!("{columns}"),
            constants: Constants::default().ints(constants),
            threads: 64,
            shared: 16 * (staged + weights * others + exchanged),
        }
    }
    fn configurations(self) -> Vec<Configuration> {
        COLUMNS.map(|columns| self.configuration(columns)).into()
    }
}

fn keys_configuration(columns: u32, same: bool) -> Configuration {
    let Configuration { name, constants, threads, shared } = KEYS_TILE.configuration(columns);
    let name = format!("{name}-{}", if same { "joint" } else { "apart" });
    Configuration { name, constants: joint(constants, "DV", ["dk", "dv"], same), threads, shared }
}

/// Columns of results of a workgroup, for heads of `width` columns.
fn columns(width: u32) -> u32 {
    if width <= COLUMNS[0] { COLUMNS[0] } else { COLUMNS[1] }
}

/// Workgroups that share a head's columns at most, for heads of `width` columns.
pub fn chunks_at_most(width: usize) -> usize {
    width.div_ceil(COLUMNS[0] as usize)
}

/// The configuration of a kernel for results of `width` columns a head, and how many workgroups share a head's columns.
/// Both widths give the same bits.
pub fn choose(pass: Pass, width: u32) -> (&'static Kernel, Configuration, u32) {
    let columns = columns(width);
    let chunks = width.div_ceil(columns);
    match pass {
        Pass::Forward => (&FORWARD, FORWARD_TILE.configuration(columns), chunks),
        Pass::Pattern => (&PATTERN, PATTERN_TILE.configuration(COLUMNS[0]), 1),
        Pass::Tangent => (&TANGENT, TANGENT_TILE.configuration(columns), chunks),
        Pass::Queries => (&QUERIES, QUERIES_TILE.configuration(columns), chunks),
        Pass::Keys { joint } => (&KEYS, keys_configuration(columns, joint), chunks),
    }
}

/// What one launch computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// z, and statistics of the queries.
    Forward,
    /// The pattern, from those.
    Pattern,
    Tangent,
    /// Cotangents of the queries, and statistics.
    Queries,
    /// Cotangents of keys and values, from those; `joint` where they lie in one buffer.
    Keys {
        joint: bool,
    },
}

/// The configuration of [`SPANS_TABLE`].
pub fn spans_configuration() -> Configuration {
    Configuration { name: "rows".into(), constants: Constants::default(), threads: SPANS, shared: 0 }
}

/// What each query sees.
pub static SPANS_TABLE: Kernel = Kernel {
    name: "attention_spans_u32",
    operation: "attention",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/attention_spans_u32.wgsl"),
    params: SpansParams::FIELDS,
    configurations: || vec![spans_configuration()],
};

macro_rules! kernels {
    ($($(#[$doc:meta])* $name:ident = $file:literal, $operation:literal, $configurations:expr;)*) => {
        $($(#[$doc])*
        pub static $name: Kernel = Kernel {
            name: $file,
            operation: $operation,
            language: Language::Wgsl,
            source: include_str!(concat!("../../../shaders/", $file, ".wgsl")),
            params: AttentionParams::FIELDS,
            configurations: $configurations,
        };)*
    };
}

kernels! {
    /// `z = softmax(scores) v`.
    FORWARD = "attention_forward_f32", "attention", || FORWARD_TILE.configurations();
    /// `p = softmax(scores)`.
    PATTERN = "attention_pattern_f32", "attention", || vec![PATTERN_TILE.configuration(COLUMNS[0])];
    /// `dz` along `dq`, `dk` and `dv`.
    TANGENT = "attention_tangent_f32", "attention_tangent", || TANGENT_TILE.configurations();
    /// `dq` from `dz`, and what [`KEYS`] has to know of the queries.
    QUERIES = "attention_queries_f32", "attention_cotangent", || QUERIES_TILE.configurations();
    /// `dk` and `dv` from `dz`.
    KEYS = "attention_keys_f32", "attention_cotangent", || {
        COLUMNS.into_iter().flat_map(|columns| [false, true].map(|same| keys_configuration(columns, same))).collect()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workgroups_share_the_columns_of_wide_heads() {
        let name = |pass, width| {
            let (kernel, configuration, chunks) = choose(pass, width);
            assert!((kernel.configurations)().contains(&configuration));
            (configuration.name, chunks)
        };
        assert_eq!(name(Pass::Forward, 3), ("32".into(), 1));
        assert_eq!(name(Pass::Forward, 33), ("64".into(), 1));
        assert_eq!(name(Pass::Tangent, 256), ("64".into(), 4));
        assert_eq!(name(Pass::Queries, 65), ("64".into(), 2));
        assert_eq!(name(Pass::Keys { joint: true }, 80), ("64-joint".into(), 2));
        assert_eq!(name(Pass::Pattern, 1), ("32".into(), 1));
    }
}
