//! The constants of kernel texts that follow from the type of the elements.

use super::template::Constants;
use crate::device::DType;

/// The words and integers that a text needs to be written once for both types.
///
/// | name | f32 | f64 |
/// |---|---|---|
/// | `TYPE`, `BITS` | `f32`, `b32` | `f64`, `b64` |
/// | `ZERO`, `ONE`, `HALF`, `MINUS_ONE`, `MINUS_INFINITY` | `0f..` | `0d..` |
/// | `WIDEN` moves an element to an f64 | `cvt.f64.f32` | `mov.f64` |
/// | `NARROW` rounds an f64 to an element | `cvt.rn.f32.f64` | `mov.f64` |
/// | `SUFFIX` of the fragments of mathematics | nothing | `_f64` |
/// | `ELEMENT`, `LOG_ELEMENT` | 4, 2 | 8, 3 |
pub fn element(dtype: DType) -> Constants {
    let words = match dtype {
        DType::F32 => [
            ("TYPE", "f32"),
            ("BITS", "b32"),
            ("ZERO", "0f00000000"),
            ("ONE", "0f3F800000"),
            ("HALF", "0f3F000000"),
            ("MINUS_ONE", "0fBF800000"),
            ("MINUS_INFINITY", "0fFF800000"),
            ("WIDEN", "cvt.f64.f32"),
            ("NARROW", "cvt.rn.f32.f64"),
            ("SUFFIX", ""),
        ],
        DType::F64 => [
            ("TYPE", "f64"),
            ("BITS", "b64"),
            ("ZERO", "0d0000000000000000"),
            ("ONE", "0d3FF0000000000000"),
            ("HALF", "0d3FE0000000000000"),
            ("MINUS_ONE", "0dBFF0000000000000"),
            ("MINUS_INFINITY", "0dFFF0000000000000"),
            ("WIDEN", "mov.f64"),
            ("NARROW", "mov.f64"),
            ("SUFFIX", "_f64"),
        ],
    };
    let constants = words.into_iter().fold(Constants::default(), |all, (name, word)| all.word(name, word));
    constants.int("ELEMENT", dtype.bytes()).int("LOG_ELEMENT", dtype.bytes().ilog2() as usize)
}
