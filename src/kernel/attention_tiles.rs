//! The PTX kernels of closed forms of attention, beside the products of matrices that those are made of:
//! parameter blocks and configurations. It launches nothing.
//!
//! They work on tiles of queries: some whole sequences, or some queries of one; query `i` of a sequence is
//! its key `start + i`.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use crate::device::DType;

params! {
    /// `attention_centre_sm80`: `y = x` less the mean over the keys of each sequence.
    pub struct CentreParams {
        /// Address of `[sequences][keys, cols]`.
        pub x: u64,
        /// Address of `[sequences keys, cols]`, contiguous.
        pub y: u64,
        /// Elements from sequence to sequence of `x`.
        pub sequence_stride: u64,
        /// Elements from row to row of `x`.
        pub stride: u64,
        pub keys: u32,
        pub cols: u32,
    }
}

params! {
    /// `attention_omega_sm80`: averaged patterns and value deviations.
    pub struct OmegaParams {
        /// Address of `[queries, heads d]`.
        pub q: u64,
        /// Address of `[sequences keys, heads d]`, contiguous and centred.
        pub k: u64,
        /// Address of `[sequences keys, heads d_v]`, contiguous and centred.
        pub v: u64,
        /// Address of `[nodes][3]` f64: `alpha^2`, `w`, `w alpha^2`.
        pub nodes: u64,
        /// Address of `[heads][queries][keys]`.
        pub scores: u64,
        /// Address of `[heads][queries][keys]`.
        pub p: u64,
        /// Address of `[heads][queries][keys][d_v]`.
        pub omega: u64,
        /// Address of `[heads][queries]`.
        pub diagonal: u64,
        /// Address of `[heads][queries][d_v]`.
        pub own: u64,
        pub scale: f64,
        /// Of all sequences.
        pub queries: u32,
        /// Queries of one sequence.
        pub each: u32,
        /// Keys of one sequence.
        pub keys: u32,
        pub start: u32,
        /// At least 1.
        pub node_count: u32,
        pub d: u32,
        pub d_v: u32,
        /// Elements.
        pub q_row: u32,
    }
}

params! {
    /// `attention_contract_sm80`: `out[f, h, i] = (a[f, h, i] . b[h, i]) q[i, h]`.
    pub struct ContractParams {
        /// Address of `[first][heads][queries][length]`.
        pub a: u64,
        /// Address of `[heads][queries][length]`.
        pub b: u64,
        /// Address of `[queries, heads d]`.
        pub q: u64,
        /// Address of `[first][heads][queries][d]`.
        pub out: u64,
        pub queries: u32,
        pub length: u32,
        pub d: u32,
        /// Elements.
        pub q_row: u32,
    }
}

params! {
    /// `attention_directions_sm80`: `c[h, t, s, j] = on_k[h, t, j] f[s, j] + f[t, j] on_q[h, s, j]`.
    pub struct DirectionsParams {
        /// Address of `[sequences][keys, cols]`.
        pub f: u64,
        /// Address of `[heads][queries, cols]`.
        pub on_k: u64,
        /// Address of `[heads][sequences keys, cols]`.
        pub on_q: u64,
        /// Address of `[heads][queries][keys, cols]`.
        pub c: u64,
        /// Elements from sequence to sequence of `f`.
        pub sequence_stride: u64,
        /// Queries of one sequence.
        pub each: u32,
        /// Keys of one sequence.
        pub keys: u32,
        pub start: u32,
        /// Keys of all sequences.
        pub key_rows: u32,
        pub cols: u32,
        /// Elements from row to row of `f`.
        pub stride: u32,
    }
}

params! {
    /// `attention_values_sm80`: `psi[t, j, h, e] += a[h, t, j] v[j, h, e]`, set where `e` is not below `narrow`.
    pub struct ValuesParams {
        /// Address of `[heads][queries, rows]`.
        pub a: u64,
        /// Address of `[rows, width]`.
        pub v: u64,
        /// Address of `[queries][rows, width]`.
        pub psi: u64,
        /// `heads wide`.
        pub width: u32,
        /// Columns of a head.
        pub wide: u32,
        pub narrow: u32,
        pub queries: u32,
    }
}

params! {
    /// `attention_squares_sm80`: `out[c, r] += sum_t (j[t, r, c] + f[t, r] b[r, c])^2`.
    pub struct SquaresParams {
        /// Address of `[queries][rows, cols]`.
        pub j: u64,
        /// Address of `[queries, rows]`.
        pub f: u64,
        /// Address of `[rows, cols]`.
        pub b: u64,
        /// Address of `[cols, rows]`.
        pub out: u64,
        /// Elements.
        pub out_row: u64,
        pub queries: u32,
        pub rows: u32,
        pub cols: u32,
        /// Elements.
        pub f_row: u32,
    }
}

/// Threads of a CTA of all these kernels.
pub const THREADS: u32 = 128;
/// Warps of a CTA.
pub const WARPS: u32 = THREADS / 32;
/// Groups of 32 columns that a warp of `attention_omega_sm80` holds at a time.
const COLUMNS: u32 = 4;

/// The configuration of all these kernels for a dtype.
pub fn configuration(dtype: DType) -> Configuration {
    let constants = element(dtype).ints([("WARPS", WARPS), ("COLUMNS", COLUMNS), ("REGISTERS", 64)]);
    Configuration { name: dtype.name().into(), constants, threads: THREADS, shared: 0 }
}

fn configurations() -> Vec<Configuration> {
    [DType::F32, DType::F64].map(configuration).into()
}

macro_rules! kernels {
    ($($(#[$doc:meta])* $name:ident = $file:literal, $params:ty;)*) => {
        $($(#[$doc])*
        pub static $name: Kernel = Kernel {
            name: $file,
            operation: "attention_closed",
            language: Language::SM80,
            source: include_str!(concat!("../../kernels/", $file, ".ptx")),
            params: <$params>::FIELDS,
            configurations,
        };)*
    };
}

kernels! {
    /// Rows less the mean of their sequence.
    CENTRE = "attention_centre_sm80", CentreParams;
    /// Patterns and value deviations.
    OMEGA = "attention_omega_sm80", OmegaParams;
    /// Rows of q weighted with products of deviations.
    CONTRACT = "attention_contract_sm80", ContractParams;
    /// Changes of the scores along directions.
    DIRECTIONS = "attention_directions_sm80", DirectionsParams;
    /// Changes of the values along directions.
    VALUES = "attention_values_sm80", ValuesParams;
    /// Sums of squared Jacobians.
    SQUARES = "attention_squares_sm80", SquaresParams;
}
