//! `mechgraph kernels --explain`: every configuration that an operation has, why it was rejected or
//! what it would cost, the one that a device is handed, and the floors of its time.

mod cuda;
mod text;
mod wgpu;

use std::num::NonZeroU32;

use serde::Serialize;

use crate::cli::common::{Precision, print, print_json};
use crate::device::DType;
use crate::error::{Error, Result};
use crate::kernel::linear::Epilogue;
use crate::kernel::tuning::{Choice, Verdict};

/// The shape and the device that are asked about.
#[derive(clap::Args, Clone, Debug)]
#[group(conflicts_with_all = ["list", "dump"])]
#[command(next_help_heading = "With --explain")]
pub struct ShapeFlags {
    /// Language of the kernels
    #[arg(long, value_name = "cuda|wgpu", default_value = "cuda", hide_possible_values = true)]
    pub backend: Language,
    /// Columns of x for gram, else of the result
    #[arg(long, value_name = "D", required_if_eq_any = [("explain", "gram"), ("explain", "linear")])]
    pub d: Option<NonZeroU32>,
    /// Columns of x, or hidden units of edges [default: D]
    #[arg(long, value_name = "K")]
    pub k: Option<NonZeroU32>,
    /// Rows of x; tokens of edges
    #[arg(long, value_name = "N", default_value = "65536")]
    pub rows: NonZeroU32,
    /// Products of a batch [default: 1]
    #[arg(long, value_name = "N")]
    pub batch: Option<NonZeroU32>,
    /// f32 or f64
    #[arg(long, value_name = "TYPE", default_value = "f32", hide_possible_values = true)]
    pub dtype: Precision,
    /// add, store-ACT or tangent-ACT [default: store-identity]
    #[arg(long, value_name = "NAME")]
    pub epilogue: Option<String>,
    /// W of linear is [D, K] and used transposed
    #[arg(long)]
    pub transposed: bool,
    /// cuda: compute capability of the device [default: 9.0]
    #[arg(long, value_name = "X.Y", value_parser = parse_capability)]
    pub capability: Option<(u32, u32)>,
    /// cuda: multiprocessors of the device [default: 132]
    #[arg(long, value_name = "N")]
    pub multiprocessors: Option<NonZeroU32>,
    /// wgpu: invocations of a workgroup at most [default: 256]
    #[arg(long, value_name = "N")]
    pub invocations: Option<NonZeroU32>,
    /// wgpu: bytes of workgroup memory [default: 16384]
    #[arg(long, value_name = "N")]
    pub workgroup_memory: Option<NonZeroU32>,
    /// Rows do not start at multiples of 16 bytes
    #[arg(long)]
    pub unaligned: bool,
    /// Measured peak of the arithmetic, for the floor of the time
    #[arg(long, value_name = "TFLOP/s", value_parser = parse_rate)]
    pub peak: Option<f64>,
    /// Measured rate of a copy, for the floor of the time
    #[arg(long, value_name = "GB/s", value_parser = parse_rate)]
    pub copy: Option<f64>,
}

fn parse_capability(text: &str) -> std::result::Result<(u32, u32), String> {
    let parts = text.split_once('.').and_then(|(x, y)| Some((x.parse().ok()?, y.parse().ok()?)));
    parts.ok_or_else(|| "expected a compute capability as in 9.0".into())
}

fn parse_rate(text: &str) -> std::result::Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|r| r.is_finite() && *r > 0.0);
    rate.ok_or_else(|| "expected a number above 0".into())
}

