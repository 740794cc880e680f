//! The weight of a linear map in another dtype than its program's: converted a panel at a time, so that
//! no copy of the whole is ever made.
//!
//! Which panels there are is a function of the weight's shape, the program's dtype and whether x has a
//! single row: no result depends on threads, nor more on the batch than a product with the whole would.
//! On x86-64 with AVX2 the bits are those of a weight converted beforehand: there faer 0.24 sums over
//! [`DEPTH`] rows of W at a time and adds the sums up in order, which is what panels of a multiple of
//! them do. Products with a single row or column are summed in another way, and get whole columns of W
//! (of a single column, as if it were contiguous).
//! Elsewhere faer's order depends on the shape of a panel.

use std::cell::Cell;
use std::ops::Range;

use faer::MatRef;

use super::linear::Matrix;
use crate::device::Real;

/// Bytes of a panel, or half as many more, unless it has the fewest columns and all rows.
const BYTES: usize = 1 << 20;

/// The fewest columns of a panel, where W has as many: with fewer, packing x takes longer than the product.
const COLUMNS: usize = 32;

/// Bytes of a row of a panel where the inner dimension is cut.
const ROW: usize = 1 << 10;

/// Bytes of the copy that a product makes of a weight.
const PACKED: usize = 4 << 20;

/// Rows of W that faer sums over at a time.
const DEPTH: usize = 512;

thread_local! {
    /// Kept between products, so that no memory is allocated while a program runs.
    static SCRATCH: Cell<Vec<f64>> = const { Cell::new(Vec::new()) };
}

/// How the inner dimension k of a weight `[k, m]` with elements of `size` bytes is cut, for the product
/// with one row (`alone`) or several.
fn depths(k: usize, m: usize, size: usize, alone: bool) -> Vec<Range<usize>> {
    let step = match alone || m == 1 {
        true => k.max(1),
        false => (BYTES / size / m.clamp(1, ROW / size) / DEPTH * DEPTH).max(DEPTH),
    };
    // A short rest goes with what is before it: faer has other ways for thin products.
    let count = ((k + step / 2) / step).max(1);
    (0..count).map(|i| i * step..if i + 1 == count { k } else { (i + 1) * step }).collect()
}

/// How m columns are cut into panels of `rows` rows.
fn columns(rows: usize, m: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    parts(m, BYTES / (rows * size).max(1))
}

/// m columns in parts of at most `most`, or of [`COLUMNS`] if that is more: as few as there can be, their
/// widths no more than one column apart.
fn parts(m: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let count = m.div_ceil(most.max(COLUMNS));
    (0..count).map(move |i| i * m / count..(i + 1) * m / count)
}

/// Bytes of the largest panel of a weight `[k, m]`, as in [`each`], and of its copy in a product.
pub(super) fn bytes(k: usize, m: usize, size: usize, alone: bool) -> usize {
    let rows = depths(k, m, size, alone).iter().map(ExactSizeIterator::len).max().unwrap_or(0);
    (rows + rows.min(DEPTH)) * size * columns(rows, m, size).map(|c| c.len()).max().unwrap_or(0)
}

/// The columns of a weight `[k, m]`, stored as the program computes, that one product takes: faer copies
/// [`DEPTH`] rows of all of them, which of a vocabulary would be the largest thing in memory.
pub(super) fn packed(k: usize, m: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    parts(m, PACKED / (k.clamp(1, DEPTH) * size))
}

/// Bytes of that copy.
pub(super) fn packed_bytes(k: usize, m: usize, size: usize) -> usize {
    k.min(DEPTH) * size * packed(k, m, size).map(|c| c.len()).max().unwrap_or(0)
}

