//! The CPU backend at work: the same programs as in a run, each thread on rows of its own, and the
//! machine's ceilings.

use std::time::Instant;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use rayon::prelude::*;

use super::reference;
use super::report::{Ceilings, Outcome, Row, Timing};
use super::work::{ACTIVATION, Data, Op, SLAB, Work};
use crate::device::{Arena, Builder, Cpu, DType, Program, Real, Tensor, View};
use crate::error::Result;
use crate::ops::linear::Matrix;
use crate::ops::{Launch, activation, gram, linear, run_cpu};

/// Bytes that no cache of a CPU holds: inputs are rotated among sets of at least this size.
const CACHE: u64 = 256 << 20;
/// The most sets of inputs; small shapes are timed in cache.
const SETS: u64 = 8;
/// Side of the square matrices whose product is the ceiling of arithmetic.
const PEAK_SIDE: usize = 1536;

/// The rows of one thread: a program and its memory.
struct Part<T> {
    program: Program<Launch>,
    arena: Arena<T>,
    x: View,
    y: View,
    rows: std::ops::Range<usize>,
}

/// Shapes that take seconds on a few cores.
pub fn shapes(op: Op) -> &'static [&'static str] {
    match op {
        Op::Gram => &["16384x257", "4096x769"],
        Op::Linear => &["4096x768x768", "2048x768x3072"],
        Op::Tangent => &["4096x768x768"],
    }
}

/// Checks and times one operation: `repeats` runs after one that is not counted.
pub fn row<T: Real>(cpu: &Cpu, work: &Work, seed: u64, repeats: usize) -> Result<Row> {
    let data = cpu.install(|| Data::<T>::new(work, seed));
    let sets = CACHE.div_ceil(work.input_bytes()).clamp(1, SETS) as usize;
    let mut sets: Vec<Vec<Part<T>>> = (0..sets).map(|_| parts(cpu, work, &data)).collect();
    let run = |parts: &mut Vec<Part<T>>| {
        let start = Instant::now();
        cpu.install(|| parts.par_iter_mut().for_each(|p| run_cpu(&p.program, &mut p.arena)));
        start.elapsed().as_secs_f64()
    };
    sets.iter_mut().for_each(|parts| drop(run(parts)));
    let error = cpu.install(|| reference::error(work, &data, &result(work, &sets[0])));
    let count = sets.len();
    let seconds = (0..repeats).map(|i| run(&mut sets[i % count])).collect();
    Ok(Row::new(work, "cpu", format!("faer on {} threads", cpu.threads()), error, Outcome::Timed(Timing::of(work, seconds))))
}

/// Bytes of memory that [`row`] takes.
pub fn memory(work: &Work, threads: usize) -> u64 {
    let result = if work.op == Op::Gram { threads * work.result_len() } else { 2 * work.result_len() };
    let set = work.input_bytes() + (result * work.dtype.bytes()) as u64;
    let sets = CACHE.div_ceil(work.input_bytes()).clamp(1, SETS);
    work.input_bytes() + sets * set + 8 * work.result_len() as u64
}

/// The work, cut into one part for each thread, with its inputs in place.
fn parts<T: Real>(cpu: &Cpu, work: &Work, data: &Data<T>) -> Vec<Part<T>> {
    let slab = if work.op == Op::Tangent { SLAB } else { 1 };
    let (slabs, threads) = (work.n / slab, cpu.threads());
    let cut = |i: usize| slab * (slabs * i / threads);
    let filled = (0..threads).map(|i| cut(i)..cut(i + 1)).filter(|rows| !rows.is_empty());
    let ranges: Vec<std::ops::Range<usize>> = filled.collect();
    let widen = |x: &[T]| x.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
    let (w, bias) = match work.op {
        Op::Gram => (None, None),
        Op::Linear | Op::Tangent => {
            (Some(Tensor::from_f64(T::DTYPE, work.k, work.m, widen(&data.w))), Some(Tensor::row(T::DTYPE, widen(&data.bias))))
        }
    };
    let weights = w.zip(bias).map(|(w, b)| (Matrix::whole(&w), Matrix::whole(&b)));
    let fill = |rows: std::ops::Range<usize>| {
        let (program, x, y) = program(work, rows.len(), weights.as_ref());
        let mut arena = Arena::new(&program.layout);
        for (i, row) in rows.clone().enumerate() {
            let range = x.range(place(work.op, i, rows.len()));
            arena.real_mut(x.buffer)[range].copy_from_slice(&data.x[row * work.k..][..work.k]);
        }
        Part { program, arena, x, y, rows }
    };
    cpu.install(|| ranges.into_par_iter().map(fill).collect())
}

