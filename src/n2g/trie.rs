//! The trie of one neuron: lines joined at their heads.
//!
//! It is what patterns are built in and read from; texts are searched for those of many neurons at once
//! by [`crate::ops::trie_match`].

mod merge;
mod nested;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use crate::ops::forest::{Choice, START, WILDCARD};
pub use nested::Style;

use super::lines::{Element, Line};

/// One element of a pattern. Node 0 of a trie is its root, which has no key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub key: u32,
    pub importance: f64,
    pub activation: f64,
    /// Whether the token itself fired where the node was made.
    pub activates: bool,
    /// The value of the pattern that ends here, if one does.
    pub end: Option<f64>,
    /// Numbers of the nodes one token further back, in the order in which they came.
    pub children: Vec<u32>,
}

/// A tree of patterns, read from the activating token backwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trie {
    pub nodes: Vec<Node>,
}

/// The keys of a trie: tokens that fire the neuron, and tokens that matter where others do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of nodes whose own token fired.
    pub activating: BTreeSet<u32>,
    /// Of all others.
    pub important: BTreeSet<u32>,
}

impl Node {
    /// A root: it has neither a key nor a value, and its key is 0.
    pub fn root() -> Self {
        Self { key: 0, importance: 0.0, activation: 0.0, activates: false, end: None, children: Vec::new() }
    }
    fn of(e: &Element) -> Self {
        Self { key: e.key, importance: e.importance, activation: e.activation, activates: e.activates, ..Self::root() }
    }
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![Node::root()] }
    }
}

impl Trie {
    /// A trie without patterns.
    pub fn new() -> Self {
        Self::default()
    }
    /// The child of `node` with this key.
    pub fn child(&self, node: u32, key: u32) -> Option<u32> {
        self.nodes[node as usize].children.iter().copied().find(|&child| self.nodes[child as usize].key == key)
    }
    /// Adds a line. What is there already stays as it is: first come wins, for values as for importances.
    pub fn insert(&mut self, line: &Line) {
        let node = self.path(line);
        if node != 0 {
            self.nodes[node as usize].end.get_or_insert(line.value);
        }
    }
    /// As [`Trie::insert`], but of lines that are alike the last one gives the value.
    pub fn overwrite(&mut self, line: &Line) {
        let node = self.path(line);
        if node != 0 {
            self.nodes[node as usize].end = Some(line.value);
        }
    }
    /// The node of the last element of a line, which is made if it is not there; the root for none.
    fn path(&mut self, line: &Line) -> u32 {
        line.elements.iter().fold(0, |node, e| self.descend(node, e))
    }
    /// The child of `node` for an element, which is made if it is not there.
    pub fn descend(&mut self, node: u32, element: &Element) -> u32 {
        self.child_or_new(node, element.key, || Node::of(element))
    }
    fn child_or_new(&mut self, node: u32, key: u32, new: impl FnOnce() -> Node) -> u32 {
        self.child(node, key).unwrap_or_else(|| {
            self.nodes.push(new());
            let child = self.nodes.len() as u32 - 1;
            self.nodes[node as usize].children.push(child);
            child
        })
    }
    /// What the trie predicts at `position` of a sequence, given its keys; `None` where no pattern
    /// matches (`n2g.md` 1.6, 3.1).
    ///
    /// The walk reads backwards from the position: the child of the very key where there is one, else that
    /// of the wildcard, and never turns back. The start of the sequence matches [`START`] as well. Of
    /// the values that it passes `choice` takes one.
    pub fn predict(&self, keys: &[u32], position: usize, choice: Choice) -> Option<f64> {
        let (mut node, mut met) = (0, Vec::new());
        for (k, key) in keys.iter().enumerate().take(position + 1).rev() {
            let Some(next) = self.child(node, *key).or_else(|| self.child(node, WILDCARD)) else { break };
            node = next;
            met.extend(self.nodes[node as usize].end);
            if let (0, Some(start)) = (k, self.child(node, START)) {
                met.extend(self.nodes[start as usize].end);
            }
        }
        match choice {
            Choice::Deepest => met.last().copied(),
            Choice::Shallowest => met.first().copied(),
            Choice::Largest => met.into_iter().reduce(f64::max),
        }
    }
    /// The keys that the patterns hold, each in one or both of the sets.
    pub fn tokens(&self) -> Tokens {
        let mut tokens = Tokens::default();
        for node in self.nodes.iter().skip(1).filter(|n| n.key != WILDCARD && n.key != START) {
            let set = if node.activates { &mut tokens.activating } else { &mut tokens.important };
            set.insert(node.key);
        }
        tokens
    }
    /// The most elements of a pattern.
    pub fn depth(&self) -> usize {
        let (mut level, mut depth) = (self.nodes[0].children.clone(), 0);
        while !level.is_empty() {
            depth += 1;
            level = level.iter().flat_map(|&node| self.nodes[node as usize].children.iter().copied()).collect();
        }
        depth
    }
    /// The same trie with its nodes numbered level by level, the children of each in the order that
    /// `sort` leaves them in. Nodes that no path reaches are gone.
    pub(super) fn renumbered(&self, sort: impl Fn(&mut Vec<u32>)) -> Self {
        let (mut order, mut next) = (vec![0], 0);
        let mut nodes: Vec<Node> = Vec::new();
        while let Some(&old) = order.get(next) {
            let mut node = self.nodes[old as usize].clone();
            sort(&mut node.children);
            let first = order.len() as u32;
            order.extend_from_slice(&node.children);
            node.children = (first..order.len() as u32).collect();
            nodes.push(node);
            next += 1;
        }
        Self { nodes }
    }
    /// The same trie with its nodes numbered level by level, children by rising key, which puts [`START`] and
    /// [`WILDCARD`] last. Two tries that hold the same patterns are equal in this form.
    pub fn canonical(&self) -> Self {
        self.renumbered(|children| children.sort_by_key(|&child| self.nodes[child as usize].key))
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
