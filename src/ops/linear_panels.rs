//! The weight of a linear map in another dtype than its program's: converted a panel of output columns
//! at a time, so that no copy of the whole is ever made.
//!
//! A panel spans the whole inner dimension, so that each element of the product is one sum, and which
//! columns it has is a function of the weight's shape and the program's dtype alone: no result depends
//! on the batch or on threads. faer 0.24 takes sums on x86-64 with AVX2 in an order that depends on the
//! inner dimension alone, unless a matrix has a single column, which no panel has unless W has; the
//! bits there are those of a weight converted beforehand. Its order elsewhere may depend on the width.

use std::cell::Cell;
use std::ops::Range;

use faer::MatRef;

use super::linear::Matrix;
use crate::device::Real;

/// Bytes of a panel, unless its fewest columns take more.
const BYTES: usize = 1 << 20;

/// The fewest columns of a panel: with fewer, packing x would take longer than the product.
const COLUMNS: usize = 32;

thread_local! {
    /// Kept between products, so that no memory is allocated while a program runs.
    static SCRATCH: Cell<Vec<f64>> = const { Cell::new(Vec::new()) };
}

/// The columns of panel number 0, 1, .. of a weight `[k, m]` with elements of `size` bytes: as few
/// panels as there can be, their widths no more than one column apart.
fn panels(k: usize, m: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let most = (BYTES / (k * size).max(1)).max(COLUMNS);
    let count = m.div_ceil(most);
    (0..count).map(move |i| i * m / count..(i + 1) * m / count)
}

/// Calls `f` with the output columns of each panel and the panel, which lies as `w` does: `[k, columns]`,
/// or `[columns, k]` with `transpose`.
pub(super) fn each<T: Real>(w: &Matrix, transpose: bool, mut f: impl FnMut(Range<usize>, MatRef<'_, T>)) {
    let (k, m) = if transpose { (w.cols, w.rows) } else { (w.rows, w.cols) };
    let mut scratch = SCRATCH.take();
    for columns in panels(k, m, size_of::<T>()) {
        let (from, width) = (columns.start, columns.len());
        let panel = match transpose {
            true => Matrix { row: w.row + from, rows: width, ..w.clone() },
            false => Matrix { col: w.col + from, cols: width, ..w.clone() },
        };
        let len = panel.rows * panel.cols;
        if scratch.len() * size_of::<f64>() < len * size_of::<T>() {
            scratch.resize((len * size_of::<T>()).div_ceil(size_of::<f64>()), 0.0);
        }
        let data = &mut bytemuck::cast_slice_mut::<f64, T>(&mut scratch)[..len];
        panel.read_into(data);
        f(columns, MatRef::from_row_major_slice(data, panel.rows, panel.cols));
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
            // One panel; several; an inner dimension beyond faer's blocks; few columns and many rows of W.
            for (n, k, m) in [(5, 7, 9), (33, 576, 1000), (1, 600, 1300), (3, 2000, 401), (2, 9000, 67), (4, 9000, 33)] {
                check::<f32>(&case(n, k, m, transpose), Stored::BF16);
                check::<f64>(&case(n, k, m, transpose), Stored::F16);
            }
            check::<f32>(&case(7, 576, 500, transpose), Stored::F64);
            check::<f32>(&case(7, 576, 500, transpose), Stored::F32);
            check::<f64>(&case(7, 576, 500, transpose), Stored::F64);
            check::<f32>(&Case { accumulate: true, ..case(9, 600, 700, transpose) }, Stored::F16);
            check::<f32>(&Case { tangent: true, ..case(2 * TANGENT_ROWS, 600, 700, transpose) }, Stored::F16);
        }
    }

    #[test]
    fn panels_cover_the_columns_within_the_scratch() {
        for (k, m, size) in [(1, 1, 4), (576, 1536, 4), (4096, 14336, 8), (14336, 4097, 4), (3, 0, 4), (0, 5, 8)] {
            let (mut at, mut widths) = (0, vec![]);
            for columns in panels(k, m, size) {
                assert_eq!(columns.start, at);
                at = columns.end;
                widths.push(columns.len());
            }
            assert_eq!(at, m);
            let (least, most) = (widths.iter().min().unwrap_or(&1), widths.iter().max().unwrap_or(&1));
            assert!(*least >= 1 && most - least <= 1 && (most * k * size <= BYTES || *most <= COLUMNS), "{widths:?}");
        }
    }
}
