//! The peak of a CUDA device's arithmetic, by kernels that touch no memory while they compute.

use super::report::median;
use crate::device::cuda::{Call, Cuda, Lane, Memory, Stopwatch};
use crate::device::{DType, Real};
use crate::error::{Error, Result};
use crate::kernel::probe::{PeakParams, peak};

/// What the peaks are of, for the report.
pub const NOTE: &str = "fma.f32 and mma.m8n8k4.f64 on registers";
/// CTAs a multiprocessor: as many threads as it holds.
const CTAS: u32 = 8;
/// Rounds of one launch: about a millisecond on a data-centre device.
const ROUNDS: u32 = 512;

/// A launch of a peak kernel and the memory that it writes.
struct Launch {
    call: Call,
    out: Memory,
    flops: f64,
}

fn launch(cuda: &Cuda, dtype: DType, ctas: u32, rounds: u32, first: u32) -> Result<Launch> {
    let (kernel, configuration, flops) = peak(dtype);
    let out = cuda.alloc(u64::from(ctas * configuration.threads) * dtype.bytes() as u64)?;
    let call = cuda.call(kernel, &configuration, [ctas, 1, 1], &PeakParams { out: out.address, rounds, first })?;
    Ok(Launch { call, out, flops: flops * f64::from(ctas) * f64::from(rounds) })
}

/// What the threads of a launch have written, in f64.
fn results<T: Real>(lane: &mut Lane, launch: &Launch) -> Result<Vec<f64>> {
    let mut out = vec![T::ZERO; launch.out.bytes as usize / T::DTYPE.bytes()];
    lane.download(launch.out.address, bytemuck::cast_slice_mut(&mut out))?;
    Ok(out.into_iter().map(Real::to_f64).collect())
}

/// Floating point operations a second: the median of `repeats` launches after `warm_up` others.
pub fn rate(cuda: &Cuda, lane: &mut Lane, dtype: DType, warm_up: usize, repeats: usize) -> Result<f64> {
    let launch = launch(cuda, dtype, CTAS * cuda.properties().multiprocessors, ROUNDS, 1)?;
    let stopwatch = Stopwatch::new(cuda, 1)?;
    let mut seconds = Vec::new();
    for _ in 0..warm_up + repeats {
        seconds.extend(
            stopwatch.time(lane, std::slice::from_ref(&launch.call), |lane, call| lane.issue(std::slice::from_ref(call)))?,
        );
    }
    let results = match dtype {
        DType::F32 => results::<f32>(lane, &launch)?,
        DType::F64 => results::<f64>(lane, &launch)?,
    };
    if let Some(sum) = results.iter().find(|sum| !sum.is_finite()) {
        return Err(Error::numeric(launch.call.kernel, format!("a sum of {sum}"), "finite sums"));
    }
    Ok(launch.flops / median(seconds.split_off(warm_up)))
}

#[cfg(all(test, feature = "ptxvm"))]
mod tests {
    use super::*;
    use crate::device::DriverChoice;

    /// What the threads of two CTAs write after three rounds.
    fn two_ctas<T: Real>() -> Vec<f64> {
        let cuda = Cuda::open(DriverChoice::Interpreter, 0).unwrap();
        let (mut lane, launch) = (Lane::new(&cuda).unwrap(), launch(&cuda, T::DTYPE, 2, 3, 5).unwrap());
        lane.fill(launch.out.address, u8::MAX, launch.out.bytes as usize).unwrap();
        lane.issue(std::slice::from_ref(&launch.call)).unwrap();
        let results = results::<T>(&mut lane, &launch).unwrap();
        assert_eq!(results.len(), 512);
        results
    }

    #[test]
    fn every_step_of_the_f32_chains_is_computed() {
        let (_, configuration, flops) = peak(DType::F32);
        let (chains, unroll) = (16, 8);
        assert_eq!(flops, f64::from(2 * configuration.threads * chains * unroll));
        for (thread, found) in two_ctas::<f32>().into_iter().enumerate() {
            let lane = thread as u32 % 32;
            let a = (lane as f32 - 16383.0) / 16384.0;
            let chain = |i: u32| (0..3 * unroll).fold((5 + lane + i) as f32, |c, _| c.mul_add(a, 1.0));
            assert_eq!(found, f64::from((0..chains).fold(0.0, |sum, i| sum + chain(i))), "thread {thread}");
        }
    }

    #[test]
    fn every_product_of_the_f64_chains_is_computed() {
        let (_, configuration, flops) = peak(DType::F64);
        let (chains, unroll) = (8, 8);
        assert_eq!(flops, f64::from(configuration.threads / 32 * chains * unroll * 512));
        let operand = |g: u32, t: u32| f64::from(4 * g + t) / 32.0 + 0.25;
        for (thread, found) in two_ctas::<f64>().into_iter().enumerate() {
            let lane = thread as u32 % 32;
            let (g, t) = (lane / 4, lane % 4);
            let dot = |column: u32| (0..4).map(|k| operand(g, k) * operand(column, k)).sum::<f64>();
            let element = |i: u32, column: u32| f64::from(5 + lane + i) + f64::from(3 * unroll) * dot(column);
            let expected: f64 = (0..chains).map(|i| element(i, 2 * t) + element(i, 2 * t + 1)).sum();
            assert!((found / expected - 1.0).abs() < 1e-13, "thread {thread}: {found} {expected}");
        }
    }
}
