//! Scores on text that was chosen for no neuron: every neuron's trie and baselines against its activations,
//! over one more pass of some windows.

use std::ops::Range;

use super::evaluate::{Lookup, Tally, f1_interval, gram};
use super::exemplars::Request;
use super::neuron::seed;
use super::predict::{Hit, Predictor};
use super::record::{Counts, TextScores};
use super::settings::Settings;
use super::vocabulary::Vocabulary;
use super::windows::{Plan, plan};
use crate::data::stream::Runner;
use crate::data::visit::{Block, visit};
use crate::data::{DataSet, Samples};
use crate::device::View;
use crate::error::{Error, Result};
use crate::model::Lm;
use crate::ops::peaks::pick;

/// Tokens whose predictions are in memory at a time.
const GROUP: usize = 1 << 13;

/// A neuron as the text sees it.
#[derive(Clone, Debug)]
pub struct Scored<'a> {
    /// Its layer's place in the selection, and its number in the layer.
    pub layer: usize,
    pub neuron: usize,
    pub a_max: f64,
    /// Windows of the text that it was trained on: they do not count.
    pub known: &'a [u32],
}

/// What is needed beside the text.
#[derive(Debug)]
pub struct Text<'a> {
    pub lm: &'a Lm,
    pub request: &'a Request,
    pub settings: &'a Settings,
    pub exact: &'a Vocabulary,
    pub predictor: &'a Predictor<'a>,
    pub lookup: &'a Lookup,
    /// By number of the trie.
    pub neurons: &'a [Scored<'a>],
}

/// At most `most` of `count` windows, ascending: a random choice that depends on `seed` alone.
pub fn choose(count: usize, most: usize, seed: u64) -> Vec<usize> {
    let mut windows: Vec<usize> = (0..count).collect();
    if count > most {
        let key = |w: &usize| pick((seed ^ (seed >> 32)) as u32, u32::MAX, *w as u32, 1).1;
        windows.sort_by_key(key);
        windows.truncate(most);
        windows.sort_unstable();
    }
    windows
}

/// The sums of a neuron.
#[derive(Clone, Debug, Default)]
struct Sums {
    trie: Tally,
    token: Counts,
    ngram: Counts,
    /// By window that counts: true and false positives, false negatives of the trie.
    parts: Vec<[u16; 3]>,
}

/// By neuron, in the order of [`Text::neurons`], its scores on `windows` of `data`.
pub fn score(runner: &Runner, text: &Text, data: &DataSet, windows: &[usize]) -> Result<Vec<TextScores>> {
    let Samples::Tokens { ids, t, .. } = &data.samples else {
        return Err(Error::shape("text", "input vectors", "token sequences"));
    };
    let (first, positions) = (text.request.skip, *t);
    let mut sums = vec![Sums::default(); text.neurons.len()];
    for group in windows.chunks((GROUP / positions.max(1)).max(1)) {
        let window = |w: &usize| &ids[w * positions..(w + 1) * positions];
        let texts: Vec<&[u32]> = group.iter().map(|w| &window(w)[first..]).collect();
        let hits = text.predictor.hits(&texts)?;
        let subset = data.sequences(group)?;
        let look = |plan: &Plan, mut block: Block| {
            let acts = plan.layers.iter().map(|v| block.read(v)).collect::<Result<Vec<Vec<f64>>>>()?;
            let one = |(i, w): (usize, usize)| {
                let start = hits.partition_point(|h| h.sequence < w);
                let end = hits.partition_point(|h| h.sequence <= w);
                let parts = Parts { acts: &acts, layers: &plan.layers, rows: i * positions + first..(i + 1) * positions };
                (group[w], count(text, &parts, texts[w], &hits[start..end]))
            };
            Ok(block.samples.clone().enumerate().map(one).collect::<Vec<_>>())
        };
        visit(
            runner,
            "text",
            &subset,
            0,
            |batch| plan(text.lm, text.request, batch),
            look,
            |found| {
                for (window, tallies) in found {
                    for ((sum, scored), of) in sums.iter_mut().zip(text.neurons).zip(tallies) {
                        if !scored.known.contains(&(window as u32)) {
                            sum.add(&of);
                        }
                    }
                }
                Ok(())
            },
        )?;
    }
    let finish = |(sum, scored): (Sums, &Scored)| {
        let tokens = (positions - first) as u64;
        let part = |p: &[u16; 3]| Counts { tp: p[0].into(), fp: p[1].into(), fn_: p[2].into(), tokens };
        let parts: Vec<Counts> = sum.parts.iter().map(part).collect();
        let layer = text.request.selection[scored.layer].layer;
        TextScores {
            trie: sum.trie.counts,
            r2: sum.trie.r2(),
            token: sum.token,
            ngram: sum.ngram,
            f1_interval: f1_interval(&parts, !seed(text.request.seed, layer, scored.neuron)),
        }
    };
    Ok(sums.into_iter().zip(text.neurons).map(finish).collect())
}

