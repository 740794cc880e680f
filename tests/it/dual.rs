//! Numbers that carry their derivatives in several directions along: exact tangents of plain loops.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// Directions at a time.
pub const PROBES: usize = 3;

/// A value and its derivatives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dual {
    pub v: f64,
    pub d: [f64; PROBES],
}

impl Dual {
    /// The value `v` with `slope` times the derivatives.
    fn chain(self, v: f64, slope: f64) -> Self {
        Self { v, d: self.d.map(|d| slope * d) }
    }
    pub fn exp(self) -> Self {
        let e = self.v.exp();
        self.chain(e, e)
    }
    pub fn sqrt(self) -> Self {
        let root = self.v.sqrt();
        self.chain(root, 0.5 / root)
    }
    pub fn tanh(self) -> Self {
        let t = self.v.tanh();
        self.chain(t, 1.0 - t * t)
    }
}

impl Add for Dual {
    type Output = Self;
    fn add(self, y: Self) -> Self {
        Self { v: self.v + y.v, d: std::array::from_fn(|r| self.d[r] + y.d[r]) }
    }
}

impl Add<f64> for Dual {
    type Output = Self;
    fn add(self, y: f64) -> Self {
        Self { v: self.v + y, ..self }
    }
}

impl Neg for Dual {
    type Output = Self;
    fn neg(self) -> Self {
        self.chain(-self.v, -1.0)
    }
}

impl Sub for Dual {
    type Output = Self;
    fn sub(self, y: Self) -> Self {
        self + -y
    }
}

impl Mul for Dual {
    type Output = Self;
    fn mul(self, y: Self) -> Self {
        Self { v: self.v * y.v, d: std::array::from_fn(|r| self.d[r] * y.v + self.v * y.d[r]) }
    }
}

impl Mul<f64> for Dual {
    type Output = Self;
    fn mul(self, y: f64) -> Self {
        self.chain(self.v * y, y)
    }
}

impl Div for Dual {
    type Output = Self;
    fn div(self, y: Self) -> Self {
        let v = self.v / y.v;
        Self { v, d: std::array::from_fn(|r| (self.d[r] - v * y.d[r]) / y.v) }
    }
}
