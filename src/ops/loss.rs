//! Cross-entropy and accuracy of a batch of predictions.

use super::{check, outputs::Outputs, rows};
use crate::device::{Arena, IntBuffer, Real, View};
use crate::error::{Error, Result};

/// Label of a row that is left out.
pub const SKIPPED: u32 = u32::MAX;

/// Adds to `out` the sum over the rows of `log sum_j exp(logits_j) - logits_label`, in nats, and the
/// number of rows whose largest logit is the label's; of equal logits the first counts as the
/// largest. Rows with the label [`SKIPPED`] add nothing.
#[derive(Clone, Debug)]
pub struct Args {
    /// `[n, V]`.
    pub logits: View,
    /// `[n]` labels, each below `V` or [`SKIPPED`]: whoever fills the buffer has checked them.
    pub labels: IntBuffer,
    /// `[1, 2]`, read and written: (sum of cross-entropies, correct predictions).
    pub out: View,
}

impl Args {
    /// Whether the shapes agree and the sums have a buffer of their own.
    pub fn check(&self) -> Result<()> {
        let op = "loss";
        check::view(op, "logits", &self.logits, self.logits.rows, self.logits.cols)?;
        check::view(op, "out", &self.out, 1, 2)?;
        if self.labels.len != self.logits.rows {
            return Err(Error::shape(op, format!("{} labels", self.labels.len), format!("{} labels", self.logits.rows)));
        }
        check::apart(op, &[&self.out], &[&self.logits])
    }
}

/// Runs [`Args`].
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.out]);
    let (mut entropy, mut correct) = (T::ZERO, 0u32);
    let mut shifted = vec![T::ZERO; a.logits.cols];
    for (i, &label) in m.int(a.labels).iter().enumerate().filter(|(_, label)| **label != SKIPPED) {
        let (row, label) = (m.row(&a.logits, i), label as usize);
        let (top, picked) = (rows::max(row), row[label]);
        rows::map(row, &mut shifted, |x| Real::exp(x - top));
        entropy += T::of(rows::sum(&shifted).to_f64().ln()) + (top - picked);
        let first = row[..label].iter().all(|&x| x < picked) && row[label..].iter().all(|&x| x <= picked);
        correct += u32::from(first);
    }
    let sums = out.row(&a.out, 0);
    sums[0] += entropy;
    sums[1] += T::of(f64::from(correct));
    out.put(m);
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, assert_close, numbers, read};
    use super::*;

    fn run<T: Real>(logits: &[f64], labels: &[u32], held: [f64; 2]) -> Vec<f64> {
        let mut f = Fixture::default();
        let n = labels.len();
        let a = Args { logits: f.input(n, logits.len() / n, logits), labels: f.ints(labels), out: f.input(1, 2, &held) };
        a.check().unwrap();
        let mut m = f.arena::<T>();
        cpu(&a, &mut m);
        read(&m, &a.out)
    }

    #[test]
    fn sums_agree_with_the_definition() {
        let (n, v) = (9, 37);
        let logits = numbers(n * v, 1);
        let best = |row: &[f64]| (0..v).fold(0, |b, j| if row[j] > row[b] { j } else { b });
        // Every third label is the prediction, every fourth row is left out.
        let label = |i: usize| match i {
            _ if i % 4 == 3 => SKIPPED,
            _ if i.is_multiple_of(3) => best(&logits[i * v..(i + 1) * v]) as u32,
            _ => (i * 5 % v) as u32,
        };
        let labels: Vec<u32> = (0..n).map(label).collect();
        let mut want = [2.5, 7.0];
        for (row, &label) in logits.chunks(v).zip(&labels).filter(|(_, l)| **l != SKIPPED) {
            want[0] -= (row[label as usize].exp() / row.iter().map(|x| x.exp()).sum::<f64>()).ln();
            want[1] += f64::from(u8::from(best(row) == label as usize));
        }
        assert!(want[1] > 7.0 && want[1] < 13.0);
        let got = run::<f64>(&logits, &labels, [2.5, 7.0]);
        assert_close(&got[..1], &want[..1], 1e-14);
        assert_eq!(got[1], want[1]);
        let got = run::<f32>(&logits, &labels, [2.5, 7.0]);
        assert_close(&got[..1], &want[..1], 1e-6);
        assert_eq!(got[1], want[1]);
    }

    #[test]
    fn of_equal_logits_the_first_is_the_prediction() {
        let logits = [1.0, 3.0, 3.0, 0.0];
        assert_eq!(run::<f64>(&logits, &[1], [0.0; 2])[1], 1.0);
        assert_eq!(run::<f64>(&logits, &[2], [0.0; 2])[1], 0.0);
        assert_eq!(run::<f64>(&[f64::NAN, 3.0, 0.0], &[1], [0.0; 2])[1], 0.0);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let got = run::<f32>(&[3000.0, 0.0, -3000.0, 0.0, 500.0, 500.0], &[1, 2], [0.0; 2]);
        assert_close(&got, &[3000.0 + 2f64.ln(), 0.0], 1e-6);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let mut f = Fixture::default();
        let (logits, labels, out) = (f.output(3, 4), f.ints(&[0; 3]), f.output(1, 2));
        assert!(Args { logits, labels, out }.check().is_ok());
        assert!(Args { logits, labels, out: f.output(2, 1) }.check().is_err());
        assert!(Args { logits, labels, out: logits.slice_rows(0, 1).columns(0, 2) }.check().is_err());
        let error = Args { logits, labels: f.ints(&[0; 2]), out }.check().unwrap_err();
        assert_eq!(error.to_string(), "operation loss: found 2 labels; expected 3 labels");
    }
}
