//! How many (token, neuron) pairs a second are predicted: tries of many neurons at once by the operation, and
//! one by one by the plain walk. Tries and text are random, with tokens as frequent as words are (Zipf).
//!
//! `cargo bench --bench predict -- [NEURONS [TOKENS [THREADS]]]`, 3072, 65536 and the number of cores where
//! nothing is said.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use mechgraph::device::{Cpu, Device};
use mechgraph::n2g::forest::{Origin, Tries};
use mechgraph::n2g::lines::{Element, Line};
use mechgraph::n2g::predict::{Hit, Predictor};
use mechgraph::n2g::trie::{Choice, Trie, WILDCARD};
use mechgraph::n2g::vocabulary::{Fold, Vocabulary};
use mechgraph::ops::probes::splitmix;

const VOCABULARY: u32 = 50_257;
const WINDOW: usize = 128;
/// Lines of a trie.
const LINES: usize = 40;
/// Neurons that the plain walk is timed on.
const SINGLE: usize = 32;
const REPEATS: usize = 5;

struct Random(u64);

impl Random {
    /// A number in `[0, 1)`.
    fn unit(&mut self) -> f64 {
        self.0 = splitmix(self.0);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
    /// A key of rank r with probability about 1 / r.
    fn key(&mut self) -> u32 {
        f64::from(VOCABULARY).powf(self.unit()) as u32 - 1
    }
}

fn trie(random: &mut Random) -> Trie {
    let mut trie = Trie::new();
    // A neuron fires on few tokens, each in several contexts.
    let heads: Vec<u32> = (0..8).map(|_| random.key()).collect();
    for _ in 0..LINES {
        let mut keys = vec![heads[(random.unit() * heads.len() as f64) as usize]];
        // One in five is a token alone; the others end with a token that matters, after up to five more.
        if random.unit() < 0.8 {
            for _ in 0..(random.unit() * 6.0) as usize {
                keys.push(if random.unit() < 0.7 { WILDCARD } else { random.key() });
            }
            keys.push(random.key());
        }
        let element = |key: &u32| Element { key: *key, importance: 1.0, activation: 0.0, activates: false };
        trie.insert(&Line { elements: keys.iter().map(element).collect(), value: 0.5 + 0.5 * random.unit() });
    }
    trie.merge_wildcards();
    trie
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let given = |i: usize, default: usize| numbers.get(i).copied().unwrap_or(default);
    let (neurons, tokens, threads) = (given(0, 3072), given(1, 65_536).next_multiple_of(WINDOW), given(2, 0));
    let mut random = Random(1);
    let vocabulary = Arc::new(Vocabulary::new((0..VOCABULARY).map(|id| format!("t{id}")).collect(), Fold::Exact));
    let single: Vec<Trie> = (0..neurons).map(|_| trie(&mut random)).collect();
    let numbered = single.iter().cloned().enumerate().map(|(i, trie)| ((0, i as u32), trie));
    let tries = Tries::new(Origin::default(), Choice::Deepest, vocabulary, numbered).expect("tries");
    let text: Vec<u32> = (0..tokens).map(|_| random.key()).collect();
    let windows: Vec<&[u32]> = text.chunks(WINDOW).collect();
    let device = Device::Cpu(Cpu::new(threads).expect("threads"));
    println!(
        "{} neurons, {} nodes, {tokens} tokens in windows of {WINDOW}; {}",
        neurons,
        tries.forest.key.len(),
        device.describe()
    );

    let candidates: usize = text.iter().map(|key| tries.forest.candidate_count(*key)).sum();
    let predictor = Predictor::new(&device, &tries).expect("a predictor");
    let mut times = Vec::new();
    let mut count = 0;
    for _ in 0..REPEATS {
        let start = Instant::now();
        count = 0;
        let add = |hits: &[Hit]| {
            count += hits.len();
            Ok(())
        };
        predictor.each(&windows, add).expect("predictions");
        times.push(start.elapsed().as_secs_f64());
    }
    report("all at once", times, tokens * neurons);
    println!("{:<14}{candidates} candidates looked up, {count} predictions that are not 0", "");

    let some = &single[..SINGLE.min(neurons)];
    let mut times = Vec::new();
    let mut found = HashSet::new();
    for _ in 0..REPEATS {
        let start = Instant::now();
        for (neuron, trie) in some.iter().enumerate() {
            for (i, window) in windows.iter().enumerate() {
                let predicted =
                    (0..WINDOW).filter(|&t| trie.predict(window, t, Choice::Deepest).is_some_and(|value| value != 0.0));
                found.extend(predicted.map(|t| (i, t, neuron)));
            }
        }
        times.push(start.elapsed().as_secs_f64());
    }
    report("plain walk", times, tokens * some.len());
    let hits = predictor.hits(&windows).expect("predictions");
    let same = hits.iter().filter(|hit| hit.neuron < some.len()).map(|hit| (hit.sequence, hit.position, hit.neuron));
    assert!(same.collect::<HashSet<_>>() == found, "both predict the same");
}

/// The median time, and pairs a second.
fn report(name: &str, mut times: Vec<f64>, pairs: usize) {
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!("{name:<14}{pairs} pairs in {median:.4} s: {:.3e} pairs a second", pairs as f64 / median);
}
