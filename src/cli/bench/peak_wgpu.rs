//! The peak of a wgpu device's arithmetic in f32, by a kernel that touches no memory while it computes.

use std::time::Instant;

use super::report::median;
use crate::device::wgpu::{Launch, Recorded, Wgpu, WgpuBuffer};
use crate::error::{Error, Result};
use crate::kernel::Params;
use crate::kernel::wgsl::Transport;
use crate::kernel::wgsl::peak::{PEAK, PeakParams, THREADS, configuration, flops};

/// What the peak is of, for the report.
pub const NOTE: &str = "peak of fma on registers";
/// Workgroups: enough to fill a large GPU, and some for a software adapter.
const GROUPS: [u32; 2] = [4096, 8];
/// Seconds that a launch has to take for its beginning and end not to count.
const LONG: f64 = 0.01;
/// The most rounds of a launch: Mesa's llvmpipe ends loops after 65,535.
const MOST_ROUNDS: u32 = 1 << 14;

/// A recorded launch and what it writes.
struct Run {
    recorded: [Recorded; 1],
    out: WgpuBuffer,
    flops: f64,
}

impl Run {
    fn new(device: &Wgpu, groups: u32, rounds: u32, first: f32) -> Result<Self> {
        let elements = (groups * THREADS) as usize;
        let out = device.buffer(4 * elements as u64)?;
        let (binding, _) = device.bind(&out, 0..elements)?;
        let launch = Launch {
            pipeline: &device.pipeline(&PEAK, &configuration())?,
            params: &PeakParams { groups, rounds, first, one: 1.0 }.bytes(),
            transport: Transport::Uniform,
            bindings: &[binding],
            grid: device.grid(groups.into())?,
        };
        Ok(Self { recorded: [device.record(&launch)?], out, flops: flops() * f64::from(groups) * f64::from(rounds) })
    }
    /// Seconds of a run, by the device's clock where it has one.
    fn seconds(&self, device: &Wgpu) -> Result<f64> {
        let start = Instant::now();
        Ok(device.time(&self.recorded)?.unwrap_or_else(|| start.elapsed().as_secs_f64()))
    }
    fn results(&self, device: &Wgpu) -> Result<Vec<f32>> {
        device.download_f32(&self.out, 0..self.out.bytes() as usize / 4)
    }
}

/// Floating point operations a second: the median of `repeats` launches after `warm_up` others.
pub fn rate(device: &Wgpu, warm_up: usize, repeats: usize) -> Result<f64> {
    let groups = GROUPS[usize::from(!device.adapter().kind.is_hardware())];
    let mut rounds = 16;
    let mut run = Run::new(device, groups, rounds, 1.0)?;
    while run.seconds(device)? < LONG && rounds < MOST_ROUNDS {
        rounds *= 2;
        run = Run::new(device, groups, rounds, 1.0)?;
    }
    let seconds = (0..warm_up + repeats).map(|_| run.seconds(device)).collect::<Result<Vec<f64>>>()?;
    if let Some(sum) = run.results(device)?.iter().find(|sum| !sum.is_finite()) {
        return Err(Error::numeric(PEAK.name, format!("a sum of {sum}"), "finite sums"));
    }
    Ok(run.flops / median(seconds[warm_up..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::wgsl::peak::{QUADS, UNROLL};

    #[test]
    fn every_step_of_the_chains_is_computed_on_wgpu() {
        let Ok(device) = Wgpu::open(Some("llvmpipe")) else {
            println!("skipped: wgpu llvmpipe is absent");
            return;
        };
        let run = Run::new(&device, 3, 2, 5.0).unwrap();
        assert_eq!(run.flops, 3.0 * 2.0 * 256.0 * 16.0 * 8.0 * 2.0);
        assert!(run.seconds(&device).unwrap() > 0.0);
        let found = run.results(&device).unwrap();
        assert_eq!(found.len(), 3 * 256);
        for (i, found) in found.into_iter().enumerate() {
            let a = (f64::from(i as u32 % 32) - 31.0) / 32.0;
            let chain = |i: u32| (0..2 * UNROLL).fold(f64::from(5 + i), |c, _| c * a + 1.0);
            let wanted: f64 = (0..4 * QUADS).map(chain).sum();
            assert!((f64::from(found) - wanted).abs() <= 1e-5 * wanted.abs(), "invocation {i}: {found} {wanted}");
        }
        assert!(rate(&device, 0, 1).unwrap() > 1e6);
    }
}
