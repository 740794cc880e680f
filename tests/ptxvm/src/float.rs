//! Floating point arithmetic. Round-to-nearest without modifiers has functions over whole warps; everything else is
//! evaluated lane by lane.
//!
//! Approximate functions are computed in f64 and then made as inaccurate as the hardware may be, so that a kernel that
//! counts on more shows it: the last bit of rcp, rsqrt, sqrt, ex2, lg2 and div is cut, tanh keeps 11 bits, sin and cos
//! are rounded to multiples of 2^-21. The hardware's own errors differ in detail.

use std::cmp::Ordering;

use crate::instruction::Slot;
use crate::lanes::{Binary, Comparison, Ternary, Unary, binary, comparison, ternary, unary};
use crate::rounding::{self, Mode};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Function {
    Add,
    Sub,
    Mul,
    Fma,
    Div,
    Reciprocal,
    SquareRoot,
    Min,
    Max,
    MinNan,
    MaxNan,
    Negate,
    Absolute,
    DivApprox,
    ReciprocalApprox,
    SquareRootApprox,
    InverseSquareRootApprox,
    Exp2Approx,
    Log2Approx,
    TanhApprox,
    SinApprox,
    CosApprox,
}

/// A floating point instruction with its modifiers.
#[derive(Clone, Debug)]
pub(crate) struct Evaluate {
    pub function: Function,
    pub double: bool,
    pub mode: Mode,
    pub flush: bool,
    pub saturate: bool,
    pub d: Slot,
    /// As many as the function takes.
    pub sources: Vec<Slot>,
}

/// `min` of PTX: a NaN loses, and -0 is below +0.
fn minimum(a: f64, b: f64) -> f64 {
    match () {
        () if a.is_nan() => b,
        () if b.is_nan() => a,
        () if a == b => {
            if a.is_sign_negative() {
                a
            } else {
                b
            }
        }
        () if a < b => a,
        () => b,
    }
}

fn maximum(a: f64, b: f64) -> f64 {
    match () {
        () if a.is_nan() => b,
        () if b.is_nan() => a,
        () => -minimum(-a, -b),
    }
}

fn nan_or(a: f64, b: f64, otherwise: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { otherwise }
}

/// Rounds to f32 and clears the last bit of a normal number.
fn cut(x: f64) -> f64 {
    let single = x as f32;
    f64::from(if single.is_normal() { f32::from_bits(single.to_bits() & !1) } else { single })
}

/// Keeps the upper half of an f64, as the approximate instructions of double precision do.
fn upper_half(x: f64) -> f64 {
    if x.is_nan() { x } else { f64::from_bits(x.to_bits() & !0xFFFF_FFFF) }
}

/// Rounds to 11 significant bits.
fn eleven_bits(x: f64) -> f64 {
    f64::from(f32::from_bits((rounding::round_f64(x, Mode::Nearest, rounding::TF32) as u32) << 13))
}

fn grid(x: f64) -> f64 {
    const STEPS: f64 = 2_097_152.0; // 2^21
    (x * STEPS).round_ties_even() / STEPS
}

fn flushed(x: f64) -> f64 {
    if x.abs() < f64::from(f32::MIN_POSITIVE) { 0f64.copysign(x) } else { x }
}

impl Evaluate {
    /// One lane: bits in, bits out.
    pub fn apply(&self, arguments: [u64; 3]) -> u64 {
        let [a, b, c] = arguments.map(|bits| {
            let x = if self.double { f64::from_bits(bits) } else { f64::from(f32::from_bits(bits as u32)) };
            if self.flush && !self.double { flushed(x) } else { x }
        });
        let x = self.value(a, b, c);
        let x = match self.saturate {
            true if x.is_nan() => 0.0,
            // Adding zero turns -0 into +0.
            true => x.clamp(0.0, 1.0) + 0.0,
            false => x,
        };
        if self.double {
            return x.to_bits();
        }
        if x.is_nan() {
            return 0x7FFF_FFFF;
        }
        let x = if self.flush { flushed(x) } else { x };
        u64::from((x as f32).to_bits())
    }

