//! y = x W + b, with an optional activation behind it: the GEMM of every linear map, also of a batch
//! whose rows are tokens of one primal and 15 tangents.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatRef, Par};

use super::activation::Activation;
use super::linear_panels;
use crate::device::memory::mat_mut;
use crate::device::{Arena, Real, Tensor, View};
use crate::error::{Error, Result};
use crate::kernel::linear::{Elementwise, Epilogue};

/// Rows of a token with `tangent`: 1 primal and 15 tangents.
pub const TANGENT_ROWS: usize = crate::kernel::linear::TANGENT_ROWS as usize;

/// A block of a tensor: rows `row..row + rows`, columns `col..col + cols`.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub tensor: Tensor,
    pub row: usize,
    pub col: usize,
    pub rows: usize,
    pub cols: usize,
}

impl Matrix {
    /// The whole tensor.
    pub fn whole(tensor: &Tensor) -> Self {
        Self { row: 0, col: 0, rows: tensor.rows, cols: tensor.cols, tensor: tensor.clone() }
    }
    /// Columns `col..col + cols` of a tensor.
    pub fn columns(tensor: &Tensor, col: usize, cols: usize) -> Self {
        Self { col, cols, ..Self::whole(tensor) }
    }
    /// Rows `row..row + rows` of a tensor.
    pub fn some_rows(tensor: &Tensor, row: usize, rows: usize) -> Self {
        Self { row, rows, ..Self::whole(tensor) }
    }
    /// The block as a matrix of the program's dtype. Panics as [`Tensor::slice`] does.
    pub fn mat<T: Real>(&self) -> MatRef<'_, T> {
        self.of(self.tensor.slice())
    }
    /// The block where it lies; `None` where [`Tensor::try_slice`] has nothing.
    pub fn try_mat<T: Real>(&self) -> Option<MatRef<'_, T>> {
        self.tensor.try_slice().map(|all| self.of(all))
    }
    fn of<'a, T>(&self, all: &'a [T]) -> MatRef<'a, T> {
        let t = &self.tensor;
        MatRef::from_row_major_slice(all, t.rows, t.cols).submatrix(self.row, self.col, self.rows, self.cols)
    }
    /// Converts the block to `T`, row-major: `rows * cols` elements.
    pub fn read_into<T: Real>(&self, out: &mut [T]) {
        if self.cols == self.tensor.cols {
            return self.tensor.read_into(self.row * self.cols, out);
        }
        for (i, row) in out.chunks_exact_mut(self.cols).enumerate() {
            self.tensor.read_into((self.row + i) * self.tensor.cols + self.col, row);
        }
    }
}

/// y = act(x W + b), or y += x W + b; with `transpose`, W' in the place of W.
///
/// With `tangent`, the rows are tokens of [`TANGENT_ROWS`] rows, the primal first, and the tangents run
/// through the derivative at it: y_0 = act(z_0), y_r = act'(z_0) * x_r W, for z_0 = x_0 W + b.
#[derive(Clone, Debug)]
pub struct Args {
    /// `[n, d_in]`
    pub x: View,
    /// `[d_in, d_out]`, or `[d_out, d_in]` with `transpose`; of a mapped tensor too
    pub w: Matrix,
    pub transpose: bool,
    /// `[1, d_out]`
    pub bias: Option<Matrix>,
    /// Elementwise, applied last; not together with `accumulate`
    pub act: Option<Activation>,
    /// `[n, d_out]`: receives x W + b before the activation; with `tangent` `[n / 16, d_out]`, z_0 alone
    pub pre: Option<View>,
    /// `[n, d_out]`
    pub y: View,
    pub accumulate: bool,
    /// Not together with `accumulate`
    pub tangent: bool,
}

