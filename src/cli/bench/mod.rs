//! `mechgraph bench`: operations checked against f64, timed, and set against what the same device was
//! seen to do at best in the same run.

mod case;
pub(super) mod check;
mod cpu;
mod cuda;
mod ops;
mod peak;
mod peak_wgpu;
mod probe;
mod reference;
mod report;
mod rounding;
pub(super) mod set;
mod wgpu;
pub(super) mod work;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use self::probe::Probe;
use self::report::{Report, Row};
use self::work::{Op, Shape, Shapes, Work};
use super::common::{Common, Precision, parse_count, print, print_json};
use super::run_dir::check_free;
use crate::device::{DType, Device};
use crate::error::{Error, Result};
use crate::files;
use crate::ops::offload;
use crate::progress::Progress;

/// The most repeats of a timing.
const MAX_REPEATS: usize = 100_000;

/// Check operations against f64 and time them against the device's ceilings
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = work::list())]
pub struct Args {
    /// Operations, as listed below [default: all that the backend has]
    #[arg(value_name = "OP")]
    pub ops: Vec<Op>,
    /// Sizes with x between them, as listed below; repeatable
    #[arg(long, value_name = "SIZES")]
    pub shape: Vec<Shape>,
    /// Timed runs, of which the median counts
    #[arg(long, value_name = "N", default_value = "20", value_parser = parse_repeats)]
    pub repeats: NonZeroUsize,
    /// Ask a CUDA device how it rounds and compiles, and time nothing
    #[arg(long, conflicts_with_all = ["ops", "shape"])]
    pub probe: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// File to write the JSON into
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub common: Common,
}

fn parse_repeats(text: &str) -> std::result::Result<NonZeroUsize, String> {
    parse_count(text, MAX_REPEATS)
}

