//! `product_sm80`.

use mechgraph::kernel::product::ProductParams;
use ptxvm::Completion;

use super::gram::Element;
use super::*;

/// A batch of products `[z0, z1, z2]` of `[m, k]` and `[k, n]`.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub batch: [usize; 3],
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Which of A, B and C lie with their columns, not their rows, adjacent.
    pub turned: [bool; 3],
    pub lower: bool,
    pub accumulate: bool,
    pub order: (u64, Completion),
}

/// Where the elements of one operand lie: z0 and the row or column count rows of a view, z1 and z2
/// stand side by side in them.
struct Operand {
    view: View,
    row: usize,
    column: usize,
    batch: [usize; 3],
}

impl Operand {
    /// An operand `[rows, cols]` with the numbers that `value` gives for (z0, z1, z2, row, column), or unwritten.
    fn new<T: Element>(
        device: &mut Device,
        batch: [usize; 3],
        [rows, cols]: [usize; 2],
        turned: bool,
        value: Option<&dyn Fn([usize; 5]) -> T>,
    ) -> Self {
        let (long, wide) = if turned { (cols, rows) } else { (rows, cols) };
        let width = batch[1] * batch[2] * wide;
        let (stride, lead) = (width + 3, 1);
        let view = match value {
            _ if rows * cols == 0 => device.output::<T>(1, 1, 1, 0),
            None => device.output::<T>(batch[0] * long, width, stride, lead),
            Some(value) => {
                let at = |e: usize| {
                    let (line, place) = (e / width, e % width);
                    let (z, across) = (place / wide, place % wide);
                    let (i, j) = if turned { (across, line % long) } else { (line % long, across) };
                    value([line / long, z / batch[2], z % batch[2], i, j])
                };
                let values: Vec<T> = (0..batch[0] * long * width).map(at).collect();
                device.input(&values, width, stride, lead)
            }
        };
        let (row, column) = if turned { (1, stride) } else { (stride, 1) };
        Self { view, row, column, batch: [long * stride, batch[2] * wide, wide] }
    }
    /// Elements of the view from its first to this one.
    fn offset(&self, [z0, z1, z2, i, j]: [usize; 5]) -> usize {
        z0 * self.batch[0] + z1 * self.batch[1] + z2 * self.batch[2] + i * self.row + j * self.column
    }
}

/// Runs the kernel and returns C, checked against the reference.
pub fn run<T: Element>(text: &Text, case: &Case) -> Result<Vec<f64>, Failure> {
    let Case { batch, m, n, k, turned, lower, accumulate, .. } = *case;
    let count = batch.iter().product::<usize>();
    let mut device = Device::new(case.order);
    let index =
        |[z0, z1, z2, i, j]: [usize; 5], rows: usize, cols: usize| (((z0 * batch[1] + z1) * batch[2] + z2) * rows + i) * cols + j;
    let narrow = |n: usize, seed: u64| -> Vec<T> { numbers(n, seed).iter().map(|x| T::of(*x)).collect() };
    let (a, b, before) = (narrow(count * m * k, 1), narrow(count * k * n, 2), narrow(count * m * n, 3));
    let at_a = |e: [usize; 5]| a[index(e, m, k)];
    let at_b = |e: [usize; 5]| b[index(e, k, n)];
    let at_c = |e: [usize; 5]| before[index(e, m, n)];
    let a_place = Operand::new::<T>(&mut device, batch, [m, k], turned[0], Some(&at_a));
    let b_place = Operand::new::<T>(&mut device, batch, [k, n], turned[1], Some(&at_b));
    let c_place = Operand::new::<T>(&mut device, batch, [m, n], turned[2], if accumulate { Some(&at_c) } else { None });
    let tile = constant(&text.configuration, "TILE");
    let strides = |o: &Operand| o.batch.map(|s| s as u64);
    let ([a_batch0, a_batch1, a_batch2], [b_batch0, b_batch1, b_batch2], [c_batch0, c_batch1, c_batch2]) =
        (strides(&a_place), strides(&b_place), strides(&c_place));
    const ALPHA: f64 = 0.75;
    let params = ProductParams {
        a: a_place.view.address,
        b: b_place.view.address,
        c: c_place.view.address,
        a_batch0,
        a_batch1,
        a_batch2,
        b_batch0,
        b_batch1,
        b_batch2,
        c_batch0,
        c_batch1,
        c_batch2,
        alpha: ALPHA,
        m: m as u32,
        n: n as u32,
        k: k as u32,
        batch1: batch[1] as u32,
        batch2: batch[2] as u32,
        a_row: a_place.row as u32,
        a_column: a_place.column as u32,
        b_row: b_place.row as u32,
        b_column: b_place.column as u32,
        c_row: c_place.row as u32,
        c_column: c_place.column as u32,
        column_tiles: n.div_ceil(tile) as u32,
        lower: lower.into(),
        accumulate: accumulate.into(),
    };
    let ctas = count * m.div_ceil(tile) * n.div_ceil(tile);
    let statistics = device.launch(text, [ctas as u32, 1, 1], &params)?;
    let wanted = |e: [usize; 5]| !lower || e[4] <= e[3];
    let elements: Vec<[usize; 5]> = (0..count * m * n)
        .map(|e| {
            let (z, i, j) = (e / (m * n), e / n % m, e % n);
            [z / (batch[1] * batch[2]), z / batch[2] % batch[1], z % batch[2], i, j]
        })
        .collect();
    if !accumulate {
        let stride = c_place.view.stride;
        let mut inside = vec![false; c_place.view.rows * stride];
        elements.iter().filter(|e| wanted(**e)).for_each(|e| inside[c_place.offset(*e)] = true);
        device.only::<T>("C", &c_place.view, |i, j| inside[i * stride + j])?;
    }
    let values = device.read::<T>(&c_place.view);
    let got = |e: &[usize; 5]| {
        let offset = c_place.offset(*e);
        values[offset / c_place.view.stride * c_place.view.cols + offset % c_place.view.stride].wide()
    };
    let product = |[z0, z1, z2, i, j]: [usize; 5]| -> f64 {
        (0..k).map(|l| at_a([z0, z1, z2, i, l]).wide() * at_b([z0, z1, z2, l, j]).wide()).sum()
    };
    let start = |e: [usize; 5]| if accumulate { at_c(e).wide() } else { 0.0 };
    if accumulate {
        let moved = elements.iter().find(|e| !wanted(**e) && got(e) != at_c(**e).wide());
        if let Some(e) = moved {
            return Err(format!("{e:?}, above the diagonal, is written"));
        }
    }
    let written: Vec<&[usize; 5]> = elements.iter().filter(|e| wanted(**e)).collect();
    let found: Vec<f64> = written.iter().map(|e| got(e)).collect();
    let expected: Vec<f64> = written.iter().map(|e| start(**e) + ALPHA * product(**e)).collect();
    close("C", &found, &expected, T::BOUND)?;
    no_bank_conflicts(&statistics)?;
    Ok(found)
}

