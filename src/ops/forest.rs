//! Tries of many neurons in one flat form, the very arrays that kernels walk.
//!
//! This module knows whether such arrays are sound; where they come from and what the keys stand for is
//! not its business.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Key of an element that any token matches.
pub const WILDCARD: u32 = u32::MAX;
/// Key of an element that the beginning of the sequence matches, and nothing else.
pub const START: u32 = u32::MAX - 1;
/// In place of the number of a node: there is none.
pub const NONE: u32 = u32::MAX;
/// The most elements of a pattern, [`START`] included.
pub const LONGEST: usize = 4096;

/// Which of the patterns that match at a token gives the prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// The longest one, as the reference does.
    Deepest,
    /// The shortest one, as OpenAI's code does.
    Shallowest,
    /// The one of the largest value, as the paper says.
    Largest,
}

impl Choice {
    /// All of them.
    pub const ALL: [Self; 3] = [Choice::Deepest, Choice::Shallowest, Choice::Largest];

    /// The name used in files.
    pub fn name(self) -> &'static str {
        match self {
            Choice::Deepest => "deepest",
            Choice::Shallowest => "shallowest",
            Choice::Largest => "largest",
        }
    }
}

/// What determines a [`Forest`]: the nodes of each trie level by level, the root first, all neurons one after
/// the other. The children of a node stand together, by rising key, behind those of the node before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nodes {
    /// `[neurons + 1]`: where the nodes of each neuron begin, and their number in all.
    pub offsets: Vec<u32>,
    /// `[nodes]`; that of a root is not read.
    pub key: Vec<u32>,
    /// `[nodes]`: number of children, [`START`] and [`WILDCARD`] included.
    pub children: Vec<u32>,
    /// `[nodes]`: value of the pattern that ends here; NaN where none does.
    pub value: Vec<f32>,
}

/// Tries to be walked, with the first level inverted: the elements that a token can match first stand in
/// one list a key.
#[derive(Clone, Debug)]
pub struct Forest {
    pub choice: Choice,
    /// As in [`Nodes`]; the root of neuron i is node `offsets[i]`.
    pub offsets: Vec<u32>,
    /// `[nodes]`
    pub key: Vec<u32>,
    /// `[nodes]`: the first of the children whose keys are tokens'; the others follow by rising key.
    pub first_child: Vec<u32>,
    /// `[nodes]`: number of the children whose keys are tokens'.
    pub children: Vec<u32>,
    /// `[nodes]`: the child that any token matches, or [`NONE`].
    pub wildcard: Vec<u32>,
    /// `[nodes]`: the child that the beginning of the sequence matches, or [`NONE`]. It has a value and no
    /// children.
    pub start: Vec<u32>,
    /// `[nodes]`: value of the pattern that ends here; NaN where none does.
    pub value: Vec<f32>,
    /// `[keys + 2]`: where in `root_node` the list of each key begins, then that of the wildcard, then the end.
    pub root_offsets: Vec<u32>,
    /// `[roots]`: children of roots. Those of one list by rising neuron.
    pub root_node: Vec<u32>,
    /// `[roots]`: the neuron of each.
    pub root_neuron: Vec<u32>,
    /// The most elements of a pattern.
    pub depth: usize,
}

/// Why some [`Nodes`] are no forest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The array at fault, by its name in [`Nodes`].
    pub array: &'static str,
    pub found: String,
    pub expected: String,
}

fn flaw<T>(array: &'static str, found: impl Into<String>, expected: impl Into<String>) -> Result<T, Flaw> {
    Err(Flaw { array, found: found.into(), expected: expected.into() })
}