/// Where row `i` of `n` stands in the memory of a part: the CPU's tangents are probe-major.
fn place(op: Op, i: usize, n: usize) -> usize {
    if op == Op::Tangent { i % SLAB * (n / SLAB) + i / SLAB } else { i }
}

/// The launches for `n` rows, with the views of x and of the result.
fn program(work: &Work, n: usize, weights: Option<&(Matrix, Matrix)>) -> (Program<Launch>, View, View) {
    let mut b = Builder::new(work.dtype);
    let x = b.matrix(n, work.k);
    let Some((w, bias)) = weights else {
        let out = b.accumulator(work.k, work.k);
        b.push(Launch::GramAdd(gram::AddArgs { x, out, transpose: false }));
        return (b.finish(), x, out);
    };
    let y = b.matrix(n, work.m);
    let whole =
        |x: View, y: View| linear::Args { bias: Some(bias.clone()), act: Some(ACTIVATION), ..linear::Args::new(x, w.clone(), y) };
    if work.op == Op::Linear {
        b.push(Launch::Linear(whole(x, y)));
        return (b.finish(), x, y);
    }
    let primal = n / SLAB;
    let (pre, z) = (b.matrix(primal, work.m), b.matrix(n - primal, work.m));
    let tangents = |v: View| v.slice_rows(primal, n - primal);
    b.push(Launch::Linear(linear::Args { pre: Some(pre), ..whole(x.slice_rows(0, primal), y.slice_rows(0, primal)) }));
    b.push(Launch::Linear(linear::Args::new(tangents(x), w.clone(), z)));
    let tangent = activation::TangentArgs { act: ACTIVATION, x: pre, dx: z, dy: tangents(y), transpose: false };
    b.push(Launch::ActivationTangent(tangent));
    (b.finish(), x, y)
}

/// The result of all parts: rows in their order, or the sum of the Gram matrices.
fn result<T: Real>(work: &Work, parts: &[Part<T>]) -> Vec<f64> {
    let mut result = vec![0.0; work.result_len()];
    for part in parts {
        if work.op == Op::Gram {
            result.iter_mut().zip(part.arena.real(part.y.buffer)).for_each(|(sum, x)| *sum += x.to_f64());
            continue;
        }
        for (i, row) in part.rows.clone().enumerate() {
            let from = part.arena.row(&part.y, place(work.op, i, part.rows.len()));
            result[row * work.m..][..work.m].iter_mut().zip(from).for_each(|(y, x)| *y = x.to_f64());
        }
    }
    result
}

/// The rates of a large copy and of a large matrix product of faer, in `dtype`.
pub fn ceilings(cpu: &Cpu, dtypes: &[DType], repeats: usize) -> Ceilings {
    let mut ceilings = Ceilings::new(
        format!("copy of {} MiB by all threads, bytes read and written; {PEAK_SIDE}^3 product of faer", CACHE >> 20),
        copy_rate(cpu, repeats),
    );
    for dtype in dtypes {
        let rate = match dtype {
            DType::F32 => peak_rate::<f32>(cpu, repeats),
            DType::F64 => peak_rate::<f64>(cpu, repeats),
        };
        ceilings.peaks.insert(dtype.name(), rate);
    }
    ceilings
}

/// Bytes a second.
fn copy_rate(cpu: &Cpu, repeats: usize) -> f64 {
    let from = vec![1u8; CACHE as usize];
    let mut to = vec![0u8; CACHE as usize];
    let chunk = from.len().div_ceil(cpu.threads());
    let mut run = || {
        let start = Instant::now();
        cpu.install(|| to.par_chunks_mut(chunk).zip(from.par_chunks(chunk)).for_each(|(to, from)| to.copy_from_slice(from)));
        start.elapsed().as_secs_f64()
    };
    run();
    2.0 * CACHE as f64 / super::report::median((0..repeats).map(|_| run()).collect())
}

/// Floating point operations a second.
fn peak_rate<T: Real>(cpu: &Cpu, repeats: usize) -> f64 {
    let number = |i: usize, j: usize| T::of(((i * 31 + j * 17) % 13) as f64 - 6.0);
    let (a, b) = (Mat::from_fn(PEAK_SIDE, PEAK_SIDE, number), Mat::from_fn(PEAK_SIDE, PEAK_SIDE, number));
    let mut c = Mat::<T>::zeros(PEAK_SIDE, PEAK_SIDE);
    let mut run = || {
        let start = Instant::now();
        cpu.install(|| matmul(c.as_mut(), Accum::Replace, a.as_ref(), b.as_ref(), T::ONE, Par::rayon(cpu.threads())));
        start.elapsed().as_secs_f64()
    };
    run();
    2.0 * (PEAK_SIDE as f64).powi(3) / super::report::median((0..repeats).map(|_| run()).collect())
}
