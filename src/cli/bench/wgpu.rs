//! A wgpu device at work: programs as in a run, timed by the device's timestamps where it has them and nothing is left to the
//! host, else by the host's clock.

use std::time::Instant;

use super::check::Run;
use super::peak_wgpu;
use super::report::{Ceilings, Clock, Outcome, Row, Timing, median};
use super::set::Set;
use super::work::Work;
use crate::device::wgpu::{Recorded, Wgpu};
use crate::device::{DType, Device, Real};
use crate::error::Result;

/// Runs before the ones that count.
const WARM_UP: usize = 2;
/// Bytes that no cache of a GPU holds: inputs are rotated among sets of at least this size.
const CACHE: u64 = 192 << 20;
/// The most sets of inputs.
const SETS: u64 = 4;
/// Bytes of the copy that is the ceiling of memory, and how many are timed together.
const COPY: u64 = 256 << 20;
const COPIES: usize = 8;

/// Checks and times one operation.
pub fn row<T: Real>(device: &Device, wgpu: &Wgpu, work: &Work, seed: u64, repeats: usize) -> Result<Row> {
    let host = device.host();
    let case = host.install(|| work.case(seed));
    let wanted = CACHE.div_ceil(case.bytes().max(1)).clamp(1, SETS);
    let mut sets = (0..wanted).map(|_| Set::<T>::new(device, &case)).collect::<Result<Vec<_>>>()?;
    let ran = sets[0].once(&case)?;
    let mut again = |fewer: &Work| {
        let case = host.install(|| fewer.case(seed));
        Set::<T>::new(device, &case)?.once(&case)
    };
    let checked = Run { work, case: &case, arena: sets[0].arena(), seed, ran: &ran }.check(host, Some(&mut again))?;
    // The first run of a set brings its inputs to the device.
    sets[1..].iter_mut().try_for_each(|set| set.run(&case))?;
    wgpu.wait()?;
    let mut seconds = Vec::new();
    let mut clock = Clock::Device;
    let count = sets.len();
    for i in 0..WARM_UP + repeats {
        let set = &mut sets[i % count];
        let start = Instant::now();
        let on_device = match set.recorded() {
            Some(recorded) => wgpu.time(recorded)?,
            None => {
                set.run(&case)?;
                wgpu.wait()?;
                None
            }
        };
        if on_device.is_none() {
            clock = Clock::Host;
        }
        seconds.push(on_device.unwrap_or_else(|| start.elapsed().as_secs_f64()));
    }
    let timing = Timing::of(&case.costs, clock, seconds.split_off(WARM_UP));
    Ok(Row::new(work, "wgpu", ran.kernels.join(" + "), checked, &case.costs, Outcome::Timed(timing)))
}

/// The rate of large copies and the peak of arithmetic.
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
    let mebibytes = bytes >> 20;
    let note = format!("{COPIES} copies of {mebibytes} MiB by the host's clock, bytes read and written; {}", peak_wgpu::NOTE);
    let mut ceilings = Ceilings::new(note, copy);
    ceilings.peaks.insert(DType::F32.name(), peak_wgpu::rate(wgpu, WARM_UP, repeats)?);
    Ok(ceilings)
}
