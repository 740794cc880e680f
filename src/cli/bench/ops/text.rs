//! What streams of text need beside the layers of a model: embeddings, positions, losses, the largest activations, and the
//! predictions of tries.

use std::sync::Arc;

use super::super::case::{Output, Parts};
use super::super::work::{Shapes, Spec};
use super::product;
use crate::ops::forest::{Choice, Forest, Nodes, WILDCARD};
use crate::ops::packing::Heads;
use crate::ops::peaks::{Bars, Passed};
use crate::ops::probes::splitmix;
use crate::ops::{Launch, embed, loss, peaks, rope, trie_match};

pub const OPS: &[Spec] = &[
    Spec {
        name: "embed",
        letters: "SxTxDxV",
        slab: 1,
        least: 1,
        build: embedding,
        recomputed: false,
        shapes: Shapes {
            cuda: &["512x128x768x50257"],
            wgpu: &["64x128x768x32000"],
            cpu: &["64x128x768x8192"],
            ragged: &["3x19x70x101"],
        },
    },
    Spec {
        name: "rope",
        letters: "SxTxHxD",
        slab: 1,
        least: 1,
        build: rotary,
        recomputed: false,
        shapes: Shapes { cuda: &["512x128x12x64"], wgpu: &["64x128x12x64"], cpu: &["64x128x12x64"], ragged: &["3x19x3x10"] },
    },
    Spec {
        name: "loss",
        letters: "NxV",
        slab: 1,
        least: 1,
        build: cross_entropy,
        recomputed: false,
        shapes: Shapes { cuda: &["8192x50257"], wgpu: &["512x50257"], cpu: &["512x16384"], ragged: &["37x301"] },
    },
    Spec {
        name: "peaks",
        letters: "SxTxM",
        slab: 1,
        least: 1,
        build: largest,
        recomputed: false,
        shapes: Shapes { cuda: &["512x128x3072"], wgpu: &["64x128x3072"], cpu: &["64x128x1024"], ragged: &["3x19x45"] },
    },
    Spec {
        name: "trie-match",
        letters: "SxTxM",
        slab: 1,
        least: 1,
        build: tries,
        recomputed: false,
        shapes: Shapes { cuda: &["128x128x36864"], wgpu: &["16x128x3072"], cpu: &["16x128x3072"], ragged: &["3x19x300"] },
    },
];

/// y = W_E[token] + W_pos[position]. Of the tables as many rows are read as there are tokens, or all of fewer.
fn embedding(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[samples, seq, d, vocabulary] = sizes else { unreachable!("the letters of embed") };
    let n = samples * seq;
    let tokens = p.below(n, vocabulary);
    let (w_e, w_pos) = (p.table(vocabulary, d, 1.0, 0.0), p.tensor(seq, d, 1.0));
    p.move_elements(product(&[n.min(vocabulary), d]));
    let y = p.output(n, d);
    (Launch::Embed(embed::Args { tokens, seq, w_e, w_pos, token_out: None, pos_out: None, y }), product(&[n, d]))
}

/// Of each pair of coordinates four products and two sums.
fn rotary(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[samples, seq, heads, d] = sizes else { unreachable!("the letters of rope") };
    let (n, half) = (samples * seq, d / 2);
    let (x, y) = (p.input(n, heads * d), p.output(n, heads * d));
    let (cos, sin) = (p.tensor(seq, half, 1.0), p.tensor(seq, half, 1.0));
    let positions = p.ints(n, |row| (row % seq) as u32);
    let (x, y) = (Heads::dense(x, d), Heads::dense(y, d));
    let args = rope::Args { x, y, heads, d_head: d, cos, sin, positions, inverse: false };
    (Launch::Rope(args), 6.0 * product(&[n, heads, half]))
}

/// Of a logit the difference to the largest, its exponential and the sum. Every fourth label is right.
fn cross_entropy(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[n, vocabulary] = sizes else { unreachable!("the letters of loss") };
    let logits = p.scaled(n, vocabulary, 10.0, 0.0);
    let right = p.largest(&logits);
    let labels = p.ints(n, |i| if i % 4 == 3 { right(i) } else { (splitmix(i as u64) % vocabulary as u64) as u32 });
    let out = p.zeros(1, 2);
    p.compare(Output::Whole(out.columns(0, 1)));
    p.compare(Output::Exact(out.columns(1, 1)));
    (Launch::Loss(loss::Args { logits, labels, from: 0, out }), 3.0 * product(&[n, vocabulary]))
}

/// Places of a list for each sample, as in a run.
const LISTED: usize = 4;

/// Maxima, their positions, random choices and histograms: comparisons and whole numbers alone. About one maximum in a
/// hundred passes the bars, and one random choice in a thousand.
fn largest(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[samples, positions, width] = sizes else { unreachable!("the letters of peaks") };
    let x = p.input(samples * positions, width);
    let [max, at, picked] = [(); 3].map(|()| {
        let view = p.unchecked(samples, width);
        p.compare(Output::Exact(view));
        view
    });
    let (first, counts) = (p.ints(1, |_| 40), p.int_sums(width * peaks::BINS));
    let capacity = LISTED * samples;
    let bars = Bars { least: p.scaled(1, width, 0.0, 1.2498), most: p.ints(2 * width, |_| u32::MAX / 1000) };
    let passed =
        Passed { cells: p.ints(Passed::cells_len(width, capacity), |_| 0), values: p.unchecked(Passed::lists(width), capacity) };
    (Launch::Peaks(peaks::Args { x, positions, skip: 0, max, at, picked, first, seed: 7, counts, bars, passed }), 0.0)
}

