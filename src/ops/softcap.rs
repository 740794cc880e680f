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
