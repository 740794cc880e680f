//! Soft caps: numbers bounded smoothly, as the logits of Gemma 2.

use super::{check, outputs::Outputs, rows};
use crate::device::{Arena, Real, View};
use crate::error::{Error, Result};

/// `y = c tanh(x / c)`.
#[derive(Clone, Debug)]
pub struct Args {
    /// `[n, d]`.
    pub x: View,
    /// Output `[n, d]`: `x` itself, or in another buffer.
    pub y: View,
    /// `c`, above 0.
    pub cap: f64,
}

impl Args {
    /// Whether the shapes agree and `y` is `x` or in a buffer of its own.
    pub fn check(&self) -> Result<()> {
        let op = "softcap";
        check::view(op, "x", &self.x, self.x.rows, self.x.cols)?;
        check::view(op, "y", &self.y, self.x.rows, self.x.cols)?;
        if !(self.cap > 0.0 && self.cap.is_finite()) {
            return Err(Error::shape(op, format!("a cap of {}", self.cap), "a finite cap above 0"));
        }
        if self.x == self.y { Ok(()) } else { check::apart(op, &[&self.y], &[&self.x]) }
    }
}

/// Runs [`Args`] on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.y]);
    for i in 0..a.x.rows {
        let y = out.row(&a.y, i);
        if a.x != a.y {
            y.copy_from_slice(m.row(&a.x, i));
        }
        rows::softcap(y, a.cap);
    }
    out.put(m);
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, assert_close, numbers, read};
    use super::*;

    fn capped<T: Real>(x: &[f64], in_place: bool) -> Vec<f64> {
        let mut f = Fixture::default();
        let x = f.input(3, 37, x);
        let a = Args { x, y: if in_place { x } else { f.output(3, 37) }, cap: 2.5 };
        a.check().unwrap();
        let mut m = f.arena::<T>();
        cpu(&a, &mut m);
        read(&m, &a.y)
    }

    #[test]
    fn large_numbers_approach_the_cap() {
        let x: Vec<f64> = numbers(3 * 37, 1).iter().map(|x| 4.0 * x).collect();
        let want: Vec<f64> = x.iter().map(|x| 2.5 * (x / 2.5).tanh()).collect();
        for in_place in [false, true] {
            assert_close(&capped::<f64>(&x, in_place), &want, 1e-15);
            assert_close(&capped::<f32>(&x, in_place), &want, 2e-7);
        }
        assert!(capped::<f32>(&vec![1e30; 3 * 37], true).iter().all(|y| *y == 2.5));
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let mut f = Fixture::default();
        let (x, y) = (f.output(2, 3), f.output(2, 4));
        assert!(Args { x, y, cap: 1.0 }.check().is_err());
        assert!(Args { x, y: y.columns(1, 3), cap: 1.0 }.check().is_ok());
        assert!(Args { x: y.columns(0, 3), y: y.columns(1, 3), cap: 1.0 }.check().is_err());
        let error = Args { x, y: x, cap: -1.0 }.check().unwrap_err().to_string();
        assert_eq!(error, "operation softcap: found a cap of -1; expected a finite cap above 0");
    }
}
