//! Exact values and their rounding to a binary floating point format in any direction. Slow and plain: round-to-nearest
//! of f32 and f64 goes through the processor's own instructions elsewhere.

/// A rounding direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// `.rn`: to nearest, ties to even.
    Nearest,
    /// `.rna`: to nearest, ties away from zero.
    NearestAway,
    /// `.rz`
    Zero,
    /// `.rm`
    Down,
    /// `.rp`
    Up,
}

/// A binary format with subnormals and infinities.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Format {
    /// Bits of the significand, the hidden one included.
    pub precision: i32,
    /// Exponent of the smallest normal number.
    pub min: i32,
    /// Exponent of the largest number.
    pub max: i32,
}

pub(crate) const F64: Format = Format { precision: 53, min: -1022, max: 1023 };
pub(crate) const F32: Format = Format { precision: 24, min: -126, max: 127 };
pub(crate) const F16: Format = Format { precision: 11, min: -14, max: 15 };
pub(crate) const BF16: Format = Format { precision: 8, min: -126, max: 127 };
/// The upper 19 bits of an f32.
pub(crate) const TF32: Format = Format { precision: 11, min: -126, max: 127 };

impl Format {
    fn infinity(self) -> u64 {
        ((2 * self.max + 1) as u64) << (self.precision - 1)
    }

    fn sign(self, negative: bool) -> u64 {
        let exponent_bits = (2 * self.max + 1).count_ones() as i32;
        u64::from(negative) << (self.precision - 1 + exponent_bits)
    }
}

/// An exact nonzero magnitude `mantissa * 2^exponent`, plus something below the last place where `sticky`.
#[derive(Clone, Copy, Debug)]
struct Exact {
    negative: bool,
    mantissa: u128,
    exponent: i32,
    sticky: bool,
}

impl Exact {
    /// A finite f64.
    fn new(x: f64) -> Self {
        let bits = x.to_bits();
        let field = (bits >> 52 & 0x7FF) as i32;
        let fraction = bits & ((1 << 52) - 1);
        let mantissa = if field == 0 { fraction } else { fraction | 1 << 52 };
        Self { negative: x.is_sign_negative(), mantissa: mantissa.into(), exponent: field.max(1) - 1075, sticky: false }
    }

    /// The same value with the highest bit of the mantissa at `top`.
    fn with_top(self, top: u32) -> Self {
        let shift = top as i32 - (127 - self.mantissa.leading_zeros() as i32);
        Self { mantissa: self.mantissa << shift, exponent: self.exponent - shift, ..self }
    }
}

/// The bits of the number of `format` that the exact value rounds to.
fn round(x: Exact, mode: Mode, format: Format) -> u64 {
    let sign = format.sign(x.negative);
    if x.mantissa == 0 && !x.sticky {
        return sign;
    }
    let top = 127 - x.mantissa.leading_zeros() as i32;
    let last = (top + x.exponent).max(format.min) - (format.precision - 1);
    let shift = last - x.exponent;
    let (mut kept, above_half, half, rest) = if shift <= 0 {
        // Callers give a mantissa longer than the format wherever there is a sticky part.
        (x.mantissa << -shift, false, false, x.sticky)
    } else if shift > 127 {
        (0, false, false, true)
    } else {
        let lost = x.mantissa & ((1 << shift) - 1);
        let middle = 1 << (shift - 1);
        (x.mantissa >> shift, lost > middle || lost == middle && x.sticky, lost == middle && !x.sticky, lost != 0 || x.sticky)
    };
    let up = match mode {
        Mode::Nearest => above_half || half && kept & 1 == 1,
        Mode::NearestAway => above_half || half,
        Mode::Zero => false,
        Mode::Down => rest && x.negative,
        Mode::Up => rest && !x.negative,
    };
    kept += u128::from(up);
    let mut last = last;
    if kept >> format.precision != 0 {
        kept >>= 1;
        last += 1;
    }
    let exponent = last + format.precision - 1;
    if exponent > format.max && kept != 0 {
        let to_infinity = match mode {
            Mode::Nearest | Mode::NearestAway => true,
            Mode::Zero => false,
            Mode::Down => x.negative,
            Mode::Up => !x.negative,
        };
        return sign | (format.infinity() - u64::from(!to_infinity));
    }
    let hidden = 1u128 << (format.precision - 1);
    match kept & hidden {
        0 => sign | kept as u64,
        _ => sign | ((exponent - format.min + 1) as u64) << (format.precision - 1) | (kept ^ hidden) as u64,
    }
}

