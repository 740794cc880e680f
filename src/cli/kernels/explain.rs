//! `mechgraph kernels --explain`: every configuration that an operation has, why it was rejected or
//! what it would cost, the one that a device is handed, and the floors of its time.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::Serialize;

use crate::cli::common::{Precision, print, print_json};
use crate::device::DType;
use crate::error::{Error, Result};
use crate::kernel::linear::{Epilogue, LinearShape};
use crate::kernel::tuning::{Choice, Launch, Limits, Verdict};
use crate::kernel::{budget, gram, linear};

/// The shape and the device that are asked about.
#[derive(clap::Args, Clone, Debug)]
#[group(conflicts_with_all = ["list", "dump"])]
#[command(next_help_heading = "With --explain")]
pub struct ShapeFlags {
    /// Columns: of x for gram, of the result for linear
    #[arg(long, value_name = "D", required_if_eq_any = [("explain", "gram"), ("explain", "linear")])]
    pub d: Option<NonZeroU32>,
    /// Columns of x for linear [default: D]
    #[arg(long, value_name = "K")]
    pub k: Option<NonZeroU32>,
    /// Rows of x
    #[arg(long, value_name = "N", default_value = "65536")]
    pub rows: NonZeroU32,
    /// f32 or f64
    #[arg(long, value_name = "TYPE", default_value = "f32", hide_possible_values = true)]
    pub dtype: Precision,
    /// add, store-ACT or tangent-ACT behind linear [default: store-identity]
    #[arg(long, value_name = "NAME")]
    pub epilogue: Option<String>,
    /// W of linear is [D, K] and used transposed
    #[arg(long)]
    pub transposed: bool,
    /// Compute capability of the device
    #[arg(long, value_name = "X.Y", default_value = "9.0", value_parser = parse_capability)]
    pub capability: (u32, u32),
    /// Multiprocessors of the device
    #[arg(long, value_name = "N", default_value = "132")]
    pub multiprocessors: NonZeroU32,
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

/// Bytes of shared memory that a CTA may have, by compute capability (CUDA C++ Programming Guide,
/// technical specifications). Devices that are not listed get what the least of them has.
fn shared_per_block(capability: (u32, u32)) -> u32 {
    let kib = match capability {
        (8, 0) | (8, 7) => 163,
        (9, 0) | (10, _) | (11, 0) => 227,
        _ => 99,
    };
    kib << 10
}

/// The answer.
#[derive(Debug, Serialize)]
struct Answer {
    schema_version: u32,
    operation: String,
    kernel: &'static str,
    capability: (u32, u32),
    multiprocessors: u32,
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
    /// Bytes of dynamic shared memory a CTA.
    shared: u32,
    /// The most registers a thread by the budget.
    registers: u32,
}

/// Runs `mechgraph kernels --explain`.
pub fn run(operation: &str, flags: &ShapeFlags, json: bool) -> Result<()> {
    let answer = answer(operation, flags)?;
    if json { print_json(&answer) } else { print(&text(&answer)) }
}

fn answer(operation: &str, flags: &ShapeFlags) -> Result<Answer> {
    let dtype = match flags.dtype {
        Precision::F32 => DType::F32,
        Precision::F64 => DType::F64,
        Precision::Bf16 => return Err(Error::flag("--dtype", "bf16", "f32 or f64")),
    };
    let limits = Limits {
        capability: flags.capability,
        multiprocessors: flags.multiprocessors.get(),
        shared_per_block: shared_per_block(flags.capability),
    };
    let (rows, aligned) = (flags.rows.get(), !flags.unaligned);
    let cols = || flags.d.map(NonZeroU32::get).ok_or_else(|| Error::flag("--d", "nothing", "the number of columns"));
    match operation {
        "gram" => {
            let linear_alone =
                [("--k", flags.k.is_some()), ("--epilogue", flags.epilogue.is_some()), ("--transposed", flags.transposed)];
            if let Some((flag, _)) = linear_alone.iter().find(|(_, given)| *given) {
                return Err(Error::flag(flag, "--explain gram", "--explain linear beside it"));
            }
            let cols = cols()?;
            let plan = gram::choose(&gram::GramShape { dtype, rows, cols, aligned }, &limits)?;
            let launches = [gram::centre(dtype, cols), plan.gram.clone(), plan.fold(DType::F64)?];
            let what = format!(
                "gram: lower triangle of x'x, x [{rows}, {cols}] {}, {} slabs of {} rows",
                dtype.name(),
                plan.split.slabs,
                plan.split.slab_rows
            );
            assemble(what, &plan.choice, &launches, &limits, flags)
        }
        "linear" => {
            let cols = cols()?;
            let epilogue = epilogue(flags.epilogue.as_deref().unwrap_or("store-identity"))?;
            let k = flags.k.map_or(cols, NonZeroU32::get);
            let shape = LinearShape { dtype, n: rows, k, m: cols, transpose: flags.transposed, epilogue, aligned };
            let plan = linear::choose(&shape, &limits)?;
            let w = if flags.transposed { format!("[{cols}, {k}] transposed") } else { format!("[{k}, {cols}]") };
            let what = format!("linear: x [{rows}, {k}] {} times W {w}, epilogue {}", dtype.name(), epilogue.name());
            assemble(what, &plan.choice, std::slice::from_ref(&plan.launch), &limits, flags)
        }
        _ => Err(Error::flag("--explain", operation, "gram or linear")),
    }
}

fn epilogue(name: &str) -> Result<Epilogue> {
    let known = || Epilogue::all().map(Epilogue::name).collect::<Vec<_>>().join(", ");
    Epilogue::all().find(|e| e.name() == name).ok_or_else(|| Error::flag("--epilogue", name, format!("one of {}", known())))
}

fn assemble(operation: String, choice: &Choice, launches: &[Launch], limits: &Limits, flags: &ShapeFlags) -> Result<Answer> {
    let budgets = budget::all()?;
    let step = |l: &Launch| {
        let (threads, shared) = (l.configuration.threads, l.configuration.shared);
        let registers = budget::of(&budgets, l.kernel.name, &l.configuration.name)?.registers;
        Ok(Step { kernel: format!("{}@{}", l.kernel.name, l.configuration.name), grid: l.grid, threads, shared, registers })
    };
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
    Ok(Answer {
        schema_version: 1,
        operation,
        kernel: choice.kernel.name,
        capability: limits.capability,
        multiprocessors: limits.multiprocessors,
        shared_per_block: limits.shared_per_block,
        flops: choice.flops,
        bytes: choice.bytes,
        compute_floor_ms: flags.peak.map(|peak| choice.flops / peak / 1e9),
        memory_floor_ms: flags.copy.map(|copy| choice.bytes / copy / 1e6),
        candidates: candidates.collect(),
        launches: launches.iter().map(step).collect::<Result<_>>()?,
    })
}

/// The answer for people.
fn text(a: &Answer) -> String {
    let floor = |ms: Option<f64>| ms.map_or_else(|| "unmeasured".to_string(), |ms| format!("{ms:.4} ms"));
    let (major, minor) = a.capability;
    let mut text = format!(
        "{}\ndevice: compute capability {major}.{minor}, {} multiprocessors, {} bytes of shared memory a CTA\n",
        a.operation, a.multiprocessors, a.shared_per_block
    );
    text += &format!(
        "{:.3} GFLOP, floor {}; {:.3} MB at the fewest, floor {}\n",
        a.flops / 1e9,
        floor(a.compute_floor_ms),
        a.bytes / 1e6,
        floor(a.memory_floor_ms)
    );
    text += &format!("\n{}: estimated clocks, the least wins\n", a.kernel);
    let mut rejected: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for c in &a.candidates {
        match (c.cost, c.ctas, c.resident, c.waves, c.rejected.as_deref()) {
            (Some(cost), Some(ctas), Some(resident), Some(waves), _) => {
                let mark = if c.chosen { "->" } else { "  " };
                text += &format!(
                    "{mark} {:<36} {cost:>12.0}  {ctas} CTAs, {resident} a multiprocessor, {waves} waves\n",
                    c.configuration
                );
            }
            (.., why) => rejected.entry(why.unwrap_or_default()).or_default().push(&c.configuration),
        }
    }
    for (why, names) in rejected {
        let more = names.len().saturating_sub(2);
        let shown = names[..names.len() - more].join(", ");
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        text += &format!("   rejected: {shown}{more}: {why}\n");
    }
    text += "\nlaunches\n";
    for step in &a.launches {
        let [x, y, z] = step.grid;
        let (threads, shared, registers) = (step.threads, step.shared, step.registers);
        text += &format!(
            "   {:<36} grid {x} x {y} x {z}, {threads} threads, {shared} bytes of shared memory, at most {registers} registers a thread\n",
            step.kernel
        );
    }
    text
}