/// Whose kernels are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    Cuda,
    Wgpu,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Answer {
    schema_version: u32,
    operation: String,
    kernel: &'static str,
    backend: &'static str,
    /// Of a CUDA device.
    capability: Option<(u32, u32)>,
    /// Of a wgpu adapter: the most invocations of a workgroup.
    invocations: Option<u32>,
    /// Assumed for wgpu, which does not tell them.
    multiprocessors: u32,
    /// Bytes of shared memory a CTA, or of workgroup memory.
    shared_per_block: u32,
    /// Useful floating point operations.
    flops: f64,
    /// The fewest bytes that can be moved.
    bytes: f64,
    /// Milliseconds of the arithmetic at the peak given.
    compute_floor_ms: Option<f64>,
    /// Milliseconds of the bytes at the rate of copies given.
    memory_floor_ms: Option<f64>,
    candidates: Vec<Candidate>,
    /// The launches, in their order.
    launches: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Candidate {
    configuration: String,
    /// Why it cannot serve; `None` if it can.
    rejected: Option<String>,
    cost: Option<f64>,
    ctas: Option<u64>,
    resident: Option<u32>,
    waves: Option<u64>,
    chosen: bool,
}

/// One launch.
#[derive(Debug, Serialize)]
struct Step {
    /// `kernel@configuration`
    kernel: String,
    grid: [u32; 3],
    threads: u32,
    /// Bytes of dynamic shared memory a CTA, or of workgroup memory.
    shared: u32,
    /// The most registers a thread by the budget; WGSL has none.
    registers: Option<u32>,
}

/// The device that a choice is made for.
#[derive(Clone, Copy, Debug)]
struct Target {
    backend: &'static str,
    capability: Option<(u32, u32)>,
    invocations: Option<u32>,
    multiprocessors: u32,
    shared_per_block: u32,
}

/// Runs `mechgraph kernels --explain`.
pub fn run(operation: &str, flags: &ShapeFlags, json: bool) -> Result<()> {
    let answer = answer(operation, flags)?;
    if json { print_json(&answer) } else { print(&text::of(&answer)) }
}

fn answer(operation: &str, flags: &ShapeFlags) -> Result<Answer> {
    let of_cuda = [("--capability", flags.capability.is_some()), ("--multiprocessors", flags.multiprocessors.is_some())];
    let of_wgpu = [("--invocations", flags.invocations.is_some()), ("--workgroup-memory", flags.workgroup_memory.is_some())];
    let alone = |given: [(&'static str, bool); 2], backend: &str| match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Error::flag(flag, format!("--backend {backend}"), "the other backend beside it")),
        None => Ok(()),
    };
    match flags.backend {
        Language::Cuda => alone(of_wgpu, "cuda").and_then(|()| cuda::answer(operation, flags)),
        Language::Wgpu => alone(of_cuda, "wgpu").and_then(|()| wgpu::answer(operation, flags)),
    }
}

impl ShapeFlags {
    /// `--d`, which every operation needs.
    fn cols(&self) -> Result<u32> {
        self.d.map(NonZeroU32::get).ok_or_else(|| Error::flag("--d", "nothing", "the number of columns"))
    }
    /// That no flag is given that says nothing about `operation`, which takes `used` of them.
    fn only(&self, operation: &str, used: &[&str]) -> Result<()> {
        let given = [
            ("--k", self.k.is_some()),
            ("--batch", self.batch.is_some()),
            ("--epilogue", self.epilogue.is_some()),
            ("--transposed", self.transposed),
        ];
        match given.iter().find(|(flag, given)| *given && !used.contains(flag)) {
            Some((flag, _)) => Err(Error::flag(flag, format!("--explain {operation}"), "an operation that it belongs to")),
            None => Ok(()),
        }
    }
    fn dtype(&self, known: &[Precision], expected: &str) -> Result<DType> {
        match self.dtype {
            Precision::F32 if known.contains(&Precision::F32) => Ok(DType::F32),
            Precision::F64 if known.contains(&Precision::F64) => Ok(DType::F64),
            Precision::F32 => Err(Error::flag("--dtype", "f32", expected)),
            Precision::F64 => Err(Error::flag("--dtype", "f64", expected)),
            Precision::Bf16 => Err(Error::flag("--dtype", "bf16", expected)),
        }
    }
    /// `--epilogue`.
    fn epilogue(&self) -> Result<Epilogue> {
        let name = self.epilogue.as_deref().unwrap_or("store-identity");
        let known = || Epilogue::all().map(Epilogue::name).collect::<Vec<_>>().join(", ");
        Epilogue::all().find(|e| e.name() == name).ok_or_else(|| Error::flag("--epilogue", name, format!("one of {}", known())))
    }
}

/// The candidates of a choice.
fn candidates(choice: &Choice) -> Vec<Candidate> {
    let candidates = choice.candidates.iter().enumerate().map(|(i, c)| {
        let none = Candidate {
            configuration: c.configuration.name.clone(),
            rejected: None,
            cost: None,
            ctas: None,
            resident: None,
            waves: None,
            chosen: i == choice.chosen,
        };
        match &c.verdict {
            Verdict::Rejected(why) => Candidate { rejected: Some(why.clone()), ..none },
            Verdict::Legal { ctas, resident, waves, cost } => {
                Candidate { cost: Some(*cost), ctas: Some(*ctas), resident: Some(*resident), waves: Some(*waves), ..none }
            }
        }
    });
    candidates.collect()
}

fn assemble(operation: String, choice: &Choice, launches: Vec<Step>, target: Target, flags: &ShapeFlags) -> Answer {
    let Target { backend, capability, invocations, multiprocessors, shared_per_block } = target;
    Answer {
        schema_version: 2,
        operation,
        kernel: choice.kernel.name,
        backend,
        capability,
        invocations,
        multiprocessors,
        shared_per_block,
        flops: choice.flops,
        bytes: choice.bytes,
        compute_floor_ms: flags.peak.map(|peak| choice.flops / peak / 1e9),
        memory_floor_ms: flags.copy.map(|copy| choice.bytes / copy / 1e6),
        candidates: candidates(choice),
        launches,
    }
}