impl Sums {
    fn add(&mut self, window: &Window) {
        let (sum, of) = (&mut self.trie, &window.trie);
        sum.counts.merge(&of.counts);
        (sum.sum, sum.squares, sum.errors) = (sum.sum + of.sum, sum.squares + of.squares, sum.errors + of.errors);
        self.token.merge(&window.token);
        self.ngram.merge(&window.ngram);
        let narrow = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        self.parts.push([narrow(of.counts.tp), narrow(of.counts.fp), narrow(of.counts.fn_)]);
    }
}

/// The sums of a neuron over one window.
#[derive(Clone, Debug, Default)]
struct Window {
    trie: Tally,
    token: Counts,
    ngram: Counts,
}

/// Where the activations of a window are: by layer, `[rows, width]`.
struct Parts<'a> {
    acts: &'a [Vec<f64>],
    layers: &'a [View],
    rows: Range<usize>,
}

impl Parts<'_> {
    /// The normalised activation of a neuron in a row.
    fn act(&self, of: &Scored, row: usize) -> f64 {
        self.acts[of.layer][row * self.layers[of.layer].cols + of.neuron] / of.a_max
    }
}

fn count(text: &Text, parts: &Parts, tokens: &[u32], hits: &[Hit]) -> Vec<Window> {
    let fire = text.settings.fire_threshold;
    let at = |n: usize, t: usize| parts.act(&text.neurons[n], parts.rows.start + t);
    let mut all: Vec<Window> = vec![Window::default(); text.neurons.len()];
    // How many tokens fire, and what R squared needs of activations, row by row as they lie.
    for row in parts.rows.clone() {
        for (of, sum) in text.neurons.iter().zip(&mut all) {
            let act = parts.act(of, row);
            sum.trie.counts.fn_ += u64::from(act >= fire);
            sum.trie.sum += act;
            sum.trie.squares += act * act;
        }
    }
    for sum in &mut all {
        sum.trie.errors = sum.trie.squares;
        sum.trie.counts.tokens = parts.rows.len() as u64;
        (sum.token, sum.ngram) = (sum.trie.counts, sum.trie.counts);
    }
    for hit in hits {
        let act = at(hit.neuron, hit.position);
        let predicted = f64::from(hit.value) / text.settings.unit(text.neurons[hit.neuron].a_max);
        let tally = &mut all[hit.neuron].trie;
        tally.errors += predicted * predicted - 2.0 * predicted * act;
        if predicted >= fire {
            tally.counts.predict(act >= fire);
        }
    }
    for (t, id) in tokens.iter().enumerate() {
        let known = text.exact.key(*id).map_or(&[][..], |key| &text.lookup.tokens[key as usize]);
        if known.is_empty() {
            continue;
        }
        for &n in known {
            all[n as usize].token.predict(at(n as usize, t) >= fire);
        }
        for &n in text.lookup.grams.get(&gram(tokens, t, text.exact)).into_iter().flatten() {
            all[n as usize].ngram.predict(at(n as usize, t) >= fire);
        }
    }
    all
}

impl Counts {
    /// Turns a token that nothing was predicted for into one that is said to fire.
    fn predict(&mut self, fires: bool) {
        match fires {
            true => {
                self.tp += 1;
                self.fn_ -= 1;
            }
            false => self.fp += 1,
        }
    }
}
