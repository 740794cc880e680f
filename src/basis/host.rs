//! Dense f64 algebra on the host.
//!
//! Products are cut into fixed column panels that run side by side, each sequentially, and an
//! eigendecomposition runs on one thread: the bytes of the result do not depend on the number of threads.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::device::{DType, Tensor};
use crate::error::{Error, Result};
use crate::model::sections::{Kind, LinearMap};

/// Columns of a panel.
const PANEL: usize = 64;

/// dst += alpha a b.
pub fn add_product(dst: MatMut<'_, f64>, alpha: f64, a: MatRef<'_, f64>, b: MatRef<'_, f64>) {
    let mut panels = Vec::new();
    let mut rest = dst;
    let mut at = 0;
    while rest.ncols() > 0 {
        let take = PANEL.min(rest.ncols());
        let (head, tail) = rest.split_at_col_mut(take);
        panels.push((head, b.subcols(at, take)));
        at += take;
        rest = tail;
    }
    panels.into_par_iter().for_each(|(dst, b)| matmul(dst, Accum::Add, a, b, alpha, Par::Seq));
}

/// a b.
pub fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    add_product(out.as_mut(), 1.0, a, b);
    out
}

/// l a l'.
pub fn congruence(l: MatRef<'_, f64>, a: MatRef<'_, f64>) -> Mat<f64> {
    product(product(l, a).as_ref(), l.transpose())
}

/// a + a'.
pub fn sym(a: &Mat<f64>) -> Mat<f64> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)] + a[(j, i)])
}

/// (a + a') / 2.
pub fn symmetrise(a: &Mat<f64>) -> Mat<f64> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| 0.5 * (a[(i, j)] + a[(j, i)]))
}

/// A square matrix from its row-major lower triangle.
pub fn from_lower(n: usize, x: &[f64]) -> Mat<f64> {
    Mat::from_fn(n, n, |i, j| if i >= j { x[i * n + j] } else { x[j * n + i] })
}

/// A matrix from row-major data.
pub fn from_rows(rows: usize, cols: usize, x: &[f64]) -> Mat<f64> {
    Mat::from_fn(rows, cols, |i, j| x[i * cols + j])
}

/// Row-major data of a matrix.
pub fn to_rows(a: MatRef<'_, f64>) -> Vec<f64> {
    (0..a.nrows()).flat_map(|i| (0..a.ncols()).map(move |j| a[(i, j)])).collect()
}

/// A device tensor of a matrix.
pub fn tensor(dtype: DType, a: MatRef<'_, f64>) -> Tensor {
    Tensor::from_f64(dtype, a.nrows(), a.ncols(), to_rows(a))
}

/// Eigenvalues by falling absolute value, and their vectors as columns (`lib.md` 1.5). The sign of
/// each vector makes its largest component positive (the first such), so that results are
/// reproducible.
pub fn eigen(a: MatRef<'_, f64>, place: &str) -> Result<(Vec<f64>, Mat<f64>)> {
    let n = a.nrows();
    if n == 0 {
        return Ok((Vec::new(), Mat::zeros(0, 0)));
    }
    let (mut s, mut u) = (Diag::<f64>::zeros(n), Mat::<f64>::zeros(n, n));
    // One thread: the rounding of a parallel decomposition depends on their number.
    let scratch = evd::self_adjoint_evd_scratch::<f64>(n, evd::ComputeEigenvectors::Yes, Par::Seq, Default::default());
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    evd::self_adjoint_evd(a, s.as_mut(), Some(u.as_mut()), Par::Seq, stack, Default::default()).map_err(|e| {
        Error::numeric(
            place,
            format!("an eigendecomposition of a {n}x{n} matrix that does not converge ({e:?})"),
            "finite entries",
        )
    })?;
    let values: Vec<f64> = s.column_vector().iter().map(|x| x.abs()).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| values[j].total_cmp(&values[i]).then(i.cmp(&j)));
    let sign = |j: usize| {
        let largest = (0..n).fold(0.0f64, |m, i| m.max(u[(i, j)].abs()));
        // Components within rounding of the largest count as equal: the first of them decides.
        let first = (0..n).find(|&i| u[(i, j)].abs() >= largest * (1.0 - 1e-9)).unwrap_or(0);
        u[(first, j)].signum()
    };
    let signs: Vec<f64> = order.iter().map(|&j| sign(j)).collect();
    let vectors = Mat::from_fn(n, n, |i, j| signs[j] * u[(i, order[j])]);
    Ok((order.iter().map(|&j| values[j]).collect(), vectors))
}

impl LinearMap {
    /// X B, for X `[n, d_in]`.
    pub fn rows(&self, x: MatRef<'_, f64>) -> Mat<f64> {
        let mut y = Mat::<f64>::zeros(x.nrows(), self.d_out);
        for b in &self.blocks {
            match &b.kind {
                Kind::Identity(n) => add(y.as_mut().subcols_mut(b.to, *n), x.subcols(b.from, *n)),
                Kind::Diagonal(w) => {
                    for (j, w) in w.to_f64().into_iter().enumerate() {
                        for i in 0..x.nrows() {
                            y[(i, b.to + j)] += w * x[(i, b.from + j)];
                        }
                    }
                }
                Kind::Dense(m) => {
                    let w = dense(m);
                    add_product(y.as_mut().subcols_mut(b.to, m.cols), 1.0, x.subcols(b.from, m.rows), w.as_ref());
                }
            }
        }
        y
    }
    /// B Y, for Y `[d_out, n]`.
    pub fn cols(&self, y: MatRef<'_, f64>) -> Mat<f64> {
        let mut x = Mat::<f64>::zeros(self.d_in, y.ncols());
        for b in &self.blocks {
            match &b.kind {
                Kind::Identity(n) => add(x.as_mut().subrows_mut(b.from, *n), y.subrows(b.to, *n)),
                Kind::Diagonal(w) => {
                    for (i, w) in w.to_f64().into_iter().enumerate() {
                        for j in 0..y.ncols() {
                            x[(b.from + i, j)] += w * y[(b.to + i, j)];
                        }
                    }
                }
                Kind::Dense(m) => {
                    let w = dense(m);
                    add_product(x.as_mut().subrows_mut(b.from, m.rows), 1.0, w.as_ref(), y.subrows(b.to, m.cols));
                }
            }
        }
        x
    }
    /// B A B'.
    pub fn congruence(&self, a: MatRef<'_, f64>) -> Mat<f64> {
        let half = self.cols(a);
        self.cols(half.transpose())
    }
}

fn dense(m: &crate::ops::linear::Matrix) -> Mat<f64> {
    let (t, data) = (&m.tensor, m.tensor.to_f64());
    Mat::from_fn(m.rows, m.cols, |i, j| data[(m.row + i) * t.cols + m.col + j])
}

fn add(mut dst: MatMut<'_, f64>, src: MatRef<'_, f64>) {
    for j in 0..src.ncols() {
        for i in 0..src.nrows() {
            dst[(i, j)] += src[(i, j)];
        }
    }
}
