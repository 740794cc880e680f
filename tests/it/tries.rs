//! Tries of many neurons at once: predictions equal the plain walk of each, files bring back what was
//! saved, and damaged ones give a sentence.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mechgraph::device::{self, Builder, Cpu, DType, Device, DriverChoice, Request};
use mechgraph::n2g::forest::{FILE, Origin, Tries};
use mechgraph::n2g::lines::{Element, Line};
use mechgraph::n2g::predict::{Hit, Predictor};
use mechgraph::n2g::trie::{Choice, START, Style, Trie, WILDCARD};
use mechgraph::n2g::vocabulary::{Fold, Vocabulary};
use mechgraph::ops::probes::splitmix;
use mechgraph::ops::{Launch, trie_match};

use crate::backends::against_cpu::{Case, agrees, agrees_on, inside};
use crate::backends::on_every_backend;
use crate::backends::planted::{Bug, all_caught, all_caught_on_wgpu, bug, wgpu_with};

/// Keys of the random tries.
const KEYS: u32 = 5;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = splitmix(self.0);
        (self.0 >> 40) as u32 % n.max(1)
    }
    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }
}

/// Eight ids, some of which share one of the five keys.
fn vocabulary() -> Arc<Vocabulary> {
    let texts = ["a", " a", "b", "c", " C", " c", "d", "\n"].map(String::from).to_vec();
    let vocabulary = Vocabulary::new(texts, Fold::Normalised);
    assert_eq!(vocabulary.key_count(), KEYS as usize);
    Arc::new(vocabulary)
}

/// A pattern of up to `longest` tokens, with wildcards, perhaps only at the start of a sequence.
fn line(random: &mut Random, longest: u32) -> Line {
    let tokens = 1 + random.below(longest);
    let wild = 2 + random.below(5);
    let mut keys: Vec<u32> = (0..tokens).map(|_| if random.one_in(wild) { WILDCARD } else { random.below(KEYS) }).collect();
    keys.extend(random.one_in(6).then_some(START));
    let value = f64::from(random.below(129)) / 64.0 - 0.25;
    let element = |key: u32| Element { key, importance: 0.5, activation: 0.25, activates: key == 1 };
    Line { elements: keys.into_iter().map(element).collect(), value }
}

fn trie(random: &mut Random) -> Trie {
    let mut trie = Trie::new();
    let longest = [1, 3, 6, 40][random.below(4) as usize];
    for _ in 0..random.below(25) {
        trie.insert(&line(random, longest));
    }
    if random.one_in(2) {
        trie.merge_wildcards();
    }
    trie
}

fn tries(random: &mut Random, neurons: u32, choice: Choice) -> (Tries, Vec<Trie>) {
    let tries: Vec<Trie> = (0..neurons).map(|_| trie(random)).collect();
    let numbered = tries.iter().cloned().enumerate().map(|(i, trie)| ((i as u32 / 4, i as u32), trie));
    (Tries::new(Origin::default(), choice, vocabulary(), numbered).unwrap(), tries)
}

fn texts(random: &mut Random) -> Vec<Vec<u32>> {
    let lengths = [0, 1, 2, 7, 30, 200];
    let mut text = || (0..lengths[random.below(6) as usize]).map(|_| random.below(8)).collect();
    (0..9).map(|_| text()).collect()
}

