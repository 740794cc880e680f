//! `gram` against two-pass sums in f64, on data that cancels, and the ways in which one call can run.

use mechgraph::device::wgpu::{Options, Wgpu};
use mechgraph::kernel::wgsl::gram::{Arithmetic, Product};
use mechgraph::ops::gram_wgpu::{Gram, gram, gram_with};

use super::{Matrix, device, distance, open, values};

const FMA: Arithmetic = Arithmetic::Compensated(Product::Fma);
const SPLIT: Arithmetic = Arithmetic::Compensated(Product::Split);

/// Mean and centred Gram matrix (lower triangle) in f64, from differences to the first row: those of a
/// constant column are exactly 0.
pub fn reference(x: &[f32], cols: usize) -> Gram {
    let rows = x.len() / cols;
    let first: Vec<f64> = x[..cols].iter().map(|&x| x.into()).collect();
    let mut shift = vec![0.0; cols];
    x.chunks(cols).for_each(|row| (0..cols).for_each(|c| shift[c] += f64::from(row[c]) - first[c]));
    shift.iter_mut().for_each(|s| *s /= rows as f64);
    let mut m2 = vec![0.0; cols * cols];
    for row in x.chunks(cols) {
        let centred: Vec<f64> = (0..cols).map(|c| (f64::from(row[c]) - first[c]) - shift[c]).collect();
        for i in 0..cols {
            (0..=i).for_each(|j| m2[i * cols + j] += centred[i] * centred[j]);
        }
    }
    Gram { mean: first.iter().zip(&shift).map(|(f, s)| f + s).collect(), m2 }
}

/// Data on which plain f32 sums fail: a large mean, a constant, tiny next to large columns, steps that
/// all round alike, and an outlier in the first row.
pub fn hard(rows: usize, cols: usize) -> Vec<f32> {
    let mut x = values(rows * cols, 9);
    for (i, row) in x.chunks_mut(cols).enumerate() {
        for (c, x) in row.iter_mut().enumerate() {
            *x = match c % 7 {
                0 => 4096.0 + *x,
                1 => 3.3,
                2 => *x * 1e-4,
                3 => 1000.0 * *x - 77.7,
                4 => [0.1, 0.7][i % 2],
                5 if i == 0 => 1e4,
                _ => *x,
            };
        }
    }
    x
}

pub fn run(device: &Wgpu, x: &[f32], cols: usize, place: (usize, usize), arithmetic: Arithmetic, tile: Option<u32>) -> Gram {
    let x = Matrix::new(device, x.len() / cols, cols, place, Some(x));
    let pending = gram_with(device, x.view(), arithmetic, tile).unwrap();
    device.submit(pending.recorded()).unwrap();
    pending.finish(device).unwrap()
}

/// Relative Frobenius distances of mean and Gram matrix; also each element's of the latter against the
/// norms of its two columns.
pub fn errors(found: &Gram, wanted: &Gram) -> [f64; 3] {
    let cols = wanted.mean.len();
    let mut worst: f64 = 0.0;
    for i in 0..cols {
        for j in 0..=i {
            let scale = (wanted.m2[i * cols + i] * wanted.m2[j * cols + j]).sqrt();
            let error = (found.m2[i * cols + j] - wanted.m2[i * cols + j]).abs();
            // `max` would pass over what is not a number.
            worst = if scale > 0.0 && (error / scale <= worst) || error == 0.0 { worst } else { error / scale };
        }
    }
    let of = |found: &[f64], wanted: &[f64]| distance(found.iter().copied(), wanted);
    [of(&found.mean, &wanted.mean), of(&found.m2, &wanted.m2), worst]
}

#[test]
fn each_arithmetic_holds_its_bound_on_ragged_views_that_cancel() {
    let Some(device) = device() else { return };
    assert!(device.exactness().two_sum && device.exactness().product_split, "{}", device.describe());
    for (rows, cols, place) in [(1, 1, (0, 0)), (3, 5, (1, 3)), (300, 37, (5, 2)), (257, 36, (4, 0)), (1000, 9, (3, 0))] {
        let x = hard(rows, cols);
        let wanted = reference(&x, cols);
        for arithmetic in Arithmetic::ALL {
            let [mean, gram, element] = errors(&run(device, &x, cols, place, arithmetic, None), &wanted);
            println!("gram {rows} x {cols} {arithmetic:?}: mean {mean:.1e}, Frobenius {gram:.1e}, element {element:.1e}");
            // Where an fma rounds twice the errors that it gives are worth nothing, and plain f32 is left.
            let holds = arithmetic != FMA || device.exactness().product_fma;
            let (bound, mean_bound) =
                if holds { (arithmetic.bound(), 1e-12) } else { (Arithmetic::Short.bound(), 2f64.powi(-22)) };
            assert!(mean <= mean_bound, "{rows} x {cols} {arithmetic:?}: mean {mean:e}");
            assert!(gram <= bound && element <= bound, "{rows} x {cols} {arithmetic:?}: {gram:e}, {element:e}");
        }
    }
}

