//! A wgpu device at work. Linear maps are timed by the device's timestamps where it has them; Gram
//! matrices by the host's clock, because the host folds their slabs.

use std::time::Instant;

use super::reference;
use super::report::{Ceilings, Clock, Outcome, Row, Timing, median};
use super::work::{Data, Op, Work};
use crate::device::wgpu::{Recorded, View, Wgpu, WgpuBuffer};
use crate::device::{Cpu, DType};
use crate::error::Result;
use crate::kernel::linear::{Elementwise, Epilogue};
use crate::ops::gram_wgpu::{self, GramPending};
use crate::ops::linear_wgpu::{LinearCall, linear};

/// Runs before the ones that count.
const WARM_UP: usize = 2;
/// Bytes that no cache of a GPU holds: inputs are rotated among sets of at least this size.
const CACHE: u64 = 192 << 20;
/// The most sets of inputs.
const SETS: u64 = 4;
/// Bytes of the copy that is the ceiling of memory, and how many are timed together.
const COPY: u64 = 256 << 20;
const COPIES: usize = 8;

/// wgpu computes in f32.
pub fn dtypes(_: Op) -> &'static [DType] {
    &[DType::F32]
}

/// The shapes of a small GPT-2 at a batch that one binding of any adapter nearly holds.
pub fn shapes(op: Op) -> &'static [&'static str] {
    match op {
        Op::Gram => &["65536x769"],
        Op::Linear => &["4096x768x3072", "16384x768x3072"],
        Op::Tangent => &["16384x768x3072"],
    }
}

/// One set of inputs with its launches.
enum Set {
    Linear { recorded: Vec<Recorded>, y: WgpuBuffer },
    Gram(GramPending),
}

/// Checks and times one operation.
pub fn row(wgpu: &Wgpu, host: &Cpu, work: &Work, seed: u64, repeats: usize) -> Result<Row> {
    let data = host.install(|| Data::<f32>::new(work, seed));
    let wanted = CACHE.div_ceil(work.input_bytes()).clamp(1, SETS);
    let weights = (wgpu.buffer_of(bytemuck::cast_slice(&data.w))?, wgpu.buffer_of(bytemuck::cast_slice(&data.bias))?);
    let sets = (0..wanted).map(|_| set(wgpu, work, &data, &weights)).collect::<Result<Vec<Set>>>()?;
    let (result, kernel) = match &sets[0] {
        Set::Linear { recorded, y } => {
            wgpu.submit(recorded)?;
            let y = wgpu.download_f32(y, 0..work.result_len())?;
            (y.into_iter().map(f64::from).collect(), names(recorded))
        }
        Set::Gram(pending) => {
            wgpu.submit(pending.recorded())?;
            (pending.finish(wgpu)?.m2, format!("{} + fold on the host", names(pending.recorded())))
        }
    };
    let error = host.install(|| reference::error(work, &data, &result));
    let mut seconds = Vec::new();
    let mut clock = Clock::Device;
    for i in 0..WARM_UP + repeats {
        let start = Instant::now();
        let on_device = match &sets[i % sets.len()] {
            Set::Linear { recorded, .. } => wgpu.time(recorded)?,
            Set::Gram(pending) => {
                wgpu.submit(pending.recorded())?;
                pending.finish(wgpu)?;
                None
            }
        };
        if on_device.is_none() {
            clock = Clock::Host;
        }
        seconds.push(on_device.unwrap_or_else(|| start.elapsed().as_secs_f64()));
    }
    let timing = Timing::of(work, clock, seconds.split_off(WARM_UP));
    Ok(Row::new(work, "wgpu", kernel, error, Outcome::Timed(timing)))
}

/// The names of launches, each once.
fn names(recorded: &[Recorded]) -> String {
    let mut names: Vec<&str> = recorded.iter().filter_map(Recorded::name).collect();
    names.dedup();
    names.join(" + ")
}

/// Records the launches on inputs of their own, the result poisoned.
fn set(wgpu: &Wgpu, work: &Work, data: &Data<f32>, (w, bias): &(WgpuBuffer, WgpuBuffer)) -> Result<Set> {
    let x = wgpu.buffer_of(bytemuck::cast_slice(&data.x))?;
    let x = View::new(&x, work.n, work.k);
    let epilogue = match work.op {
        Op::Gram => return gram_wgpu::gram(wgpu, x).map(Set::Gram),
        Op::Linear => Epilogue::Store(Elementwise::Gelu),
        Op::Tangent => Epilogue::Tangent(Elementwise::Gelu),
    };
    let y = wgpu.buffer_of(&vec![u8::MAX; 4 * work.result_len()])?;
    let call = LinearCall {
        x,
        w: View::new(w, work.k, work.m),
        transpose: false,
        bias: Some(View::new(bias, 1, work.m)),
        epilogue,
        pre: None,
        y: View::new(&y, work.n, work.m),
    };
    let recorded = linear(wgpu, &call)?;
    Ok(Set::Linear { recorded, y })
}

/// The rate of large copies; the peak of arithmetic is the fastest row, for the caller to fill in.
pub fn ceilings(wgpu: &Wgpu, repeats: usize) -> Result<Ceilings> {
    let bytes = COPY.min(wgpu.limits().max_buffer_size) / 4 * 4;
    let (from, to) = (wgpu.buffer(bytes)?, wgpu.buffer(bytes)?);
    let copies: Vec<Recorded> = (0..COPIES).map(|_| Recorded::copy(&from, 0, &to, 0, bytes)).collect();
    let mut seconds = Vec::new();
    for _ in 0..WARM_UP + repeats {
        let start = Instant::now();
        wgpu.submit(&copies)?;
        wgpu.wait()?;
        seconds.push(start.elapsed().as_secs_f64() / COPIES as f64);
    }
    let copy = 2.0 * bytes as f64 / median(seconds.split_off(WARM_UP));
    let note = format!("{COPIES} copies of {} MiB by the host's clock, bytes read and written", bytes >> 20);
    let mut ceilings = Ceilings::new(note, copy);
    ceilings.peaks.insert(DType::F32.name(), 0.0);
    Ok(ceilings)
}