#[test]
fn the_operation_equals_the_plain_walk_of_every_neuron() {
    let mut random = Random(11);
    let interpreter =
        Request { choice: device::Choice::Cuda, driver: DriverChoice::Interpreter, threads: 2, ..Request::default() };
    let cpu = |threads| Device::Cpu(Cpu::new(threads).unwrap());
    let mut devices = vec![cpu(1), cpu(3), Device::open(&interpreter).unwrap().0];
    devices.extend(wgpu_with(Default::default()));
    let (mut found_any, mut at_start, mut by_choice) = (0, 0, 0);
    for round in 0..60 {
        let choice = Choice::ALL[round % 3];
        let neurons = 1 + random.below(12);
        let (tries, single) = tries(&mut random, neurons, choice);
        let texts = texts(&mut random);
        let mut want = Vec::new();
        for (sequence, text) in texts.iter().enumerate() {
            let keys: Vec<u32> = text.iter().map(|id| tries.vocabulary.key(*id).unwrap()).collect();
            for position in 0..keys.len() {
                for (neuron, trie) in single.iter().enumerate() {
                    let value = trie.predict(&keys, position, choice).unwrap_or(0.0) as f32;
                    want.extend((value != 0.0).then_some(Hit { sequence, position, neuron, value }));
                    // How often the cases arise that make a difference.
                    let other = trie.predict(&keys, position, Choice::ALL[(round + 1) % 3]).unwrap_or(0.0) as f32;
                    by_choice += usize::from(other != value);
                    at_start += usize::from(trie.predict(&keys[1..], position.max(1) - 1, choice).unwrap_or(0.0) as f32 != value);
                }
            }
        }
        for device in &devices {
            assert_eq!(Predictor::new(device, &tries).unwrap().hits(&texts).unwrap(), want, "round {round}");
        }
        found_any += want.len();
    }
    assert!(found_any > 10_000 && at_start > 1000 && by_choice > 1000, "{found_any} {at_start} {by_choice}");
}

#[test]
fn cuda_interpreter_bugs_planted_in_the_walk_of_tries_are_caught() {
    let kernel = "trie_match_sm80";
    let bugs = [
        bug(kernel, "a wildcard is not hidden", "@%hides bra         write;", ""),
        bug(
            kernel,
            "the start of a sequence is not told",
            "setp.eq.u32     %is_first, %t, %begins;",
            "setp.eq.u32 %is_first, %t, %none;",
        ),
        bug(kernel, "wildcards below the root are not followed", "@%stops ld.global.nc.u32 %next, [%at];", ""),
        bug(kernel, "the largest is the deepest", "setp.eq.u32     %better, %choice, 0;", "setp.ne.u32 %better, %choice, 1;"),
        bug(kernel, "every choice is the deepest", "setp.eq.u32     %better, %choice, 0;", "setp.ne.u32 %better, %choice, 9;"),
        bug(
            kernel,
            "the last child is never found",
            "add.u32         %high, %high, %low;",
            "add.u32 %high, %high, %low;\n    sub.u32 %high, %high, 1;\n    max.s32 %high, %high, 0;",
        ),
    ];
    with_predictions(|check| all_caught(&bugs, check));
}

#[test]
fn wgpu_bugs_planted_in_the_walk_of_tries_are_caught() {
    let kernel = "trie_match_f32";
    let bugs: [Bug; 6] = [
        bug(kernel, "a wildcard is not hidden", "hidden = child(tree, key) != NONE;", ""),
        bug(kernel, "the start of a sequence is not told", "return better(best, forest[p.start + node]);", "return best;"),
        bug(kernel, "wildcards below the root are not followed", "next = forest[p.wildcard + node];", ""),
        bug(kernel, "the largest is the deepest", "p.choice == LARGEST", "p.choice == 9u"),
        bug(kernel, "every choice is the deepest", "p.choice == SHALLOWEST", "p.choice == 9u"),
        bug(
            kernel,
            "the last child is never found",
            "+ forest[p.children + node];",
            "+ max(forest[p.children + node], 1u) - 1u;",
        ),
    ];
    with_predictions(|check| all_caught_on_wgpu(&bugs, check));
}

/// Hands over what tells whether a device gives the slots and predictions that the CPU gives.
fn with_predictions(f: impl FnOnce(&dyn Fn(&Device) -> Result<(), String>)) {
    let mut random = Random(14);
    let some: Vec<(Tries, Vec<Vec<u32>>, Vec<Hit>)> = (0..9)
        .map(|round| {
            let (tries, _) = tries(&mut random, 12, Choice::ALL[round % 3]);
            let texts = texts(&mut random);
            let want = Predictor::new(&Device::Cpu(Cpu::new(1).unwrap()), &tries).unwrap().hits(&texts).unwrap();
            (tries, texts, want)
        })
        .collect();
    let check = |device: &Device| {
        agrees_on::<f32>(device, 0.0, of_slots)?;
        for (tries, texts, want) in &some {
            let found = Predictor::new(device, tries).and_then(|p| p.hits(texts)).map_err(|e| e.to_string())?;
            if found != *want {
                return Err("other predictions".into());
            }
        }
        Ok(())
    };
    f(&check);
}

