//! `centre_*`, `gram_*` and `gram_fold_sm80`.

use mechgraph::device::DType;
use mechgraph::kernel::gram::{self, CentreParams, FoldParams, GramParams, GramShape, Split};
use mechgraph::kernel::tuning::Limits;
use ptxvm::Completion;

use super::*;

/// The dtypes of the kernels, their bounds and how they look in memory.
pub trait Element: Pod + PartialEq + std::fmt::Debug {
    const NAME: &str;
    const BOUND: f64;
    fn of(x: f64) -> Self;
    fn wide(self) -> f64;
}
impl Element for f64 {
    const NAME: &str = "f64";
    const BOUND: f64 = 1e-13;
    fn of(x: f64) -> Self {
        x
    }
    fn wide(self) -> f64 {
        self
    }
}
impl Element for f32 {
    const NAME: &str = "f32";
    const BOUND: f64 = 1e-6;
    fn of(x: f64) -> Self {
        x as f32
    }
    fn wide(self) -> f64 {
        self.into()
    }
}

fn wide<T: Element>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.wide()).collect()
}

/// A Gram matrix to compute.
#[derive(Clone, Copy)]
pub struct Case {
    pub rows: usize,
    pub cols: usize,
    pub slab_rows: usize,
    pub order: (u64, Completion),
}

/// The partial tiles of the lower triangle of `x'x`, in f64: `[slabs][tiles][tile][tile]`.
fn reference(x: &[f64], case: &Case, tile: usize) -> Vec<f64> {
    let side = case.cols.div_ceil(tile);
    let mut partials = Vec::new();
    for slab in x.chunks(case.slab_rows * case.cols) {
        for (ti, tj) in (0..side).flat_map(|i| (0..=i).map(move |j| (i, j))) {
            for (i, j) in (0..tile * tile).map(|e| (ti * tile + e / tile, tj * tile + e % tile)) {
                let inside = i < case.cols && j < case.cols;
                partials.push(if inside { slab.chunks(case.cols).map(|row| row[i] * row[j]).sum() } else { 0.0 });
            }
        }
    }
    partials
}

/// Runs a Gram kernel and returns its partial tiles, checked against the reference.
pub fn partials<T: Element>(text: &Text, case: &Case) -> Result<Vec<T>, Failure> {
    let tile = constant(&text.configuration, "TILE");
    let aligned = constant(&text.configuration, "COPY") == 16;
    let mut device = Device::new(case.order);
    // Not centred: a mean that a kernel loses shows.
    let x: Vec<T> = numbers(case.rows * case.cols, 7).iter().map(|x| T::of(x + 0.5)).collect();
    let stride = if aligned { case.cols.next_multiple_of(16 / size_of::<T>()) + 4 } else { case.cols + 3 };
    let view = device.input(&x, case.cols, stride, if aligned { 4 } else { 1 });
    let (slabs, side) = (case.rows.div_ceil(case.slab_rows), case.cols.div_ceil(tile));
    let tiles = side * (side + 1) / 2;
    let out = device.output::<T>(1, slabs * tiles * tile * tile, slabs * tiles * tile * tile, 0);
    let params = GramParams {
        x: view.address,
        partials: out.address,
        rows: case.rows as u32,
        cols: case.cols as u32,
        stride: stride as u32,
        slab_rows: case.slab_rows as u32,
    };
    let statistics = device.launch(text, [tiles as u32, slabs as u32, 1], &params)?;
    device.only::<T>("partials", &out, |_, _| true)?;
    let got = device.read::<T>(&out);
    close("partials", &wide(&got), &reference(&wide(&x), case, tile), T::BOUND)?;
    no_bank_conflicts(&statistics)?;
    Ok(got)
}

fn texts(name: &str) -> Vec<Text> {
    let kernel = kernel(name);
    (kernel.configurations)().iter().map(|c| Text::of(kernel, c)).collect()
}

fn ragged_shapes<T: Element>(name: &str) {
    let order = ORDERS[0];
    for text in texts(name) {
        for (rows, cols, slab_rows) in [(1, 1, 1), (5, 33, 128), (130, 65, 128), (300, 129, 128), (37, 300, 128)] {
            let failure = partials::<T>(&text, &Case { rows, cols, slab_rows, order }).err();
            assert!(failure.is_none(), "{}: {rows} x {cols}: {}", text.configuration.name, failure.unwrap());
        }
    }
}

#[test]
fn gram_f64_agrees_with_the_reference_on_ragged_shapes() {
    ragged_shapes::<f64>("gram_f64_sm80");
}

#[test]
fn gram_f32_agrees_with_the_reference_on_ragged_shapes() {
    ragged_shapes::<f32>("gram_f32_sm80");
}

