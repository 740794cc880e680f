//! A CUDA device at work: the launches of a run, timed by the device's clock, and its ceilings. The
//! interpreter counts in the place of the clock.

use super::program::{Timed, Weights};
use super::report::{Ceilings, Clock, Outcome, Row, Timing, median};
use super::work::{Data, Op, Work};
use super::{peak, reference};
use crate::device::cuda::{Call, Cuda, CudaArena, Lane, Stopwatch};
use crate::device::{Cpu, DType, Real};
use crate::error::{Error, Result};
use crate::ops::offload::{cuda_bytes, cuda_calls};

/// Runs before the ones that count: modules are compiled, clocks rise.
const WARM_UP: usize = 3;
/// The most sets of inputs.
const SETS: u64 = 8;
/// Inputs are rotated among sets that take this many times the second-level cache.
const CACHES: u64 = 3;
/// Bytes of the copy that is the ceiling of memory.
const COPY: u64 = 1 << 30;

/// The types in which an operation has kernels.
pub fn dtypes(op: Op) -> &'static [DType] {
    match op {
        Op::Gram | Op::Linear | Op::Tangent => &[DType::F32, DType::F64],
    }
}

/// Activations of 2^20 tokens of a small GPT-2 and of its neurons, the MLPs of such a model at two
/// batch sizes, and one slab of tangents through them for 8,192 tokens.
pub fn shapes(op: Op) -> &'static [&'static str] {
    match op {
        Op::Gram => &["1048576x769", "1048576x768", "131072x3073"],
        Op::Linear => &["4096x768x3072", "65536x768x3072", "65536x3072x768"],
        Op::Tangent => &["131072x768x3072"],
    }
}

/// The launches of one set of inputs.
struct Set {
    arena: CudaArena,
    calls: Vec<Call>,
}

/// Checks and times one operation.
pub fn row<T: Real>(cuda: &Cuda, host: &Cpu, work: &Work, seed: u64, repeats: usize) -> Result<Row> {
    let data = host.install(|| Data::<T>::new(work, seed));
    let timed = Timed::new(work, work.n, Weights::new(work, &data).as_ref());
    let mut lane = Lane::new(cuda)?;
    let sets = sets(cuda, &mut lane, work, &timed, bytemuck::cast_slice(&data.x))?;
    let first = &sets[0];
    let before = cuda.driver().counts();
    lane.issue(&first.calls)?;
    let mut result = vec![T::ZERO; work.result_len()];
    lane.download(first.arena.view(&timed.y), bytemuck::cast_slice_mut(&mut result))?;
    let counts = cuda.driver().counts().zip(before).map(|(after, before)| after - before);
    let result: Vec<f64> = result.into_iter().map(Real::to_f64).collect();
    let error = host.install(|| reference::error(work, &data, &result));
    let names: Vec<&str> = first.calls.iter().map(|c| c.kernel.as_str()).collect();
    if let Some(counts) = counts {
        return Ok(Row::new(work, "cuda", names.join(" + "), error, Outcome::Counted(counts)));
    }
    let laps = time(cuda, &mut lane, &sets, repeats)?;
    let kernels: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            if names.len() == 1 {
                name.to_string()
            } else {
                format!("{name} {:.3} ms", 1e3 * median(laps.iter().map(|l| l[i]).collect()))
            }
        })
        .collect();
    let seconds = laps.iter().map(|laps| laps.iter().sum()).collect();
    Ok(Row::new(work, "cuda", kernels.join(" + "), error, Outcome::Timed(Timing::of(work, Clock::Device, seconds))))
}

/// Sets of the same inputs in memory of their own, the results poisoned: as many as together are
/// larger than the device's cache, and as it has room for, but one.
fn sets(cuda: &Cuda, lane: &mut Lane, work: &Work, timed: &Timed, x: &[u8]) -> Result<Vec<Set>> {
    let room = cuda.free_memory()? / cuda_bytes(cuda, &timed.program).max(1);
    let wanted = (CACHES * cuda.properties().l2_bytes).div_ceil(work.input_bytes()).clamp(1, SETS);
    let mut sets = Vec::new();
    for _ in 0..wanted.min(room.saturating_sub(1)).max(1) {
        let bound = cuda_calls(cuda, &timed.program)?;
        let (arena, calls) = bound.ok_or_else(|| Error::Kernel {
            name: work.op.name().into(),
            found: format!("no kernel for {} in {}", work.shape(), work.dtype.name()),
            expected: "sizes below 2^30".into(),
        })?;
        lane.upload(arena.view(&timed.x), x)?;
        lane.fill(arena.view(&timed.y), u8::MAX, work.result_len() * work.dtype.bytes())?;
        sets.push(Set { arena, calls });
    }
    Ok(sets)
}

/// Seconds of each launch in each repeat.
fn time(cuda: &Cuda, lane: &mut Lane, sets: &[Set], repeats: usize) -> Result<Vec<Vec<f64>>> {
    let stopwatch = Stopwatch::new(cuda, sets[0].calls.len())?;
    let mut laps = Vec::new();
    for i in 0..WARM_UP + repeats {
        let calls = &sets[i % sets.len()].calls;
        laps.push(stopwatch.time(lane, calls, |lane, call| lane.issue(std::slice::from_ref(call)))?);
    }
    Ok(laps.split_off(WARM_UP))
}

/// The rates of a large copy and of registers-only arithmetic; `None` on the interpreter.
pub fn ceilings(cuda: &Cuda, dtypes: &[DType], repeats: usize) -> Result<Option<Ceilings>> {
    if cuda.is_interpreter() {
        return Ok(None);
    }
    let mut lane = Lane::new(cuda)?;
    let stopwatch = Stopwatch::new(cuda, 1)?;
    let bytes = COPY.min(cuda.free_memory()? / 4);
    let (from, to) = (cuda.alloc(bytes)?, cuda.alloc(bytes)?);
    lane.fill(from.address, 0x5A, bytes as usize)?;
    let mut seconds = Vec::new();
    for _ in 0..WARM_UP + repeats {
        let lap = stopwatch.time(&mut lane, &[()], |lane, ()| lane.copy(to.address, from.address, bytes as usize))?;
        seconds.extend(lap);
    }
    let copy = 2.0 * bytes as f64 / median(seconds.split_off(WARM_UP));
    let note = format!("copy of {} MiB, bytes read and written; peaks of {}", bytes >> 20, peak::NOTE);
    let mut ceilings = Ceilings::new(note, copy);
    for dtype in dtypes {
        ceilings.peaks.insert(dtype.name(), peak::rate(cuda, &mut lane, *dtype, WARM_UP, repeats)?);
    }
    Ok(Some(ceilings))
}