impl Args {
    /// Refuses combinations of flags that contradict each other.
    pub fn check(&self) -> Result<()> {
        self.common.check()?;
        if let Some(batch) = self.common.batch {
            return Err(Error::flag("--batch", batch.to_string(), "--shape, which says how many rows there are"));
        }
        let ops = self.ops();
        if let Some(shape) = self.shape.iter().find(|s| !s.fits_any(&ops)) {
            let takes: Vec<String> = ops.iter().map(|op| op.0.takes()).collect();
            return Err(Error::flag("--shape", shape.to_string(), takes.join(", ")));
        }
        self.out.as_ref().map_or(Ok(()), |out| check_free(out, self.common.force))
    }
    fn ops(&self) -> Vec<Op> {
        if self.ops.is_empty() { Op::all().collect() } else { self.ops.clone() }
    }
    /// The operations at all shapes and dtypes asked for, or at `defaults` where no shape is given. Operations without a
    /// kernel are left out, unless they are asked for by name.
    fn works(&self, device: &Device, defaults: impl Fn(&'static Shapes) -> &'static [&'static str]) -> Result<Vec<Work>> {
        let mut works = Vec::new();
        for op in self.ops() {
            let dtypes = dtypes_of(device, op)?;
            if dtypes.is_empty() && !self.ops.is_empty() {
                let found = format!("no kernel for {}", op.0.name);
                return Err(Error::Backend {
                    backend: device.backend(),
                    found,
                    expected: "an operation that it does not leave to the host".into(),
                });
            }
            let shapes = if self.shape.is_empty() { parsed(defaults(&op.0.shapes)) } else { self.shape.clone() };
            for dtype in dtypes.into_iter().filter(|d| self.common.dtype.is_none_or(|p| p == precision(*d))) {
                for shape in &shapes {
                    works.extend(Work::new(op, dtype, shape)?);
                }
            }
        }
        match (self.common.dtype, self.shape.first()) {
            (Some(dtype), _) if works.is_empty() => {
                let name = super::common::typed(dtype);
                Err(Error::flag("--dtype", name, "a type that the backend has for one of the operations"))
            }
            (None, Some(shape)) if works.is_empty() => {
                Err(Error::flag("--shape", shape.to_string(), "sizes of an operation that the backend has kernels for"))
            }
            _ => Ok(works),
        }
    }
    /// Writes a result to `--out` and prints it, as JSON or as `text`.
    fn publish(&self, result: &impl serde::Serialize, text: String) -> Result<()> {
        if let Some(out) = &self.out {
            let numbers = |e: serde_json::Error| Error::file(out, e.to_string(), "numbers that JSON can hold");
            let json = serde_json::to_string_pretty(result).map_err(numbers)?;
            files::write(out, |file| writeln!(file, "{json}"))?;
        }
        if self.json { print_json(result) } else { print(&text) }
    }
}

fn precision(dtype: DType) -> Precision {
    match dtype {
        DType::F32 => Precision::F32,
        DType::F64 => Precision::F64,
    }
}

pub(super) fn parsed(shapes: &[&str]) -> Vec<Shape> {
    shapes.iter().filter_map(|s| s.parse().ok()).collect()
}

/// The types in which a device has kernels for an operation; the CPU has both.
fn dtypes_of(device: &Device, op: Op) -> Result<Vec<DType>> {
    let mut dtypes = Vec::new();
    for dtype in [DType::F32, DType::F64] {
        for shape in parsed(&op.0.shapes.ragged[..1]) {
            let work = Work::new(op, dtype, &shape)?;
            dtypes.extend(work.filter(|work| offload::has_kernels(device, &work.case(0).program)).map(|_| dtype));
        }
    }
    Ok(dtypes)
}

/// Runs `mechgraph bench`.
pub fn run(args: Args) -> Result<()> {
    args.check()?;
    let progress = args.common.progress();
    let device = args.common.device(DType::F32, &progress)?;
    if args.probe {
        let Device::Cuda { gpus, .. } = &device else {
            return Err(Error::flag("--probe", device.backend(), "--backend cuda beside it"));
        };
        let probe = Probe::new(gpus.first(), &progress)?;
        return args.publish(&probe, probe.text());
    }
    let report = report(&args, &device, &progress)?;
    args.publish(&report, report.table())
}

/// Measures all that is asked for.
fn report(args: &Args, device: &Device, progress: &Progress) -> Result<Report> {
    let (seed, repeats) = (args.common.seed, args.repeats.get());
    let ceilings;
    let rows = match device {
        Device::Cpu(cpu) => {
            let works = args.works(device, |shapes| shapes.cpu)?;
            fits(args, &works, cpu.free_memory()?, |work| cpu::memory(work, cpu.threads()))?;
            ceilings = Some(cpu::ceilings(cpu, &dtypes(&works), repeats));
            rows(progress, &works, |work| match work.dtype {
                DType::F32 => cpu::row::<f32>(cpu, work, seed, repeats),
                DType::F64 => cpu::row::<f64>(cpu, work, seed, repeats),
            })?
        }
        Device::Cuda { gpus, host, .. } => {
            let cuda = gpus.first();
            let works = args.works(device, |shapes| if cuda.is_interpreter() { shapes.ragged } else { shapes.cuda })?;
            fits(args, &works, host.free_memory()?, Work::host_memory)?;
            ceilings = cuda::ceilings(cuda, &dtypes(&works), repeats)?;
            rows(progress, &works, |work| match work.dtype {
                DType::F32 => cuda::row::<f32>(cuda, host, work, seed, repeats),
                DType::F64 => cuda::row::<f64>(cuda, host, work, seed, repeats),
            })?
        }
        Device::Wgpu { wgpu, host, .. } => {
            let hardware = wgpu.adapter().kind.is_hardware();
            let works = args.works(device, |shapes| if hardware { shapes.wgpu } else { shapes.ragged })?;
            fits(args, &works, host.free_memory()?, Work::host_memory)?;
            ceilings = Some(wgpu::ceilings(wgpu, repeats)?);
            rows(progress, &works, |work| match work.dtype {
                DType::F32 => wgpu::row::<f32>(device, wgpu, work, seed, repeats),
                DType::F64 => wgpu::row::<f64>(device, wgpu, work, seed, repeats),
            })?
        }
    };
    let description = match device {
        Device::Cuda { gpus, .. } => gpus.first().describe(),
        device => device.describe(),
    };
    Ok(Report::new(device.backend(), description, ceilings, rows))
}

/// Refuses shapes whose matrices the host has no room for.
fn fits(args: &Args, works: &[Work], free: u64, memory: impl Fn(&Work) -> u64) -> Result<()> {
    let free = free.min(args.common.max_memory.unwrap_or(u64::MAX));
    match works.iter().map(memory).max() {
        Some(asked) if asked > free => Err(Error::Memory { asked, free, hint: " (smaller --shape)".into() }),
        _ => Ok(()),
    }
}

/// The element types of a list of operations, each once.
fn dtypes(works: &[Work]) -> Vec<DType> {
    [DType::F32, DType::F64].into_iter().filter(|d| works.iter().any(|w| w.dtype == *d)).collect()
}

/// Measures one operation after the other. A wrong result ends the command.
fn rows(progress: &Progress, works: &[Work], row: impl Fn(&Work) -> Result<Row>) -> Result<Vec<Row>> {
    let stage = progress.stage("bench", works.len() as u64, "operations");
    let mut rows = Vec::new();
    for work in works {
        rows.push(row(work)?);
        stage.add(1);
    }
    stage.finish();
    Ok(rows)
}

#[cfg(all(test, feature = "ptxvm"))]
mod tests {
    use super::*;
    use crate::device::{Cpu, Cuda, DriverChoice, Placement};

    #[test]
    fn every_default_shape_of_cuda_has_kernels() {
        let cuda = Cuda::open(DriverChoice::Interpreter, 0).unwrap();
        let device = Device::Cuda { gpus: cuda.into(), host: Cpu::new(1).unwrap(), placement: Placement::default() };
        for op in Op::all() {
            for (dtype, shape) in
                [DType::F32, DType::F64].into_iter().flat_map(|d| parsed(op.0.shapes.cuda).into_iter().map(move |s| (d, s)))
            {
                let work = Work::new(op, dtype, &shape).unwrap().unwrap();
                assert!(offload::has_kernels(&device, &work.case(0).program), "{} {shape} {}", op.0.name, dtype.name());
            }
        }
    }
}