#[test]
fn sums_over_2_to_the_16_rows_hold_1e_9() {
    let Some(device) = device() else { return };
    let (rows, cols) = (1 << 16, 7);
    let x = hard(rows, cols);
    let wanted = reference(&x, cols);
    let matrix = Matrix::new(device, rows, cols, (0, 0), Some(&x));
    let pending = gram(device, matrix.view()).unwrap();
    assert!(pending.bound() <= 1e-9, "{}", device.describe());
    device.submit(pending.recorded()).unwrap();
    let [mean, gram, element] = errors(&pending.finish(device).unwrap(), &wanted);
    println!("gram {rows} x {cols}: mean {mean:.1e}, Frobenius {gram:.1e}, element {element:.1e}");
    assert!(mean <= 1e-12 && gram <= 1e-9 && element <= 1e-9, "{mean:e}, {gram:e}, {element:e}");
    // The bound means something: plain f32 does not hold it on this data.
    let [_, plain, _] = errors(&run(device, &x, cols, (0, 0), Arithmetic::Short, None), &wanted);
    assert!(plain > 1e-9, "{plain:e}");
}

#[test]
fn a_constant_column_has_exactly_its_value_and_no_variance() {
    let Some(device) = device() else { return };
    let x: Vec<f32> = values(900, 3).chunks(3).flat_map(|v| [v[0], 0.3, v[2]]).collect();
    let found = run(device, &x, 3, (0, 0), SPLIT, None);
    assert_eq!(found.mean[1], f64::from(0.3f32));
    assert_eq!([found.m2[3], found.m2[4], found.m2[7]], [0.0; 3]);
    assert!(found.m2[0] > 0.0 && found.m2[8] > 0.0 && found.m2[1] == 0.0 && found.m2[2] == 0.0);
}

#[test]
fn tiles_transports_checks_and_cuts_do_not_change_a_bit() {
    let Some(usual) = device() else { return };
    let other = [
        Options { immediates: false, ..Options::default() },
        Options { runtime_checks: true, ..Options::default() },
        Options { largest_grid: Some(9), ..Options::default() },
        // A slab of 256 rows of 70 elements just fits; partial tiles come back a few at a time.
        Options { largest_binding: Some(73_000), ..Options::default() },
    ];
    let devices = other.map(|options| open(options).unwrap());
    let same = |a: &Gram, b: &Gram| a.mean == b.mean && a.m2 == b.m2;
    for (rows, cols, place) in [(700, 70, (1, 0)), (520, 68, (4, 0))] {
        let x = hard(rows, cols);
        for arithmetic in [SPLIT, Arithmetic::Short] {
            let first = run(usual, &x, cols, place, arithmetic, Some(64));
            assert!(errors(&first, &reference(&x, cols))[1] <= arithmetic.bound());
            assert!(same(&first, &run(usual, &x, cols, place, arithmetic, Some(64))), "again: {arithmetic:?}");
            assert!(same(&first, &run(usual, &x, cols, place, arithmetic, Some(32))), "small tile: {arithmetic:?}");
            for (device, options) in devices.iter().zip(&other) {
                assert!(same(&first, &run(device, &x, cols, place, arithmetic, None)), "{arithmetic:?}: {options:?}");
            }
        }
    }
}

#[test]
fn blocks_that_cannot_be_summed_are_refused_in_one_sentence() {
    let Some(device) = device() else { return };
    let x = Matrix::new(device, 4, 3, (0, 0), None);
    let refused = |device: &Wgpu, x: &Matrix, rows: usize, words: &str| {
        let mut view = x.view();
        view.rows = rows;
        let text = gram(device, view).unwrap_err().to_string();
        assert!(text.starts_with("operation gram: found ") && text.contains(words), "{text}");
    };
    refused(device, &x, 0, "x [0, 3]; expected 1 to 262144 rows");
    refused(device, &x, 9, "x [9, 3] at 0 with stride 3; expected rows that do not overlap within 17 elements");
    let tiny = open(Options { largest_binding: Some(9000), ..Options::default() }).unwrap();
    let x = Matrix::new(&tiny, 600, 30, (0, 0), None);
    refused(&tiny, &x, 600, "expected 256 of them within the");
}
