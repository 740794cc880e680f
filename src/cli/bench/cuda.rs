//! A CUDA device at work: the launches of a run, timed by the device's clock, and its ceilings. The
//! interpreter counts in the place of the clock.

use super::case::{Case, Output};
use super::check::{Found, Ran, Run, rows};
use super::peak;
use super::report::{Ceilings, Clock, Outcome, Row, Timing, median};
use super::work::Work;
use crate::device::cuda::{Call, Cuda, CudaArena, Lane, Stopwatch};
use crate::device::{Arena, Cpu, DType, Real};
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

/// The launches of one set of inputs.
struct Set {
    arena: CudaArena,
    calls: Vec<Call>,
}

/// Checks and times one operation.
pub fn row<T: Real>(cuda: &Cuda, host: &Cpu, work: &Work, seed: u64, repeats: usize) -> Result<Row> {
    let case = host.install(|| work.case(seed));
    let inputs = host.install(|| case.arena::<T>(T::DTYPE));
    let mut lane = Lane::new(cuda)?;
    let sets = sets(cuda, &mut lane, work, &case, &inputs, SETS)?;
    let before = cuda.driver().counts();
    let ran = once::<T>(&mut lane, &case, &sets[0])?;
    let counts = cuda.driver().counts().zip(before).map(|(after, before)| after - before);
    let mut again = |fewer: &Work| {
        let case = host.install(|| fewer.case(seed));
        let inputs = host.install(|| case.arena::<T>(T::DTYPE));
        let mut lane = Lane::new(cuda)?;
        let set = self::sets(cuda, &mut lane, fewer, &case, &inputs, 1)?;
        once::<T>(&mut lane, &case, &set[0])
    };
    let checked = Run { work, case: &case, arena: &inputs, seed, ran: &ran }.check(host, Some(&mut again))?;
    if let Some(counts) = counts {
        return Ok(Row::new(work, "cuda", ran.kernels.join(" + "), checked, &case.costs, Outcome::Counted(counts)));
    }
    let laps = time(cuda, &mut lane, &sets, repeats)?;
    let kernel = match &grouped(&sets[0].calls)[..] {
        [_] => ran.kernels.join(" + "),
        groups => {
            let seconds = |calls: &[usize]| median(laps.iter().map(|l| calls.iter().map(|&i| l[i]).sum()).collect());
            let named = groups.iter().map(|(name, calls)| format!("{name} {:.3} ms", 1e3 * seconds(calls)));
            named.collect::<Vec<String>>().join(" + ")
        }
    };
    let seconds = laps.iter().map(|laps| laps.iter().sum()).collect();
    let timing = Timing::of(&case.costs, Clock::Device, seconds);
    Ok(Row::new(work, "cuda", kernel, checked, &case.costs, Outcome::Timed(timing)))
}

/// Sets of the same inputs in memory of their own, what is written alone poisoned: as many as together are
/// larger than the device's cache, and as it has room for, but one; at most `most`.
fn sets<T: Real>(cuda: &Cuda, lane: &mut Lane, work: &Work, case: &Case, inputs: &Arena<T>, most: u64) -> Result<Vec<Set>> {
    let bytes = cuda_bytes(cuda, &case.program).max(1);
    let room = cuda.free_memory()? / bytes;
    let wanted = (CACHES * cuda.properties().l2_bytes).div_ceil(bytes).clamp(1, most);
    let mut sets = Vec::new();
    for _ in 0..wanted.min(room.saturating_sub(1)).max(1) {
        let bound = cuda_calls(cuda, &case.program)?;
        let (arena, calls) = bound.ok_or_else(|| Error::Kernel {
            name: work.op.0.name.into(),
            found: format!("no kernel for {} in {}", work.shape(), work.dtype.name()),
            expected: "sizes that kernels index".into(),
        })?;
        for view in case.given() {
            lane.upload(arena.buffer(view.buffer), bytemuck::cast_slice(inputs.real(view.buffer)))?;
        }
        for (buffer, data) in &case.ints {
            lane.upload(arena.ints(*buffer), bytemuck::cast_slice(data))?;
        }
        for view in case.outputs.iter().filter_map(Output::view) {
            if case.given().all(|given| given.buffer != view.buffer) {
                lane.fill(arena.buffer(view.buffer), u8::MAX, view.buffer.len * T::DTYPE.bytes())?;
            }
        }
        sets.push(Set { arena, calls });
    }
    Ok(sets)
}

/// Runs a set for the first time.
fn once<T: Real>(lane: &mut Lane, case: &Case, set: &Set) -> Result<Ran> {
    lane.issue(&set.calls)?;
    let mut read = |output: &Output| match output {
        Output::Ints(buffer) => {
            let mut numbers = vec![0u32; buffer.len];
            lane.download(set.arena.ints(*buffer), bytemuck::cast_slice_mut(&mut numbers))?;
            Ok(Found::Ints(numbers))
        }
        Output::Whole(v) | Output::Lower(v) | Output::Exact(v) => {
            let mut numbers = vec![T::ZERO; v.buffer.len];
            lane.download(set.arena.buffer(v.buffer), bytemuck::cast_slice_mut(&mut numbers))?;
            Ok(Found::Reals(rows(&numbers, v)))
        }
    };
    let found = case.outputs.iter().map(&mut read).collect::<Result<Vec<Found>>>()?;
    let kernels = grouped(&set.calls).iter().map(|(name, _)| name.to_string()).collect();
    Ok(Ran { found, kernels })
}

/// The kernels of the calls in the order of their first, with the numbers of the calls of each.
fn grouped(calls: &[Call]) -> Vec<(&str, Vec<usize>)> {
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    for (i, call) in calls.iter().enumerate() {
        match groups.iter_mut().find(|(name, _)| *name == call.kernel) {
            Some((_, calls)) => calls.push(i),
            None => groups.push((&call.kernel, vec![i])),
        }
    }
    groups
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
