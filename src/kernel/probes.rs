//! The PTX kernels of `ops::probes`: parameter block and configurations. They launch nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::sheet;
use super::template::Constants;
use crate::device::DType;

params! {
    /// `probe_rows_sm80`: the rows `[probes * n, cols]` of chunk `index` of the probes, with one feature each or with the
    /// signs themselves.
    pub struct RowParams {
        /// The first step of SplitMix64, from the seed.
        pub seed: u64,
        /// Address of C' `[features, cols]`, contiguous.
        pub c_t: u64,
        /// Address of `[1]` u32: number of the chunk.
        pub index: u64,
        /// Address of `[1]` u32: number of the block's first sample.
        pub first: u64,
        /// Address of `[rows, cols]`, row stride `y_stride`.
        pub y: u64,
        /// `probes * n`.
        pub rows: u32,
        pub cols: u32,
        /// At least 1.
        pub n: u32,
        pub probes: u32,
        /// Of each sample, at least 1.
        pub positions: u32,
        /// At least 1.
        pub features: u32,
        /// At least 1; of kinds with signs over features.
        pub sources: u32,
        /// Probes in all.
        pub count: u32,
        /// One of [`KINDS`], by its place.
        pub kind: u32,
        /// Whether C' is the identity, and `c_t` no address; it is for signs over features.
        pub identity: u32,
        /// Elements.
        pub y_stride: u32,
        /// Of the [`sheet::Sheet`] over `[rows, cols]`, [`DEEP`] rows a thread.
        pub log_columns: u32,
    }
}

params! {
    /// `probe_sums_sm80`: the same for signs over features with `C'`: `y = S C'`.
    pub struct SumParams {
        /// As in [`RowParams`], as all that follow.
        pub seed: u64,
        pub c_t: u64,
        pub index: u64,
        pub first: u64,
        pub y: u64,
        pub rows: u32,
        pub cols: u32,
        pub n: u32,
        pub probes: u32,
        pub positions: u32,
        pub features: u32,
        pub sources: u32,
        pub count: u32,
        pub kind: u32,
        pub y_stride: u32,
    }
}

/// The kinds of probes as the kernels number them; from `FEATURE_SIGNS` on there are signs over features.
pub const KINDS: [&str; 6] = ["FEATURE", "FEATURE_AT", "POSITION_SIGNS", "FEATURE_SIGNS", "FEATURE_SIGNS_ALL", "SIGNS"];

/// Rows of a thread of [`ROWS`].
pub const DEEP: u32 = 4;
/// Rows of a CTA of [`SUMS`], one a lane, and features between two barriers.
const TILE: u32 = 32;
/// Threads of a CTA of [`SUMS`], one a column.
const SUM_THREADS: u32 = 128;

/// What both texts know of the kinds.
fn kinds(dtype: DType) -> Constants {
    KINDS.iter().enumerate().fold(element(dtype), |all, (number, name)| all.int(*name, number))
}

/// The configuration of [`ROWS`] for a dtype.
pub fn rows(dtype: DType) -> Configuration {
    let constants = kinds(dtype).ints([("DEEP", DEEP), ("REGISTERS", 64)]);
    Configuration { name: dtype.name().into(), constants, threads: sheet::THREADS, shared: 0 }
}

/// The configuration of [`SUMS`] for a dtype.
pub fn sums(dtype: DType) -> Configuration {
    let per = 16 / dtype.bytes() as u32;
    let constants = kinds(dtype).ints([("ROWS", TILE), ("WARPS", SUM_THREADS / 32), ("PER", per)]);
    // CTAs that a multiprocessor is to hold: as many as the sums of a thread leave registers for.
    let (resident, registers) = if dtype == DType::F32 { (6, 80) } else { (3, 168) };
    let constants = constants.ints([("RESIDENT", resident), ("REGISTERS", registers)]);
    let shared = TILE * TILE * dtype.bytes() as u32;
    let constants = constants.word("VECTOR", format!("v{per}"));
    Configuration { name: dtype.name().into(), constants, threads: SUM_THREADS, shared }
}

/// CTAs of [`SUMS`] for `y` `[rows, cols]`.
pub fn sums_grid(rows: u32, cols: u32) -> [u32; 3] {
    [rows.div_ceil(TILE), cols.div_ceil(SUM_THREADS), 1]
}

pub static ROWS: Kernel = Kernel {
    name: "probe_rows_sm80",
    operation: "probes",
    language: Language::SM80,
    source: include_str!("../../kernels/probe_rows_sm80.ptx"),
    params: RowParams::FIELDS,
    configurations: || vec![rows(DType::F32), rows(DType::F64)],
};

pub static SUMS: Kernel = Kernel {
    name: "probe_sums_sm80",
    operation: "probes",
    language: Language::SM80,
    source: include_str!("../../kernels/probe_sums_sm80.ptx"),
    params: SumParams::FIELDS,
    configurations: || vec![sums(DType::F32), sums(DType::F64)],
};
