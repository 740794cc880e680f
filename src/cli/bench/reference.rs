//! Checks a result against f64 arithmetic before anything is timed: on every number whether it is
//! finite, on a sample of rows (of a Gram matrix, rows and columns) the relative Frobenius error.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

use super::work::{ACTIVATION, Data, Op, SLAB, Work};
use crate::device::Real;

/// Rows of a result that are recomputed: all of a small one, and few enough of a large one that the
/// check costs less than the timing.
const SAMPLE: usize = 16 * SLAB;
/// Columns of a Gram matrix that are recomputed.
const GRAM_SAMPLE: usize = 48;
/// Rows of x that are widened to f64 at once.
const CHUNK: usize = 4096;

/// The relative Frobenius error of `result`, row-major as [`Work::result_len`] says (of a Gram matrix
/// the lower triangle counts). Infinite if a number is not finite.
pub fn error<T: Real>(work: &Work, data: &Data<T>, result: &[f64]) -> f64 {
    match work.op {
        Op::Gram => gram(work, data, result),
        Op::Linear | Op::Tangent => linear(work, data, result),
    }
}

/// Differences, their size and that of the reference.
#[derive(Default)]
struct Sum {
    error: f64,
    size: f64,
}

impl Sum {
    fn add(&mut self, found: f64, expected: f64) {
        self.error += (found - expected).powi(2);
        self.size += expected.powi(2);
    }
    fn relative(&self, finite: bool) -> f64 {
        let error = (self.error / self.size).sqrt();
        if finite && error.is_finite() { error } else { f64::INFINITY }
    }
}

/// At most `most` of `0..count`, evenly spread, with both ends.
fn spread(count: usize, most: usize) -> Vec<usize> {
    if count <= most { (0..count).collect() } else { (0..most).map(|i| i * (count - 1) / (most - 1)).collect() }
}

/// Rows `rows` of a matrix with `k` columns, in f64.
fn rows<T: Real>(x: &[T], k: usize, rows: &[usize]) -> Mat<f64> {
    Mat::from_fn(rows.len(), k, |i, j| x[rows[i] * k + j].to_f64())
}

fn gram<T: Real>(work: &Work, data: &Data<T>, result: &[f64]) -> f64 {
    let (n, d) = (work.n, work.k);
    let columns = spread(d, GRAM_SAMPLE);
    let mut expected = Mat::<f64>::zeros(d, columns.len());
    let mut mean = vec![0.0; d];
    for row in data.x.chunks(d) {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += x.to_f64() / n as f64);
    }
    for from in (0..n).step_by(CHUNK) {
        let chunk: Vec<usize> = (from..n.min(from + CHUNK)).collect();
        let mut x = rows(&data.x, d, &chunk);
        x.col_iter_mut().zip(&mean).for_each(|(column, m)| column.iter_mut().for_each(|x| *x -= m));
        let sampled = Mat::from_fn(x.nrows(), columns.len(), |i, s| x[(i, columns[s])]);
        matmul(expected.as_mut(), Accum::Add, x.transpose(), sampled.as_ref(), 1.0, Par::rayon(0));
    }
    let mut sum = Sum::default();
    for (s, &j) in columns.iter().enumerate() {
        for i in 0..d {
            sum.add(result[i.max(j) * d + i.min(j)], expected[(i, s)]);
        }
    }
    let finite = (0..d).all(|i| result[i * d..][..=i].iter().all(|y| y.is_finite()));
    sum.relative(finite && result.len() == d * d)
}

