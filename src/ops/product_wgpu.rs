//! The wgpu launcher of batched matrix products, for the operations that are made of them, and of
//! [`super::gram::CrossArgs`] and [`super::gram::AddArgs`].

use super::gram::{AddArgs, CrossArgs};
use super::offload::{Scratch, WgpuPlace};
use crate::device::View;
use crate::device::wgpu::{Recorded, WgpuBuffer};
use crate::error::{Error, Result};
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::product::{A_ALONG_K, ADDS, B_ALONG_K, LOWER, PRODUCT, ProductParams, choose};

/// A batch of matrices of f32 in a buffer, a program's, a scratch buffer or a weight: element (i, j) of the matrix
/// (z0, z1, z2) is number `at + i row + j column + z0 batch[0] + z1 batch[1] + z2 batch[2]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand<'a> {
    pub buffer: &'a WgpuBuffer,
    pub at: usize,
    pub row: usize,
    pub column: usize,
    pub batch: [usize; 3],
}

impl<'a> Operand<'a> {
    /// A row-major matrix from element `at` of a buffer on, whose rows are `stride` elements apart.
    pub fn rows(buffer: &'a WgpuBuffer, at: usize, stride: usize) -> Self {
        Self { buffer, at, row: stride, column: 1, batch: [0; 3] }
    }
    /// A view.
    pub fn view(at: &'a WgpuPlace, v: &View) -> Self {
        Self::rows(at.view(v).buffer, v.offset, v.stride)
    }
    /// Every matrix transposed.
    pub fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }
    /// With these elements from one value of a batch index to the next.
    pub fn batched(self, batch: [usize; 3]) -> Self {
        Self { batch, ..self }
    }
    /// Elements from the first to behind the last of `[rows, columns]` in a batch.
    fn span(&self, [rows, columns]: [usize; 2], batch: [usize; 3]) -> usize {
        let strides = self.batch.into_iter().zip(batch).chain([(self.row, rows), (self.column, columns)]);
        let last = strides.map(|(stride, count)| stride.saturating_mul(count.saturating_sub(1)));
        last.fold(1, usize::saturating_add)
    }
}

/// C[z] = alpha A[z] B[z], or `+=`, for z = (z0, z1, z2), with A `[m, k]`, B `[k, n]` and C `[m, n]`.
///
/// An element is summed in the order of k, in chains of 128 whose sum is compensated: the same bits whatever the strides
/// and whatever else is in the batch. C lies in another buffer than A and B. Where a binding cannot hold an operand, the
/// batch is cut, along k too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product<'a> {
    pub a: Operand<'a>,
    pub b: Operand<'a>,
    pub c: Operand<'a>,
    pub m: usize,
    pub n: usize,
    /// 0 gives matrices of zeros.
    pub k: usize,
    /// Values of each batch index.
    pub batch: [usize; 3],
    pub alpha: f64,
    /// Adds to C.
    pub accumulate: bool,
    /// Leaves what lies above the diagonal of each C untouched; batches of one matrix are cut along k alone then.
    pub lower: bool,
}

/// What a product is cut along.
#[derive(Clone, Copy, Debug)]
enum Axis {
    Rows,
    Columns,
    Steps,
    Batch(usize),
}

/// Cuts of matrices fall on multiples of this where they can, so that quads stay whole.
const STEP: usize = 128;

