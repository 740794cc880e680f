//! Patterns of many neurons looked up at every token at once: all tries that a token can begin are walked
//! backwards from it.

use std::sync::Arc;

use super::forest::{Choice, Forest, NONE};
use super::{check, outputs::Outputs};
use crate::device::{Arena, IntBuffer, Real, View};
use crate::error::{Error, Result};

/// The predictions of a [`Forest`] on sequences that lie one behind the other. Every candidate of a row,
/// in the order of [`Forest::candidates`], has a slot of its own: candidate i of row t the slot
/// `slots[t] + i`. It receives the value of the pattern that matches there, 0 where none does.
///
/// A candidate of the wildcard's list gives 0 at a token that its trie has a child of the root for: there the
/// candidate of the key stands for the neuron. So for each row at most one slot of a neuron is not 0.
#[derive(Clone, Debug)]
pub struct Args {
    pub forest: Arc<Forest>,
    /// `[n]`: the key of each token, below [`Forest::keys`]: whoever fills the buffer has checked them.
    pub keys: IntBuffer,
    /// `[n]`: the row at which the sequence of the row begins, not behind it, likewise. Where that row is
    /// but the first one that is at hand, the rows with slots lie [`Forest::depth`] or more behind it.
    pub first: IntBuffer,
    /// `[n + 1]`: prefix sums of the numbers of candidates that each row looks up, likewise: from 0,
    /// at most as many as it has, and at most `capacity` in all. Rows behind the last have none.
    pub slots: IntBuffer,
    /// Output `[capacity, 1]`; 0 behind the last slot.
    pub values: View,
}

impl Args {
    /// Whether the shapes agree.
    pub fn check(&self) -> Result<()> {
        let (op, n) = ("trie match", self.keys.len);
        if (self.first.len, self.slots.len) != (n, n + 1) {
            let found = format!("first [{}], slots [{}]", self.first.len, self.slots.len);
            return Err(Error::shape(op, found, format!("first [{n}], slots [{}]", n + 1)));
        }
        check::view(op, "values", &self.values, self.values.rows, 1)
    }
}

/// Runs [`Args`] on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.values]);
    let (keys, first, slots) = (m.int(a.keys), m.int(a.first), m.int(a.slots));
    let (values, at) = (out.of(&a.values), |slot: usize| a.values.offset + slot * a.values.stride);
    // Rows of one key together: the nodes that they share are read from memory once.
    let mut rows: Vec<usize> = (0..keys.len()).filter(|&t| slots[t] < slots[t + 1]).collect();
    rows.sort_by_key(|&t| keys[t]);
    for rows in rows.chunk_by(|&a, &b| keys[a] == keys[b]) {
        let key = keys[rows[0]];
        for (i, candidate) in a.forest.candidates(key).enumerate() {
            let hidden = i >= a.forest.exact_count(key) && a.forest.has_root_child(candidate, key);
            for &t in rows.iter().filter(|&&t| i < (slots[t + 1] - slots[t]) as usize) {
                let value = if hidden { 0.0 } else { walk(&a.forest, candidate, keys, first[t] as usize, t) };
                values[at(slots[t] as usize + i)] = T::of(f64::from(value));
            }
        }
    }
    let used = slots[keys.len()] as usize;
    (used..a.values.rows).for_each(|slot| values[at(slot)] = T::ZERO);
    out.put(m);
}

