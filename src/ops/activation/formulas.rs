//! The formulas of elementwise activations and their slopes, and the loops over rows. Every function is
//! inlined into its loop, so that the loop vectorises.

use faer::traits::pulp::NullaryFnOnce;

use super::Activation;
use crate::device::Real;
use crate::ops::elementary::{erf, exp};

pub(super) use crate::ops::elementary::{sigmoid, tanh};

/// `sqrt(2 / pi)` and the cubic coefficient of [`Activation::GeluNew`].
const GELU_NEW: (f64, f64) = (0.797_884_560_802_865_4, 0.044_715);

#[inline(always)]
pub(super) fn relu<T: Real>(x: T) -> T {
    Real::max(x, T::ZERO)
}
#[inline(always)]
pub(super) fn relu_slope<T: Real>(x: T) -> T {
    if x > T::ZERO { T::ONE } else { T::ZERO }
}
/// Phi(x), the distribution function of the standard normal.
#[inline(always)]
fn normal_cdf<T: Real>(x: T) -> T {
    T::of(0.5) * (T::ONE + erf(x * T::of(std::f64::consts::FRAC_1_SQRT_2)))
}
#[inline(always)]
pub(super) fn gelu<T: Real>(x: T) -> T {
    x * normal_cdf(x)
}
#[inline(always)]
pub(super) fn gelu_slope<T: Real>(x: T) -> T {
    let density = T::of(0.5 * GELU_NEW.0) * exp(T::of(-0.5) * x * x);
    normal_cdf(x) + x * density
}
#[inline(always)]
fn gelu_new_tanh<T: Real>(x: T) -> T {
    tanh(T::of(GELU_NEW.0) * x * (T::ONE + T::of(GELU_NEW.1) * x * x))
}
#[inline(always)]
pub(super) fn gelu_new<T: Real>(x: T) -> T {
    T::of(0.5) * x * (T::ONE + gelu_new_tanh(x))
}
#[inline(always)]
pub(super) fn gelu_new_slope<T: Real>(x: T) -> T {
    let t = gelu_new_tanh(x);
    let inner = T::of(GELU_NEW.0) * (T::ONE + T::of(3.0 * GELU_NEW.1) * x * x);
    T::of(0.5) * (T::ONE + t + x * (T::ONE - t * t) * inner)
}
#[inline(always)]
pub(super) fn silu<T: Real>(x: T) -> T {
    x * sigmoid(x)
}
#[inline(always)]
pub(super) fn silu_slope<T: Real>(x: T) -> T {
    let s = sigmoid(x);
    s * (T::ONE + x * (T::ONE - s))
}
#[inline(always)]
pub(super) fn tanh_slope<T: Real>(x: T) -> T {
    let t = tanh(x);
    T::ONE - t * t
}
#[inline(always)]
pub(super) fn sigmoid_slope<T: Real>(x: T) -> T {
    let s = sigmoid(x);
    s * (T::ONE - s)
}

/// Applies `$f` element by element, without a closure around it.
macro_rules! each {
    ($f:ident, $x:expr) => {
        for x in $x {
            *x = $f(*x);
        }
    };
}

/// `x = act(x)` for an elementwise activation.
pub(super) struct Values<'a, T> {
    pub act: Activation,
    pub x: &'a mut [T],
}

impl<T: Real> NullaryFnOnce for Values<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        match self.act {
            Activation::Relu => each!(relu, self.x),
            Activation::Gelu => each!(gelu, self.x),
            Activation::GeluNew => each!(gelu_new, self.x),
            Activation::Silu => each!(silu, self.x),
            Activation::Tanh => each!(tanh, self.x),
            Activation::Sigmoid => each!(sigmoid, self.x),
            Activation::Identity | Activation::Solu => {}
        }
    }
}

/// `x = act'(x)` for an elementwise activation.
pub(super) struct Derivatives<'a, T> {
    pub act: Activation,
    pub x: &'a mut [T],
}

impl<T: Real> NullaryFnOnce for Derivatives<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        match self.act {
            Activation::Relu => each!(relu_slope, self.x),
            Activation::Gelu => each!(gelu_slope, self.x),
            Activation::GeluNew => each!(gelu_new_slope, self.x),
            Activation::Silu => each!(silu_slope, self.x),
            Activation::Tanh => each!(tanh_slope, self.x),
            Activation::Sigmoid => each!(sigmoid_slope, self.x),
            Activation::Identity | Activation::Solu => self.x.fill(T::ONE),
        }
    }
}