impl<'a> Product<'a> {
    /// C = A B, for `[m, n, k]`.
    pub fn new([m, n, k]: [usize; 3], a: Operand<'a>, b: Operand<'a>, c: Operand<'a>) -> Self {
        Self { a, b, c, m, n, k, batch: [1; 3], alpha: 1.0, accumulate: false, lower: false }
    }
    /// Adds the launches to `calls`: none for an empty batch.
    pub fn record(&self, at: &WgpuPlace, calls: &mut Vec<Recorded>) -> Result<()> {
        if self.m == 0 || self.n == 0 || self.batch.contains(&0) || (self.k == 0 && self.accumulate) {
            return Ok(());
        }
        let Some(axis) = self.too_large(at.limits().binding) else {
            calls.push(self.launch(at)?);
            return Ok(());
        };
        let Some((first, second)) = self.cut(axis) else { return Err(self.error()) };
        first.record(at, calls)?;
        second.record(at, calls)
    }
    /// What of the first operand that `most` elements do not hold reaches farthest.
    fn too_large(&self, most: usize) -> Option<Axis> {
        let Self { a, b, c, m, n, k, batch, .. } = *self;
        let operands = [
            (a, [(m, Axis::Rows), (k, Axis::Steps)]),
            (b, [(k, Axis::Steps), (n, Axis::Columns)]),
            (c, [(m, Axis::Rows), (n, Axis::Columns)]),
        ];
        let (o, sides) = operands.into_iter().find(|(o, sides)| o.span(sides.map(|(size, _)| size), batch) > most)?;
        let [(rows, down), (columns, across)] = sides;
        let batches = (0..3).map(|z| (o.batch[z], batch[z], Axis::Batch(z)));
        let all = batches.chain([(o.row, rows, down), (o.column, columns, across)]);
        all.max_by_key(|(stride, count, _)| stride.saturating_mul(count.saturating_sub(1))).map(|(_, _, axis)| axis)
    }
    /// Both halves along an axis.
    fn cut(&self, axis: Axis) -> Option<(Self, Self)> {
        let (count, step) = match axis {
            Axis::Rows => (self.m, STEP),
            Axis::Columns => (self.n, STEP),
            Axis::Steps => (self.k, STEP),
            Axis::Batch(z) => (self.batch[z], 1),
        };
        let half = if count > 2 * step { (count / 2).next_multiple_of(step) } else { count / 2 };
        // A triangle has no halves that are triangles.
        let whole = self.lower && matches!(axis, Axis::Rows | Axis::Columns);
        if half == 0 || whole {
            return None;
        }
        let along = |o: Operand<'a>, stride: usize| Operand { at: o.at + half * stride, ..o };
        let (mut first, mut second) = (*self, *self);
        match axis {
            Axis::Rows => {
                (first.m, second.m) = (half, count - half);
                (second.a, second.c) = (along(self.a, self.a.row), along(self.c, self.c.row));
            }
            Axis::Columns => {
                (first.n, second.n) = (half, count - half);
                (second.b, second.c) = (along(self.b, self.b.column), along(self.c, self.c.column));
            }
            Axis::Steps => {
                (first.k, second.k) = (half, count - half);
                (second.a, second.b) = (along(self.a, self.a.column), along(self.b, self.b.row));
                second.accumulate = true;
            }
            Axis::Batch(z) => {
                (first.batch[z], second.batch[z]) = (half, count - half);
                [second.a, second.b, second.c] = [self.a, self.b, self.c].map(|o| along(o, o.batch[z]));
            }
        }
        Some((first, second))
    }
    fn error(&self) -> Error {
        let Self { m, n, k, batch, .. } = self;
        Error::Kernel {
            name: PRODUCT.name.into(),
            found: format!("{batch:?} products of [{m}, {k}] and [{k}, {n}]"),
            expected: "matrices that fit into a binding, and fewer than 2^32 tiles".into(),
        }
    }
    fn launch(&self, at: &WgpuPlace) -> Result<Recorded> {
        let Self { a, b, c, m, n, k, batch, .. } = *self;
        // Operands within a binding have strides and sizes below 2^32, except where the size is 1.
        let size = |n: usize| u32::try_from(n).map_err(|_| self.error());
        let step = |stride: usize, count: usize| if count > 1 { size(stride) } else { Ok(0) };
        let strides = |o: &Operand| -> Result<[u32; 3]> {
            Ok([step(o.batch[0], batch[0])?, step(o.batch[1], batch[1])?, step(o.batch[2], batch[2])?])
        };
        let matrices = batch.iter().try_fold(1u64, |all, &z| all.checked_mul(z as u64)).ok_or_else(|| self.error())?;
        // A's lines are rows, B's are columns.
        let a_along = along_k(a.row, a.column);
        let b_along = along_k(b.column, b.row);
        let mut storage = at.storage();
        // Over no k there is nothing to read.
        let mut read = |o: &Operand, sides| match k {
            0 => storage.read_if(None),
            _ => storage.read_buffer(o.buffer, o.at..o.at + o.span(sides, batch)),
        };
        let (a_offset, b_offset) = (read(&a, [m, k])?, read(&b, [k, n])?);
        let c_offset = storage.write_buffer(c.buffer, c.at..c.at + c.span([m, n], batch))?;
        let quads = has_quads(&a, a_offset, [(a.row, m), (a.column, k)], a_along, batch)
            && has_quads(&b, b_offset, [(b.column, n), (b.row, k)], b_along, batch);
        let plan = choose(size(m)?, size(n)?, matrices, quads, &at.limits());
        let units = plan.tiles.checked_mul(matrices).filter(|&units| units < 1 << 32).ok_or_else(|| self.error())?;
        let [[a_batch0, a_batch1, a_batch2], [b_batch0, b_batch1, b_batch2], [c_batch0, c_batch1, c_batch2]] =
            [strides(&a)?, strides(&b)?, strides(&c)?];
        let flags = [(a_along, A_ALONG_K), (b_along, B_ALONG_K), (self.accumulate, ADDS), (self.lower, LOWER)];
        let params = ProductParams {
            units: units as u32,
            tiles: plan.tiles as u32,
            column_tiles: plan.column_tiles as u32,
            m: size(m)?,
            n: size(n)?,
            k: size(k)?,
            batch1: size(batch[1])?,
            batch2: size(batch[2])?,
            a_offset,
            a_line: step(a.row, m)?,
            a_k: step(a.column, k)?,
            a_batch0,
            a_batch1,
            a_batch2,
            b_offset,
            b_line: step(b.column, n)?,
            b_k: step(b.row, k)?,
            b_batch0,
            b_batch1,
            b_batch2,
            c_offset,
            c_row: step(c.row, m)?,
            c_column: step(c.column, n)?,
            c_batch0,
            c_batch1,
            c_batch2,
            alpha: self.alpha as f32,
            flags: flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum(),
            one: 1.0,
        };
        at.record(&PRODUCT, &plan.configuration, storage, &params, units)
    }
}

