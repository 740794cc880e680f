//! Operations that are matrix products: against the same operation in f64 on the CPU.

use std::panic::AssertUnwindSafe;

use mechgraph::device::{Arena, Builder, DType, Device, Program, Real, View};
use mechgraph::ops::{Launch, gram, run_cpu};

use super::planted::{all_caught, bug, run_on};
use super::{Backend, bar, error, fill, on_every_backend, rounded, run};

/// A program with the numbers it starts from and the views it writes.
pub struct Case {
    pub program: Program<Launch>,
    pub inputs: Vec<(View, Vec<f64>)>,
    pub outputs: Vec<View>,
}

/// Makes a program of a dtype over numbers that are exact in another.
pub type Make<'a> = &'a dyn Fn(DType, DType) -> Case;

/// What the program gives on the CPU in f64, by output.
fn expected(make: Make, numbers: DType) -> Vec<Vec<f64>> {
    let Case { program, inputs, outputs } = make(DType::F64, numbers);
    let mut arena = Arena::<f64>::new(&program.layout);
    fill(&mut arena, &inputs);
    run_cpu(&program, &mut arena);
    outputs.iter().map(|v| (0..v.rows).flat_map(|i| arena.row(v, i).to_vec()).collect()).collect()
}

/// The largest error of an output.
fn largest<T: Real>(arena: &Arena<T>, outputs: &[View], expected: &[Vec<f64>]) -> f64 {
    let errors = outputs.iter().zip(expected).map(|(view, expected)| error(arena, view, expected));
    errors.fold(0.0, |most, e| if e <= most { most } else { e })
}

/// Holds every output to `bar`.
pub fn agrees<T: Real>(backend: Backend, what: &str, bar: f64, make: Make) {
    let Case { program, inputs, outputs } = make(T::DTYPE, T::DTYPE);
    let arena = run::<T>(backend, &program, &inputs, &outputs);
    let found = largest(&arena, &outputs, &expected(make, T::DTYPE));
    assert!(found <= bar, "{backend:?} {} {what}: {found:e}", T::DTYPE.name());
}

/// The same as a check for planted bugs.
pub fn content<T: Real>(device: &Device, bar: f64, make: Make) -> Result<(), String> {
    let Case { program, inputs, outputs } = make(T::DTYPE, T::DTYPE);
    let arena = run_on::<T>(device, &program, &inputs)?;
    let expected = expected(make, T::DTYPE);
    let found =
        std::panic::catch_unwind(AssertUnwindSafe(|| largest(&arena, &outputs, &expected))).map_err(|_| "a write outside")?;
    if found <= bar { Ok(()) } else { Err(format!("{found:e}")) }
}

/// A matrix of `[rows, cols]`, inside of wider rows if `wide`.
pub fn view(b: &mut Builder<Launch>, rows: usize, cols: usize, wide: bool) -> View {
    if wide { b.matrix(rows + 1, cols + 3).columns(1, cols).slice_rows(1, rows) } else { b.matrix(rows, cols) }
}

fn cross(n: usize, d: usize, e: usize, wide: bool) -> impl Fn(DType, DType) -> Case {
    move |dtype, numbers| {
        let mut build = Builder::<Launch>::new(dtype);
        let (a, b, out) = (view(&mut build, n, d, wide), view(&mut build, n, e, wide), view(&mut build, d, e, wide));
        build.push(Launch::Cross(gram::CrossArgs { a, b, out }));
        let data = |v: View, seed| (v, rounded(numbers, v.rows * v.cols, seed));
        Case { program: build.finish(), inputs: vec![data(a, 1), data(b, 2), data(out, 3)], outputs: vec![out] }
    }
}

fn turned(d: usize, n: usize) -> impl Fn(DType, DType) -> Case {
    move |dtype, numbers| {
        let mut build = Builder::<Launch>::new(dtype);
        let (x, out) = (build.matrix(d, n), build.matrix(d, d));
        build.push(Launch::GramAdd(gram::AddArgs { x, out, transpose: true }));
        let data = |v: View, seed| (v, rounded(numbers, v.rows * v.cols, seed));
        Case { program: build.finish(), inputs: vec![data(x, 1), data(out, 2)], outputs: vec![out] }
    }
}

fn crosses<T: Real>(backend: Backend) {
    for (n, d, e, wide) in [(1, 1, 1, false), (3, 33, 2, true), (40, 5, 67, false), (130, 70, 35, true)] {
        agrees::<T>(backend, &format!("[{n}, {d}]'[{n}, {e}]"), bar(T::DTYPE), &cross(n, d, e, wide));
    }
}

fn turned_grams<T: Real>(backend: Backend) {
    for (d, n) in [(1, 1), (3, 200), (33, 7), (70, 40)] {
        agrees::<T>(backend, &format!("[{d}, {n}]"), bar(T::DTYPE), &turned(d, n));
    }
}

on_every_backend! {
    fn cross_products_add_to_what_is_there_in_f32(backend: Backend) { crosses::<f32>(backend) }
    fn gram_matrices_of_columns_add_to_what_is_there_in_f32(backend: Backend) { turned_grams::<f32>(backend) }
}

on_every_backend! {
    f64:
    fn cross_products_add_to_what_is_there_in_f64(backend: Backend) { crosses::<f64>(backend) }
    fn gram_matrices_of_columns_add_to_what_is_there_in_f64(backend: Backend) { turned_grams::<f64>(backend) }
}

#[test]
fn bugs_planted_in_products_are_caught_where_they_are_launched() {
    const PRODUCT: &str = "product_sm80";
    let bugs = [
        bug(PRODUCT, "nothing is added to", "setp.ne.u32     %adds, %accumulate, 0;", "setp.ne.u32 %adds, 0, 0;"),
        bug(PRODUCT, "the triangle is a square", "setp.ne.u32     %within, %lower, 0;", "setp.ne.u32 %within, 0, 0;"),
        bug(PRODUCT, "rows and columns of A change places", "selp.b32        %depth, %depth, %other, %adjacent;", ""),
    ];
    all_caught(&bugs, |device| {
        content::<f32>(device, 1e-6, &cross(40, 5, 37, true))?;
        content::<f64>(device, 1e-13, &turned(35, 18))
    });
}
