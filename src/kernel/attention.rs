//! The PTX kernels of attention and of its derivatives: parameter blocks and configurations. It launches
//! nothing.
//!
//! A CTA owns 32 queries of one head (or 32 keys) in shared memory and walks over the rows that belong
//! together with them in tiles of 32; a warp owns some of the 32, a lane one row of the tile.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use crate::device::DType;

/// Queries or keys of a CTA, and rows of a tile.
pub const TILE: u32 = 32;

macro_rules! attention_params {
    ($(#[$doc:meta])* pub struct $name:ident {
        addresses: { $($(#[$address_doc:meta])* $address:ident,)* }
        numbers: { $($(#[$number_doc:meta])* $number:ident,)* }
    }) => {
        params! {
            $(#[$doc])*
            pub struct $name {
                /// Address of `[m, heads, d_head]`.
                pub q: u64,
                /// Address of `[n, heads / group, d_head]`.
                pub k: u64,
                /// Address of `[n]` u32: where the sequence of each row begins. Not read unless `seq` is 0.
                pub first: u64,
                /// Address of `[n]` u32: where it ends. Not read unless `seq` is 0.
                pub end: u64,
                /// Address of `[n]` u32, 0 where a row is hidden as a key; 0 where none is.
                pub seen: u64,
                /// Address of `[m]` u32, the row of each query, ascending; 0: `row_step` and `row_first` say it.
                pub asking: u64,
                $($(#[$address_doc])* pub $address: u64,)*
                pub scale: f64,
                /// Of the scores; 0 where there is none.
                pub cap: f64,
                /// `1 / cap`, or 0.
                pub uncap: f64,
                /// Queries.
                pub m: u32,
                /// Rows of every sequence, or 0.
                pub seq: u32,
                /// Query `i` is row `i row_step + row_first`; at least 1.
                pub row_step: u32,
                pub row_first: u32,
                /// Heads of queries that read one head of keys; at least 1.
                pub group: u32,
                pub d_head: u32,
                /// Whether a query sees no key behind it.
                pub causal: u32,
                /// Keys that a query sees at most, or 0.
                pub window: u32,
                /// Elements from row to row, as all `_row`.
                pub q_row: u32,
                /// Elements from head to head, as all `_head`.
                pub q_head: u32,
                pub k_row: u32,
                pub k_head: u32,
                $($(#[$number_doc])* pub $number: u32,)*
            }
        }
    };
}

attention_params! {
    /// `attention_forward_sm80`: `z = softmax(scores) v`.
    pub struct ForwardParams {
        addresses: {
            /// Address of `[n, heads / group, d_v]`.
            v,
            /// Address of `[m, heads, d_v]`.
            z,
            /// Address of `[3][heads][m]`, or 0.
            statistics,
        }
        numbers: {
            /// Of queries.
            heads,
            d_v, v_row, v_head, z_row, z_head,
        }
    }
}

attention_params! {
    /// `attention_pattern_sm80`: `p = softmax(scores)`.
    pub struct PatternParams {
        addresses: {
            /// Address of `[3][heads][m]`.
            statistics,
            /// Address of `[m heads, longest]`.
            p,
        }
        numbers: {
            p_row,
            /// Columns of `p`.
            longest,
        }
    }
}

attention_params! {
    /// `attention_tangent_sm80`: the tangents `dz` along `dq`, `dk` and `dv`.
    pub struct TangentParams {
        addresses: {
            /// Address of `[n, heads / group, d_v]`.
            v,
            /// Address of `[probes][m, heads, d_head]`.
            dq,
            /// Address of `[probes][n, heads / group, d_head]`.
            dk,
            /// Address of `[probes][n, heads / group, d_v]`.
            dv,
            /// Address of `[probes][m, heads, d_v]`.
            dz,
        }
        numbers: {
            /// Rows of keys.
            n,
            d_v, v_row, v_head, dq_row, dq_head, dk_row, dk_head, dv_row, dv_head, dz_row, dz_head,
        }
    }
}

attention_params! {
    /// `attention_queries_sm80`: the cotangents `dq` from `dz`, and the statistics of the queries.
    pub struct QueriesParams {
        addresses: {
            /// Address of `[n, heads / group, d_v]`.
            v,
            /// Address of `[probes][m, heads, d_v]`.
            dz,
            /// Address of `[probes][m, heads, d_head]`.
            dq,
            /// Address of `[probes][3][heads][m]`.
            statistics,
        }
        numbers: {
            /// Of queries.
            heads,
            d_v, v_row, v_head, dz_row, dz_head, dq_row, dq_head,
            /// Rows before each of `dq` that become 0.
            blank,
            /// Elements from one of those to the next.
            blank_row,
        }
    }
}

attention_params! {
    /// `attention_keys_sm80`: the cotangents `dk` and `dv` from `dz` and the statistics of the queries.
    pub struct KeysParams {
        addresses: {
            /// Address of `[n, heads / group, d_v]`.
            v,
            /// Address of `[probes][m, heads, d_v]`.
            dz,
            /// Address of `[probes][n, heads / group, d_head]`.
            dk,
            /// Address of `[probes][n, heads / group, d_v]`.
            dv,
            /// Address of `[probes][3][heads][m]`.
            statistics,
        }
        numbers: {
            /// Rows of keys.
            n,
            d_v, v_row, v_head, dz_row, dz_head, dk_row, dk_head, dv_row, dv_head,
        }
    }
}

/// What a CTA keeps in shared memory, in tiles of 32 rows.
#[derive(Clone, Copy)]
struct Shared {
    own: u32,
    tiles: u32,
    weights: u32,
}

const FORWARD_SHARED: Shared = Shared { own: 1, tiles: 2, weights: 1 };
const PATTERN_SHARED: Shared = Shared { own: 1, tiles: 1, weights: 0 };
const DERIVATIVE_SHARED: Shared = Shared { own: 2, tiles: 2, weights: 2 };

/// The widest heads that each configuration serves: what is narrower is filled with zeros.
const WIDTHS: [u32; 4] = [32, 64, 128, 256];
/// Shared memory that no device has more of for a CTA.
const MOST_SHARED: u32 = 232_448;

/// A configuration for heads of at most `width` columns.
fn configuration(dtype: DType, width: u32, shared: Shared, registers: u32, resident: u32) -> Configuration {
    let element_bytes = dtype.bytes() as u32;
    // Elements of a 16-byte word; a row of a tile is an odd number of words.
    let pack = 16 / element_bytes;
    let pitch = width + pack;
    // A lane owns neighbouring columns where whole groups of 32 lanes can.
    let vector = [4, 2, 1].into_iter().find(|v| *v <= pack && width.is_multiple_of(TILE * v)).unwrap_or(1);
    let (vectors, open, close) = match vector {
        4 => (".v4", "{ ", " }"),
        2 => (".v2", "{ ", " }"),
        _ => ("", "", ""),
    };
    // Sums of all own rows must stay in registers.
    let rows = if dtype == DType::F64 || shared.own > 1 && width == 256 { 4 } else { 8 };
    let (own_bytes, tile_bytes) = (TILE * width * element_bytes, TILE * pitch * element_bytes);
    let weight_bytes = TILE * TILE * element_bytes;
    let constants = element(dtype)
        .ints([("WIDTH", width), ("ROWS", rows), ("WARPS", TILE / rows), ("VECTOR", vector), ("PACK", pack), ("PITCH", pitch)])
        .ints([("OWN_BYTES", own_bytes), ("TILE_BYTES", tile_bytes), ("WEIGHT_BYTES", weight_bytes), ("REGISTERS", registers)])
        .word("VECTORS", vectors)
        .word("OPEN", open)
        .word("CLOSE", close)
        .word("RESIDENCY", if resident > 0 { format!(".minnctapersm {resident}") } else { String::new() });
    Configuration {
        name: format!("{}-{width}", dtype.name()),
        constants,
        threads: TILE / rows * 32,
        shared: shared.own * own_bytes + shared.tiles * tile_bytes + shared.weights * weight_bytes + 8 * TILE,
    }
}

/// The configurations of a kernel with the registers of each, in the order of [`WIDTHS`], f32 first, and the
/// CTAs that are to share a multiprocessor: 0 where the assembler finds a good number itself; where it
/// does not, it trades registers for spills.
fn configurations(shared: Shared, registers: [[u32; 4]; 2], resident: [[u32; 4]; 2]) -> Vec<Configuration> {
    let dtypes = [DType::F32, DType::F64].into_iter().zip(registers.into_iter().zip(resident));
    let all = dtypes.flat_map(|(dtype, (registers, resident))| {
        let widths = WIDTHS.into_iter().zip(registers.into_iter().zip(resident));
        widths.map(move |(width, (registers, resident))| configuration(dtype, width, shared, registers, resident))
    });
    all.filter(|c| c.shared <= MOST_SHARED).collect()
}

/// The configuration of `kernel` for heads of `d_head` and `d_v` columns where a CTA has `shared` bytes of
/// shared memory; `None` where there is none.
pub fn choose(kernel: &Kernel, dtype: DType, d_head: usize, d_v: usize, shared: u32) -> Option<Configuration> {
    let width = WIDTHS.into_iter().find(|w| d_head.max(d_v) <= *w as usize)?;
    let name = format!("{}-{width}", dtype.name());
    kernel.all().iter().find(|c| c.name == name && c.shared <= shared).cloned()
}

/// `z = softmax(scores) v`.
pub static FORWARD: Kernel = Kernel {
    name: "attention_forward_sm80",
    operation: "attention",
    language: Language::SM80,
    source: include_str!("../../kernels/attention_forward_sm80.ptx"),
    params: ForwardParams::FIELDS,
    configurations: || configurations(FORWARD_SHARED, [[112, 112, 128, 168], [96, 96, 128, 168]], [[0; 4]; 2]),
};

/// `p = softmax(scores)`.
pub static PATTERN: Kernel = Kernel {
    name: "attention_pattern_sm80",
    operation: "attention",
    language: Language::SM80,
    source: include_str!("../../kernels/attention_pattern_sm80.ptx"),
    params: PatternParams::FIELDS,
    configurations: || configurations(PATTERN_SHARED, [[128; 4]; 2], [[4; 4], [2; 4]]),
};

/// `dz` along `dq`, `dk` and `dv`.
pub static TANGENT: Kernel = Kernel {
    name: "attention_tangent_sm80",
    operation: "attention_tangent",
    language: Language::SM80,
    source: include_str!("../../kernels/attention_tangent_sm80.ptx"),
    params: TangentParams::FIELDS,
    configurations: || configurations(DERIVATIVE_SHARED, [[168, 200, 255, 200], [168, 168, 255, 255]], [[0; 4]; 2]),
};

/// `dq` from `dz`, and what [`KEYS`] has to know of the queries.
pub static QUERIES: Kernel = Kernel {
    name: "attention_queries_sm80",
    operation: "attention_cotangent",
    language: Language::SM80,
    source: include_str!("../../kernels/attention_queries_sm80.ptx"),
    params: QueriesParams::FIELDS,
    configurations: || configurations(DERIVATIVE_SHARED, [[168, 200, 255, 200], [168, 200, 255, 255]], [[0; 4], [0, 1, 0, 0]]),
};

/// `dk` and `dv` from `dz`.
pub static KEYS: Kernel = Kernel {
    name: "attention_keys_sm80",
    operation: "attention_cotangent",
    language: Language::SM80,
    source: include_str!("../../kernels/attention_keys_sm80.ptx"),
    params: KeysParams::FIELDS,
    configurations: || configurations(DERIVATIVE_SHARED, [[128, 168, 200, 200], [128, 168, 200, 255]], [[0, 3, 0, 0], [0; 4]]),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_configuration_that_holds_the_heads_is_chosen() {
        let name = |d_head, d_v, shared| choose(&FORWARD, DType::F32, d_head, d_v, shared).map(|c| c.name);
        assert_eq!(name(32, 8, MOST_SHARED).as_deref(), Some("f32-32"));
        assert_eq!(name(33, 8, MOST_SHARED).as_deref(), Some("f32-64"));
        assert_eq!(name(8, 80, MOST_SHARED).as_deref(), Some("f32-128"));
        assert_eq!(name(257, 8, MOST_SHARED), None);
        assert_eq!(name(32, 32, 1000), None);
        assert!(choose(&KEYS, DType::F64, 256, 256, MOST_SHARED).is_none());
    }

    #[test]
    fn the_warps_own_all_rows_and_the_lanes_all_columns() {
        for kernel in [&FORWARD, &PATTERN, &TANGENT, &QUERIES, &KEYS] {
            for c in (kernel.configurations)() {
                let int = |name| c.constants.get_int(name).unwrap() as u32;
                assert_eq!((int("ROWS") * int("WARPS"), c.threads), (TILE, 32 * int("WARPS")), "{}", c.name);
                assert!(int("WIDTH").is_multiple_of(32 * int("VECTOR")), "{}", c.name);
                assert_eq!(int("PITCH") / int("PACK") % 2, 1, "{}", c.name);
            }
        }
    }
}
