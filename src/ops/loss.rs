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
    /// At least `from + n` labels, each below `V` or [`SKIPPED`]: whoever fills the buffer has checked them.
    pub labels: IntBuffer,
    /// Number of the label of the first row of `logits`; those of the other rows follow it.
    pub from: usize,
    /// `[1, 2]`, read and written: (sum of cross-entropies, correct predictions).
    pub out: View,
}

impl Args {
    /// Whether the shapes agree and the sums have a buffer of their own.
    pub fn check(&self) -> Result<()> {
        let op = "loss";
        check::view(op, "logits", &self.logits, self.logits.rows, self.logits.cols)?;
        check::view(op, "out", &self.out, 1, 2)?;
        let end = self.from.saturating_add(self.logits.rows);
        if end > self.labels.len {
            return Err(Error::shape(op, format!("{} labels", self.labels.len), format!("at least {end} labels")));
        }
        check::apart(op, &[&self.out], &[&self.logits])
    }
}

/// Runs [`Args`].
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.out]);
    let labels = &m.int(a.labels)[a.from..][..a.logits.rows];
    add_sums(&a.logits, labels, m, out.row(&a.out, 0));
    out.put(m);
}

/// The sums of each of many runs over one set of labels: adds those of run p = index * R + r to row p
/// of `out`; runs behind the last row are left out.
#[derive(Clone, Debug)]
pub struct ProbeArgs {
    /// `[R * n, V]`.
    pub logits: View,
    /// `[n]`, each as in [`Args`].
    pub labels: IntBuffer,
    /// `[1]`: number of the chunk of R runs.
    pub index: IntBuffer,
    /// `[runs, 2]`, read and written, as in [`Args`].
    pub out: View,
}

impl ProbeArgs {
    /// Whether the shapes agree and the sums have a buffer of their own.
    pub fn check(&self) -> Result<()> {
        let op = "probe loss";
        check::probes(op, "logits", &self.logits, self.labels.len, self.logits.cols)?;
        check::view(op, "out", &self.out, self.out.rows, 2)?;
        check::apart(op, &[&self.out], &[&self.logits])
    }
}

/// Some runs over the labels from `from` on, `rows` each: what the launchers of [`Args`] and [`ProbeArgs`] have in common.
pub(super) struct Runs {
    pub logits: View,
    pub labels: IntBuffer,
    pub from: usize,
    pub rows: usize,
    pub index: Option<IntBuffer>,
    pub out: View,
}

impl From<&Args> for Runs {
    fn from(a: &Args) -> Self {
        let Args { logits, labels, from, out } = *a;
        Self { logits, labels, from, rows: logits.rows, index: None, out }
    }
}

impl From<&ProbeArgs> for Runs {
    fn from(a: &ProbeArgs) -> Self {
        let ProbeArgs { logits, labels, index, out } = *a;
        Self { logits, labels, from: 0, rows: labels.len, index: Some(index), out }
    }
}

/// Runs [`ProbeArgs`].
pub fn cpu_probes<T: Real>(a: &ProbeArgs, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.out]);
    let n = a.labels.len;
    let (probes, first) = (a.logits.rows / n, m.int(a.index)[0] as usize * (a.logits.rows / n));
    for r in 0..probes.min(a.out.rows.saturating_sub(first)) {
        add_sums(&a.logits.slice_rows(r * n, n), m.int(a.labels), m, out.row(&a.out, first + r));
    }
    out.put(m);
}

/// Adds the cross-entropies and the correct predictions of `logits` `[n, V]` to `sums`.
fn add_sums<T: Real>(logits: &View, labels: &[u32], m: &Arena<T>, sums: &mut [T]) {
    let (mut entropy, mut correct) = (T::ZERO, 0u32);
    let mut shifted = vec![T::ZERO; logits.cols];
    for (i, &label) in labels.iter().enumerate().filter(|(_, label)| **label != SKIPPED) {
        let (row, label) = (m.row(logits, i), label as usize);
        let ((top, sum), picked) = (rows::exponentials(row, &mut shifted), row[label]);
        entropy += T::of(sum.to_f64().ln()) + (top - picked);
        let first = row[..label].iter().all(|&x| x < picked) && row[label..].iter().all(|&x| x <= picked);
        correct += u32::from(first);
    }
    sums[0] += entropy;
    sums[1] += T::of(f64::from(correct));
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, assert_close, numbers, read};
    use super::*;

    fn run<T: Real>(logits: &[f64], labels: &[u32], held: [f64; 2]) -> Vec<f64> {
        let mut f = Fixture::default();
        let n = labels.len();
        let a = Args { logits: f.input(n, logits.len() / n, logits), labels: f.ints(labels), from: 0, out: f.input(1, 2, &held) };
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
    fn every_run_has_sums_of_its_own() {
        let (n, v, runs) = (3, 5, 3);
        let (logits, labels) = (numbers(4 * n * v, 2), [1, SKIPPED, 4]);
        let mut held = vec![0.5; 2 * runs];
        for chunk in 0..2 {
            let mut f = Fixture::default();
            let a = ProbeArgs {
                logits: f.input(2 * n, v, &logits[chunk * 2 * n * v..][..2 * n * v]),
                labels: f.ints(&labels),
                index: f.ints(&[chunk as u32]),
                out: f.input(runs, 2, &held),
            };
            a.check().unwrap();
            assert!(ProbeArgs { labels: f.ints(&[0; 4]), ..a.clone() }.check().is_err());
            assert!(ProbeArgs { out: f.output(runs, 3), ..a.clone() }.check().is_err());
            let mut m = f.arena::<f64>();
            cpu_probes(&a, &mut m);
            held = read(&m, &a.out);
        }
        let want: Vec<f64> = (0..runs).flat_map(|p| run::<f64>(&logits[p * n * v..][..n * v], &labels, [0.5; 2])).collect();
        assert_eq!(held, want);
    }

    #[test]
    fn a_few_rows_at_a_time_add_up_to_all_of_them() {
        let (n, v) = (7, 5);
        let (logits, labels) = (numbers(n * v, 4), [4, SKIPPED, 1, 0, 3, SKIPPED, 2]);
        let whole = run::<f64>(&logits, &labels, [0.0; 2]);
        let mut f = Fixture::default();
        let (all, labels, out) = (f.input(n, v, &logits), f.ints(&labels), f.input(1, 2, &[0.0; 2]));
        let mut m = f.arena::<f64>();
        for (from, rows) in [(0, 3), (3, 3), (6, 1)] {
            let a = Args { logits: all.slice_rows(from, rows), labels, from, out };
            a.check().unwrap();
            cpu(&a, &mut m);
        }
        let parts = read(&m, &out);
        assert_close(&parts[..1], &whole[..1], 1e-15);
        assert_eq!(parts[1], whole[1]);
        let behind = Args { logits: all.slice_rows(0, 2), labels, from: 6, out }.check().unwrap_err().to_string();
        assert_eq!(behind, "operation loss: found 7 labels; expected at least 8 labels");
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
        assert!(Args { logits, labels, from: 0, out }.check().is_ok());
        assert!(Args { logits, labels, from: 0, out: f.output(2, 1) }.check().is_err());
        assert!(Args { logits, labels, from: 0, out: logits.slice_rows(0, 1).columns(0, 2) }.check().is_err());
        let error = Args { logits, labels: f.ints(&[0; 2]), from: 0, out }.check().unwrap_err();
        assert_eq!(error.to_string(), "operation loss: found 2 labels; expected at least 3 labels");
    }
}
