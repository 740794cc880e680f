//! The CPU backend at work: the same programs as in a run, each thread on rows of its own, and the
//! machine's ceilings.

use std::time::Instant;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use rayon::prelude::*;

use super::case::Case;
use super::check::{Ran, Run, found};
use super::report::{Ceilings, Clock, Outcome, Row, Timing};
use super::work::Work;
use crate::device::{Arena, Cpu, DType, Real};
use crate::error::Result;
use crate::ops::run_cpu;

/// Bytes that no cache of a CPU holds: inputs are rotated among sets of at least this size.
const CACHE: u64 = 256 << 20;
/// The most sets of inputs; small shapes are timed in cache.
const SETS: u64 = 8;
/// Side of the square matrices whose product is the ceiling of arithmetic.
const PEAK_SIDE: usize = 1536;

/// The samples of one thread: a program and its memory.
struct Part<T> {
    case: Case,
    arena: Arena<T>,
}

/// Checks and times one operation: `repeats` runs after one that is not counted. Every thread has as many samples, or one
/// slab more; the first one's are checked.
pub fn row<T: Real>(cpu: &Cpu, work: &Work, seed: u64, repeats: usize) -> Result<Row> {
    let costs = work.costs();
    let mut sets = sets::<T>(cpu, work, seed);
    let run = |parts: &mut Vec<Part<T>>| {
        let start = Instant::now();
        cpu.install(|| parts.par_iter_mut().for_each(|p| run_cpu(&p.case.program, &mut p.arena)));
        start.elapsed().as_secs_f64()
    };
    for parts in &mut sets {
        run(parts);
    }
    let kernel = format!("faer on {} threads", cpu.threads());
    let first = work.with_samples(cuts(work, cpu.threads())[0]);
    let Part { case, arena } = &sets[0][0];
    let ran = Ran { found: found(case, arena), kernels: vec![kernel.clone()] };
    let mut again = |fewer: &Work| {
        let case = cpu.install(|| fewer.case(seed));
        let mut arena = cpu.install(|| case.arena::<T>(T::DTYPE));
        cpu.install(|| run_cpu(&case.program, &mut arena));
        Ok(Ran { found: found(&case, &arena), kernels: vec![kernel.clone()] })
    };
    let checked = Run { work: &first, case, arena, seed, ran: &ran };
    let checked = checked.check(cpu, if T::DTYPE == DType::F64 { None } else { Some(&mut again) })?;
    let count = sets.len();
    let seconds = (0..repeats).map(|i| run(&mut sets[i % count])).collect();
    let timing = Timing::of(&costs, Clock::Host, seconds);
    Ok(Row::new(work, "cpu", kernel, checked, &costs, Outcome::Timed(timing)))
}

/// Bytes of memory that [`row`] takes.
pub fn memory(work: &Work, threads: usize) -> u64 {
    let cuts = cuts(work, threads);
    let set = (cuts.len() as u64).saturating_mul(work.with_samples(cuts[0]).plan().bytes());
    let all = set.saturating_mul(count(work)).saturating_add(work.costs().weights.saturating_mul(2));
    all.saturating_add(work.check_memory())
}

/// Sets of inputs: enough of them that no cache holds all.
fn count(work: &Work) -> u64 {
    CACHE.div_ceil(work.plan().bytes().max(1)).clamp(1, SETS)
}

/// The samples of each thread, most of them first; of threads without any nothing.
fn cuts(work: &Work, threads: usize) -> Vec<usize> {
    let (slab, slabs) = (work.op.0.slab, work.samples() / work.op.0.slab);
    let of = |thread: usize| slab * (slabs / threads + usize::from(thread < slabs % threads));
    (0..threads).map(of).filter(|samples| *samples > 0).collect()
}

/// The work, cut into one part for each thread, with its inputs in place.
fn sets<T: Real>(cpu: &Cpu, work: &Work, seed: u64) -> Vec<Vec<Part<T>>> {
    let cuts = cuts(work, cpu.threads());
    let last = cuts.len() - 1;
    let [most, fewest] = [cuts[0], cuts[last]].map(|samples| cpu.install(|| work.with_samples(samples).case(seed)));
    let fill = |samples: &usize| {
        let case = if *samples == cuts[0] { most.clone() } else { fewest.clone() };
        Part { arena: case.arena(T::DTYPE), case }
    };
    let set = |_| cpu.install(|| cuts.iter().map(fill).collect());
    (0..count(work)).map(set).collect()
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