    /// The result, already a number of the result's format.
    fn value(&self, a: f64, b: f64, c: f64) -> f64 {
        let format = if self.double { rounding::F64 } else { rounding::F32 };
        let approx = |x: f64| if self.double { upper_half(x) } else { cut(x) };
        // Adding a zero of the result's own sign leaves a product as it is.
        let signed_zero = if a.is_sign_negative() == b.is_sign_negative() { 0.0 } else { -0.0 };
        match self.function {
            Function::Add => rounding::fma(a, 1.0, b, self.mode, format),
            Function::Sub => rounding::fma(a, 1.0, -b, self.mode, format),
            Function::Mul => rounding::fma(a, b, signed_zero, self.mode, format),
            Function::Fma => rounding::fma(a, b, c, self.mode, format),
            Function::Div => rounding::divide(a, b, self.mode, format),
            Function::Reciprocal => rounding::divide(1.0, a, self.mode, format),
            Function::SquareRoot => rounding::square_root(a, self.mode, format),
            Function::Min => minimum(a, b),
            Function::Max => maximum(a, b),
            Function::MinNan => nan_or(a, b, minimum(a, b)),
            Function::MaxNan => nan_or(a, b, maximum(a, b)),
            Function::Negate => -a,
            Function::Absolute => a.abs(),
            Function::DivApprox => approx(a / b),
            Function::ReciprocalApprox => approx(1.0 / a),
            Function::SquareRootApprox => approx(a.sqrt()),
            // rsqrt of -0 is -infinity.
            Function::InverseSquareRootApprox => approx(1.0 / a.sqrt()),
            Function::Exp2Approx => approx(a.exp2()),
            Function::Log2Approx => approx(a.log2()),
            Function::TanhApprox => eleven_bits_or_nan(a.tanh()),
            Function::SinApprox => grid(a.sin()),
            Function::CosApprox => grid(a.cos()),
        }
    }
}

fn eleven_bits_or_nan(x: f64) -> f64 {
    if x.is_nan() { x } else { eleven_bits(x) }
}

fn min32(a: f32, b: f32) -> f32 {
    minimum(a.into(), b.into()) as f32
}

fn max32(a: f32, b: f32) -> f32 {
    maximum(a.into(), b.into()) as f32
}

/// The function over a warp of two arguments, for round-to-nearest without modifiers.
pub(crate) fn fast_binary(function: Function, double: bool) -> Option<Binary> {
    Some(match (function, double) {
        (Function::Add, false) => binary!(f32, |a, b| a + b),
        (Function::Sub, false) => binary!(f32, |a, b| a - b),
        (Function::Mul, false) => binary!(f32, |a, b| a * b),
        (Function::Div, false) => binary!(f32, |a, b| a / b),
        (Function::Min, false) => binary!(f32, |a, b| min32(a, b)),
        (Function::Max, false) => binary!(f32, |a, b| max32(a, b)),
        (Function::Add, true) => binary!(f64, |a, b| a + b),
        (Function::Sub, true) => binary!(f64, |a, b| a - b),
        (Function::Mul, true) => binary!(f64, |a, b| a * b),
        (Function::Div, true) => binary!(f64, |a, b| a / b),
        (Function::Min, true) => binary!(f64, |a, b| minimum(a, b)),
        (Function::Max, true) => binary!(f64, |a, b| maximum(a, b)),
        _ => return None,
    })
}

