//! Products of matrices against f64 arithmetic of their own, at any size: on a sample of rows (of a Gram matrix, rows and
//! columns) the relative Frobenius error of the full result.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

use super::case::Case;
use super::check::Found;
use super::ops::maps::{ACTIVATION, SLAB};
use super::work::Work;
use crate::device::{Arena, Real};
use crate::ops::Launch;

/// Rows of a result that are recomputed: all of a small one, and few enough of a large one that the
/// check costs less than the timing.
const SAMPLE: usize = 16 * SLAB;
/// Columns of a Gram matrix that are recomputed.
const GRAM_SAMPLE: usize = 48;
/// Rows of x that are widened to f64 at once.
const CHUNK: usize = 4096;

/// The relative Frobenius error of the first output (of a Gram matrix the lower triangle counts), and what of it was
/// recomputed.
pub fn error<T: Real>(work: &Work, case: &Case, arena: &Arena<T>, found: &[Found]) -> (f64, String) {
    let x = arena.real(case.inputs[0].view.buffer);
    match (&case.program.launches[..], found) {
        ([Launch::Gram(a)], [Found::Reals(m2), ..]) => {
            let columns = spread(a.x.cols, GRAM_SAMPLE);
            (gram(x, a.x.rows, &columns, m2), described(work, columns.len(), a.x.cols, "columns"))
        }
        ([Launch::Linear(a)], [Found::Reals(y)]) => {
            let slab = if a.tangent { SLAB } else { 1 };
            let slabs = spread(a.x.rows / slab, SAMPLE / slab);
            let bias = a.bias.as_ref().map_or_else(|| vec![0.0; a.y.cols], |bias| bias.tensor.to_f64());
            (linear(x, &a.w.tensor.to_f64(), &bias, slab, &slabs, y), described(work, slabs.len() * slab, a.x.rows, "rows"))
        }
        _ => (f64::NAN, "nothing".into()),
    }
}

/// The shape, with how many of `all` rows or columns were recomputed if not all.
fn described(work: &Work, some: usize, all: usize, name: &str) -> String {
    if some == all { work.shape() } else { format!("{}, {some} {name}", work.shape()) }
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
    fn relative(&self) -> f64 {
        let error = (self.error / self.size).sqrt();
        // Nothing is off where all is 0, as for one row around its mean.
        match self.error {
            0.0 => 0.0,
            _ if error.is_finite() => error,
            _ => f64::INFINITY,
        }
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

/// Of the columns of the centred Gram matrix of x `[n, d]`.
fn gram<T: Real>(x: &[T], n: usize, columns: &[usize], result: &[f64]) -> f64 {
    let d = x.len() / n;
    let mut expected = Mat::<f64>::zeros(d, columns.len());
    let mut mean = vec![0.0; d];
    for row in x.chunks(d) {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += x.to_f64() / n as f64);
    }
    for from in (0..n).step_by(CHUNK) {
        let chunk: Vec<usize> = (from..n.min(from + CHUNK)).collect();
        let mut x = rows(x, d, &chunk);
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
    sum.relative()
}

/// Of the rows of the given slabs of y, for W `[k, m]`.
fn linear<T: Real>(x: &[T], w: &[f64], bias: &[f64], slab: usize, slabs: &[usize], result: &[f64]) -> f64 {
    let (m, k) = (bias.len(), w.len() / bias.len());
    let sample: Vec<usize> = slabs.iter().flat_map(|s| (0..slab).map(move |r| s * slab + r)).collect();
    let mut z = Mat::<f64>::zeros(sample.len(), m);
    let w = MatRef::from_row_major_slice(w, k, m);
    matmul(z.as_mut(), Accum::Replace, rows(x, k, &sample).as_ref(), w, 1.0, Par::rayon(0));
    let mut sum = Sum::default();
    for (i, &row) in sample.iter().enumerate() {
        let primal = i - i % slab;
        for j in 0..m {
            let z0 = z[(primal, j)] + bias[j];
            let expected = if i == primal { ACTIVATION.value(z0) } else { ACTIVATION.derivative(z0) * z[(i, j)] };
            sum.add(result[row * m + j], expected);
        }
    }
    sum.relative()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;

    /// A case with every number of its result by the definition, in loops.
    fn plain(op: &str, shape: &str) -> (Work, Case, Arena<f64>, Vec<f64>) {
        let work = Work::new(op.parse().unwrap(), DType::F64, &shape.parse().unwrap()).unwrap().unwrap();
        let case = work.case(1);
        let arena = case.arena::<f64>(DType::F64);
        let x = arena.real(case.inputs[0].view.buffer);
        let result = match &case.program.launches[0] {
            Launch::Gram(a) => {
                let (n, k) = (a.x.rows, a.x.cols);
                let mean: Vec<f64> = (0..k).map(|i| (0..n).map(|r| x[r * k + i]).sum::<f64>() / n as f64).collect();
                let centred = |r: usize, i: usize| x[r * k + i] - mean[i];
                let dot = |i: usize, j: usize| (0..n).map(|r| centred(r, i) * centred(r, j)).sum::<f64>();
                let lower = |i: usize, j: usize| if j > i { f64::NAN } else { dot(i, j) };
                (0..k * k).map(|e| lower(e / k, e % k)).collect()
            }
            Launch::Linear(a) => {
                let (n, k, m) = (a.x.rows, a.x.cols, a.y.cols);
                let (w, bias) = (a.w.tensor.to_f64(), a.bias.as_ref().unwrap().tensor.to_f64());
                let z = |i: usize, j: usize| (0..k).map(|l| x[i * k + l] * w[l * m + j]).sum::<f64>();
                let slab = if a.tangent { SLAB } else { 1 };
                let of = |i: usize, j: usize| {
                    let z0 = z(i - i % slab, j) + bias[j];
                    if i.is_multiple_of(slab) { ACTIVATION.value(z0) } else { ACTIVATION.derivative(z0) * z(i, j) }
                };
                (0..n * m).map(|e| of(e / m, e % m)).collect()
            }
            other => panic!("{other:?}"),
        };
        (work, case, arena, result)
    }

    const CASES: [(&str, &str, &str); 6] = [
        ("gram", "1x3", "1x3"),
        ("gram", "70x60", "70x60, 48 columns"),
        ("gram", "5000x3", "5000x3"),
        ("linear", "300x7x5", "300x7x5, 256 rows"),
        ("linear", "30x7x5", "30x7x5"),
        ("tangent", "320x7x5", "320x7x5, 256 rows"),
    ];

    #[test]
    fn a_right_result_has_no_error() {
        for (op, shape, what) in CASES {
            let (work, case, arena, result) = plain(op, shape);
            let (error, checked) = error(&work, &case, &arena, &[Found::Reals(result)]);
            assert!(error < 1e-14 && checked == what, "{op} {shape}: {error:e} {checked}");
        }
    }

    #[test]
    fn a_wrong_number_is_seen() {
        for (op, shape, _) in CASES {
            let (work, case, arena, mut result) = plain(op, shape);
            // The last row is in every sample.
            *result.last_mut().unwrap() += 1.0;
            assert!(error(&work, &case, &arena, &[Found::Reals(result)]).0 > 1e-6, "{op}");
        }
    }

    #[test]
    fn a_spread_has_both_ends() {
        assert_eq!(spread(3, 5), [0, 1, 2]);
        assert_eq!(spread(101, 5), [0, 25, 50, 75, 100]);
    }
}