#[test]
fn gram_f32_promotes_its_sums_in_long_slabs() {
    for text in texts("gram_f32_sm80") {
        partials::<f32>(&text, &Case { rows: 1100, cols: 9, slab_rows: 2048, order: ORDERS[0] }).unwrap();
    }
}

/// The whole road with one configuration: partial tiles, then the fold.
fn lower<T: Element>(text: &Text, case: &Case) -> Vec<T> {
    let tile = constant(&text.configuration, "TILE");
    let parts = partials::<T>(text, case).unwrap();
    folded::<T, T>(&parts, case, tile, None).unwrap()
}

fn same_bits<T: Element>(name: &str) {
    // Two slabs, the second ragged, and in f32 a promotion in the first.
    let case = Case { rows: 700, cols: 70, slab_rows: 640, order: ORDERS[0] };
    let mut results = Vec::new();
    for text in texts(name) {
        let orders = ORDERS.map(|order| partials::<T>(&text, &Case { order, ..case }).unwrap());
        assert!(orders.iter().all(|o| o == &orders[0]), "{}", text.configuration.name);
        results.push(lower::<T>(&text, &case));
    }
    assert!(results.iter().all(|r| r == &results[0]), "{name}: tiles and copy widths give different bits");
}

#[test]
fn gram_f64_gives_the_same_bits_in_every_order_and_for_every_tile() {
    same_bits::<f64>("gram_f64_sm80");
}

#[test]
fn gram_f32_gives_the_same_bits_in_every_order_and_for_every_tile() {
    same_bits::<f32>("gram_f32_sm80");
}

/// Folds partial tiles and returns the lower triangle, zeros above: those that the kernel writes, or, where it adds to
/// what `out` holds `before`, those that stand for what it leaves alone.
fn folded<P: Element, O: Element>(parts: &[P], case: &Case, tile: usize, before: Option<&[O]>) -> Result<Vec<O>, Failure> {
    let mut device = Device::new(case.order);
    let kernel = kernel("gram_fold_sm80");
    let configuration = kernel.configuration(&format!("{}-{}", P::NAME, O::NAME)).unwrap();
    let text = Text::of(kernel, &configuration);
    let (slabs, side) = (case.rows.div_ceil(case.slab_rows), case.cols.div_ceil(tile));
    let tiles = side * (side + 1) / 2;
    let partials = device.input(parts, parts.len(), parts.len(), 0);
    let out = device.output::<O>(case.cols, case.cols, case.cols + 3, 1);
    for (i, j) in lower_triangle(case.cols) {
        if let Some(before) = before {
            device.machine.write(out.at::<O>(i, j), bytemuck::bytes_of(&before[i * case.cols + j])).unwrap();
        }
    }
    let params = FoldParams {
        partials: partials.address,
        out: out.address,
        cols: case.cols as u32,
        out_stride: out.stride as u32,
        slabs: slabs as u32,
        tiles: tiles as u32,
        tile: tile as u32,
        accumulate: before.is_some().into(),
    };
    device.launch(&text, [tiles as u32, tile as u32 / 8, tile as u32 / 32], &params)?;
    device.only::<O>("out", &out, |i, j| j <= i || before.is_none())?;
    let mut got = device.read::<O>(&out);
    for (i, j) in (0..case.cols).flat_map(|i| (i + 1..case.cols).map(move |j| (i, j))) {
        let above = &mut got[i * case.cols + j];
        if before.is_some() {
            *above = O::of(0.0);
        } else if *above != O::of(0.0) {
            return Err(format!("row {i}, column {j} above the diagonal is not zero"));
        }
    }
    Ok(got)
}

fn lower_triangle(cols: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..cols).flat_map(|i| (0..=i).map(move |j| (i, j)))
}

fn fold_is_exact<P: Element, O: Element>() {
    for (cols, tile, slabs, order) in
        [(1, 32, 1, ORDERS[0]), (70, 32, 3, ORDERS[1]), (70, 64, 5, ORDERS[2]), (131, 128, 9, ORDERS[3])]
    {
        let case = Case { rows: slabs, cols, slab_rows: 1, order };
        let side = cols.div_ceil(tile);
        let tiles = side * (side + 1) / 2;
        let parts: Vec<P> = numbers(slabs * tiles * tile * tile, 11).iter().map(|x| P::of(*x)).collect();
        let before: Vec<O> = numbers(cols * cols, 13).iter().map(|x| O::of(*x)).collect();
        for before in [None, Some(&before[..])] {
            let got = folded::<P, O>(&parts, &case, tile, before).unwrap();
            for (i, j) in lower_triangle(cols) {
                let (ti, tj) = (i / tile, j / tile);
                let element = (ti * (ti + 1) / 2 + tj) * tile * tile + i % tile * tile + j % tile;
                let sum = (0..slabs).fold(0.0, |sum, s| sum + parts[s * tiles * tile * tile + element].wide());
                let want = O::of(before.map_or(0.0, |b| b[i * cols + j].wide()) + sum);
                assert_eq!(got[i * cols + j], want, "{cols} columns, tile {tile}, element ({i}, {j})");
            }
        }
    }
}

