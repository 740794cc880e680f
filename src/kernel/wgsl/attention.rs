//! The WGSL kernels of attention and of its derivatives: parameter blocks and configurations. They launch nothing.
//!
//! A workgroup owns 32 queries of one head (or 32 keys) and a group of columns of its results, and walks over the rows that
//! belong together with them in tiles ([`super::attention_shape`]). Heads of any width are served: workgroup memory has some
//! of their columns at a time, and the widest take several workgroups, each of which computes the scores again.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;
use super::attention_shape::{FORWARD_TILE, KEYS_TILE, PATTERN_TILE, QUERIES_TILE, TANGENT_TILE};
use super::{Limits, joint};

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

/// The configuration where dk and dv lie in one buffer, or do not.
fn keys_configuration(of_tile: Configuration, same: bool) -> Configuration {
    let Configuration { name, constants, threads, shared } = of_tile;
    let name = format!("{name}-{}", if same { "joint" } else { "apart" });
    Configuration { name, constants: joint(constants, "DV", ["dk", "dv"], same), threads, shared }
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

impl AttentionParams {
    /// Whether every row that a pass reads or writes, of every head, begins at a multiple of 4 and has whole quads.
    pub fn has_quads(&self, pass: Pass) -> bool {
        let q = [self.d_head, self.q_offset, self.q_row, self.q_head];
        let k = [self.d_head, self.k_offset, self.k_row, self.k_head];
        let v = [self.d_v, self.v_offset, self.v_row, self.v_head];
        let dq = [self.d_head, self.dq_offset, self.dq_row, self.dq_head];
        let dk = [self.d_head, self.dk_offset, self.dk_row, self.dk_head];
        let dv = [self.d_v, self.dv_offset, self.dv_row, self.dv_head];
        let z = [self.d_v, self.z_offset, self.z_row, self.z_head];
        let operands = match pass {
            Pass::Forward => vec![q, k, v, z],
            Pass::Pattern => vec![q, k],
            Pass::Tangent => vec![q, k, v, dq, dk, dv, z],
            Pass::Queries => vec![q, k, v, z, dq],
            Pass::Keys { .. } => vec![q, k, v, z, dk, dv],
        };
        operands.into_iter().flatten().all(|n| n.is_multiple_of(4))
    }
}

/// The configuration of a pass whose results are `width` columns a head, and how many workgroups share a head's columns.
/// `params` say all but the sizes of the launch. Every configuration gives the same bits.
pub fn choose(pass: Pass, width: u32, params: &AttentionParams, limits: &Limits) -> (&'static Kernel, Configuration, u32) {
    let quads = params.has_quads(pass);
    let (kernel, tile) = match pass {
        Pass::Forward => (&FORWARD, FORWARD_TILE.fitting(params.d_head)),
        Pass::Pattern => (&PATTERN, PATTERN_TILE.fitting(params.d_head)),
        Pass::Tangent => (&TANGENT, TANGENT_TILE),
        Pass::Queries => (&QUERIES, QUERIES_TILE),
        Pass::Keys { .. } => (&KEYS, KEYS_TILE),
    };
    let (configuration, chunks) = tile.choose(width, quads, limits);
    match pass {
        Pass::Keys { joint } => (kernel, keys_configuration(configuration, joint), chunks),
        _ => (kernel, configuration, chunks),
    }
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
    FORWARD = "attention_forward_f32", "attention", || FORWARD_TILE.of_all_depths();
    /// `p = softmax(scores)`.
    PATTERN = "attention_pattern_f32", "attention", || PATTERN_TILE.of_all_depths();
    /// `dz` along `dq`, `dk` and `dv`.
    TANGENT = "attention_tangent_f32", "attention_tangent", || TANGENT_TILE.configurations();
    /// `dq` from `dz`, and what [`KEYS`] has to know of the queries.
    QUERIES = "attention_queries_f32", "attention_cotangent", || QUERIES_TILE.configurations();
    /// `dk` and `dv` from `dz`.
    KEYS = "attention_keys_f32", "attention_cotangent", || {
        let both = |of_tile: Configuration| [false, true].map(|same| keys_configuration(of_tile.clone(), same));
        KEYS_TILE.configurations().into_iter().flat_map(both).collect()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pass: Pass, d_head: u32, width: u32, limits: &Limits) -> (String, u32) {
        let params = AttentionParams { d_head, q_row: 1, ..AttentionParams::default() };
        let (kernel, configuration, chunks) = choose(pass, width, &params, limits);
        assert!((kernel.configurations)().contains(&configuration), "{}", configuration.name);
        (configuration.name, chunks)
    }

    #[test]
    fn a_head_is_shared_only_where_invocations_cannot_hold_it() {
        let name = |pass, width| name(pass, 33, width, &Limits::BASELINE);
        assert_eq!(name(Pass::Forward, 3), ("32x16-v1".into(), 1));
        assert_eq!(name(Pass::Forward, 33), ("64x16-v1".into(), 1));
        assert_eq!(name(Pass::Forward, 65), ("128x16-v1".into(), 1));
        assert_eq!(name(Pass::Forward, 256), ("256x16-v1".into(), 1));
        assert_eq!(name(Pass::Forward, 257), ("256x16-v1".into(), 2));
        assert_eq!(name(Pass::Tangent, 256), ("128x16-v1".into(), 2));
        assert_eq!(name(Pass::Queries, 65), ("128x16-v1".into(), 1));
        assert_eq!(name(Pass::Keys { joint: true }, 80), ("128x16-v1-joint".into(), 1));
    }

    #[test]
    fn scores_are_summed_to_the_depth_that_pads_a_head_least() {
        for (d_head, depth) in [(1, 16), (16, 16), (17, 32), (32, 32), (40, 16), (64, 32), (80, 16), (128, 32)] {
            assert_eq!(name(Pass::Forward, d_head, 20, &Limits::BASELINE).0, format!("32x{depth}-v1"), "{d_head}");
            assert_eq!(name(Pass::Pattern, d_head, 1, &Limits::BASELINE), (format!("32x{depth}-v1"), 1), "{d_head}");
        }
    }

    #[test]
    fn an_adapter_with_few_invocations_shares_wide_heads() {
        let few = Limits { invocations: 64, ..Limits::BASELINE };
        assert_eq!(name(Pass::Forward, 32, 256, &few), ("128x32-v1".into(), 2));
        assert_eq!(name(Pass::Tangent, 32, 128, &few), ("64x16-v1".into(), 2));
    }

    /// Sets a number of the block.
    type Set = fn(&mut AttentionParams) -> &mut u32;

    #[test]
    fn quads_are_read_where_every_operand_of_the_pass_has_them() {
        use Pass::{Forward, Pattern, Queries, Tangent};
        let (keys, whole) = (Pass::Keys { joint: false }, AttentionParams { d_head: 8, d_v: 4, ..AttentionParams::default() });
        let all = [Forward, Pattern, Tangent, Queries, keys];
        let operands: [([Set; 3], &[Pass]); 7] = [
            ([|p| &mut p.q_offset, |p| &mut p.q_row, |p| &mut p.q_head], &all),
            ([|p| &mut p.k_offset, |p| &mut p.k_row, |p| &mut p.k_head], &all),
            ([|p| &mut p.v_offset, |p| &mut p.v_row, |p| &mut p.v_head], &[Forward, Tangent, Queries, keys]),
            ([|p| &mut p.z_offset, |p| &mut p.z_row, |p| &mut p.z_head], &[Forward, Tangent, Queries, keys]),
            ([|p| &mut p.dq_offset, |p| &mut p.dq_row, |p| &mut p.dq_head], &[Tangent, Queries]),
            ([|p| &mut p.dk_offset, |p| &mut p.dk_row, |p| &mut p.dk_head], &[Tangent, keys]),
            ([|p| &mut p.dv_offset, |p| &mut p.dv_row, |p| &mut p.dv_head], &[Tangent, keys]),
        ];
        for pass in all {
            assert!(whole.has_quads(pass), "{pass:?}");
            assert!(!AttentionParams { d_head: 6, ..whole }.has_quads(pass), "{pass:?}");
            assert_eq!(AttentionParams { d_v: 6, ..whole }.has_quads(pass), pass == Pattern, "{pass:?}");
            for (operand, (numbers, touched_by)) in operands.iter().enumerate() {
                for number in numbers {
                    let mut params = whole;
                    *number(&mut params) = 4;
                    assert!(params.has_quads(pass), "{pass:?}: operand {operand}");
                    *number(&mut params) = 6;
                    assert_eq!(params.has_quads(pass), !touched_by.contains(&pass), "{pass:?}: operand {operand}");
                }
            }
        }
    }
}