impl Forest {
    /// The forest of some nodes whose tokens' keys are below `keys`. Fails if the arrays are no tries in the
    /// form of [`Nodes`], have a value that is infinite, patterns of more than [`LONGEST`] elements or
    /// none, or a [`START`] that is not the end of a pattern.
    pub fn new(choice: Choice, keys: usize, nodes: Nodes) -> Result<Self, Flaw> {
        let Nodes { offsets, key, children, value } = nodes;
        let count = key.len();
        if count >= NONE as usize || keys >= START as usize {
            return flaw("key", format!("{count} nodes over {keys} keys"), "fewer than 2^32 - 2 of either");
        }
        for (array, len) in [("children", children.len()), ("value", value.len())] {
            if len != count {
                return flaw(array, format!("{len} nodes"), format!("{count}, as many as there are keys"));
            }
        }
        check_offsets(&offsets, count)?;
        let mut forest = Self {
            choice,
            first_child: Vec::with_capacity(count),
            children: Vec::with_capacity(count),
            wildcard: vec![NONE; count],
            start: vec![NONE; count],
            root_offsets: vec![0; keys + 2],
            root_node: Vec::new(),
            root_neuron: Vec::new(),
            depth: 0,
            offsets,
            key,
            value,
        };
        for neuron in 0..forest.neurons() {
            forest.link(neuron, &children, keys)?;
        }
        forest.invert(keys);
        Ok(forest)
    }
    /// Checks the nodes of a neuron, those before being done, and finds the children of each.
    fn link(&mut self, neuron: usize, children: &[u32], keys: usize) -> Result<(), Flaw> {
        let nodes = self.nodes(neuron);
        let root = nodes.start;
        let (mut next, mut level_end, mut depth) = (root + 1, root + 1, 0);
        if !self.value[root].is_nan() {
            return flaw("value", format!("{} of node {root}, a root", self.value[root]), "NaN: a pattern has an element");
        }
        for node in nodes.clone() {
            if node == next {
                return flaw("children", format!("no parent for node {node}"), "a parent for every node but roots");
            }
            if node == level_end {
                (level_end, depth) = (next, depth + 1);
            }
            let all = next..next + children[node] as usize;
            if all.end > nodes.end {
                let found = format!("children of node {node} up to node {}", all.end - 1);
                return flaw("children", found, format!("nodes of neuron {neuron}, below {}", nodes.end));
            }
            if depth == LONGEST && !all.is_empty() {
                let found = format!("a pattern of more than {LONGEST} elements at node {node}");
                return flaw("children", found, format!("at most {LONGEST}"));
            }
            self.check_node(node, root, &all, keys)?;
            let exact = all.clone().take_while(|&child| self.key[child] < START).count();
            let special = |key: u32| all.clone().skip(exact).find(|&child| self.key[child] == key);
            let (start, wildcard) = (special(START), special(WILDCARD));
            self.start[node] = start.map_or(NONE, |child| child as u32);
            self.wildcard[node] = wildcard.map_or(NONE, |child| child as u32);
            self.first_child.push(next as u32);
            self.children.push(exact as u32);
            next = all.end;
        }
        self.depth = self.depth.max(depth);
        Ok(())
    }
    /// Checks the value of a node and the keys of its children.
    fn check_node(&self, node: usize, root: usize, children: &Range<usize>, keys: usize) -> Result<(), Flaw> {
        let value = self.value[node];
        if value.is_infinite() {
            return flaw("value", format!("{value} of node {node}"), "finite values, NaN where there is none");
        }
        if node != root && self.key[node] == START && (!children.is_empty() || value.is_nan()) {
            return flaw("key", format!("the start of a sequence in the middle of a pattern at node {node}"), "it at the end");
        }
        let found = &self.key[children.clone()];
        if let Some(key) = found.iter().find(|&&key| key < START && key as usize >= keys) {
            return flaw("key", format!("key {key} below node {node}"), format!("keys below {keys}"));
        }
        if let Some(pair) = found.windows(2).find(|pair| pair[0] >= pair[1]) {
            return flaw("key", format!("key {} behind key {} below node {node}", pair[1], pair[0]), "rising keys");
        }
        match node == root && found.contains(&START) {
            true => flaw("key", format!("a pattern without a token at node {node}"), "a token before the start of a sequence"),
            false => Ok(()),
        }
    }
    /// Makes the lists of the first level.
    fn invert(&mut self, keys: usize) {
        let mut roots: Vec<(u32, u32, u32)> = Vec::new();
        for neuron in 0..self.neurons() {
            let root = self.offsets[neuron] as usize;
            let exact = self.first_child[root]..self.first_child[root] + self.children[root];
            roots.extend(exact.map(|node| (self.key[node as usize], neuron as u32, node)));
            roots.extend(Some(self.wildcard[root]).filter(|&node| node != NONE).map(|node| (keys as u32, neuron as u32, node)));
        }
        roots.sort_unstable();
        roots.iter().for_each(|(list, ..)| self.root_offsets[*list as usize + 1] += 1);
        for list in 1..self.root_offsets.len() {
            self.root_offsets[list] += self.root_offsets[list - 1];
        }
        self.root_neuron = roots.iter().map(|root| root.1).collect();
        self.root_node = roots.iter().map(|root| root.2).collect();
    }
    /// Number of tries.
    pub fn neurons(&self) -> usize {
        self.offsets.len() - 1
    }
    /// Number of keys: those of tokens are below it.
    pub fn keys(&self) -> usize {
        self.root_offsets.len() - 2
    }
    /// The nodes of a neuron, its root first.
    pub fn nodes(&self, neuron: usize) -> Range<usize> {
        self.offsets[neuron] as usize..self.offsets[neuron + 1] as usize
    }
    /// All children of a node, by rising key.
    pub fn children_of(&self, node: usize) -> Range<usize> {
        let first = self.first_child[node] as usize;
        let special = [self.start[node], self.wildcard[node]].into_iter().filter(|&child| child != NONE).count();
        first..first + self.children[node] as usize + special
    }
    /// The child of a node for a token's key, [`NONE`] if there is none.
    pub fn child(&self, node: usize, key: u32) -> u32 {
        let first = self.first_child[node] as usize;
        let keys = &self.key[first..first + self.children[node] as usize];
        keys.binary_search(&key).map_or(NONE, |i| (first + i) as u32)
    }
    /// The candidates of a token by its key: entries of `root_node`, first those of the key itself, then those
    /// of the wildcard.
    pub fn candidates(&self, key: u32) -> impl Iterator<Item = usize> + use<> {
        let list = |list: usize| self.root_offsets[list] as usize..self.root_offsets[list + 1] as usize;
        list(key as usize).chain(list(self.keys()))
    }
    /// Number of the candidates of a token.
    pub fn candidate_count(&self, key: u32) -> usize {
        self.candidates(key).size_hint().0
    }
    /// The arrays that determine the forest.
    pub fn to_nodes(&self) -> Nodes {
        let children = (0..self.key.len()).map(|node| self.children_of(node).len() as u32).collect();
        Nodes { offsets: self.offsets.clone(), key: self.key.clone(), children, value: self.value.clone() }
    }
}

/// The nodes of every neuron must be a range of their own, with a root at least.
fn check_offsets(offsets: &[u32], count: usize) -> Result<(), Flaw> {
    let (first, last) = (offsets.first(), offsets.last());
    if first != Some(&0) || last.map(|&end| end as usize) != Some(count) {
        let show = |end: Option<&u32>| end.map_or("nothing".into(), u32::to_string);
        return flaw("offsets", format!("{} to {}", show(first), show(last)), format!("0 to {count}, the number of nodes"));
    }
    match offsets.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => flaw("offsets", format!("{} behind {}", pair[1], pair[0]), "rising offsets: every trie has a root"),
        None => Ok(()),
    }
}