fn texts(part: &str) -> Vec<Text> {
    let kernel = kernel("product_sm80");
    let all = (kernel.configurations)();
    let some: Vec<Text> = all.iter().filter(|c| c.name.contains(part)).map(|c| Text::of(kernel, c)).collect();
    assert!(!some.is_empty(), "{part}");
    some
}

fn check<T: Element>(text: &Text, case: Case) -> Vec<f64> {
    run::<T>(text, &case).unwrap_or_else(|failure| panic!("{}: {case:?}: {failure}", text.configuration.name))
}

const PLAIN: Case =
    Case { batch: [1; 3], m: 1, n: 1, k: 1, turned: [false; 3], lower: false, accumulate: false, order: ORDERS[0] };

fn every_layout<T: Element>() {
    for text in texts(T::NAME) {
        for way in 0..8 {
            let turned = [way & 1 == 1, way & 2 == 2, way & 4 == 4];
            let case = Case { m: 67, n: 35, k: 19, turned, accumulate: way % 3 == 0, order: ORDERS[way % 4], ..PLAIN };
            check::<T>(&text, case);
        }
    }
}

fn every_edge<T: Element>() {
    for text in texts(T::NAME) {
        for (m, n, k) in [(1, 1, 1), (1, 33, 2), (65, 1, 5), (32, 64, 16), (33, 66, 0), (5, 3, 40)] {
            check::<T>(&text, Case { m, n, k, ..PLAIN });
            check::<T>(&text, Case { m, n, k, batch: [2, 1, 3], turned: [true, false, true], accumulate: true, ..PLAIN });
        }
    }
}

fn triangles<T: Element>() {
    for text in texts(T::NAME) {
        for (m, n, accumulate) in [(70, 70, true), (33, 33, false), (1, 1, true)] {
            check::<T>(&text, Case { m, n, k: 9, batch: [1, 2, 1], lower: true, accumulate, ..PLAIN });
        }
    }
}

fn same_bits<T: Element>() {
    let case = Case { m: 36, n: 37, k: 1030, ..PLAIN };
    let mut found = Vec::new();
    for text in texts(T::NAME) {
        for (way, order) in ORDERS.into_iter().enumerate() {
            let turned = [way & 1 == 1, way & 2 == 2, false];
            found.push(check::<T>(&text, Case { turned, order, ..case }));
        }
    }
    assert!(found.iter().all(|c| *c == found[0]), "{}", T::NAME);
}

#[test]
fn products_agree_with_the_reference_in_every_layout() {
    every_layout::<f32>();
    every_layout::<f64>();
}

#[test]
fn products_agree_with_the_reference_on_every_kind_of_edge_and_in_batches() {
    every_edge::<f32>();
    every_edge::<f64>();
}

#[test]
fn products_of_a_triangle_leave_what_lies_above_the_diagonal() {
    triangles::<f32>();
    triangles::<f64>();
}

#[test]
fn long_products_give_the_same_bits_in_every_order_for_every_tile_and_layout() {
    same_bits::<f32>();
    same_bits::<f64>();
}
