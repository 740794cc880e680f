//! The PTX kernel of copies, fills and scaled rows: parameter block and configurations. It launches nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::sheet::THREADS;
use crate::device::DType;

params! {
    /// `affine_sm80`: `y = scale x w + b`, or `y +=` it.
    pub struct AffineParams {
        /// Address of `[rows, cols]`, row stride `x_stride`; 0 for ones.
        pub x: u64,
        /// Address of `[cols]`; 0 for ones.
        pub w: u64,
        /// Address of `[cols]`; 0 for zeros.
        pub b: u64,
        /// Address of `[rows, cols]`, row stride `y_stride`.
        pub y: u64,
        pub scale: f64,
        pub rows: u32,
        pub cols: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub y_stride: u32,
        /// Of the [`super::sheet::Sheet`] over `[rows, cols]`, [`DEEP`] rows a thread.
        pub log_columns: u32,
        /// 0 overwrites `y`, 1 adds to it.
        pub accumulate: u32,
    }
}

/// Elements that a thread has in flight.
pub const DEEP: u32 = 4;

/// The configuration for a dtype.
pub fn configuration(dtype: DType) -> Configuration {
    let constants = element(dtype).ints([("DEEP", DEEP), ("REGISTERS", 48)]);
    Configuration { name: dtype.name().into(), constants, threads: THREADS, shared: 0 }
}

pub static AFFINE: Kernel = Kernel {
    name: "affine_sm80",
    operation: "copy",
    language: Language::SM80,
    source: include_str!("../../kernels/affine_sm80.ptx"),
    params: AffineParams::FIELDS,
    configurations: || vec![configuration(DType::F32), configuration(DType::F64)],
};
