//! The WGSL kernels of `ops::probes`: parameter block and configurations. They launch nothing.

use super::super::params::{Params, params};
use super::super::probes::KINDS;
use super::super::registry::{Configuration, Kernel, Language};
use super::super::sheet;
use super::super::template::Constants;

params! {
    /// `probe_rows_f32` and `probe_sums_f32`: rows of chunk `index` of the probes, those of some probes and of some of
    /// their rows.
    pub struct ProbeParams {
        /// The first step of SplitMix64, from the seed.
        pub seed_low: u32,
        pub seed_high: u32,
        /// Rows of y that are bound: those of the probes from `first_probe` on, `n` each.
        pub rows: u32,
        pub cols: u32,
        /// Rows of a probe that are bound, from `first_row` on; at least 1.
        pub n: u32,
        pub first_row: u32,
        pub first_probe: u32,
        /// Probes of a chunk.
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
        /// 0 where C' is the identity, and not bound.
        pub has_table: u32,
        /// Where the number of the chunk is in its binding, and that of the block's first sample in its.
        pub index_offset: u32,
        pub first_offset: u32,
        /// Elements, as the stride.
        pub y_offset: u32,
        pub y_stride: u32,
        /// Of `probe_rows_f32`: the [`sheet::Sheet`] over `[rows, cols]`, [`DEEP`] rows an invocation.
        pub log_columns: u32,
        /// Workgroups along a row.
        pub column_tiles: u32,
    }
}

/// Rows of an invocation of `probe_rows_f32`.
pub const DEEP: u32 = 4;
/// Rows of a workgroup of `probe_sums_f32`.
pub const ROWS: u32 = 16;
/// Its columns, one an invocation.
pub const COLUMNS: u32 = 128;

fn kinds() -> Constants {
    KINDS.iter().enumerate().fold(Constants::default(), |all, (number, name)| all.int(*name, number))
}

/// Of `probe_rows_f32`.
pub fn rows_configuration() -> Configuration {
    let constants = kinds().int("DEEP", DEEP as usize);
    Configuration { name: "sheet".into(), constants, threads: sheet::THREADS, shared: 0 }
}

/// Of `probe_sums_f32`: memory for the keys of the rows, whether each has signs, and the signs of as many features at a
/// time as the invocations find four of each.
pub fn sums_configuration() -> Configuration {
    let features = 4 * COLUMNS / ROWS;
    let constants = kinds().ints([("ROWS", ROWS), ("FEATURES", features)]);
    Configuration { name: "tile".into(), constants, threads: COLUMNS, shared: ROWS * (8 + 4) + 4 * ROWS * features }
}

pub static PROBE_ROWS: Kernel = Kernel {
    name: "probe_rows_f32",
    operation: "probes",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/probe_rows_f32.wgsl"),
    params: ProbeParams::FIELDS,
    configurations: || vec![rows_configuration()],
};

pub static PROBE_SUMS: Kernel = Kernel {
    name: "probe_sums_f32",
    operation: "probes",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/probe_sums_f32.wgsl"),
    params: ProbeParams::FIELDS,
    configurations: || vec![sums_configuration()],
};