/// The bits of `x` rounded to `format`; infinities stay, NaN is for the caller.
pub(crate) fn round_f64(x: f64, mode: Mode, format: Format) -> u64 {
    if x.is_infinite() {
        return format.sign(x < 0.0) | format.infinity();
    }
    round(Exact::new(x), mode, format)
}

/// The bits of an integer rounded to `format`.
pub(crate) fn round_integer(x: i128, mode: Mode, format: Format) -> u64 {
    round(Exact { negative: x < 0, mantissa: x.unsigned_abs(), exponent: 0, sticky: false }, mode, format)
}

/// A number of `format` (F64 or F32) as an f64.
fn value(bits: u64, format: Format) -> f64 {
    if format == F64 { f64::from_bits(bits) } else { f32::from_bits(bits as u32).into() }
}

fn zero(negative: bool) -> f64 {
    if negative { -0.0 } else { 0.0 }
}

/// a * b + c, rounded once to `format` (F64 or F32); the arguments are numbers of that format.
pub(crate) fn fma(a: f64, b: f64, c: f64, mode: Mode, format: Format) -> f64 {
    if !(a.is_finite() && b.is_finite() && c.is_finite()) {
        return a.mul_add(b, c);
    }
    let negative = a.is_sign_negative() != b.is_sign_negative();
    if a == 0.0 || b == 0.0 {
        return match c == 0.0 {
            true if negative == c.is_sign_negative() => c,
            true => zero(mode == Mode::Down),
            false => c,
        };
    }
    let (ea, eb) = (Exact::new(a), Exact::new(b));
    let product = Exact { negative, mantissa: ea.mantissa * eb.mantissa, exponent: ea.exponent + eb.exponent, sticky: false };
    let product = product.with_top(125);
    if c == 0.0 {
        return value(round(product, mode, format), format);
    }
    let addend = Exact::new(c).with_top(125);
    let (large, small) = if product.exponent >= addend.exponent { (product, addend) } else { (addend, product) };
    let distance = (large.exponent - small.exponent) as u32;
    let (shifted, sticky) = match distance {
        0..128 => (small.mantissa >> distance, small.mantissa & ((1u128 << distance) - 1) != 0),
        _ => (0, true),
    };
    let sum = if large.negative == small.negative {
        Exact { mantissa: large.mantissa + shifted, sticky, ..large }
    } else if large.mantissa >= shifted {
        // What was cut off is taken away as well: one unit less, and the rest of that unit below the last place.
        Exact { mantissa: large.mantissa - shifted - u128::from(sticky), sticky, ..large }
    } else {
        Exact { negative: small.negative, mantissa: shifted - large.mantissa, sticky, ..large }
    };
    match sum.mantissa {
        0 => zero(mode == Mode::Down),
        _ => value(round(sum, mode, format), format),
    }
}

/// a / b, rounded once to `format` (F64 or F32).
pub(crate) fn divide(a: f64, b: f64, mode: Mode, format: Format) -> f64 {
    if !(a.is_finite() && b.is_finite()) || a == 0.0 || b == 0.0 {
        return a / b;
    }
    let (x, y) = (Exact::new(a).with_top(52), Exact::new(b).with_top(52));
    let numerator = x.mantissa << 70;
    let quotient = Exact {
        negative: x.negative != y.negative,
        mantissa: numerator / y.mantissa,
        exponent: x.exponent - y.exponent - 70,
        sticky: numerator % y.mantissa != 0,
    };
    value(round(quotient, mode, format), format)
}

