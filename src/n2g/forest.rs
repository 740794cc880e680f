//! The tries of a run: all of its neurons in the flat form that predictions walk, with what people read
//! beside it, and back to single tries.

mod file;

use std::sync::Arc;

pub use file::FILE;

use super::trie::{Choice, Node, Trie};
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};
use crate::ops::forest::{Flaw, Forest, LONGEST, Nodes};

/// From what tries were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The mode's name: `default`, `reference`, `paper` or `openai`.
    pub mode: String,
    /// SHA-256 of the model and of its `tokenizer.json`, in hexadecimal.
    pub model_sha256: String,
    pub tokenizer_sha256: String,
}

/// A neuron by its layer and its number in the layer.
pub type Neuron = (u32, u32);

/// Tries of many neurons, with the keys that they are made of. Numbers are in single precision.
#[derive(Clone, Debug)]
pub struct Tries {
    pub forest: Arc<Forest>,
    pub vocabulary: Arc<Vocabulary>,
    pub origin: Origin,
    /// By number of the trie in the forest, rising.
    pub neurons: Vec<Neuron>,
    /// `[nodes]` of the forest, as in [`Node`]; roots have 0 and false.
    pub importance: Vec<f32>,
    pub activation: Vec<f32>,
    pub activates: Vec<bool>,
}

impl Tries {
    /// The tries of some neurons, given by rising layer and neuron. A trie may have no patterns.
    ///
    /// Fails on neurons out of order, on keys beyond the vocabulary, on patterns of more than [`LONGEST`]
    /// elements, and on numbers that are not finite in single precision.
    pub fn new(
        origin: Origin,
        choice: Choice,
        vocabulary: Arc<Vocabulary>,
        tries: impl IntoIterator<Item = (Neuron, Trie)>,
    ) -> Result<Self> {
        let mut neurons: Vec<Neuron> = Vec::new();
        let mut nodes = Nodes { offsets: vec![0], ..Nodes::default() };
        let (mut importance, mut activation, mut activates) = (Vec::new(), Vec::new(), Vec::new());
        for (neuron, trie) in tries {
            if let Some(last) = neurons.last().filter(|last| **last >= neuron) {
                let found = format!("neuron {}:{} behind {}:{}", neuron.0, neuron.1, last.0, last.1);
                return Err(Error::numeric("tries", found, "neurons by rising layer and number"));
            }
            check(neuron, &trie)?;
            for (i, node) in trie.canonical().nodes.iter().enumerate() {
                nodes.key.push(node.key);
                nodes.children.push(node.children.len() as u32);
                // A pattern has an element: the root stands for none.
                nodes.value.push(node.end.filter(|_| i > 0).map_or(f32::NAN, |value| value as f32));
                importance.push(node.importance as f32);
                activation.push(node.activation as f32);
                activates.push(node.activates);
            }
            let expected = || "fewer than 2^32 nodes".to_string();
            let end = u32::try_from(nodes.key.len());
            nodes.offsets.push(end.map_err(|_| Error::numeric("tries", format!("{} nodes", nodes.key.len()), expected()))?);
            neurons.push(neuron);
        }
        let forest = Forest::new(choice, vocabulary.key_count(), nodes)
            .map_err(|Flaw { found, expected, .. }| Error::numeric("tries", found, expected))?;
        Ok(Self { forest: Arc::new(forest), vocabulary, origin, neurons, importance, activation, activates })
    }
    /// The number of a neuron's trie.
    pub fn find(&self, layer: u32, neuron: u32) -> Option<usize> {
        self.neurons.binary_search(&(layer, neuron)).ok()
    }
    /// The trie of a number, in its canonical form.
    pub fn trie(&self, number: usize) -> Trie {
        let nodes = self.forest.nodes(number);
        let offset = nodes.start as u32;
        let node = |i: usize| Node {
            key: self.forest.key[i],
            importance: self.importance[i].into(),
            activation: self.activation[i].into(),
            activates: self.activates[i],
            end: Some(self.forest.value[i]).filter(|value| !value.is_nan()).map(f64::from),
            children: self.forest.children_of(i).map(|child| child as u32 - offset).collect(),
        };
        let root = Node { children: node(nodes.start).children, ..Node::root() };
        Trie { nodes: std::iter::once(root).chain(nodes.skip(1).map(node)).collect() }
    }
}

/// Whether a trie can be kept in single precision and walked.
fn check((layer, neuron): Neuron, trie: &Trie) -> Result<()> {
    let place = || format!("trie of neuron {layer}:{neuron}");
    let is_fit = |x: f64| (x as f32).is_finite();
    for node in trie.nodes.iter().skip(1) {
        let numbers = [Some(node.importance), Some(node.activation), node.end];
        if let Some(x) = numbers.into_iter().flatten().find(|x| !is_fit(*x)) {
            return Err(Error::numeric(place(), format!("the number {x}"), "numbers that are finite in single precision"));
        }
    }
    match trie.depth() {
        depth if depth > LONGEST => {
            Err(Error::numeric(place(), format!("a pattern of {depth} elements"), format!("at most {LONGEST}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