/// Keys of the tokens, elements that a trie begins with, and those behind each.
const KEYS: usize = 1024;
const FIRST: usize = 16;
const SECOND: usize = 3;
/// A key begins one trie in this many.
const APART: usize = KEYS / FIRST;

/// Tries of patterns of up to three elements: the predictions, bit for bit.
fn tries(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[samples, seq, count] = sizes else { unreachable!("the letters of trie-match") };
    let n = samples * seq;
    // Trie m begins with the keys of m modulo `APART`.
    let candidates = |key: usize| (count + APART - 1 - key % APART) / APART;
    let key = |row: usize| (splitmix(row as u64 ^ 0x7E1E) % KEYS as u64) as usize;
    let keys = p.ints(n, |row| key(row) as u32);
    let first = p.ints(n, |row| (row - row % seq) as u32);
    let mut ends = vec![0u32];
    if !p.is_plan() {
        ends.extend((0..n).scan(0, |end, row| {
            *end += candidates(key(row)) as u32;
            Some(*end)
        }));
    }
    let slots = p.ints(n + 1, |row| ends[row]);
    let values = p.unchecked(n * count.div_ceil(APART), 1);
    p.compare(Output::Exact(values));
    p.weigh(count.saturating_mul((1 + FIRST) * (2 + SECOND) * 64));
    let forest = Arc::new(forest(if p.is_plan() { 0 } else { count }));
    (Launch::TrieMatch(trie_match::Args { forest, keys, first, slots, values }), 0.0)
}

/// Tries that all have the same form: [`FIRST`] keys, behind each of them [`SECOND`] keys and any token, behind that one
/// more key, and a value at every end.
fn forest(count: usize) -> Forest {
    let mut nodes = Nodes { offsets: vec![0], ..Nodes::default() };
    for trie in 0..count {
        let mut push = |key: usize, children: usize, value: f32| {
            nodes.key.push(key as u32);
            nodes.children.push(children as u32);
            nodes.value.push(value);
        };
        push(0, FIRST, f32::NAN);
        (0..FIRST).for_each(|i| push(trie % APART + APART * i, SECOND + 1, 1.0 + i as f32));
        for i in 0..FIRST {
            (0..SECOND).for_each(|j| push((trie * 37 + i) % APART + j * (KEYS / SECOND), 0, 100.0 + (i * SECOND + j) as f32));
            push(WILDCARD as usize, 1, f32::NAN);
        }
        (0..FIRST).for_each(|i| push((trie * 101 + i * 7) % KEYS, 0, 1000.0 + trie as f32));
        nodes.offsets.push(nodes.key.len() as u32);
    }
    Forest::new(Choice::Deepest, KEYS, nodes).unwrap_or_else(|flaw| panic!("tries of one form: {flaw:?}"))
}

#[cfg(test)]
mod tests {
    use super::super::count::{elements, flops};
    use super::*;

    #[test]
    fn arithmetic_of_text_is_that_of_the_loops() {
        let (n, d) = (2 * 3, 4);
        assert_eq!((flops("embed", "2x3x4x5"), elements("embed", "2x3x4x5")), (n * d, (5 * d + 3 * d + n * d + n / 2) as f64));
        assert_eq!(elements("embed", "2x3x4x50"), (n * d + 3 * d + n * d + n / 2) as f64);
        let mut count = 0;
        // Heads of five columns have two pairs.
        (0..n * 4 * 2).for_each(|_| count += 4 + 2);
        assert_eq!(flops("rope", "2x3x4x5"), count);
        assert_eq!(elements("rope", "2x3x4x5"), (2 * n * 20 + 2 * 3 * 2 + n / 2) as f64);
        assert_eq!((flops("loss", "6x7"), elements("loss", "6x7")), (3 * 6 * 7, (6 * 7 + 2 * 2 + 6 / 2) as f64));
        assert_eq!((flops("peaks", "2x3x4"), flops("trie-match", "2x3x4")), (0, 0));
        // Counts are read and written; two lists of eight places, each with a cell and a position, and what they hold.
        let ints = 2 * 4 * peaks::BINS + 1 + 2 * 4 + 2 * (1 + 2 * 8);
        assert_eq!(elements("peaks", "2x3x4"), (n * 4 + 3 * 2 * 4 + 4 + 2 * 8) as f64 + ints as f64 / 2.0);
    }

    #[test]
    fn tokens_meet_the_tries_that_are_counted_and_patterns_of_every_length() {
        let forest = forest(130);
        for key in 0..KEYS as u32 {
            assert_eq!(forest.candidate_count(key), (130 + APART - 1 - key as usize % APART) / APART, "{key}");
        }
        assert_eq!((forest.neurons(), forest.depth), (130, 3));
    }
}
