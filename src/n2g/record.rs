//! What a run keeps of each neuron beside its trie: a line of `neurons.jsonl`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::graph::Graph;

/// The file of a RUN: one record a line, by layer and neuron.
pub const FILE: &str = "neurons.jsonl";

/// How far a neuron came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It has a trie, and scores where the run went that far.
    Done,
    /// Its maximum over the data is not positive: there is nothing to normalise by. In no mean.
    NotPositive,
    /// It failed, and again when it was tried alone.
    Failed(String),
}

/// A neuron.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    // The first two fields begin every line: readers find a neuron by them.
    pub layer: usize,
    pub neuron: usize,
    pub status: Status,
    /// The largest activation over all windows.
    pub a_max: f32,
    /// Share of tokens whose activation is at least half of the maximum, from the histogram.
    pub firing_rate: f32,
    /// Its strongest windows, strongest first.
    pub exemplars: Vec<Exemplar>,
    /// Numbers of exemplars, in the order in which they were used.
    pub train: Vec<usize>,
    pub test: Vec<usize>,
    pub prompts: Vec<Prompt>,
    /// What is drawn of its patterns; absent where the run ended before tries, and of what failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<Graph>,
    /// On the windows that were held out; absent where the run ended before scores.
    pub scores: Option<Scores>,
}

/// A window that a neuron fires in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exemplar {
    pub window: usize,
    /// Position of the maximum in the window.
    pub position: usize,
    pub value: f32,
    /// Number of the stronger exemplar that it nearly repeats, if there is one.
    pub duplicate_of: Option<usize>,
    /// Tokens around the maximum: where in the window they begin, their ids and activations.
    pub start: usize,
    pub tokens: Vec<u32>,
    pub activations: Vec<f32>,
}

/// A pruned prompt and its saliency; positions but `pivot`, `start` and `end` count from its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    pub window: usize,
    /// Position of the token that fires, in the window, and its activation there.
    pub pivot: usize,
    pub act: f32,
    /// The prompt is `window[start..end]`.
    pub start: usize,
    pub end: usize,
    /// Whether a suffix passed; else the longest was taken.
    pub accepted: bool,
    /// The largest activation on the accepted suffix, and that of the pivot in the window divided by it.
    pub suffix_max: f32,
    pub scale: f32,
    /// Whether the pattern holds only at the start of a text, and the activation behind a pad token by
    /// which this was told.
    pub anchored: Option<(bool, f32)>,
    /// `[tokens]`: ids, with substitutes of an augmentation in place.
    pub tokens: Vec<u32>,
    /// `[tokens]`: normalised activations.
    pub norm_act: Vec<f32>,
    pub argmax: usize,
    /// By position of a token that fires: the importance of every position.
    pub importance: BTreeMap<usize, Vec<f32>>,
    /// Number of the prompt that this one augments.
    pub augments: Option<usize>,
}

/// Predictions against the truth over tokens, of the class that fires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    pub tp: u64,
    pub fp: u64,
    pub fn_: u64,
    /// Tokens in all.
    pub tokens: u64,
}

/// Scores of a neuron.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Of the trie, and of both baselines, on the held-out windows.
    pub held_out: Counts,
    /// `1 - MSE / variance` of normalised activations.
    pub r2: f64,
    pub token: Counts,
    pub ngram: Counts,
    /// 95 % bootstrap interval of F1, over windows.
    pub f1_interval: (f64, f64),
    /// On the held-out windows that repeat no training window.
    pub unique: Counts,
    /// On the held-out windows, where any value says that a token fires: the rule for raw values.
    pub any: Option<Counts>,
    /// On text that was not chosen for the neuron.
    pub text: Option<TextScores>,
}

/// Scores on unselected text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextScores {
    pub trie: Counts,
    pub r2: f64,
    pub token: Counts,
    pub ngram: Counts,
    pub f1_interval: (f64, f64),
}

/// A line of a table of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// What predicts, and on what.
    pub what: &'static str,
    pub counts: Counts,
    /// 95 % bootstrap interval of F1.
    pub f1_interval: Option<(f64, f64)>,
}

impl Scores {
    /// All counts, in the order in which they are shown.
    pub fn lines(&self) -> Vec<Line> {
        let line = |what, counts, f1_interval| Line { what, counts, f1_interval };
        let mut lines = vec![
            line("trie, held-out windows", self.held_out, Some(self.f1_interval)),
            line("trie, held-out windows that repeat none", self.unique, None),
            line("token lookup, held-out windows", self.token, None),
            line("n-gram lookup, held-out windows", self.ngram, None),
        ];
        lines.extend(self.any.map(|any| line("trie, held-out windows, any value fires", any, None)));
        if let Some(text) = &self.text {
            lines.push(line("trie, unselected text", text.trie, Some(text.f1_interval)));
            lines.push(line("token lookup, unselected text", text.token, None));
            lines.push(line("n-gram lookup, unselected text", text.ngram, None));
        }
        lines
    }
}

impl Counts {
    /// TP / (TP + FP); 0 where nothing was predicted.
    pub fn precision(&self) -> f64 {
        ratio(self.tp, self.tp + self.fp)
    }
    /// TP / (TP + FN); 0 where nothing fires.
    pub fn recall(&self) -> f64 {
        ratio(self.tp, self.tp + self.fn_)
    }
    /// 2 TP / (2 TP + FP + FN); 0 where that is undefined.
    pub fn f1(&self) -> f64 {
        ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn_)
    }
    /// The same counts of the class that does not fire.
    pub fn negated(&self) -> Self {
        let tn = self.tokens - self.tp - self.fp - self.fn_;
        Self { tp: tn, fp: self.fn_, fn_: self.fp, tokens: self.tokens }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
