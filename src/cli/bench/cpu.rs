//! The CPU backend at work: the same programs as in a run, each thread on rows of its own, and the
//! machine's ceilings.

use std::time::Instant;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use rayon::prelude::*;

use super::program::{Timed, Weights};
use super::reference;
use super::report::{Ceilings, Clock, Outcome, Row, Timing};
use super::work::{Data, Op, SLAB, Work};
use crate::device::{Arena, Cpu, DType, Real};
use crate::error::Result;
use crate::ops::run_cpu;

/// Bytes that no cache of a CPU holds: inputs are rotated among sets of at least this size.
const CACHE: u64 = 256 << 20;
/// The most sets of inputs; small shapes are timed in cache.
const SETS: u64 = 8;
/// Side of the square matrices whose product is the ceiling of arithmetic.
const PEAK_SIDE: usize = 1536;

/// The rows of one thread: a program and its memory.
struct Part<T> {
    timed: Timed,
    arena: Arena<T>,
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
        cpu.install(|| parts.par_iter_mut().for_each(|p| run_cpu(&p.timed.program, &mut p.arena)));
        start.elapsed().as_secs_f64()
    };
    for parts in &mut sets {
        run(parts);
    }
    let error = cpu.install(|| reference::error(work, &data, &result(work, &sets[0])));
    let count = sets.len();
    let seconds = (0..repeats).map(|i| run(&mut sets[i % count])).collect();
    Ok(Row::new(
        work,
        "cpu",
        format!("faer on {} threads", cpu.threads()),
        error,
        Outcome::Timed(Timing::of(work, Clock::Host, seconds)),
    ))
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
    let weights = Weights::new(work, data);
    let fill = |rows: std::ops::Range<usize>| {
        let timed = Timed::new(work, rows.len(), weights.as_ref());
        let mut arena = Arena::new(&timed.program.layout);
        arena.real_mut(timed.x.buffer).copy_from_slice(&data.x[rows.start * work.k..rows.end * work.k]);
        Part { timed, arena, rows }
    };
    cpu.install(|| ranges.into_par_iter().map(fill).collect())
}

/// The result of all parts: rows in their order, or the Gram matrix of all rows.
fn result<T: Real>(work: &Work, parts: &[Part<T>]) -> Vec<f64> {
    if work.op == Op::Gram {
        return joined_gram(work, parts);
    }
    let numbers = parts.iter().flat_map(|p| p.arena.real(p.timed.y.buffer));
    numbers.map(|y| y.to_f64()).collect()
}

/// Gram matrices around means of their own, as one around the mean of all rows: the lower triangle of
/// sum_p G_p + n_p (mean_p - mean)(mean_p - mean)'.
fn joined_gram<T: Real>(work: &Work, parts: &[Part<T>]) -> Vec<f64> {
    let d = work.k;
    let mean_of = |p: &Part<T>| {
        let mean = p.timed.mean.map_or(&[][..], |v| p.arena.row(&v, 0));
        mean.iter().map(|m| m.to_f64()).collect::<Vec<f64>>()
    };
    let means: Vec<Vec<f64>> = parts.iter().map(mean_of).collect();
    let weight = |p: &Part<T>| p.rows.len() as f64;
    let mean: Vec<f64> =
        (0..d).map(|j| parts.iter().zip(&means).map(|(p, m)| weight(p) * m[j]).sum::<f64>() / work.n as f64).collect();
    let mut gram = vec![0.0; d * d];
    for (part, own) in parts.iter().zip(&means) {
        for i in 0..d {
            let row = part.arena.row(&part.timed.y, i);
            for j in 0..=i {
                gram[i * d + j] += row[j].to_f64() + weight(part) * (own[i] - mean[i]) * (own[j] - mean[j]);
            }
        }
    }
    gram
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
