//! What N2G's passes cost on demo:lm and its text: the pass that finds exemplars of all 3,072 neurons against the bare
//! forward pass of the same windows up to the same sites, and tokens a second of packed prompts against its.
//!
//! `cargo bench --bench n2g -- [TURNS [THREADS]]`, 7 and the number of cores where nothing is said. All that is
//! compared runs in turns, so that what else the machine does falls on all alike; CPU time
//! stands beside on Linux.

use std::time::Instant;

use mechgraph::data::stream::{Input, Pass, Runner};
use mechgraph::data::visit::visit;
use mechgraph::data::{Cut, DataSet, Samples, load_or_cut};
use mechgraph::device::{Builder, Cpu, DType, Device};
use mechgraph::model::forward::Batch;
use mechgraph::model::lm::forward::{Inputs, forward};
use mechgraph::model::site::{Place, Site};
use mechgraph::model::{Lm, Model};
use mechgraph::n2g::exemplars::{Request, Selection, find};
use mechgraph::n2g::probe::{Family, Probe, Variant};
use mechgraph::progress::{Mode, Progress};

const SITE: Site = Site::MlpMid;
/// Tokens of a prompt, and prompts.
const PROMPTS: [(usize, usize); 3] = [(4, 8192), (8, 2048), (16, 768)];
const MASK: u32 = 1;

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let turns = numbers.first().copied().unwrap_or(7).max(1);
    let loaded = Model::load("demo:lm", DType::F32).expect("the model");
    let lm = loaded.model.lm().expect("a language model");
    let data = load_or_cut("demo:lm", &loaded, Cut::default()).expect("the text");
    let device = Device::Cpu(Cpu::new(numbers.get(1).copied().unwrap_or(0)).expect("threads"));
    let progress = Progress::new(Mode::Quiet);
    let memory = device.free_memory().expect("free memory");
    let runner = Runner { device: &device, progress: &progress, batch: None, memory, checkpoints: None };
    let layers = lm.blocks.len();
    let neurons = lm.blocks[0].mlp.neurons();
    let selection = (0..layers).map(|layer| Selection { layer, neurons: (0..neurons).collect() }).collect();
    let request = Request { site: SITE, selection, top: 20, skip: 0, seed: 0 };
    let tokens = data.samples.count() * data.samples.positions();
    println!("{} neurons, {tokens} tokens in windows of {}; {}", layers * neurons, data.samples.positions(), device.describe());

    let probe = Probe::new(&device, &lm, Place { layer: layers - 1, site: SITE }, memory);
    let families = PROMPTS.map(|(length, count)| masked(&data, length, count, neurons));
    let rows = families.each_ref().map(|some| {
        let before = probe.tokens();
        probe.run(some).expect("activations");
        probe.tokens() - before
    });

    let (mut bare, mut exemplars, mut prompts) = (Vec::new(), Vec::new(), [const { Vec::new() }; PROMPTS.len()]);
    let mut cpu = Vec::new();
    for _ in 0..turns {
        let at = cpu_seconds();
        bare.push(seconds(|| forward_alone(&runner, &lm, &data)));
        let between = cpu_seconds();
        exemplars.push(seconds(|| drop(find(&runner, &lm, &data, &request).expect("exemplars"))));
        cpu.push((cpu_seconds() - between) / (between - at));
        for (times, some) in prompts.iter_mut().zip(&families) {
            times.push(seconds(|| drop(probe.run(some).expect("activations"))));
        }
    }
    let ratios: Vec<f64> = exemplars.iter().zip(&bare).map(|(a, b)| a / b).collect();
    report("bare forward", &bare, tokens as u64);
    report("exemplars", &exemplars, tokens as u64);
    for (((length, _), times), rows) in PROMPTS.iter().zip(&prompts).zip(rows) {
        report(&format!("prompts of {length}"), times, rows);
    }
    for (what, ratios) in [("time", ratios), ("CPU time", cpu)] {
        let (low, high) = ratios.iter().fold((f64::MAX, 0.0_f64), |(low, high), r| (low.min(*r), high.max(*r)));
        println!("exemplars over bare forward, {what} turn by turn: {:.3} ({low:.3} to {high:.3})", median(&ratios));
    }
}

/// CPU time of the process; not a number where the system does not say it as Linux does.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // User and system time in hundredths of a second, the 12th and 13th field behind the name in brackets.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
    if ticks.len() == 2 { (ticks[0] + ticks[1]) / 100.0 } else { f64::NAN }
}

/// Prompts from the text, every token of each masked in turn, the last one read: what saliency asks for.
fn masked(data: &DataSet, length: usize, count: usize, neurons: usize) -> Vec<Family> {
    let Samples::Tokens { ids, .. } = &data.samples else { return Vec::new() };
    let last = length - 1;
    let family = |i: usize| {
        let from = i * 7919 % (ids.len() - length);
        let base = ids[from..from + length].to_vec();
        let tail = |k: usize| std::iter::once(MASK).chain(base[k + 1..].iter().copied()).collect();
        let variants = (0..length).map(|k| Variant { at: k, tokens: tail(k), reads: vec![last] }).collect();
        Family { neuron: i % neurons, base, reads: vec![last], variants }
    };
    (0..count).map(family).collect()
}

/// The forward pass up to the sites of all layers, of which nothing is kept.
fn forward_alone(runner: &Runner, lm: &Lm, data: &DataSet) {
    let places: Vec<Place> = (0..lm.blocks.len()).map(|layer| Place { layer, site: SITE }).collect();
    let plan = |batch: Batch| {
        let mut b = Builder::new(lm.dtype);
        let inputs = Inputs::new(&mut b, batch.rows(), batch.positions, false, None);
        forward(&mut b, lm, inputs, &places)?;
        Ok(Pass { program: b.finish(), input: Input::Packed(inputs), reads: Vec::new(), labels: None, first: None })
    };
    visit(runner, "forward", data, 0, plan, |_, _| Ok(()), Ok).expect("a forward pass");
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The median time, and tokens a second.
fn report(name: &str, times: &[f64], tokens: u64) {
    let rate = tokens as f64 / median(times);
    println!("{name:<14}{tokens:>8} tokens in {:.3} s: {rate:>8.0} a second", median(times));
}