#[test]
fn the_fold_adds_the_slabs_in_order_in_f64_and_rounds_once() {
    fold_is_exact::<f64, f64>();
    fold_is_exact::<f32, f64>();
    fold_is_exact::<f32, f32>();
}

/// Runs `centre_*` on a matrix whose column 0 never changes.
fn centred<T: Element>(rows: usize, cols: usize, order: (u64, Completion)) -> (Vec<T>, Vec<T>, Vec<T>) {
    let kernel = kernel(&format!("centre_{}_sm80", T::NAME));
    let text = Text::of(kernel, &(kernel.configurations)()[0]);
    let mut device = Device::new(order);
    // A large mean: what a plain sum of squares or a sum from zero would lose shows.
    let x: Vec<T> =
        numbers(rows * cols, 3).iter().enumerate().map(|(e, x)| T::of(if e % cols == 0 { 0.1 } else { x + 100.0 })).collect();
    let view = device.input(&x, cols, cols + 5, 3);
    let mean = device.output::<T>(1, cols, cols, 2);
    let out = device.output::<T>(rows, cols, cols + 2, 1);
    let params = CentreParams {
        x: view.address,
        mean: mean.address,
        centred: out.address,
        rows: rows as u32,
        cols: cols as u32,
        stride: view.stride as u32,
        centred_stride: out.stride as u32,
    };
    device.launch(&text, [cols.div_ceil(32) as u32, 1, 1], &params).unwrap();
    device.only::<T>("mean", &mean, |_, _| true).unwrap();
    device.only::<T>("centred", &out, |_, _| true).unwrap();
    (x, device.read(&mean), device.read(&out))
}

fn centring<T: Element>(bound: f64) {
    for (rows, cols) in [(1, 1), (2, 33), (15, 32), (64, 5), (65, 70), (300, 40)] {
        let (x, mean, out) = centred::<T>(rows, cols, ORDERS[0]);
        assert_eq!(centred::<T>(rows, cols, ORDERS[3]), (x.clone(), mean.clone(), out.clone()), "{rows} x {cols}");
        for c in 0..cols {
            let column: Vec<f64> = (0..rows).map(|i| x[i * cols + c].wide()).collect();
            let want = column.iter().map(|x| x - column[0]).sum::<f64>() / rows as f64 + column[0];
            assert!((mean[c].wide() - want).abs() <= bound * want.abs(), "{rows} x {cols}: mean {c}");
            for (i, x) in column.iter().enumerate() {
                assert_eq!(out[i * cols + c], T::of(x - mean[c].wide()), "{rows} x {cols}: ({i}, {c})");
            }
        }
        assert_eq!(mean[0], x[0]);
        assert!((0..rows).all(|i| out[i * cols] == T::of(0.0)));
    }
}

#[test]
fn centring_takes_exactly_the_rounded_mean_away() {
    centring::<f64>(1e-15);
    // The mean is summed in f64 and rounded once.
    centring::<f32>(6e-8);
}

#[test]
fn a_plan_runs_from_its_own_grid_parameters_and_sizes() {
    let limits = Limits { capability: (8, 0), multiprocessors: 108, shared_per_block: 166_912 };
    for (dtype, rows, cols, aligned) in [(DType::F64, 300, 40, true), (DType::F32, 300, 75, false)] {
        let plan = gram::choose(&GramShape { dtype, rows, cols, aligned }, &limits).unwrap();
        assert_eq!(plan.split, Split::of(rows, cols));
        let text = Text::of(plan.gram.kernel, &plan.gram.configuration);
        let (rows, cols) = (rows as usize, cols as usize);
        let case = Case { rows, cols, slab_rows: plan.split.slab_rows as usize, order: ORDERS[0] };
        let lengths = match dtype {
            DType::F64 => partials::<f64>(&text, &case).unwrap().len(),
            DType::F32 => partials::<f32>(&text, &case).unwrap().len(),
        };
        assert_eq!(plan.partials(), lengths as u64);
        assert_eq!(u64::from(plan.gram.grid[0] * plan.gram.grid[1]), plan.partials() / u64::from(plan.tile * plan.tile));
        let fold = plan.fold(DType::F64).unwrap();
        assert_eq!(fold.grid, [plan.tiles, plan.tile / 8, plan.tile / 32]);
    }
}