/// Random tries over random keys, with slots that no row has.
fn of_slots(dtype: DType) -> Case {
    let mut random = Random(15);
    let (tries, _) = tries(&mut random, 12, Choice::Deepest);
    let keys: Vec<u32> = (0..45).map(|_| random.below(KEYS)).collect();
    let counts = keys.iter().scan(0, |end, key| {
        *end += tries.forest.candidate_count(*key) as u32;
        Some(*end)
    });
    let slots: Vec<u32> = [0].into_iter().chain(counts).collect();
    let mut b = Builder::<Launch>::new(dtype);
    let capacity = slots[45] as usize + 70;
    let (of_keys, first, of_slots, values) = (b.ints(45), b.ints(45), b.ints(46), inside(&mut b, capacity, 1));
    let forest = tries.forest.clone();
    b.push(Launch::TrieMatch(trie_match::Args { forest, keys: of_keys, first, slots: of_slots, values }));
    let begins = (0..45).map(|row| row / 20 * 20).collect();
    let ints = vec![(of_keys, keys), (first, begins), (of_slots, slots)];
    Case { program: b.finish(), inputs: vec![], ints, outputs: vec![values] }
}

on_every_backend! {
    fn every_slot_is_written_in_f32(backend: Backend) { agrees::<f32>(backend, 0.0, of_slots) }
}

on_every_backend! {
    f64:
    fn every_slot_is_written_in_f64(backend: Backend) { agrees::<f64>(backend, 0.0, of_slots) }
}

#[test]
fn what_is_saved_and_loaded_predicts_the_same() {
    let (mut random, device) = (Random(12), Device::Cpu(Cpu::new(2).unwrap()));
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let (tries, single) = tries(&mut random, round, Choice::ALL[round as usize % 3]);
        let path = dir.path().join(FILE);
        std::fs::write(&path, tries.to_bytes().unwrap()).unwrap();
        let loaded = Tries::load(&path).unwrap();
        assert_eq!((&loaded.neurons, &loaded.vocabulary, &loaded.origin), (&tries.neurons, &tries.vocabulary, &tries.origin));
        single.iter().enumerate().for_each(|(i, trie)| assert_eq!(loaded.trie(i), trie.canonical()));
        let texts = texts(&mut random);
        let predict = |tries: &Tries| Predictor::new(&device, tries).unwrap().hits(&texts).unwrap();
        assert_eq!(predict(&loaded), predict(&tries));
        assert_eq!(loaded.to_bytes().unwrap(), tries.to_bytes().unwrap());
    }
}

#[test]
fn damaged_files_load_or_give_a_sentence() {
    let (mut random, device) = (Random(13), Device::Cpu(Cpu::new(1).unwrap()));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let (mut loaded, mut refused, mut whole) = (0, 0, Vec::new());
    for round in 0..3000 {
        if round % 100 == 0 {
            whole = tries(&mut random, 4, Choice::Deepest).0.to_bytes().unwrap();
        }
        let mut damaged = whole.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(damaged.len() as u32) as usize;
            match random.below(8) {
                0 => damaged[at] = random.below(256) as u8,
                1 if random.one_in(4) => damaged.truncate(at.max(1)),
                _ => damaged[at] ^= 1 << random.below(8),
            }
        }
        std::fs::write(&path, &damaged).unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| match Tries::load(&path) {
            Ok(tries) => {
                let texts: Vec<Vec<u32>> = vec![(0..60).map(|i| i * i / 3 % tries.vocabulary.size().max(1) as u32).collect()];
                Predictor::new(&device, &tries).unwrap().hits(&texts).map(drop).map_err(|e| e.to_string()).unwrap();
                for number in 0..tries.neurons.len() {
                    assert!(tries.trie(number).nested(&tries.vocabulary, Style::Reference).is_object());
                }
                None
            }
            Err(e) => Some(e.to_string()),
        }));
        match outcome.unwrap_or_else(|_| panic!("round {round}")) {
            None => loaded += 1,
            Some(sentence) => {
                assert!(sentence.contains("; expected ") && !sentence.contains('\n'), "{sentence}");
                refused += 1;
            }
        }
    }
    assert!(loaded > 100 && refused > 1000, "{loaded} {refused}");
}
