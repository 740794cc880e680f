//! Predictions of all neurons on texts: sequences of any lengths are packed into batches of a few shapes,
//! which run side by side.
//!
//! Nothing here knows the model: tries and token ids are enough.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::forest::Tries;
use super::vocabulary::Vocabulary;
use crate::data::arena::AnyArena;
use crate::device::{Builder, DType, Device, IntBuffer, Program, View};
use crate::error::{Error, Result};
use crate::ops::forest::Forest;

use crate::ops::{Launch, trie_match};

/// Rows of the programs, few and many. No pattern has as many elements as the many.
const ROWS: [usize; 2] = [512, 8192];
/// Slots of the programs; the most grow where a single token has more candidates.
const SLOTS: [usize; 3] = [1 << 14, 1 << 17, 1 << 20];
/// Batches for each lane between two calls of the sink.
const WAVE: usize = 4;

/// A token at which a trie predicts something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    pub sequence: usize,
    pub position: usize,
    /// Number of the trie, as in [`Tries::neurons`].
    pub neuron: usize,
    /// Never 0.
    pub value: f32,
}

/// Tries on a device, ready to predict.
#[derive(Debug)]
pub struct Predictor<'a> {
    device: &'a Device,
    forest: Arc<Forest>,
    vocabulary: Arc<Vocabulary>,
    /// By rising number of rows, then of slots. The last one has the most of both.
    steps: Vec<Step>,
    /// For each lane what it runs each step in.
    lanes: Vec<Mutex<Vec<Option<AnyArena>>>>,
}

/// A program of one shape and its inputs.
#[derive(Debug)]
struct Step {
    program: Program<Launch>,
    keys: IntBuffer,
    first: IntBuffer,
    slots: IntBuffer,
    values: View,
}

/// A part of a sequence.
#[derive(Clone, Debug)]
struct Piece {
    sequence: usize,
    /// Positions that are predicted.
    positions: Range<usize>,
    /// Positions before them that patterns may reach back to.
    lead: usize,
}

/// Pieces that run together.
#[derive(Clone, Debug, Default)]
struct Batch {
    pieces: Vec<Piece>,
    rows: usize,
    slots: usize,
}