impl Args {
    /// y = x W.
    pub fn new(x: View, w: Matrix, y: View) -> Self {
        Self { x, w, transpose: false, bias: None, act: None, pre: None, y, accumulate: false, tangent: false }
    }
    /// Checks the shapes.
    pub fn check(&self) -> Result<()> {
        let (d_in, d_out) = if self.transpose { (self.w.cols, self.w.rows) } else { (self.w.rows, self.w.cols) };
        let ok = self.x.cols == d_in
            && self.y.cols == d_out
            && self.x.rows == self.y.rows
            && self.bias.as_ref().is_none_or(|b| (b.rows, b.cols) == (1, d_out))
            && self.pre.is_none_or(|p| (p.rows * if self.tangent { TANGENT_ROWS } else { 1 }, p.cols) == (self.y.rows, d_out))
            && !(self.accumulate && (self.act.is_some() || self.pre.is_some() || self.tangent))
            && (!self.tangent || self.x.rows.is_multiple_of(TANGENT_ROWS))
            && self.act.is_none_or(Activation::is_elementwise);
        if ok {
            return Ok(());
        }
        Err(Error::shape(
            "linear",
            format!("x [{}, {}], y [{}, {}]", self.x.rows, self.x.cols, self.y.rows, self.y.cols),
            format!("W [{d_in}, {d_out}] to fit between them"),
        ))
    }
    /// What becomes of `x W + b` in a launch that passes its check, as the kernels name it.
    pub fn epilogue(&self) -> Epilogue {
        let act = self.act.and_then(Activation::elementwise).unwrap_or(Elementwise::Identity);
        match (self.accumulate, self.tangent) {
            (true, _) => Epilogue::Add,
            (false, true) => Epilogue::Tangent(act),
            (false, false) => Epilogue::Store(act),
        }
    }
    /// Whether the kernels of a GPU can serve the launch.
    pub(super) fn fits(&self) -> bool {
        let most = |v: &View| v.rows.max(v.cols).max(v.stride) < 1 << 30;
        let empty = self.x.rows == 0 || self.x.cols == 0 || self.y.cols == 0;
        let fits = most(&self.x) && most(&self.y) && self.pre.as_ref().is_none_or(most) && self.w.tensor.cols < 1 << 30;
        self.check().is_ok() && !empty && fits
    }
}

/// Runs on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut y = m.take(a.y.buffer);
    let times = |x: View, w: MatRef<'_, T>, y: View, data: &mut [T], adds: bool| {
        let (w, accum) = (if a.transpose { w.transpose() } else { w }, if adds { Accum::Add } else { Accum::Replace });
        matmul(mat_mut(data, &y), accum, m.mat(&x), w, T::ONE, Par::Seq);
    };
    match a.w.try_mat() {
        Some(whole) => {
            let (k, m) = if a.transpose { (a.w.cols, a.w.rows) } else { (a.w.rows, a.w.cols) };
            for columns in linear_panels::packed(k, m, size_of::<T>()) {
                let (first, count) = (columns.start, columns.len());
                let w = if a.transpose { whole.subrows(first, count) } else { whole.subcols(first, count) };
                times(a.x, w, a.y.columns(first, count), &mut y, a.accumulate);
            }
        }
        None => linear_panels::each(&a.w, a.transpose, a.x.rows == 1, |columns, depth, panel| {
            let x = a.x.columns(depth.start, depth.len());
            times(x, panel, a.y.columns(columns.start, columns.len()), &mut y, a.accumulate || depth.start > 0);
        }),
    }
    // Rows that are primal: a bias, the copy before the activation and the activation are theirs.
    let step = if a.tangent { TANGENT_ROWS } else { 1 };
    if let Some(bias) = &a.bias {
        let b: Vec<T> = (0..bias.cols).map(|j| bias.mat::<T>()[(0, j)]).collect();
        for i in (0..a.y.rows).step_by(step) {
            for (y, b) in y[a.y.range(i)].iter_mut().zip(&b) {
                *y += *b;
            }
        }
    }
    if let Some(pre) = a.pre {
        let out = m.real_mut(pre.buffer);
        for i in (0..a.y.rows).step_by(step) {
            out[pre.range(i / step)].copy_from_slice(&y[a.y.range(i)]);
        }
    }
    if let (Some(act), true) = (a.act, a.tangent) {
        let mut slopes = vec![T::ZERO; a.y.cols];
        for token in (0..a.y.rows).step_by(step) {
            act.derivatives(&y[a.y.range(token)], &mut slopes);
            for i in token + 1..token + step {
                y[a.y.range(i)].iter_mut().zip(&slopes).for_each(|(y, slope)| *y *= *slope);
            }
        }
    }
    if let Some(act) = a.act {
        for i in (0..a.y.rows).step_by(step) {
            act.apply(&mut y[a.y.range(i)]);
        }
    }
    m.put(a.y.buffer, y);
}
