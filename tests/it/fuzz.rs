//! Damaged files: bytes flipped, lost and repeated at random, in a small valid model and data set.
//! Loading them and computing with what still loads gives a result or one sentence, and never panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use mechgraph::basis::quadrature::{Rule, points};
use mechgraph::basis::rotation::Threshold;
use mechgraph::basis::{self, BasisKind, EdgeKind, Method, Options, Problem};
use mechgraph::data;
use mechgraph::data::stream::Runner;
use mechgraph::device::{Cpu, DType, Device};
use mechgraph::model::Model;
use mechgraph::progress::{Mode, Progress};

use crate::command::{Case, failure, run};

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// One damage, half of the time within the first `head` bytes, where the structure of a file is.
fn damage(bytes: &mut Vec<u8>, head: usize, random: &mut Random) {
    let end = if random.below(2) == 0 { head.min(bytes.len()) } else { bytes.len() };
    let at = random.below(end);
    match random.below(8) {
        0..=2 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << random.below(8)),
        3 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b = random.next() as u8),
        4 => bytes.truncate(at),
        5 => drop(bytes.splice(at..at, (0..random.below(9)).map(|_| random.next() as u8))),
        6 => {
            let piece = bytes[at..(at + random.below(40)).min(bytes.len())].to_vec();
            let to = random.below(bytes.len());
            drop(bytes.splice(to..to, piece));
        }
        // Digits for digits: files that are still well formed, but claim something else.
        _ => {
            let digit = (at..bytes.len()).chain(0..at).find(|&i| bytes[i].is_ascii_digit());
            digit.into_iter().for_each(|i| bytes[i] = b'0' + random.below(10) as u8);
        }
    }
}

/// Loads model and data of a case and computes their graph.
fn compute(case: &Case, device: &Device) -> mechgraph::Result<()> {
    let model = Model::load(case.path("MODEL").to_str().unwrap(), DType::F64)?.model;
    let set = data::load(case.data().to_str().unwrap(), &model)?;
    let node_layers = model.default_node_layers();
    let options = Options {
        basis: BasisKind::Jacobian,
        edges: EdgeKind::Squared,
        sources_pos: None,
        sources_hidden: None,
        sources_edges: None,
        quadrature: vec![points(Rule::Gradient, 0); node_layers.len()],
        threshold: Threshold::Relative(1e-10),
        rotate_final: false,
        centre: true,
        isolate_variance: true,
        ngf: false,
        method: Method::Auto,
        seed: 0,
        node_layers,
    };
    let progress = Progress::new(Mode::Quiet);
    let runner = Runner { device, progress: &progress, batch: None, memory: 1 << 28, checkpoints: None };
    let problem = Problem { model: &model, data: &set, gram_data: None, options: &options };
    basis::build(problem, &runner)?.to_safetensors().map(drop)
}

#[test]
fn damaged_files_give_a_result_or_a_sentence() {
    let device = Device::Cpu(Cpu::new(1).unwrap());
    let start = Instant::now();
    let (mut fine, mut refused, mut rounds) = (0, 0, 0u64);
    let cases = [Case::transformer(), Case::mlp()];
    while start.elapsed() < Duration::from_secs(8) && rounds < 6000 {
        let mut random = Random(rounds);
        let case = &cases[random.below(2)];
        let path = [case.weights(), case.data(), case.config()][random.below(3)].clone();
        let whole = std::fs::read(&path).unwrap();
        let head = whole.iter().position(|b| *b == b'}').map_or(40, |_| whole.len().min(900));
        let mut bytes = whole.clone();
        (0..1 + random.below(3)).for_each(|_| damage(&mut bytes, head, &mut random));
        std::fs::write(&path, &bytes).unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| compute(case, &device)));
        std::fs::write(&path, &whole).unwrap();
        match result.unwrap_or_else(|_| panic!("panic in round {rounds} on {}", path.display())) {
            Ok(()) => fine += 1,
            Err(e) => {
                let sentence = e.to_string();
                assert!(sentence.contains("; expected ") && !sentence.contains('\n'), "round {rounds}: {sentence}");
                refused += 1;
            }
        }
        rounds += 1;
    }
    println!("{rounds} damaged files: {fine} computed, {refused} refused");
    // Were all of one kind, the damage would be too mild or too coarse to find anything.
    assert!(fine > rounds / 20 && refused > rounds / 20 && rounds >= 100, "{fine} of {rounds} computed, {refused} refused");
}

#[test]
fn the_binary_refuses_damaged_files_as_the_library_does() {
    let device = Device::Cpu(Cpu::new(1).unwrap());
    let case = Case::transformer();
    let mut refused = 0;
    for round in 0..40 {
        let mut random = Random(1_000_000 + round);
        let path = [case.weights(), case.data(), case.config()][random.below(3)].clone();
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        damage(&mut bytes, 900, &mut random);
        std::fs::write(&path, &bytes).unwrap();
        let args = case.lib_args(&["--force"]);
        match compute(&case, &device) {
            Ok(()) => assert_eq!(run(&args).status, Some(0), "round {round}"),
            Err(e) => {
                assert_eq!(failure(&args), e.to_string().replace(char::is_control, " "), "round {round}");
                refused += 1;
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
    assert!((5..=38).contains(&refused), "{refused} of 40 refused");
    assert!(Path::new(&case.run_dir()).exists());
}