/// Calls `f` with the output columns of each panel, its part of the inner dimension, and the panel, which
/// lies as `w` does: `[depth, columns]`, or `[columns, depth]` with `transpose`. The parts of the same
/// columns follow each other, from 0 on.
pub(super) fn each<T: Real>(
    w: &Matrix,
    transpose: bool,
    alone: bool,
    mut f: impl FnMut(Range<usize>, Range<usize>, MatRef<'_, T>),
) {
    let (k, m) = if transpose { (w.cols, w.rows) } else { (w.rows, w.cols) };
    let mut scratch = SCRATCH.take();
    let depths = depths(k, m, size_of::<T>(), alone);
    let most = depths.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
    for columns in columns(most, m, size_of::<T>()) {
        for depth in &depths {
            let (rows, cols) = if transpose { (&columns, depth) } else { (depth, &columns) };
            let part =
                Matrix { row: w.row + rows.start, rows: rows.len(), col: w.col + cols.start, cols: cols.len(), ..w.clone() };
            let len = part.rows * part.cols;
            if scratch.len() * size_of::<f64>() < len * size_of::<T>() {
                scratch.resize((len * size_of::<T>()).div_ceil(size_of::<f64>()), 0.0);
            }
            let data = &mut bytemuck::cast_slice_mut::<f64, T>(&mut scratch)[..len];
            part.read_into(data);
            f(columns.clone(), depth.clone(), MatRef::from_row_major_slice(data, part.rows, part.cols));
        }
    }
    SCRATCH.set(scratch);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::fixture::{Fixture, numbers, part};
    use super::super::linear::{self, Args, TANGENT_ROWS};
    use super::*;
    use crate::device::{Arena, DType, Elements, MappedFile, Stored, Tensor};
    use crate::ops::activation::Activation;

    /// The numbers in a file at a dtype, from an odd byte on.
    fn mapped(dtype: DType, rows: usize, cols: usize, stored: Stored, x: &[f64]) -> Tensor {
        let mut bytes = vec![0u8];
        for &x in x {
            match stored {
                Stored::F64 => bytes.extend(x.to_le_bytes()),
                Stored::F32 => bytes.extend((x as f32).to_le_bytes()),
                Stored::F16 => bytes.extend(half::f16::from_f64(x).to_le_bytes()),
                Stored::BF16 => bytes.extend(half::bf16::from_f64(x).to_le_bytes()),
            }
        }
        let file = MappedFile::from_static(Path::new("w"), bytes.leak());
        Tensor::mapped(dtype, rows, cols, Elements::new(&file, 1, rows * cols, stored))
    }

    /// A weight inside a larger tensor, the rows of x, and what the launch is like.
    struct Case {
        n: usize,
        k: usize,
        m: usize,
        transpose: bool,
        accumulate: bool,
        tangent: bool,
    }

    fn run<T: Real>(case: &Case, tensor: &Tensor) -> Vec<f64> {
        let Case { n, k, m, transpose, accumulate, tangent } = *case;
        let mut f = Fixture::default();
        let (x, y) = (f.input(n, k, &numbers(n * k, 5)), f.input(n, m, &numbers(n * m, 6)));
        let (rows, cols) = if transpose { (m, k) } else { (k, m) };
        let w = Matrix { tensor: tensor.clone(), row: 2, col: 3, rows, cols };
        let bias = Some(Matrix::whole(&Tensor::row(T::DTYPE, numbers(m, 7))));
        let act = (!accumulate).then_some(Activation::Silu);
        let a = Args { transpose, bias, act, accumulate, tangent, ..Args::new(x, w, y) };
        a.check().unwrap();
        let mut arena: Arena<T> = f.arena();
        linear::cpu(&a, &mut arena);
        part(&arena, &y)
    }

    fn check<T: Real>(case: &Case, stored: Stored) {
        let (rows, cols) = if case.transpose { (case.m, case.k) } else { (case.k, case.m) };
        let (rows, cols) = (rows + 3, cols + 4);
        let mapped = mapped(T::DTYPE, rows, cols, stored, &numbers(rows * cols, 8));
        assert!(mapped.try_slice::<T>().is_none());
        let owned = Tensor::from_f64(T::DTYPE, rows, cols, mapped.to_f64());
        let (got, want) = (run::<T>(case, &mapped), run::<T>(case, &owned));
        let Case { n, k, m, transpose, .. } = case;
        assert!(got.iter().all(|x| x.is_finite()));
        let differ = got.iter().zip(&want).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        if cfg!(target_arch = "x86_64") && std::arch::is_x86_feature_detected!("avx2") {
            assert_eq!(differ, 0, "{stored:?} [{n}, {k}] [{k}, {m}], transpose {transpose}: of {} elements", got.len());
        } else {
            super::super::fixture::assert_close(&got, &want, if T::DTYPE == DType::F64 { 1e-14 } else { 1e-5 });
        }
    }

    #[test]
    fn a_weight_in_a_file_gives_the_bits_of_one_converted_beforehand() {
        let case = |n, k, m, transpose| Case { n, k, m, transpose, accumulate: false, tangent: false };
        for transpose in [false, true] {
            // One panel; several columns; both cut, with and without a rest; few columns; thin products.
            let shapes = [(5, 7, 9), (33, 576, 1000), (3, 2000, 401), (2, 3073, 300), (4, 9000, 67), (2, 66_000, 4)];
            let thin = [(1, 600, 1300), (1, 9000, 67), (2, 140_000, 2)];
            // A row of W is contiguous, as a column within a wider tensor is not.
            let column = transpose.then_some((5, 300_000, 1));
            for (n, k, m) in shapes.into_iter().chain(thin).chain(column) {
                check::<f32>(&case(n, k, m, transpose), Stored::BF16);
                check::<f64>(&case(n, k, m, transpose), Stored::F16);
            }
            check::<f32>(&case(7, 576, 500, transpose), Stored::F64);
            check::<f32>(&case(7, 576, 500, transpose), Stored::F32);
            check::<f64>(&case(7, 576, 500, transpose), Stored::F64);
            check::<f32>(&Case { accumulate: true, ..case(9, 2600, 300, transpose) }, Stored::F16);
            check::<f32>(&Case { tangent: true, ..case(2 * TANGENT_ROWS, 2600, 300, transpose) }, Stored::F16);
        }
    }

    #[test]
    fn panels_cover_the_weight_within_the_scratch() {
        let shapes = [(1, 1), (576, 1536), (1536, 700), (4096, 14336), (14336, 4097), (70_000, 2), (1 << 20, 1), (3, 0), (0, 5)];
        for (k, m) in shapes {
            for (size, alone) in [(4, false), (8, false), (4, true), (8, true)] {
                let depths = depths(k, m, size, alone);
                assert!(depths[0].start == 0 && depths[depths.len() - 1].end == k);
                assert!(depths.windows(2).all(|d| d[0].end == d[1].start && d[0].end.is_multiple_of(DEPTH)));
                assert!(depths.len() == 1 || !alone && m > 1 && depths.iter().all(|d| d.len() >= DEPTH), "{k} {m}: {depths:?}");
                let most = depths.iter().map(|d| d.len()).max().unwrap();
                let columns: Vec<_> = columns(most, m, size).collect();
                assert!(columns.first().is_none_or(|c| c.start == 0) && columns.last().map_or(0, |c| c.end) == m);
                assert!(columns.windows(2).all(|c| c[0].end == c[1].start && c[0].len().abs_diff(c[1].len()) <= 1));
                let widest = columns.iter().map(|c| c.len()).max().unwrap_or(0);
                assert!(
                    widest * most * size <= BYTES / 2 * 3 || (alone || m == 1) && widest <= COLUMNS,
                    "[{k}, {m}]: {most} by {widest}"
                );
            }
        }
    }
}
