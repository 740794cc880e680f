//! The WGSL kernels of chunks of probes: the rows that belong to one, and what is read out of them. Parameter blocks
//! and configurations; it launches nothing.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::sheet::THREADS;
use super::super::template::Constants;
use super::reduce::{barriers, ways};

params! {
    /// `chunk_f32`: rows of chunk `index`, those of some probes and of some of their rows.
    pub struct ChunkParams {
        /// Rows of y that are bound: those of the probes from `first_probe` on, `n` each.
        pub rows: u32,
        pub cols: u32,
        /// Rows of a probe that are bound, from `first_row` on; at least 1.
        pub n: u32,
        pub first_row: u32,
        pub first_probe: u32,
        /// Rows of a probe in all.
        pub whole_n: u32,
        /// Probes of a chunk.
        pub probes: u32,
        /// Masks, features or rows in all.
        pub count: u32,
        /// One of [`Form`], by its place.
        pub form: u32,
        /// Where the number of the chunk is in its binding.
        pub index_offset: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        /// Of the [`super::super::sheet::Sheet`] over `[rows, cols]`, [`DEEP`] rows an invocation.
        pub log_columns: u32,
        pub column_tiles: u32,
    }
}

params! {
    /// `readout_f32`: `y[i, f] += x[r * n + i, :] . w_t[f, :]` for the features of the masks of one chunk.
    pub struct ReadoutParams {
        pub n: u32,
        pub d: u32,
        pub k: u32,
        /// Probes that are bound, from `first_probe` on, of `probes` of a chunk.
        pub bound: u32,
        pub first_probe: u32,
        pub probes: u32,
        /// Where the number of the chunk is in its binding.
        pub index_offset: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        /// Workgroups of a feature: `n / LINES`, rounded up.
        pub row_tiles: u32,
    }
}

/// What the rows of a chunk are: the head of `shaders/chunk_f32.wgsl` defines them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Mask,
    Features,
    Rows,
    Basis,
}

/// Elements of an invocation of `chunk_f32`.
pub const DEEP: u32 = 4;
/// Rows of a workgroup of `readout_f32`, and invocations that share one.
pub const LINES: u32 = 8;
const LANES: u32 = 32;

/// Of `chunk_f32`.
pub fn configuration() -> Configuration {
    let constants = Constants::default().int("DEEP", DEEP as usize);
    Configuration { name: "sheet".into(), constants, threads: THREADS, shared: 0 }
}

/// Of `readout_f32`: memory for a sum of each invocation.
pub fn readout_configuration() -> Configuration {
    let constants = Constants::default().ints([("LINES", LINES), ("LANES", LANES)]);
    barriers(Configuration { name: "rows".into(), constants, threads: LINES * LANES, shared: 4 * LINES * LANES })
}

pub static CHUNK: Kernel = Kernel {
    name: "chunk_f32",
    operation: "chunk",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/chunk_f32.wgsl"),
    params: ChunkParams::FIELDS,
    configurations: || vec![configuration()],
};

pub static READOUT: Kernel = Kernel {
    name: "readout_f32",
    operation: "readout",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/readout_f32.wgsl"),
    params: ReadoutParams::FIELDS,
    configurations: || ways([readout_configuration()]),
};
