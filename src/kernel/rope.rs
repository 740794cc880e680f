//! The PTX kernel of `ops::rope`: parameter block and configurations. It launches nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::sheet::THREADS;
use crate::device::DType;

params! {
    /// `rope_sm80`: pairs of columns of each head, rotated by the angle of the row's position.
    pub struct RopeParams {
        /// Address of the first head of `[rows]`, row stride `x_stride`.
        pub x: u64,
        /// Address of the first head of `[rows]`, row stride `y_stride`; may be that of `x`.
        pub y: u64,
        /// Address of `[positions, half]`, contiguous.
        pub cos: u64,
        /// Address of `[positions, half]`, contiguous.
        pub sin: u64,
        /// Address of `[n]` u32.
        pub positions: u64,
        /// 1 rotates, -1 rotates back.
        pub sign: f64,
        pub rows: u32,
        /// At least 1: row i has the position of number `i % n`.
        pub n: u32,
        pub heads: u32,
        pub d_head: u32,
        /// Pairs of a head: at most `d_head / 2`.
        pub half: u32,
        /// Columns from one head to the next.
        pub x_pitch: u32,
        pub y_pitch: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub y_stride: u32,
        /// Of the [`super::sheet::Sheet`] over `[rows, heads * (d_head - half)]`, [`DEEP`] rows a thread.
        pub log_columns: u32,
    }
}

/// Rows that a thread has in flight.
pub const DEEP: u32 = 4;

/// The configuration for a dtype.
pub fn configuration(dtype: DType) -> Configuration {
    let constants = element(dtype).ints([("DEEP", DEEP), ("REGISTERS", 64)]);
    Configuration { name: dtype.name().into(), constants, threads: THREADS, shared: 0 }
}

pub static ROPE: Kernel = Kernel {
    name: "rope_sm80",
    operation: "rope",
    language: Language::SM80,
    source: include_str!("../../kernels/rope_sm80.ptx"),
    params: RopeParams::FIELDS,
    configurations: || vec![configuration(DType::F32), configuration(DType::F64)],
};
