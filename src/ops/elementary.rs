//! exp, tanh and erf of one number, written for `f32` without branches, tables or calls, so that loops
//! over rows vectorise. `f64` takes the functions of [`Real`].
//!
//! The polynomials are minimax fits of our own. No products are contracted into sums, so that every
//! processor gives the same bits.

use bytemuck::cast;

use crate::device::{DType, Real};

/// Applies `$narrow` to an `f32`, `$wide` to the `f64`.
macro_rules! of_type {
    ($x:expr, $narrow:path, $wide:path) => {
        if T::DTYPE == DType::F32 { cast($narrow(cast::<T, f32>($x))) } else { $wide($x) }
    };
}

/// `e^x`; within 1 ulp for `f32`, 0 below its range and infinite above.
#[inline(always)]
pub(super) fn exp<T: Real>(x: T) -> T {
    of_type!(x, exp_f32, Real::exp)
}

/// `tanh(x)`; within 2 ulp for `f32`.
#[inline(always)]
pub(super) fn tanh<T: Real>(x: T) -> T {
    of_type!(x, tanh_f32, Real::tanh)
}

/// `erf(x)`; within 2 ulp for `f32`.
#[inline(always)]
pub(super) fn erf<T: Real>(x: T) -> T {
    of_type!(x, erf_f32, Real::erf)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid<T: Real>(x: T) -> T {
    T::ONE / (T::ONE + exp(-x))
}

/// `c_0 + c_1 x + c_2 x^2 + ..`.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut y = c[N - 1];
    for i in (0..N - 1).rev() {
        y = y * x + c[i];
    }
    y
}

/// `2^n` for `-126 <= n <= 127`.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    // Beyond these bounds the result is 0 or infinite. Comparisons in this order keep NaN.
    let x = if x < -105.0 { -105.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    // x = n ln 2 + r with |r| <= ln(2) / 2. Adding 1.5 * 2^23 rounds to an integer, which then stands
    // in the low bits. ln 2 is split so that the first product is exact.
    const ROUND: f32 = 12_582_912.0;
    const LN_2: (f32, f32) = (355.0 / 512.0, -2.121_944_4e-4);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN_2.0) - n * LN_2.1;
    let q = polynomial(r, [4.999_999_4e-1, 1.666_652e-1, 4.166_839_3e-2, 8.368_781e-3, 1.381_446_7e-3]);
    let y = r * r * q + r + 1.0;
    // Two factors, since 2^n alone leaves the range before the result does.
    let n = rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    y * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline(always)]
fn tanh_f32(x: f32) -> f32 {
    let (size, z) = (x.abs(), x * x);
    let p = polynomial(z, [-3.333_328_4e-1, 1.333_149_1e-1, -5.374_349_7e-2, 2.065_058_6e-2, -5.717_044_7e-3]);
    let small = size * z * p + size;
    let large = 1.0 - 2.0 / (exp_f32(2.0 * size) + 1.0);
    (if size < 0.625 { small } else { large }).copysign(x)
}

#[inline(always)]
fn erf_f32(x: f32) -> f32 {
    let (size, z) = (x.abs(), x * x);
    let p = polynomial(
        z,
        [
            1.283_791_7e-1,
            -3.761_263_8e-1,
            1.128_378_3e-1,
            -2.686_544_5e-2,
            5.221_075e-3,
            -8.484_712e-4,
            1.127_054_6e-4,
            -9.680_14e-6,
        ],
    );
    let small = size * p + size;
    // ln erfc(size); erf is 1 in f32 from 3.92 on.
    let size_to_4 = if size > 4.0 { 4.0 } else { size };
    let q = polynomial(
        size_to_4,
        [-3.537_188e-4, -1.127_04, -6.382_257e-1, -1.030_373_7e-1, 2.180_532e-2, -2.939_608e-3, 1.855_740_7e-4],
    );
    let large = 1.0 - exp_f32(q);
    (if size < 1.0 { small } else { large }).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error in units in the last place of the result.
    fn ulps(found: f32, expected: f64) -> f64 {
        let rounded = (expected.abs() as f32).max(f32::MIN_POSITIVE);
        let unit = f64::from(f32::from_bits(rounded.to_bits() + 1)) - f64::from(rounded);
        (f64::from(found) - expected).abs() / unit
    }

    /// The largest error over every 97th number with `low <= |x| <= high`, of both signs.
    fn worst(f: fn(f32) -> f32, exact: fn(f64) -> f64, low: f32, high: f32) -> f64 {
        let numbers = (low.to_bits()..=high.to_bits()).step_by(97).map(f32::from_bits).flat_map(|x| [x, -x]);
        numbers.map(|x| ulps(f(x), exact(f64::from(x)))).fold(0.0, f64::max)
    }

    #[test]
    fn exp_is_accurate_over_its_whole_range() {
        let error = worst(exp, f64::exp, 1e-9, 88.7);
        assert!(error <= 1.0, "{error} ulp");
        // Below the normal range the unit is that of the smallest normal number.
        let tail = (88.7f32.to_bits()..110f32.to_bits()).map(|bits| -f32::from_bits(bits));
        let error = tail.map(|x| ulps(exp(x), f64::from(x).exp())).fold(0.0, f64::max);
        assert!(error <= 1.0, "{error} ulp below the normal range");
    }

    #[test]
    fn exp_keeps_its_limits() {
        assert_eq!([exp(0.0f32), exp(-0.0f32)], [1.0, 1.0]);
        for x in [f32::NEG_INFINITY, f32::MIN, -1e4, -104.0] {
            assert_eq!(exp(x), 0.0, "exp({x})");
        }
        for x in [f32::INFINITY, f32::MAX, 1e4, 88.73] {
            assert_eq!(exp(x), f32::INFINITY, "exp({x})");
        }
        assert!(exp(88.72f32).is_finite() && exp(-103.0f32) > 0.0);
        assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan() && erf(f32::NAN).is_nan());
        assert_eq!(exp(f64::NEG_INFINITY), 0.0);
    }

    #[test]
    fn tanh_and_erf_are_accurate_over_their_whole_range() {
        let error = worst(tanh, f64::tanh, 1e-30, 30.0);
        assert!(error <= 2.0, "tanh: {error} ulp");
        let error = worst(erf, libm::erf, 1e-30, 10.0);
        assert!(error <= 2.0, "erf: {error} ulp");
        for f in [tanh::<f32>, erf::<f32>] {
            assert_eq!([f(f32::INFINITY), f(f32::NEG_INFINITY), f(f32::MAX)], [1.0, -1.0, 1.0]);
            assert!(f(-0.0) == 0.0 && f(-0.0).is_sign_negative());
        }
    }

    #[test]
    fn sigmoids_saturate() {
        assert_eq!([sigmoid(-1e4f32), sigmoid(0.0), sigmoid(1e4)], [0.0, 0.5, 1.0]);
    }
}