/// As [`fast_binary`], of one argument.
pub(crate) fn fast_unary(function: Function, double: bool) -> Option<Unary> {
    Some(match (function, double) {
        (Function::Negate, false) => unary!(f32, |a| -a),
        (Function::Absolute, false) => unary!(f32, |a| a.abs()),
        (Function::SquareRoot, false) => unary!(f32, |a| a.sqrt()),
        (Function::Reciprocal, false) => unary!(f32, |a| 1.0 / a),
        (Function::Negate, true) => unary!(f64, |a| -a),
        (Function::Absolute, true) => unary!(f64, |a| a.abs()),
        (Function::SquareRoot, true) => unary!(f64, |a| a.sqrt()),
        (Function::Reciprocal, true) => unary!(f64, |a| 1.0 / a),
        _ => return None,
    })
}

/// The fused multiply-add over a warp, for round-to-nearest without modifiers.
pub(crate) fn fast_fma(double: bool) -> Ternary {
    if double { ternary!(f64, |a, b, c| a.mul_add(b, c)) } else { ternary!(f32, |a, b, c| a.mul_add(b, c)) }
}

/// `copysign d, a, b`: the magnitude of b with the sign of a.
pub(crate) fn copysign(double: bool) -> Binary {
    if double { binary!(f64, |a, b| b.copysign(a)) } else { binary!(u32, |a, b| b & 0x7FFF_FFFF | a & 0x8000_0000) }
}

/// `testp`: a property of one number, written as a comparison of it with itself. Zeros count as normal.
pub(crate) fn property(name: &str, double: bool) -> Option<Comparison> {
    Some(match (name, double) {
        ("finite", false) => comparison!(f32, |a, _b| a.is_finite()),
        ("infinite", false) => comparison!(f32, |a, _b| a.is_infinite()),
        ("number", false) => comparison!(f32, |a, _b| !a.is_nan()),
        ("notanumber", false) => comparison!(f32, |a, _b| a.is_nan()),
        ("normal", false) => comparison!(f32, |a, _b| a.is_normal() || a == 0.0),
        ("subnormal", false) => comparison!(f32, |a, _b| a.is_subnormal()),
        ("finite", true) => comparison!(f64, |a, _b| a.is_finite()),
        ("infinite", true) => comparison!(f64, |a, _b| a.is_infinite()),
        ("number", true) => comparison!(f64, |a, _b| !a.is_nan()),
        ("notanumber", true) => comparison!(f64, |a, _b| a.is_nan()),
        ("normal", true) => comparison!(f64, |a, _b| a.is_normal() || a == 0.0),
        ("subnormal", true) => comparison!(f64, |a, _b| a.is_subnormal()),
        _ => return None,
    })
}

macro_rules! float_comparison {
    ($t:ty, $name:expr) => {
        Some(match $name {
            "eq" => comparison!($t, |a, b| a == b),
            "ne" => comparison!($t, |a, b| a.partial_cmp(&b).is_some_and(Ordering::is_ne)),
            "lt" => comparison!($t, |a, b| a < b),
            "le" => comparison!($t, |a, b| a <= b),
            "gt" => comparison!($t, |a, b| a > b),
            "ge" => comparison!($t, |a, b| a >= b),
            "equ" => comparison!($t, |a, b| a.partial_cmp(&b).is_none_or(Ordering::is_eq)),
            "neu" => comparison!($t, |a, b| a != b),
            "ltu" => comparison!($t, |a, b| !(a >= b)),
            "leu" => comparison!($t, |a, b| !(a > b)),
            "gtu" => comparison!($t, |a, b| !(a <= b)),
            "geu" => comparison!($t, |a, b| !(a < b)),
            "num" => comparison!($t, |a, b| !a.is_nan() && !b.is_nan()),
            "nan" => comparison!($t, |a, b| a.is_nan() || b.is_nan()),
            _ => return None,
        })
    };
}

/// A comparison of `setp` by its name.
#[allow(clippy::neg_cmp_op_on_partial_ord)] // The unordered comparisons are the negated ordered ones.
pub(crate) fn compare(name: &str, double: bool) -> Option<Comparison> {
    if double { float_comparison!(f64, name) } else { float_comparison!(f32, name) }
}
