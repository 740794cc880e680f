//! Every expanded PTX kernel passes through the assemblers that `MECHGRAPH_PTXAS` names (paths with
//! `:` between them), for every target it claims, and stays within `kernels/budget.toml`; where
//! `MECHGRAPH_NVDISASM` names a disassembler, the machine code holds the instructions promised there
//! and touches no local memory. `.ci/run` installs the tools; without them this says that it is skipped.
//!
//! All configurations times all targets would take more than three minutes on two cores. So every
//! configuration is assembled for sm_80 and sm_90. Those in which every pair of words of the names
//! occurs (a tile with a copy width, a layout with an activation, ..) are assembled for the other
//! targets too, and are the ones whose machine code is read.

mod listing;
mod tool;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use listing::Resources;
use mechgraph::kernel::budget::{self, Budget};
use mechgraph::kernel::registry::{self, Configuration, Kernel, Language};

/// Compute capabilities, as `10 * major + minor`.
const TARGETS: [u32; 6] = [80, 86, 89, 90, 100, 120];
/// Targets for which every configuration is assembled, and machine code is read.
const WHOLE: [u32; 2] = [80, 90];
/// Of one call of a tool. Kernels that an assembler cannot handle well took half a minute and more.
const LIMIT: Duration = Duration::from_secs(20);
const THREADS: usize = 2;

/// An expanded kernel and what it may take.
struct Unit<'a> {
    kernel: &'static Kernel,
    least: u32,
    configuration: Configuration,
    budget: &'a Budget,
    /// Whether it stands for others on the targets that do not see all, and in what is read.
    representative: bool,
    file: PathBuf,
}

impl Unit<'_> {
    fn name(&self) -> String {
        format!("{}@{}", self.kernel.name, self.configuration.name)
    }
}

struct Job<'a> {
    unit: &'a Unit<'a>,
    ptxas: &'a Path,
    target: u32,
}

#[test]
fn every_kernel_assembles_within_its_budget() {
    let Some(assemblers) = std::env::var_os("MECHGRAPH_PTXAS").filter(|v| !v.is_empty()) else {
        println!("skipped: cuda ptxas: MECHGRAPH_PTXAS names no assembler");
        return;
    };
    let assemblers: Vec<PathBuf> = std::env::split_paths(&assemblers).collect();
    let nvdisasm = std::env::var_os("MECHGRAPH_NVDISASM").filter(|v| !v.is_empty()).map(PathBuf::from);
    if nvdisasm.is_none() {
        println!("skipped: cuda ptxas: MECHGRAPH_NVDISASM names no disassembler, so the machine code is not read");
    }
    let dir = tempfile::tempdir().unwrap();
    let budgets = budget::all().unwrap();
    let units = units(&budgets, dir.path());
    let mut jobs = Vec::new();
    for (ptxas, target) in assemblers.iter().flat_map(|ptxas| TARGETS.map(|target| (ptxas, target))) {
        let wanted = |u: &&Unit| u.least <= target && (WHOLE.contains(&target) || u.representative);
        jobs.extend(units.iter().filter(wanted).map(|unit| Job { unit, ptxas, target }));
    }
    assert!(!jobs.is_empty(), "no kernel to assemble");
    let start = Instant::now();
    let failures = run_all(&jobs, nvdisasm.as_deref(), dir.path());
    println!("ptxas: {} texts assembled {} times in {:.0} s", units.len(), jobs.len(), start.elapsed().as_secs_f64());
    assert!(failures.is_empty(), "{} of {} assemblies:\n{}", failures.len(), jobs.len(), failures.join("\n"));
}

/// Writes every text of the registry to a file.
fn units<'a>(budgets: &'a [Budget], dir: &Path) -> Vec<Unit<'a>> {
    let mut units = Vec::new();
    for kernel in registry::all() {
        let Language::Ptx { least: (major, minor) } = kernel.language else { continue };
        let configurations = (kernel.configurations)();
        let names: Vec<&str> = configurations.iter().map(|c| c.name.as_str()).collect();
        let chosen = every_pair(&names);
        for (i, configuration) in configurations.into_iter().enumerate() {
            let file = dir.join(format!("{}.ptx", units.len()));
            std::fs::write(&file, kernel.expand(&configuration).unwrap()).unwrap();
            let budget = budget::of(budgets, kernel.name, &configuration.name).unwrap();
            let representative = chosen.contains(&i);
            units.push(Unit { kernel, least: 10 * major + minor, configuration, budget, representative, file });
        }
    }
    units
}

