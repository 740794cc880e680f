//! The words of a kernel's text that depend on the type of its numbers.

use super::template::Constants;
use crate::device::DType;

/// The constants of a text over numbers of `dtype`:
///
/// | | |
/// |---|---|
/// | `TYPE`, `BITS` | `f32` and `b32`, or `f64` and `b64` |
/// | `ELEMENT`, `LOG_ELEMENT` | bytes of a number, and their binary logarithm |
/// | `ZERO`, `ONE`, `HALF`, `MINUS_ONE`, `MINUS_INFINITY` | literals |
/// | `WIDEN`, `NARROW` | the instructions from a number to an f64 and back |
/// | `SUFFIX` | what the names of fragments end with: nothing, or `_f64` |
pub fn element(dtype: DType) -> Constants {
    let words: &[(&str, &str)] = match dtype {
        DType::F32 => &[
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
        DType::F64 => &[
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
    let sizes = Constants::default().int("ELEMENT", dtype.bytes()).int("LOG_ELEMENT", dtype.bytes().ilog2() as usize);
    words.iter().fold(sizes.word("TYPE", dtype.name()), |all, (name, word)| all.word(*name, *word))
}
