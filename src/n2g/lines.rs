//! Lines: what a prompt says of a neuron, one for each token that fires it, read backwards.

use std::collections::BTreeMap;

/// A prompt and what the neuron does on it.
#[derive(Clone, Debug, Default)]
pub struct Traced {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// `[tokens]`: normalised activation of each.
    pub activation: Vec<f64>,
    /// By position t of a token that fires: the importance `1 - a_t(k masked) / a_t` of every position k
    /// of the prompt for it, `[tokens]`.
    pub importance: BTreeMap<usize, Vec<f64>>,
}

/// One element of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Element {
    /// Key of the token, or [`super::trie::WILDCARD`] or [`super::trie::START`].
    pub key: u32,
    /// Importance for the token at the head of the line; of that token, for itself.
    pub importance: f64,
    /// Normalised activation of the token itself.
    pub activation: f64,
    /// Whether the token itself fires.
    pub activates: bool,
}

/// From a token that fires backwards to the farthest one that matters to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub elements: Vec<Element>,
    /// Activation of the head.
    pub value: f64,
}