/// Indices of names in which every pair of words occurs that occurs in one of `names`, a word being
/// what stands between two `-`. Takes the name with the most new pairs until none is left.
fn every_pair(names: &[&str]) -> BTreeSet<usize> {
    let pairs = |name: &str| {
        let words: Vec<(usize, String)> = name.split('-').map(String::from).enumerate().collect();
        let all = words.iter().flat_map(|a| words.iter().map(move |b| (a.clone(), b.clone())));
        all.collect::<BTreeSet<_>>()
    };
    let of: Vec<_> = names.iter().map(|n| pairs(n)).collect();
    let mut missing: BTreeSet<_> = of.iter().flatten().cloned().collect();
    let mut chosen = BTreeSet::new();
    while !missing.is_empty() {
        let gain = |i: &usize| (of[*i].intersection(&missing).count(), std::cmp::Reverse(*i));
        let best = (0..names.len()).max_by_key(gain).expect("a pair is of a name");
        missing.retain(|pair| !of[best].contains(pair));
        chosen.insert(best);
    }
    chosen
}

/// What is wrong with each job that fails. Prints the most that each budget line was seen to need.
fn run_all(jobs: &[Job], nvdisasm: Option<&Path>, dir: &Path) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let (failures, needs) = (Mutex::new(Vec::new()), Mutex::new(BTreeMap::new()));
    let work = |thread: usize| {
        let scratch = dir.join(format!("thread{thread}"));
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            match assemble(job, &scratch, nvdisasm) {
                Ok(need) => {
                    let line = (&job.unit.budget.kernel, &job.unit.budget.configurations);
                    let shared = need.shared + job.unit.configuration.shared;
                    let mut needs = needs.lock().unwrap();
                    let most: &mut (u32, u32, u32) = needs.entry(line).or_default();
                    *most = (most.0.max(need.registers), most.1.max(shared), most.2.max(need.barriers));
                }
                Err(e) => {
                    let text = format!("{} for sm_{} with {}: {e}", job.unit.name(), job.target, job.ptxas.display());
                    failures.lock().unwrap().push(text);
                }
            }
        }
    };
    let work = &work;
    std::thread::scope(|scope| (0..THREADS).for_each(|thread| drop(scope.spawn(move || work(thread)))));
    for ((kernel, pattern), (registers, shared, barriers)) in needs.into_inner().unwrap() {
        println!("{kernel}@{pattern}: {registers} registers, {shared} bytes of shared memory, {barriers} barriers at most");
    }
    failures.into_inner().unwrap()
}

/// Assembles one text for one target, and reads its machine code where that is asked for.
fn assemble(job: &Job, scratch: &Path, nvdisasm: Option<&Path>) -> Result<Resources, String> {
    let (cubin, log) = (scratch.with_extension("cubin"), scratch.with_extension("log"));
    let text = |path: &Path| path.display().to_string();
    let args = ["-v", &format!("-arch=sm_{}", job.target), "-o", &text(&cubin), &text(&job.unit.file)];
    let output = tool::run(job.ptxas, &args, &log, LIMIT)?;
    if !output.success {
        return Err(output.text);
    }
    let need = listing::resources(&output.text, job.unit.kernel.name)?;
    let mut excess = excess(&need, &job.unit.configuration, job.unit.budget);
    if let (Some(nvdisasm), true) = (nvdisasm, job.unit.representative && WHOLE.contains(&job.target)) {
        let output = tool::run(nvdisasm, &["--no-dataflow", "--print-code", &text(&cubin)], &log, LIMIT)?;
        if !output.success {
            return Err(output.text);
        }
        excess.extend(broken_promises(&listing::mnemonics(&output.text), &job.unit.budget.instructions));
    }
    if excess.is_empty() { Ok(need) } else { Err(excess.join(", ")) }
}

/// What the assembled code takes beyond its budget.
fn excess(need: &Resources, configuration: &Configuration, budget: &Budget) -> Vec<String> {
    let limits = [
        (need.registers, budget.registers, "registers"),
        (need.shared + configuration.shared, budget.shared, "bytes of shared memory"),
        (need.barriers, budget.barriers, "barriers"),
        (need.stack, 0, "bytes of stack frame"),
        (need.spills, 0, "bytes of spills"),
        // A CTA whose registers are more than a multiprocessor has cannot be launched.
        (need.registers.next_multiple_of(8) * configuration.threads, 65_536, "registers a CTA"),
    ];
    let over = limits.into_iter().filter(|(found, most, _)| found > most);
    over.map(|(found, most, what)| format!("{found} {what}; expected at most {most}")).collect()
}

