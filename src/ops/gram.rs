//! Mean and centred Gram matrix of the rows of a block, in one visit.
//!
//! Each block is centred on its own mean, and blocks are joined with the pairwise update of Chan,
//! Golub and LeVeque (1983) in f64 on the host: one pass over the data, without the cancellation of
//! raw second moments.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, MatMut, MatRef, Par};

use crate::device::{Arena, Real, View};

/// mean = column means of x; m2 = (x - mean)'(x - mean) on the lower triangle and 0 above. Both are
/// overwritten.
#[derive(Clone, Debug)]
pub struct Args {
    /// `[n, d]`
    pub x: View,
    /// `[1, d]`
    pub mean: View,
    /// `[d, d]`, contiguous
    pub m2: View,
}

/// out += x' x on the lower triangle; `x` is `[n, d]` contiguous, `out` `[d, d]` contiguous.
pub fn syrk<T: Real>(out: &mut [T], x: &[T], n: usize, d: usize) {
    if n == 0 || d == 0 {
        return;
    }
    let x = MatRef::from_row_major_slice(&x[..n * d], n, d);
    let out = MatMut::from_row_major_slice_mut(&mut out[..d * d], d, d);
    let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
    triangular::matmul(out, lower, Accum::Add, x.transpose(), full, x, full, T::ONE, Par::Seq);
}

/// Runs on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let (n, d) = (a.x.rows, a.x.cols);
    // Summed as differences from the first row: a column that never changes has exactly no variance.
    let first = m.row(&a.x, 0);
    let mut sums = vec![0.0f64; d];
    for i in 0..n {
        sums.iter_mut().zip(m.row(&a.x, i).iter().zip(first)).for_each(|(s, (x, x0))| *s += x.to_f64() - x0.to_f64());
    }
    let mean: Vec<T> = sums.iter().zip(first).map(|(s, x0)| T::of(x0.to_f64() + s / n as f64)).collect();
    let mut centred = Vec::with_capacity(n * d);
    for i in 0..n {
        centred.extend(m.row(&a.x, i).iter().zip(&mean).map(|(x, mu)| *x - *mu));
    }
    let mut m2 = m.take(a.m2.buffer);
    m2.fill(T::ZERO);
    syrk(&mut m2, &centred, n, d);
    m.put(a.m2.buffer, m2);
    let range = a.mean.range(0);
    m.real_mut(a.mean.buffer)[range].copy_from_slice(&mean);
}

/// out += x'x on the lower triangle, no centring: M' from the rows of stacked Jacobians. With
/// `transpose`, out += x x'.
#[derive(Clone, Debug)]
pub struct AddArgs {
    /// `[n, d]`, contiguous; with `transpose` `[d, n]`
    pub x: View,
    /// `[d, d]`, contiguous
    pub out: View,
    pub transpose: bool,
}

/// Runs on one CPU thread.
pub fn cpu_add<T: Real>(a: &AddArgs, m: &mut Arena<T>) {
    let mut out = m.take(a.out.buffer);
    let x = m.real(a.x.buffer);
    if a.transpose {
        let x = MatRef::from_row_major_slice(&x[a.x.offset..][..a.x.rows * a.x.cols], a.x.rows, a.x.cols);
        let dst = MatMut::from_row_major_slice_mut(&mut out, a.x.rows, a.x.rows);
        let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
        triangular::matmul(dst, lower, Accum::Add, x, full, x.transpose(), full, T::ONE, Par::Seq);
    } else {
        syrk(&mut out, &x[a.x.offset..], a.x.rows, a.x.cols);
    }
    m.put(a.out.buffer, out);
}

/// out += a'b, for `a` `[n, d]` and `b` `[n, e]`.
#[derive(Clone, Debug)]
pub struct CrossArgs {
    pub a: View,
    pub b: View,
    /// `[d, e]`
    pub out: View,
}

/// Runs on one CPU thread.
pub fn cpu_cross<T: Real>(c: &CrossArgs, m: &mut Arena<T>) {
    let mut out = m.take(c.out.buffer);
    let dst = crate::device::memory::mat_mut(&mut out, &c.out);
    faer::linalg::matmul::matmul(dst, Accum::Add, m.mat(&c.a).transpose(), m.mat(&c.b), T::ONE, Par::Seq);
    m.put(c.out.buffer, out);
}