/// The value of the pattern that a candidate matches from row `t` backwards, 0 if there is none.
fn walk(forest: &Forest, candidate: usize, keys: &[u32], first: usize, t: usize) -> f32 {
    let (mut node, mut row, mut best) = (forest.root_node[candidate] as usize, t, f32::NAN);
    loop {
        let start = if row == first { forest.start[node] } else { NONE };
        let at_start = if start == NONE { f32::NAN } else { forest.value[start as usize] };
        for value in [forest.value[node], at_start].into_iter().filter(|value| !value.is_nan()) {
            match forest.choice {
                Choice::Shallowest => return value,
                Choice::Deepest => best = value,
                // The maximum of NaN and a number is the number.
                Choice::Largest => best = best.max(value),
            }
        }
        if row == first {
            break;
        }
        row -= 1;
        let child = forest.child(node, keys[row]);
        match if child == NONE { forest.wildcard[node] } else { child } {
            NONE => break,
            next => node = next as usize,
        }
    }
    if best.is_nan() { 0.0 } else { best }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, read};
    use super::super::forest::{Nodes, START, WILDCARD};
    use super::*;

    const NAN: f32 = f32::NAN;

    /// Two tries over keys 0, 1, 2. The first has `0 <- 1` = 1, `0 <- 1 <- 2` = 3, `0 <- ^` = 2 and `2` = 4; the second
    /// `* <- 1` = 5 and `2 <- * <- ^` = 6.
    fn forest(choice: Choice) -> Arc<Forest> {
        let nodes = Nodes {
            offsets: vec![0, 6, 12],
            key: vec![0, 0, 2, 1, START, 2, 0, 2, WILDCARD, WILDCARD, 1, START],
            children: vec![2, 2, 0, 1, 0, 0, 2, 1, 1, 1, 0, 0],
            value: vec![NAN, NAN, 4.0, 1.0, 2.0, 3.0, NAN, NAN, NAN, NAN, 5.0, 6.0],
        };
        Arc::new(Forest::new(choice, 3, nodes).unwrap())
    }

    /// The predictions on sequences of keys: (row, neuron, value) of every slot.
    fn run<T: Real>(forest: &Arc<Forest>, sequences: &[&[u32]]) -> Vec<(usize, u32, f64)> {
        let (mut keys, mut first, mut slots) = (vec![], vec![], vec![0]);
        let mut owners = vec![];
        for sequence in sequences {
            let begin = keys.len() as u32;
            for &key in *sequence {
                owners.extend(forest.candidates(key).map(|c| (keys.len(), forest.root_neuron[c])));
                slots.push(owners.len() as u32);
                keys.push(key);
                first.push(begin);
            }
        }
        // Two rows and three slots that nothing needs.
        let rows = keys.len();
        keys.extend([0, 1]);
        first.extend([rows as u32; 2]);
        slots.extend([owners.len() as u32; 2]);
        let mut f = Fixture::default();
        let (keys, first, slots) = (f.ints(&keys), f.ints(&first), f.ints(&slots));
        let a = Args { forest: forest.clone(), keys, first, slots, values: f.output(owners.len() + 3, 1) };
        a.check().unwrap();
        let mut m = f.arena::<T>();
        cpu(&a, &mut m);
        let values = read(&m, &a.values);
        assert_eq!(values[owners.len()..], [0.0; 3]);
        owners.into_iter().zip(values).map(|((row, neuron), value)| (row, neuron, value)).collect()
    }

    #[test]
    fn every_candidate_of_every_row_has_the_value_of_its_pattern() {
        let by = Choice::ALL.map(|choice| {
            let forest = forest(choice);
            let found = run::<f32>(&forest, &[&[2, 1, 0], &[0], &[1, 2], &[1, 0, 2]]);
            assert_eq!(found, run::<f64>(&forest, &[&[2, 1, 0], &[0], &[1, 2], &[1, 0, 2]]));
            let rows: Vec<_> = found.iter().map(|(row, neuron, _)| (*row, *neuron)).collect();
            // Key 2 begins patterns of both neurons, key 0 of the first, and the wildcard of the second anything.
            let want = [(0, 0), (0, 1), (0, 1), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (4, 1), (5, 0), (5, 1), (5, 1), (6, 1)];
            assert_eq!(rows[..13], want);
            found.into_iter().map(|(.., value)| value).collect::<Vec<_>>()
        });
        let deepest = [4.0, 0.0, 0.0, 0.0, 3.0, 5.0, 2.0, 0.0, 0.0, 4.0, 6.0, 0.0, 0.0, 1.0, 5.0, 4.0, 0.0, 0.0];
        assert_eq!((by[0].as_slice(), &by[2]), (&deepest[..], &by[0]));
        let mut shallowest = deepest;
        shallowest[4] = 1.0;
        assert_eq!(by[1], shallowest);
    }

    #[test]
    fn rows_whose_beginning_is_not_at_hand_never_match_a_start() {
        let forest = forest(Choice::Deepest);
        assert_eq!(forest.depth, 3);
        // Of the sequence 0 1 0 1 2 the rows from 1 on are at hand; only the last one is looked up.
        let mut f = Fixture::default();
        let (keys, first, slots) = (f.ints(&[1, 0, 1, 2]), f.ints(&[0; 4]), f.ints(&[0, 0, 0, 0, 3]));
        let a = Args { forest, keys, first, slots, values: f.output(3, 1) };
        let mut m = f.arena::<f32>();
        cpu(&a, &mut m);
        assert_eq!(read(&m, &a.values), [4.0, 0.0, 0.0]);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let mut f = Fixture::default();
        let (keys, first, slots) = (f.ints(&[0; 3]), f.ints(&[0; 3]), f.ints(&[0; 4]));
        let a = Args { forest: forest(Choice::Deepest), keys, first, slots, values: f.output(5, 1) };
        assert!(a.check().is_ok());
        assert!(Args { values: f.output(5, 2), ..a.clone() }.check().is_err());
        assert!(Args { first: f.ints(&[0; 2]), ..a.clone() }.check().is_err());
        let error = Args { slots: f.ints(&[0; 3]), ..a }.check().unwrap_err().to_string();
        assert_eq!(error, "operation trie match: found first [3], slots [3]; expected first [3], slots [4]");
    }
}
