//! Operations that are matrix products: against the same operation in f64 on the CPU.

use mechgraph::device::{Builder, DType, Device, Real, View};
use mechgraph::ops::{Launch, gram};

use super::against_cpu::{Case, agrees_named, agrees_on};
use super::planted::{all_caught, all_caught_on_wgpu, bug};
use super::{Backend, bar, on_every_backend, rounded};

/// Makes a program of a dtype over numbers that are exact in another.
pub type Make<'a> = &'a dyn Fn(DType, DType) -> Case;

/// Holds every output to `bar`.
pub fn agrees<T: Real>(backend: Backend, what: &str, bar: f64, make: Make) {
    agrees_named::<T>(backend, what, bar, |dtype| make(dtype, T::DTYPE));
}

/// The same as a check for planted bugs.
pub fn content<T: Real>(device: &Device, bar: f64, make: Make) -> Result<(), String> {
    agrees_on::<T>(device, bar, |dtype| make(dtype, T::DTYPE))
}

/// A matrix of `[rows, cols]`, inside of wider rows if `wide`.
pub fn view(b: &mut Builder<Launch>, rows: usize, cols: usize, wide: bool) -> View {
    if wide { b.matrix(rows + 1, cols + 3).columns(1, cols).slice_rows(1, rows) } else { b.matrix(rows, cols) }
}

pub fn cross(n: usize, d: usize, e: usize, wide: bool) -> impl Fn(DType, DType) -> Case {
    move |dtype, numbers| {
        let mut build = Builder::<Launch>::new(dtype);
        let (a, b, out) = (view(&mut build, n, d, wide), view(&mut build, n, e, wide), view(&mut build, d, e, wide));
        build.push(Launch::Cross(gram::CrossArgs { a, b, out }));
        let data = |v: View, seed| (v, rounded(numbers, v.rows * v.cols, seed));
        Case { program: build.finish(), inputs: vec![data(a, 1), data(b, 2), data(out, 3)], ints: vec![], outputs: vec![out] }
    }
}

pub fn turned(d: usize, n: usize) -> impl Fn(DType, DType) -> Case {
    move |dtype, numbers| {
        let mut build = Builder::<Launch>::new(dtype);
        let (x, out) = (build.matrix(d, n), build.matrix(d, d));
        build.push(Launch::GramAdd(gram::AddArgs { x, out, transpose: true }));
        let data = |v: View, seed| (v, rounded(numbers, v.rows * v.cols, seed));
        Case { program: build.finish(), inputs: vec![data(x, 1), data(out, 2)], ints: vec![], outputs: vec![out] }
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

#[test]
fn wgpu_bugs_planted_in_products_are_caught() {
    const PRODUCT: &str = "product_f32";
    let bugs = [
        bug(PRODUCT, "nothing is added to", "value = fma(p.alpha, sum[j], c[at]);", ""),
        bug(PRODUCT, "the triangle is a square", "column + j > row", "column + j > row + 99u"),
        bug(
            PRODUCT,
            "no barrier before the products",
            "stage_b(thread, b_base, left, k);\n        workgroupBarrier();",
            "stage_b(thread, b_base, left, k);",
        ),
        bug(
            PRODUCT,
            "no barrier after the products",
            "        }\n        workgroupBarrier();\n        // A long",
            "        }\n        // A long",
        ),
        bug(PRODUCT, "a promotion is lost", "sum_2 = vec4<f32>();", ""),
        bug(
            PRODUCT,
            "quads along k are not turned",
            "b_tile[place(d + 1u, quad)] = vec4<f32>(a.y, b.y, c.y, e.y);",
            "b_tile[place(d + 1u, quad)] = b;",
        ),
        bug(PRODUCT, "the last of a ragged quad is dropped", "if left > 2u {", "if left > 3u {"),
        bug(PRODUCT, "the errors of long sums are lost", "total_0.low + next_0.low", "total_0.low"),
    ];
    all_caught_on_wgpu(&bugs, |device| {
        content::<f32>(device, 1e-6, &cross(40, 5, 37, true))?;
        content::<f32>(device, 1e-6, &cross(130, 8, 36, false))?;
        content::<f32>(device, 1e-6, &turned(35, 150))?;
        content::<f32>(device, 6e-8, &long(40_000))
    });
}

/// Sums of many positive numbers: what plain sums in f32 lose shows.
fn long(n: usize) -> impl Fn(DType, DType) -> Case {
    move |dtype, numbers| {
        let mut case = cross(n, 3, 2, false)(dtype, numbers);
        case.inputs.iter_mut().flat_map(|(_, data)| data).for_each(|x| *x = x.abs());
        case
    }
}