impl<'a> Predictor<'a> {
    /// Puts tries on a device.
    pub fn new(device: &'a Device, tries: &Tries) -> Result<Self> {
        Self::with_shapes(device, tries, &ROWS, &SLOTS)
    }
    fn with_shapes(device: &'a Device, tries: &Tries, rows: &[usize], slots: &[usize]) -> Result<Self> {
        let forest = &tries.forest;
        let most = (0..forest.keys() as u32).map(|key| forest.candidate_count(key)).max().unwrap_or(0);
        let largest = slots.iter().copied().max().unwrap_or(0);
        let mut steps = Vec::new();
        for &rows in rows {
            for &slots in slots {
                let slots = if slots == largest { slots.max(most) } else { slots };
                steps.push(Step::new(forest, rows, slots)?);
            }
        }
        let lanes = (0..device.lanes().max(1)).map(|_| Mutex::new(steps.iter().map(|_| None).collect())).collect();
        Ok(Self { device, forest: forest.clone(), vocabulary: tries.vocabulary.clone(), steps, lanes })
    }
    /// What the tries predict on sequences of token ids, by sequence, position and neuron: see
    /// [`Predictor::each`].
    pub fn hits<S: AsRef<[u32]> + Sync>(&self, sequences: &[S]) -> Result<Vec<Hit>> {
        let mut all = Vec::new();
        self.each(sequences, |hits| {
            all.extend_from_slice(hits);
            Ok(())
        })?;
        Ok(all)
    }
    /// Hands what the tries predict on sequences of token ids to `sink`, some at a time, by sequence, position
    /// and neuron. Neither the device nor its threads change the result.
    ///
    /// Fails on ids that the tries' vocabulary does not have, before any work, and as `sink` does.
    pub fn each<S: AsRef<[u32]> + Sync>(&self, sequences: &[S], mut sink: impl FnMut(&[Hit]) -> Result<()>) -> Result<()> {
        let batches = self.batches(sequences)?;
        for wave in batches.chunks(WAVE * self.lanes.len()) {
            let run = |batch: &Batch| self.run(batch, sequences);
            let found: Vec<Result<Vec<Hit>>> = self.device.host().install(|| wave.par_iter().map(run).collect());
            for hits in found {
                sink(&hits?)?;
            }
        }
        Ok(())
    }
    /// Fills batches one after the other; a sequence goes on in the next one where a batch is full.
    fn batches<S: AsRef<[u32]>>(&self, sequences: &[S]) -> Result<Vec<Batch>> {
        let Some(most) = self.steps.last() else { return Ok(Vec::new()) };
        let (mut batches, mut batch) = (Vec::new(), Batch::default());
        for (sequence, tokens) in sequences.iter().enumerate() {
            let mut piece = Piece { sequence, positions: 0..0, lead: 0 };
            for (position, &id) in tokens.as_ref().iter().enumerate() {
                let key = self.vocabulary.key(id).ok_or_else(|| {
                    let expected = format!("ids below {}, those of the tries", self.vocabulary.size());
                    Error::shape("trie match", format!("token id {id} at position {position} of sequence {sequence}"), expected)
                })?;
                let slots = self.forest.candidate_count(key);
                if batch.rows + 1 > most.keys.len || batch.slots + slots > most.values.rows {
                    batch.close(piece);
                    batches.push(std::mem::take(&mut batch));
                    let lead = self.forest.depth.min(position);
                    piece = Piece { sequence, positions: position..position, lead };
                    batch.rows = lead;
                }
                piece.positions.end = position + 1;
                batch.rows += 1;
                batch.slots += slots;
            }
            batch.close(piece);
        }
        batches.push(batch);
        Ok(batches)
    }
    /// What the tries predict on a batch.
    fn run<S: AsRef<[u32]>>(&self, batch: &Batch, sequences: &[S]) -> Result<Vec<Hit>> {
        let fits = |step: &Step| batch.rows <= step.keys.len && batch.slots <= step.values.rows;
        let number = self.steps.iter().position(fits).unwrap_or(self.steps.len() - 1);
        let step = &self.steps[number];
        let lane = rayon::current_thread_index().unwrap_or(0) % self.lanes.len();
        let mut lane = self.lanes[lane].lock().unwrap_or_else(PoisonError::into_inner);
        let arena = match &mut lane[number] {
            Some(arena) => arena,
            none => none.insert(AnyArena::noted(self.device, &step.program)?),
        };
        self.fill(batch, sequences, step, arena);
        arena.run(&step.program)?;
        self.read(batch, step, arena)
    }
    fn fill<S: AsRef<[u32]>>(&self, batch: &Batch, sequences: &[S], step: &Step, arena: &mut AnyArena) {
        let (mut keys, mut first, mut slots) = (vec![0; step.keys.len], vec![0; step.keys.len], vec![0; step.slots.len]);
        let (mut row, mut used) = (0, 0);
        for piece in &batch.pieces {
            let begin = row as u32;
            for position in piece.positions.start - piece.lead..piece.positions.end {
                // Whoever made the batch has seen that every id has a key.
                let key = self.vocabulary.key(sequences[piece.sequence].as_ref()[position]).unwrap_or(0);
                if position >= piece.positions.start {
                    used += self.forest.candidate_count(key);
                }
                (keys[row], first[row], slots[row + 1]) = (key, begin, used as u32);
                row += 1;
            }
        }
        slots[row..].fill(used as u32);
        // Rows that no sequence has begin where they are.
        (row..first.len()).for_each(|row| first[row] = row as u32);
        arena.put(step.keys, &keys);
        arena.put(step.first, &first);
        arena.put(step.slots, &slots);
    }
    /// The slots that are not 0.
    fn read(&self, batch: &Batch, step: &Step, arena: &mut AnyArena) -> Result<Vec<Hit>> {
        let (keys, slots) = (arena.ints(step.keys)?.to_vec(), arena.ints(step.slots)?.to_vec());
        let values = arena.bytes(&step.values)?;
        let values: &[f32] = bytemuck::cast_slice(&values);
        let (mut hits, mut row) = (Vec::new(), 0);
        for piece in &batch.pieces {
            row += piece.lead;
            for position in piece.positions.clone() {
                let (begin, range) = (hits.len(), slots[row] as usize..slots[row + 1] as usize);
                for (candidate, &value) in self.forest.candidates(keys[row]).zip(&values[range]).filter(|(_, v)| **v != 0.0) {
                    let neuron = self.forest.root_neuron[candidate] as usize;
                    hits.push(Hit { sequence: piece.sequence, position, neuron, value });
                }
                // The lists of the key and of the wildcard rise each for itself.
                hits[begin..].sort_unstable_by_key(|hit: &Hit| hit.neuron);
                row += 1;
            }
        }
        Ok(hits)
    }
}