/// The square root of x, rounded once to `format` (F64 or F32).
pub(crate) fn square_root(x: f64, mode: Mode, format: Format) -> f64 {
    if !(x.is_finite() && x > 0.0) {
        return x.sqrt();
    }
    let exact = Exact::new(x).with_top(120);
    let odd = exact.exponent & 1;
    let mantissa = exact.mantissa << odd;
    let root = mantissa.isqrt();
    let root = Exact { mantissa: root, exponent: (exact.exponent - odd) / 2, sticky: root * root != mantissa, ..exact };
    value(round(root, mode, format), format)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [Mode; 5] = [Mode::Nearest, Mode::NearestAway, Mode::Zero, Mode::Down, Mode::Up];

    /// Bit patterns that reach every magnitude, and pairs that cancel.
    fn samples() -> impl Iterator<Item = (f64, f64, f64)> {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut next = move || {
            state = state.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(1);
            state ^ state >> 29
        };
        (0..20_000).map(move |k| {
            let mut number = || f64::from_bits(next());
            let (a, b) = (number(), number());
            let c = if k % 2 == 0 { -(a * b) } else { number() };
            (a, b, c)
        })
    }

    fn same(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
    }

    #[test]
    fn to_nearest_equals_the_processor() {
        for (a, b, c) in samples() {
            assert!(same(fma(a, b, c, Mode::Nearest, F64), a.mul_add(b, c)), "{a:e} * {b:e} + {c:e}");
            assert!(same(divide(a, b, Mode::Nearest, F64), a / b), "{a:e} / {b:e}");
            assert!(same(square_root(a, Mode::Nearest, F64), a.sqrt()), "sqrt {a:e}");
            let (a, b, c) = (a as f32, b as f32, c as f32);
            let f32_fma = fma(a.into(), b.into(), c.into(), Mode::Nearest, F32);
            assert!(same(f32_fma, a.mul_add(b, c).into()), "{a:e} * {b:e} + {c:e}");
            assert!(same(divide(a.into(), b.into(), Mode::Nearest, F32), (a / b).into()), "{a:e} / {b:e}");
        }
    }

    #[test]
    fn narrowing_to_nearest_equals_the_processor_and_half() {
        for (a, ..) in samples().filter(|(a, ..)| !a.is_nan()) {
            assert_eq!(round_f64(a, Mode::Nearest, F32), u64::from((a as f32).to_bits()), "{a:e}");
            let single = f64::from(a as f32);
            assert_eq!(round_f64(single, Mode::Nearest, F16), u64::from(half::f16::from_f32(a as f32).to_bits()), "{a:e}");
            assert_eq!(round_f64(single, Mode::Nearest, BF16), u64::from(half::bf16::from_f32(a as f32).to_bits()), "{a:e}");
        }
    }

    #[test]
    fn directed_results_bracket_the_exact_one() {
        let ordered = |x: f64| if x.is_sign_negative() { -((x.to_bits() & (u64::MAX >> 1)) as i64) } else { x.to_bits() as i64 };
        for (a, b, c) in samples().filter(|(a, b, c)| a.mul_add(*b, *c).is_finite()) {
            let [nearest, _, zero, down, up] = MODES.map(|mode| fma(a, b, c, mode, F64));
            assert!(down <= nearest && nearest <= up, "{a:e} * {b:e} + {c:e}");
            assert!(ordered(up) - ordered(down) <= 1, "{a:e} * {b:e} + {c:e}: {down:e} to {up:e}");
            assert!(same(zero, if nearest < 0.0 || up < 0.0 { up } else { down }) || down == 0.0 || up == 0.0);
        }
    }

    #[test]
    fn known_directed_results() {
        // 1 + 2^-60 lies between 1 and the next number.
        let tiny = f64::powi(2.0, -60);
        let next = 1.0 + f64::EPSILON;
        assert_eq!(MODES.map(|mode| fma(1.0, 1.0, tiny, mode, F64)), [1.0, 1.0, 1.0, 1.0, next]);
        assert_eq!(MODES.map(|mode| fma(1.0, -1.0, -tiny, mode, F64)), [-1.0, -1.0, -1.0, -next, -1.0]);
        // 1 + 2^-12 is half way between two numbers of 11 bits.
        assert_eq!(MODES.map(|mode| round_f64(1.0 + f64::powi(2.0, -11), mode, F16)), [0x3C00, 0x3C01, 0x3C00, 0x3C00, 0x3C01]);
        // 1 - 1 is negative zero only when rounding down.
        assert!(fma(1.0, 1.0, -1.0, Mode::Down, F64).is_sign_negative());
        assert!(fma(1.0, 1.0, -1.0, Mode::Zero, F64).is_sign_positive());
        // Overflow stops at the largest number where rounding points inwards.
        assert_eq!(MODES.map(|mode| round_f64(1e30, mode, F16)), [0x7C00, 0x7C00, 0x7BFF, 0x7BFF, 0x7C00]);
        assert_eq!(round_integer(-16_777_217, Mode::Down, F32), u64::from((-16_777_218f32).to_bits()));
        assert_eq!(round_integer(0, Mode::Down, F32), 0);
    }
}
