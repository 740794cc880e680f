//! The PTX kernels of chunks of probes: the rows that belong to one, and what is read out of them. Parameter blocks
//! and configurations; it launches nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::sheet::THREADS;
use crate::device::DType;

params! {
    /// `chunk_sm80`: the rows `[probes * n, cols]` of chunk `index`.
    pub struct ChunkParams {
        /// Address of the rows that are chosen from, row stride `x_stride`; not read by [`Form::Basis`].
        pub x: u64,
        /// Address of `[count, cols]`, contiguous; read by [`Form::Mask`] and [`Form::Features`].
        pub table: u64,
        /// Address of `[1]` u32.
        pub index: u64,
        /// Address of `[rows, cols]`, row stride `y_stride`.
        pub y: u64,
        /// `probes * n`.
        pub rows: u32,
        pub cols: u32,
        /// At least 1.
        pub n: u32,
        pub probes: u32,
        /// Masks, features or rows in all.
        pub count: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub y_stride: u32,
        /// Of the [`super::sheet::Sheet`] over `[rows, cols]`, [`DEEP`] rows a thread.
        pub log_columns: u32,
    }
}

params! {
    /// `readout_sm80`: `y[i, f] += x[r * n + i, :] . w_t[f, :]` for the features of the masks of one chunk.
    pub struct ReadoutParams {
        /// Address of `[probes * n, d]`, row stride `x_stride`.
        pub x: u64,
        /// Address of `[k, d]`, contiguous.
        pub w_t: u64,
        /// Address of `[k]` u32: the mask of each feature.
        pub owners: u64,
        /// Address of `[1]` u32.
        pub index: u64,
        /// Address of `[n, k]`, row stride `y_stride`.
        pub y: u64,
        pub n: u32,
        pub d: u32,
        pub k: u32,
        pub probes: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub y_stride: u32,
    }
}

/// What the rows of a chunk are: the head of `kernels/chunk_sm80.ptx` defines them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Mask,
    Features,
    Rows,
    Basis,
}

impl Form {
    const ALL: [Form; 4] = [Form::Mask, Form::Features, Form::Rows, Form::Basis];

    fn name(self) -> &'static str {
        match self {
            Form::Mask => "mask",
            Form::Features => "features",
            Form::Rows => "rows",
            Form::Basis => "basis",
        }
    }
}

/// Elements that a thread of [`CHUNK`], rows that a warp of [`READOUT`] has in flight.
pub const DEEP: u32 = 4;
/// Warps of a CTA.
const WARPS: u32 = THREADS / 32;

/// The configuration of [`CHUNK`] for a dtype.
pub fn chunk(dtype: DType, form: Form) -> Configuration {
    let constants = element(dtype).ints([("DEEP", DEEP), ("REGISTERS", 64)]).word("FORM", form.name());
    Configuration { name: format!("{}-{}", dtype.name(), form.name()), constants, threads: THREADS, shared: 0 }
}

/// The configuration of [`READOUT`] for a dtype.
pub fn readout(dtype: DType) -> Configuration {
    let constants = element(dtype).ints([("DEEP", DEEP), ("WARPS", WARPS), ("REGISTERS", 64)]);
    Configuration { name: dtype.name().into(), constants, threads: THREADS, shared: 0 }
}

/// CTAs of [`READOUT`] for `y` `[n, k]`.
pub fn readout_grid(n: u32, k: u32) -> [u32; 3] {
    [k * n.div_ceil(WARPS * DEEP), 1, 1]
}

pub static CHUNK: Kernel = Kernel {
    name: "chunk_sm80",
    operation: "chunk",
    language: Language::SM80,
    source: include_str!("../../kernels/chunk_sm80.ptx"),
    params: ChunkParams::FIELDS,
    configurations: || {
        let forms = |dtype| Form::ALL.map(|form| chunk(dtype, form));
        [DType::F32, DType::F64].into_iter().flat_map(forms).collect()
    },
};

pub static READOUT: Kernel = Kernel {
    name: "readout_sm80",
    operation: "readout",
    language: Language::SM80,
    source: include_str!("../../kernels/readout_sm80.ptx"),
    params: ReadoutParams::FIELDS,
    configurations: || vec![readout(DType::F32), readout(DType::F64)],
};