impl Batch {
    /// Takes a piece over, its rows and slots being counted already.
    fn close(&mut self, piece: Piece) {
        if !piece.positions.is_empty() {
            self.pieces.push(piece);
        }
    }
}

impl Step {
    fn new(forest: &Arc<Forest>, rows: usize, capacity: usize) -> Result<Self> {
        let mut b = Builder::new(DType::F32);
        let (keys, first, slots, values) = (b.ints(rows), b.ints(rows), b.ints(rows + 1), b.matrix(capacity, 1));
        let args = trie_match::Args { forest: forest.clone(), keys, first, slots, values };
        args.check()?;
        b.push(Launch::TrieMatch(args));
        Ok(Self { program: b.finish(), keys, first, slots, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;
    use crate::n2g::forest::Origin;
    use crate::n2g::lines::{Element, Line};
    use crate::n2g::trie::{Choice, START, Trie, WILDCARD};
    use crate::n2g::vocabulary::Fold;

    fn tries(choice: Choice) -> Tries {
        let vocabulary = Vocabulary::new(["a", "b", "c"].map(String::from).to_vec(), Fold::Exact);
        let trie = |patterns: &[(&[u32], f64)]| {
            let mut trie = Trie::new();
            for (keys, value) in patterns {
                let element = |key: &u32| Element { key: *key, importance: 1.0, activation: 0.5, activates: false };
                trie.insert(&Line { elements: keys.iter().map(element).collect(), value: *value });
            }
            trie
        };
        let all = [
            ((0, 4), trie(&[(&[WILDCARD, 0, WILDCARD, 1], 1.0), (&[2], 2.0)])),
            ((0, 7), trie(&[])),
            ((1, 0), trie(&[(&[0, START], 3.0), (&[0, 1], 4.0), (&[0, 1, 2, WILDCARD, START], 5.0)])),
        ];
        Tries::new(Origin::default(), choice, Arc::new(vocabulary), all).unwrap()
    }

    #[test]
    fn batches_of_any_shape_give_what_the_plain_walk_gives() {
        let device = Device::Cpu(Cpu::new(3).unwrap());
        let lengths = [0, 1, 40, 7, 0, 3, 90, 2];
        let digits = |n: usize| (0..n).map(|i| (n * n + i * i * i / 3 + i / 2) as u32 % 3).collect();
        let sequences: Vec<Vec<u32>> = lengths.into_iter().map(digits).collect();
        for choice in Choice::ALL {
            let tries = tries(choice);
            assert_eq!(tries.forest.depth, 5);
            let mut want = Vec::new();
            for (sequence, keys) in sequences.iter().enumerate() {
                for position in 0..keys.len() {
                    let predict = |neuron| tries.trie(neuron).predict(keys, position, choice).map(|value| (neuron, value as f32));
                    want.extend((0..3).filter_map(predict).map(|(neuron, value)| Hit { sequence, position, neuron, value }));
                }
            }
            assert!(want.len() >= 50, "{}", want.len());
            for (rows, slots) in [(&[6][..], &[1][..]), (&[6, 9], &[2, 5]), (&[8, 64], &[4, 64]), (&ROWS, &SLOTS)] {
                let predictor = Predictor::with_shapes(&device, &tries, rows, slots).unwrap();
                assert_eq!(predictor.hits(&sequences).unwrap(), want, "{rows:?} {slots:?}");
                assert_eq!(predictor.hits(&sequences).unwrap(), want, "{rows:?} {slots:?}, again");
            }
        }
    }

    #[test]
    fn ids_without_a_key_are_refused() {
        let (device, tries) = (Device::Cpu(Cpu::new(1).unwrap()), tries(Choice::Deepest));
        let predictor = Predictor::new(&device, &tries).unwrap();
        let error = predictor.hits(&[vec![0, 1], vec![2, 3]]).unwrap_err().to_string();
        let expected = "expected ids below 3, those of the tries";
        assert_eq!(error, format!("operation trie match: found token id 3 at position 1 of sequence 1; {expected}"));
        assert_eq!(predictor.hits::<Vec<u32>>(&[]).unwrap(), []);
        let mut calls = 0;
        let stop = |_: &[Hit]| {
            calls += 1;
            Err(Error::flag("--x", "a", "b"))
        };
        assert!(predictor.each(&[[0]], stop).is_err());
        assert_eq!(calls, 1);
    }
}