/// Whether neighbours in memory lie along k, not along lines.
fn along_k(line: usize, k: usize) -> bool {
    k == 1 && line != 1
}

/// Whether `[line, k]`, strides and sizes, of every matrix are read in whole quads along the one or the other.
fn has_quads(o: &Operand, offset: u32, [line, k]: [(usize, usize); 2], along_k: bool, batch: [usize; 3]) -> bool {
    let ((near, run), (far, count)) = if along_k { (k, line) } else { (line, k) };
    let quads = |stride: usize, count: usize| count <= 1 || stride.is_multiple_of(4);
    let batches = o.batch.into_iter().zip(batch).all(|(stride, count)| quads(stride, count));
    near == 1 && run.is_multiple_of(4) && offset.is_multiple_of(4) && quads(far, count) && batches
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn cross_fits(c: &CrossArgs, _: &Limits) -> Option<Scratch> {
    let fits = c.a.rows == c.b.rows && (c.out.rows, c.out.cols) == (c.a.cols, c.b.cols);
    (fits && super::extents::countable([&c.a, &c.b, &c.out])).then(Scratch::new)
}

/// The launches of `out += a'b`.
pub(super) fn cross_bind(c: &CrossArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let [a, b, out] = [c.a, c.b, c.out].map(|v| Operand::view(at, &v));
    let product = Product::new([c.a.cols, c.b.cols, c.a.rows], a.transposed(), b, out);
    let mut calls = Vec::new();
    Product { accumulate: true, ..product }.record(at, &mut calls)?;
    Ok(calls)
}

/// Scratch memory of [`AddArgs`]; `None` where there is no kernel: a triangle is not cut.
pub(super) fn add_fits(a: &AddArgs, limits: &Limits) -> Option<Scratch> {
    let d = if a.transpose { a.x.rows } else { a.x.cols };
    let fits = (a.out.rows, a.out.cols) == (d, d) && super::extents::countable([&a.x, &a.out]);
    (fits && a.out.rows.saturating_mul(a.out.stride).max(a.x.cols.max(a.x.stride)) <= limits.binding).then(Scratch::new)
}

/// The launches of `out += x'x`, or `x x'`, on the lower triangle.
pub(super) fn add_bind(a: &AddArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let mut calls = Vec::new();
    gram_add(Operand::view(at, &a.x), [a.x.rows, a.x.cols], a.transpose, &a.out, at, &mut calls)?;
    Ok(calls)
}

/// Adds the launches of `out += x'x`, or `x x'` if `transpose`, on the lower triangle, of x `[rows, cols]`.
pub(super) fn gram_add(
    x: Operand,
    [rows, cols]: [usize; 2],
    transpose: bool,
    out: &View,
    at: &WgpuPlace,
    calls: &mut Vec<Recorded>,
) -> Result<()> {
    let (a, n, k) = if transpose { (x, rows, cols) } else { (x.transposed(), cols, rows) };
    let product = Product::new([n, n, k], a, a.transposed(), Operand::view(at, out));
    Product { accumulate: true, lower: true, ..product }.record(at, calls)
}