/// Promised instructions that are not there, and any access to local memory.
fn broken_promises(mnemonics: &[&str], promised: &[String]) -> Vec<String> {
    let missing = promised.iter().filter(|p| !mnemonics.iter().any(|m| budget::matches(p, m)));
    let local = mnemonics.iter().filter(|m| ["LDL", "STL"].contains(&m.split('.').next().unwrap_or_default()));
    let mut broken: Vec<String> = missing.map(|p| format!("no instruction {p}")).collect();
    broken.extend(local.map(|m| format!("local memory through {m}")).take(1));
    broken
}

#[test]
fn every_pair_of_words_is_represented() {
    let names: Vec<String> = ["64", "128"]
        .iter()
        .flat_map(|tile| ["nn", "nt"].map(|layout| format!("{tile}-{layout}")))
        .flat_map(|name| ["add", "store-relu", "store-tanh", "tangent-relu"].map(|end| format!("{name}-{end}")))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let chosen: Vec<&str> = every_pair(&names).into_iter().map(|i| names[i]).collect();
    assert!(chosen.len() < names.len(), "{chosen:?}");
    let words = |name: &&str| name.split('-').map(String::from).collect::<Vec<_>>();
    let all: Vec<Vec<String>> = names.iter().map(words).collect();
    let kept: Vec<Vec<String>> = chosen.iter().map(words).collect();
    for (name, a, b) in all.iter().flat_map(|n| n.iter().flat_map(move |a| n.iter().map(move |b| (n, a, b)))) {
        assert!(kept.iter().any(|k| k.contains(a) && k.contains(b)), "{a} and {b} of {name:?}: {chosen:?}");
    }
    assert_eq!(every_pair(&["32", "64"]), BTreeSet::from([0, 1]));
}

#[test]
fn each_figure_over_its_budget_is_named() {
    let configuration = Configuration { name: "c".into(), constants: Default::default(), threads: 256, shared: 4096 };
    let budget = Budget {
        kernel: "k".into(),
        configurations: "c".into(),
        registers: 128,
        shared: 5120,
        barriers: 1,
        instructions: Vec::new(),
    };
    let exact = Resources { registers: 128, barriers: 1, shared: 1024, stack: 0, spills: 0 };
    assert_eq!(excess(&exact, &configuration, &budget), [""; 0]);
    let one = |need: Resources| excess(&need, &configuration, &budget);
    assert_eq!(one(Resources { registers: 129, ..exact.clone() }), ["129 registers; expected at most 128"]);
    assert_eq!(one(Resources { shared: 1025, ..exact.clone() }), ["5121 bytes of shared memory; expected at most 5120"]);
    assert_eq!(one(Resources { barriers: 2, ..exact.clone() }), ["2 barriers; expected at most 1"]);
    assert_eq!(one(Resources { stack: 8, ..exact.clone() }), ["8 bytes of stack frame; expected at most 0"]);
    assert_eq!(one(Resources { spills: 4, ..exact.clone() }), ["4 bytes of spills; expected at most 0"]);
    let wide = Budget { registers: 255, ..budget.clone() };
    let many = excess(&Resources { registers: 255, ..exact }, &Configuration { threads: 288, ..configuration.clone() }, &wide);
    assert_eq!(many, ["73728 registers a CTA; expected at most 65536"]);
}

#[test]
fn a_missing_instruction_and_local_memory_are_named() {
    let code = ["MOV", "LDGSTS.E.BYPASS.128", "FFMA", "STG.E", "LDGDEPBAR"];
    let promised = ["LDGSTS*.128".to_string(), "FFMA*".into()];
    assert_eq!(broken_promises(&code, &promised), [""; 0]);
    assert_eq!(broken_promises(&code[..2], &promised), ["no instruction FFMA*"]);
    let narrow = [&code[..1], &["LDGSTS.E", "FFMA", "STL.64", "LDL"]].concat();
    assert_eq!(broken_promises(&narrow, &promised), ["no instruction LDGSTS*.128", "local memory through STL.64"]);
}
