//! The wgpu launcher of batched matrix products, for the operations that are made of them, and of
//! [`super::gram::CrossArgs`] and [`super::gram::AddArgs`].

use super::extents::countable;
use super::gram::{AddArgs, CrossArgs};
use super::offload::{Scratch, WgpuPlace};
use crate::device::View;
use crate::device::wgpu::{Recorded, WgpuBuffer};
use crate::error::{Error, Result};
use crate::kernel::wgsl::product::{A_ALONG_K, ADDS, B_ALONG_K, LOWER, PRODUCT, ProductParams, ProductShape, choose};
use crate::kernel::wgsl::{Limits, flags};

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
    /// Begins `count` strides later.
    fn behind(self, count: usize, stride: usize) -> Self {
        Self { at: self.at + count * stride, ..self }
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
/// An element is summed in the order of k, in chains of 64 whose sum is compensated: the same bits whatever the strides
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
    /// Leaves what lies above the diagonal of each C untouched.
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
        match self.too_large(at.limits().binding) {
            None => calls.push(self.launch(at)?),
            Some(axis) => {
                for part in self.cut(axis).ok_or_else(|| self.error())? {
                    part.record(at, calls)?;
                }
            }
        }
        Ok(())
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
    /// The halves along an axis, of a triangle two triangles and what lies between them; `None` where nothing is to be cut.
    fn cut(&self, axis: Axis) -> Option<Vec<Self>> {
        let (count, step) = match axis {
            Axis::Rows => (self.m, STEP),
            Axis::Columns => (self.n, STEP),
            Axis::Steps => (self.k, STEP),
            Axis::Batch(z) => (self.batch[z], 1),
        };
        let half = if count > 2 * step { (count / 2).next_multiple_of(step) } else { count / 2 };
        if half == 0 {
            return None;
        }
        Some(match axis {
            Axis::Rows | Axis::Columns if self.lower => {
                let (top, below) = self.rows(half.min(self.m));
                let below = Self { lower: false, ..below };
                let (left, right) = (top.columns(half.min(self.n)).0, below.columns(half.min(self.n)));
                vec![left, right.0, Self { lower: true, ..right.1 }]
            }
            Axis::Rows => <[Self; 2]>::from(self.rows(half)).into(),
            Axis::Columns => <[Self; 2]>::from(self.columns(half)).into(),
            Axis::Steps => {
                let (a, b) = (self.a.behind(half, self.a.column), self.b.behind(half, self.b.row));
                vec![Self { k: half, ..*self }, Self { k: count - half, a, b, accumulate: true, ..*self }]
            }
            Axis::Batch(z) => {
                let part = |count: usize, by: usize| {
                    let mut batch = self.batch;
                    batch[z] = count;
                    let [a, b, c] = [self.a, self.b, self.c].map(|o| o.behind(by, o.batch[z]));
                    Self { a, b, c, batch, ..*self }
                };
                vec![part(half, 0), part(count - half, half)]
            }
        })
    }
    /// The first rows of C, and the others.
    fn rows(&self, first: usize) -> (Self, Self) {
        let (a, c) = (self.a.behind(first, self.a.row), self.c.behind(first, self.c.row));
        (Self { m: first, ..*self }, Self { m: self.m - first, a, c, ..*self })
    }
    /// The first columns of C, and the others.
    fn columns(&self, first: usize) -> (Self, Self) {
        let (b, c) = (self.b.behind(first, self.b.column), self.c.behind(first, self.c.column));
        (Self { n: first, ..*self }, Self { n: self.n - first, b, c, ..*self })
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
        let shape = ProductShape { m: size(m)?, n: size(n)?, k: size(k)?, matrices, quads };
        let plan = choose(&shape, &at.limits())?;
        let units = plan.tiles.checked_mul(matrices).filter(|&units| units < 1 << 32).ok_or_else(|| self.error())?;
        let [[a_batch0, a_batch1, a_batch2], [b_batch0, b_batch1, b_batch2], [c_batch0, c_batch1, c_batch2]] =
            [strides(&a)?, strides(&b)?, strides(&c)?];
        let flags = flags([(a_along, A_ALONG_K), (b_along, B_ALONG_K), (self.accumulate, ADDS), (self.lower, LOWER)]);
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
            flags,
            one: 1.0,
        };
        at.record(&PRODUCT, plan.configuration(), storage, &params, units)
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
pub(super) fn cross_fits(c: &CrossArgs, limits: &Limits) -> Option<Scratch> {
    let fits = c.a.rows == c.b.rows && (c.out.rows, c.out.cols) == (c.a.cols, c.b.cols);
    (fits && limits.exact_sums && countable([&c.a, &c.b, &c.out])).then(Scratch::new)
}

/// The launches of `out += a'b`.
pub(super) fn cross_bind(c: &CrossArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let [a, b, out] = [c.a, c.b, c.out].map(|v| Operand::view(at, &v));
    let product = Product::new([c.a.cols, c.b.cols, c.a.rows], a.transposed(), b, out);
    let mut calls = Vec::new();
    Product { accumulate: true, ..product }.record(at, &mut calls)?;
    Ok(calls)
}

/// Scratch memory of [`AddArgs`]; `None` where there is no kernel.
pub(super) fn add_fits(a: &AddArgs, limits: &Limits) -> Option<Scratch> {
    let d = if a.transpose { a.x.rows } else { a.x.cols };
    let fits = limits.exact_sums && (a.out.rows, a.out.cols) == (d, d) && countable([&a.x, &a.out]);
    fits.then(Scratch::new)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::fixture::numbers;
    use super::super::offload::on_bare_place;
    use super::*;
    use crate::device::wgpu::{Options, Wgpu};

    /// A matrix by its place and strides.
    #[derive(Clone, Copy)]
    struct Place {
        at: usize,
        row: usize,
        column: usize,
        batch: [usize; 3],
    }

    impl Place {
        fn of(self, z: [usize; 3], i: usize, j: usize) -> usize {
            self.at + i * self.row + j * self.column + (0..3).map(|axis| z[axis] * self.batch[axis]).sum::<usize>()
        }
        fn on(self, buffer: &WgpuBuffer) -> Operand<'_> {
            Operand::rows(buffer, self.at, self.row).batched(self.batch).with_column(self.column)
        }
    }

    impl Operand<'_> {
        fn with_column(self, column: usize) -> Self {
            Self { column, ..self }
        }
    }

    const BATCH: [usize; 3] = [2, 3, 2];

    /// Batches of products against plain loops, on a device whose bindings hold few or all numbers.
    fn agrees(largest_binding: Option<u64>, [m, n, k]: [usize; 3], [a, b, c]: [Place; 3]) {
        let options = Options { largest_binding, ..Options::default() };
        if Wgpu::open(Some("llvmpipe")).is_err() {
            println!("skipped: wgpu llvmpipe is absent");
            return;
        }
        let device = Arc::new(Wgpu::open_with(Some("llvmpipe"), options).unwrap());
        let len = |p: Place, rows: usize, cols: usize| p.of(BATCH.map(|z| z - 1), rows.max(1) - 1, cols.max(1) - 1) + 3;
        let draw = |len, seed| numbers(len, seed).into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        let (left, right, before) = (draw(len(a, m, k), 1), draw(len(b, k, n), 2), draw(len(c, m, n), 3));
        for (accumulate, lower) in [(false, false), (true, false), (true, true)] {
            let mut want: Vec<f64> = before.iter().map(|x| f64::from(*x)).collect();
            for z in (0..12).map(|z| [z / 6, z / 2 % 3, z % 2]) {
                for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).filter(|(i, j)| !lower || j <= i) {
                    let product = |l| f64::from(left[a.of(z, i, l)]) * f64::from(right[b.of(z, l, j)]);
                    let sum = 0.5 * (0..k).map(product).sum::<f64>();
                    let x = &mut want[c.of(z, i, j)];
                    *x = if accumulate { *x + sum } else { sum };
                }
            }
            let [x, y, out] = [&left, &right, &before].map(|data| device.buffer_of(bytemuck::cast_slice(data)).unwrap());
            let product = Product {
                batch: BATCH,
                alpha: 0.5,
                accumulate,
                lower,
                ..Product::new([m, n, k], a.on(&x), b.on(&y), c.on(&out))
            };
            let calls = on_bare_place(&device, |at| {
                let mut calls = Vec::new();
                product.record(at, &mut calls).map(|()| calls)
            })
            .unwrap();
            assert!(largest_binding.is_none() || calls.len() > 1, "{} launches", calls.len());
            device.submit(&calls).unwrap();
            let found = device.download_f32(&out, 0..want.len()).unwrap();
            for (i, (found, want)) in found.iter().zip(&want).enumerate() {
                assert!((f64::from(*found) - want).abs() < 1e-6 * (k + 1) as f64, "[{m}, {n}, {k}] {i}: {found} for {want}");
            }
        }
    }

    fn place(at: usize, row: usize, column: usize, batch: [usize; 3]) -> Place {
        Place { at, row, column, batch }
    }

    #[test]
    fn batches_of_matrices_with_any_strides() {
        // A shared along z1, B transposed and of one number along z2, C in between other rows.
        let ragged = [place(1, 9, 1, [200, 0, 100]), place(2, 1, 8, [100, 50, 0]), place(3, 21, 3, [700, 200, 100])];
        agrees(None, [5, 7, 6], ragged);
        // Whole quads along lines and along k; ones that are one number.
        let quads = [place(0, 1, 44, [4000, 1000, 0]), place(4, 1, 12, [0, 1600, 800]), place(0, 36, 1, [9000, 3000, 1500])];
        agrees(None, [40, 36, 12], quads);
        let ones = [place(0, 0, 0, [0; 3]), place(0, 3, 1, [600, 200, 100]), place(0, 3, 1, [18, 6, 3])];
        agrees(None, [1, 3, 30], ones);
        agrees(None, [3, 3, 0], [place(0, 1, 1, [0; 3]), place(0, 1, 1, [0; 3]), place(0, 3, 1, [54, 18, 9])]);
    }

    #[test]
    fn batches_are_cut_where_a_binding_cannot_hold_them() {
        let wide = [place(0, 90, 1, [2000, 0, 1000]), place(0, 1, 70, [0; 3]), place(0, 40, 1, [9000, 3000, 1500])];
        // The fewest bytes with which a device opens.
        agrees(Some(4096), [30, 30, 60], wide);
        let places = [place(1, 9, 1, [200, 0, 100]), place(2, 1, 8, [100, 50, 0]), place(3, 21, 3, [2100, 600, 300])];
        agrees(Some(4096), [5, 7, 6], places);
    }
}