fn linear<T: Real>(work: &Work, data: &Data<T>, result: &[f64]) -> f64 {
    let (k, m) = (work.k, work.m);
    let slab = if work.op == Op::Tangent { SLAB } else { 1 };
    let slabs = spread(work.n / slab, SAMPLE / slab);
    let sample: Vec<usize> = slabs.iter().flat_map(|s| (0..slab).map(move |r| s * slab + r)).collect();
    let w = MatRef::from_row_major_slice(&data.w, k, m);
    let w = Mat::from_fn(k, m, |i, j| w[(i, j)].to_f64());
    let mut z = Mat::<f64>::zeros(sample.len(), m);
    matmul(z.as_mut(), Accum::Replace, rows(&data.x, k, &sample).as_ref(), w.as_ref(), 1.0, Par::rayon(0));
    let mut sum = Sum::default();
    for (i, &row) in sample.iter().enumerate() {
        let primal = i - i % slab;
        for j in 0..m {
            let z0 = z[(primal, j)] + data.bias[j].to_f64();
            let expected = if i == primal { ACTIVATION.value(z0) } else { ACTIVATION.derivative(z0) * z[(i, j)] };
            sum.add(result[row * m + j], expected);
        }
    }
    sum.relative(result.len() == work.n * m && result.iter().all(|y| y.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;

    /// Every number of the result by the definition, in loops.
    fn plain(work: &Work, data: &Data<f64>) -> Vec<f64> {
        let (n, k, m) = (work.n, work.k, work.m);
        let z = |i: usize, j: usize| (0..k).map(|l| data.x[i * k + l] * data.w[l * m + j]).sum::<f64>();
        match work.op {
            Op::Gram => {
                let mean: Vec<f64> = (0..k).map(|i| (0..n).map(|r| data.x[r * k + i]).sum::<f64>() / n as f64).collect();
                let centred = |r: usize, i: usize| data.x[r * k + i] - mean[i];
                let dot = |i: usize, j: usize| (0..n).map(|r| centred(r, i) * centred(r, j)).sum::<f64>();
                let lower = |i: usize, j: usize| if j > i { f64::NAN } else { dot(i, j) };
                (0..k * k).map(|e| lower(e / k, e % k)).collect()
            }
            Op::Linear => (0..n * m).map(|e| ACTIVATION.value(z(e / m, e % m) + data.bias[e % m])).collect(),
            Op::Tangent => (0..n * m)
                .map(|e| {
                    let (i, j) = (e / m, e % m);
                    let z0 = z(i - i % SLAB, j) + data.bias[j];
                    if i % SLAB == 0 { ACTIVATION.value(z0) } else { ACTIVATION.derivative(z0) * z(i, j) }
                })
                .collect(),
        }
    }

    fn case(op: Op, shape: &str) -> (Work, Data<f64>, Vec<f64>) {
        let work = Work::new(op, DType::F64, &shape.parse().unwrap()).unwrap().unwrap();
        let data = Data::new(&work, 1);
        let result = plain(&work, &data);
        (work, data, result)
    }

    #[test]
    fn a_right_result_has_no_error() {
        for (op, shape) in [(Op::Gram, "70x60"), (Op::Gram, "5000x3"), (Op::Linear, "300x7x5"), (Op::Tangent, "320x7x5")] {
            let (work, data, result) = case(op, shape);
            let error = error(&work, &data, &result);
            assert!(error < 1e-14, "{op:?} {shape}: {error:e}");
        }
    }

    #[test]
    fn a_wrong_or_missing_number_is_seen() {
        for (op, shape) in [(Op::Gram, "70x60"), (Op::Linear, "300x7x5"), (Op::Tangent, "320x7x5")] {
            let (work, data, result) = case(op, shape);
            // The last row is in every sample; a number that was not written is seen wherever it is.
            let last = result.len() - 1;
            let mut wrong = result.clone();
            wrong[last] += 1.0;
            assert!(error(&work, &data, &wrong) > 1e-6, "{op:?}");
            let mut missing = result.clone();
            missing[last / 2 / work.m * work.m] = f64::NAN;
            assert_eq!(error(&work, &data, &missing), f64::INFINITY, "{op:?}");
        }
    }

    #[test]
    fn a_spread_has_both_ends() {
        assert_eq!(spread(3, 5), [0, 1, 2]);
        assert_eq!(spread(101, 5), [0, 25, 50, 75, 100]);
    }
}
