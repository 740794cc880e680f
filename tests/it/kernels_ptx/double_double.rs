//! Sums of two f64 as one number of about 32 digits, and the functions that activations are made of:
//! what f64 kernels are measured against. Nothing here is fast.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// `high + low`, with `|low|` at most half an ulp of `high`.
#[derive(Clone, Copy, Debug)]
pub struct Double {
    pub high: f64,
    pub low: f64,
}

/// ln(2).
const LN_2: Double = Double { high: std::f64::consts::LN_2, low: 2.319_046_813_846_299_6e-17 };
/// `1 / sqrt(2 pi)`.
const DENSITY: Double = Double { high: 0.398_942_280_401_432_7, low: -2.492_327_202_277_73e-17 };

pub fn double(x: f64) -> Double {
    Double { high: x, low: 0.0 }
}

fn sum(a: f64, b: f64) -> Double {
    let high = a + b;
    let b_seen = high - a;
    Double { high, low: (a - (high - b_seen)) + (b - b_seen) }
}

impl Add for Double {
    type Output = Double;
    fn add(self, other: Double) -> Double {
        let (high, low) = (sum(self.high, other.high), sum(self.low, other.low));
        let first = sum(high.high, high.low + low.high);
        sum(first.high, first.low + low.low)
    }
}

impl Neg for Double {
    type Output = Double;
    fn neg(self) -> Double {
        Double { high: -self.high, low: -self.low }
    }
}

impl Sub for Double {
    type Output = Double;
    fn sub(self, other: Double) -> Double {
        self + -other
    }
}

impl Mul for Double {
    type Output = Double;
    fn mul(self, other: Double) -> Double {
        let high = self.high * other.high;
        let low = self.high.mul_add(other.high, -high) + (self.high * other.low + self.low * other.high);
        sum(high, low)
    }
}

impl Div for Double {
    type Output = Double;
    fn div(self, other: Double) -> Double {
        let first = double(self.high / other.high);
        let rest = self - first * other;
        first + double(rest.high / other.high) + double((rest - double(rest.high / other.high) * other).high / other.high)
    }
}

impl Double {
    /// `2^n` times this.
    fn scaled(self, n: i32) -> Double {
        let power = |n: i32| f64::from_bits(((n + 1023) as u64) << 52);
        let (half, rest) = (n / 2, n - n / 2);
        Double { high: self.high * power(half) * power(rest), low: self.low * power(half) * power(rest) }
    }
    /// `e^x` for x of at most 700; 0 where f64 ends.
    pub fn exp(self) -> Double {
        assert!(self.high <= 700.0);
        if self.high < -750.0 {
            return double(0.0);
        }
        // e^x = 2^n (e^(r / 512))^512.
        let n = (self.high / std::f64::consts::LN_2).round();
        let r = self - double(n) * LN_2;
        let r = r.scaled(-9);
        let (mut term, mut power) = (double(1.0), double(1.0));
        for k in 1..=10 {
            term = term * r / double(f64::from(k));
            power = power + term;
        }
        (0..9).fold(power, |p, _| p * p).scaled(n as i32)
    }
    /// `1 / (1 + e^-x)`.
    pub fn logistic(self) -> Double {
        let e = if self.high > 0.0 { (-self).exp() } else { self.exp() };
        let r = double(1.0) / (double(1.0) + e);
        if self.high > 0.0 { r } else { e * r }
    }
    /// The density of the normal distribution.
    pub fn normal_density(self) -> Double {
        if self.high.abs() > 60.0 { double(0.0) } else { (self * self * double(-0.5)).exp() * DENSITY }
    }
    /// Its distribution function.
    pub fn normal(self) -> Double {
        let a = if self.high < 0.0 { -self } else { self };
        let tail = if a.high > 60.0 {
            double(0.0)
        } else if a.high > 5.0 {
            // A continued fraction: phi(a) / (a + 1 / (a + 2 / (a + ..))).
            let fraction = (1..400).rev().fold(a, |below, k| a + double(f64::from(k)) / below);
            a.normal_density() / fraction
        } else {
            // phi(a) (a + a^3 / 3 + a^5 / 15 + ..) from the middle.
            let (mut term, mut total) = (a, a);
            for k in 1..200 {
                term = term * a * a / double(f64::from(2 * k + 1));
                total = total + term;
            }
            double(0.5) - a.normal_density() * total
        };
        if self.high < 0.0 { tail } else { double(1.0) - tail }
    }
    pub fn tanh(self) -> Double {
        let a = if self.high < 0.0 { -self } else { self };
        let t = if a.high < 1e-8 {
            a - a * a * a / double(3.0)
        } else if a.high > 60.0 {
            double(1.0)
        } else {
            let e = (a * double(-2.0)).exp();
            (double(1.0) - e) / (double(1.0) + e)
        };
        if self.high < 0.0 { -t } else { t }
    }
}

#[test]
fn known_digits_come_out() {
    // The second summands are what f64 leaves of the true digits.
    let close = |found: Double, high: f64, low: f64| {
        let difference = (found - Double { high, low }).high;
        assert!((difference / high).abs() < 1e-27, "{found:?}: {difference:e}");
    };
    close(double(1.0).exp(), std::f64::consts::E, 1.445_646_891_729_250_2e-16);
    close(double(-1.0).normal(), 0.158_655_253_931_457_05, 4.946_855_290_178_633_5e-18);
    close(double(-6.0).normal(), 9.865_876_450_376_98e-10, 5.018_206_952_392_511_6e-26);
    close(double(0.5).tanh(), 0.462_117_157_260_009_74, 2.191_660_323_826_092_8e-17);
    close(double(-2.0).logistic(), 0.119_202_922_022_117_56, -4.667_319_433_268_004e-18);
}
