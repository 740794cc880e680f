//! Arithmetic on single rows, written so that it vectorises.

use faer::traits::pulp::{Arch, NullaryFnOnce};

use super::elementary;
use crate::device::Real;

/// Runs a loop compiled for the widest vectors of this processor. Numbers do not depend on it. The job's
/// `call`, and what that calls, is to be inlined always: nothing else makes the compiler build it for
/// those vectors, and closures cannot be told so.
pub(super) fn wide(job: impl NullaryFnOnce<Output = ()>) {
    Arch::new().dispatch(job);
}

/// `y = f(x)`.
struct Map<'a, T, F> {
    x: &'a [T],
    y: &'a mut [T],
    f: F,
}

impl<T: Real, F: Fn(T) -> T> NullaryFnOnce for Map<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = (self.f)(x);
        }
    }
}

/// `x = c tanh(x / c)`.
struct Softcap<'a, T> {
    x: &'a mut [T],
    c: f64,
}

impl<T: Real> NullaryFnOnce for Softcap<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let (c, inverse) = (T::of(self.c), T::of(1.0 / self.c));
        for x in self.x {
            *x = c * elementary::tanh(*x * inverse);
        }
    }
}

/// `x = e^(x - max(x))`, divided by its sum.
struct Softmax<'a, T>(&'a mut [T]);

impl<T: Real> NullaryFnOnce for Softmax<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let top = max(self.0);
        for e in self.0.iter_mut() {
            *e = elementary::exp(*e - top);
        }
        let norm = T::ONE / sum(self.0);
        for e in self.0 {
            *e *= norm;
        }
    }
}

/// `y = e^(x - max(x))`; `out` is the maximum and the sum of `y`.
struct Exponentials<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
    out: &'a mut (T, T),
}

impl<T: Real> NullaryFnOnce for Exponentials<'_, T> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let top = max(self.x);
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = elementary::exp(x - top);
        }
        *self.out = (top, sum(self.y));
    }
}

/// Partial sums that a reduction runs side by side. The order of additions is a function of the
/// row's length alone, so that results do not depend on where a row lies.
const LANES: usize = 16;

#[inline(always)]
fn reduce<T: Real>(lanes: [T; LANES], rest: impl Iterator<Item = T>) -> T {
    let mut acc = lanes;
    for (a, x) in acc.iter_mut().zip(rest) {
        *a += x;
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            acc[i] += acc[i + width];
        }
        width /= 2;
    }
    acc[0]
}

/// `sum_i x_i`.
#[inline(always)]
pub(super) fn sum<T: Real>(x: &[T]) -> T {
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder().iter().copied();
    let mut acc = [T::ZERO; LANES];
    for c in chunks {
        for i in 0..LANES {
            acc[i] += c[i];
        }
    }
    reduce(acc, rest)
}

/// `sum_i x_i y_i`.
pub(super) fn dot<T: Real>(x: &[T], y: &[T]) -> T {
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest = xs.remainder().iter().zip(ys.remainder()).map(|(&a, &b)| a * b);
    let mut acc = [T::ZERO; LANES];
    for (a, b) in xs.zip(ys) {
        for i in 0..LANES {
            acc[i] += a[i] * b[i];
        }
    }
    reduce(acc, rest)
}

/// The arithmetic mean.
pub(super) fn mean<T: Real>(x: &[T]) -> T {
    sum(x) / T::of(x.len() as f64)
}

/// The largest element; zero of an empty row.
#[inline(always)]
pub(super) fn max<T: Real>(x: &[T]) -> T {
    let Some(&first) = x.first() else { return T::ZERO };
    let (chunks, mut acc) = (x.chunks_exact(LANES), [first; LANES]);
    let rest = chunks.remainder();
    for c in chunks {
        for i in 0..LANES {
            acc[i] = Real::max(acc[i], c[i]);
        }
    }
    acc.into_iter().chain(rest.iter().copied()).fold(first, Real::max)
}

/// `y = f(x)` element by element.
pub(super) fn map<T: Real>(x: &[T], y: &mut [T], f: impl Fn(T) -> T) {
    wide(Map { x, y, f });
}

/// `y *= x` element by element.
pub(super) fn multiply<T: Real>(y: &mut [T], x: &[T]) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y *= x);
}

/// `y = a + b`.
pub(super) fn add<T: Real>(a: &[T], b: &[T], y: &mut [T]) {
    for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
        *y = a + b;
    }
}

/// `x = c tanh(x / c)` element by element.
pub(super) fn softcap<T: Real>(x: &mut [T], c: f64) {
    wide(Softcap { x, c });
}

/// `y = e^(x - max(x))`, with the maximum and the sum of `y`.
pub(super) fn exponentials<T: Real>(x: &[T], y: &mut [T]) -> (T, T) {
    let mut out = (T::ZERO, T::ZERO);
    wide(Exponentials { x, y, out: &mut out });
    out
}

/// Replaces a row by its softmax, shifted by its largest element against overflow. A row of nothing
/// but negative infinities becomes NaN.
pub(super) fn softmax<T: Real>(x: &mut [T]) {
    wide(Softmax(x));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions_agree_with_plain_sums_at_every_length() {
        for n in 1..70 {
            let x: Vec<f64> = (0..n).map(|i| (f64::from(i) * 0.7).sin()).collect();
            let y: Vec<f64> = (0..n).map(|i| (f64::from(i) * 1.3).cos()).collect();
            let plain: f64 = x.iter().sum();
            let product: f64 = x.iter().zip(&y).map(|(a, b)| a * b).sum();
            assert!((sum(&x) - plain).abs() < 1e-13 && (dot(&x, &y) - product).abs() < 1e-13, "length {n}");
            assert!((mean(&x) - plain / f64::from(n)).abs() < 1e-13, "length {n}");
        }
    }

    #[test]
    fn softmax_survives_large_scores() {
        let mut x = [1000.0, 999.0, -1000.0f64];
        softmax(&mut x);
        let e = (-1.0f64).exp();
        assert!((x[0] - 1.0 / (1.0 + e)).abs() < 1e-15 && (x[1] - e / (1.0 + e)).abs() < 1e-15 && x[2] == 0.0);
    }
}
