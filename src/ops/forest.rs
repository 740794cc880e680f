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
    /// What kernels know it by.
    pub(super) fn number(self) -> u32 {
        match self {
            Choice::Deepest => 0,
            Choice::Shallowest => 1,
            Choice::Largest => 2,
        }
    }
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
    /// The arrays of node and list numbers, in the order in which [`Forest::bytes`] has them.
    pub(super) fn arrays(&self) -> [&Vec<u32>; 9] {
        let Self { root_offsets, root_node, root_neuron, offsets, key, first_child, children, wildcard, start, .. } = self;
        [root_offsets, root_node, root_neuron, offsets, key, first_child, children, wildcard, start]
    }
    /// One block of memory for kernels: [`Forest::arrays`] behind each other, then the values.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let numbers = self.arrays().into_iter().flat_map(|array| bytemuck::cast_slice::<u32, u8>(array));
        numbers.chain(bytemuck::cast_slice(&self.value)).copied().collect()
    }
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
        self.exact_count(key) + self.exact_count(self.keys() as u32)
    }
    /// Number of the candidates of a token that are of the key itself.
    pub fn exact_count(&self, key: u32) -> usize {
        (self.root_offsets[key as usize + 1] - self.root_offsets[key as usize]) as usize
    }
    /// Whether the trie of a candidate has a child of the root for a token's key.
    pub fn has_root_child(&self, candidate: usize, key: u32) -> bool {
        self.child(self.offsets[self.root_neuron[candidate] as usize] as usize, key) != NONE
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

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f32 = f32::NAN;

    /// `0 <- 1` = 1 and `2` = 2; a trie without patterns; `* <- ^` = 3.
    fn nodes() -> Nodes {
        Nodes {
            offsets: vec![0, 4, 5, 8],
            key: vec![0, 0, 2, 1, 0, 0, WILDCARD, START],
            children: vec![2, 1, 0, 0, 0, 1, 1, 0],
            value: vec![NAN, NAN, 2.0, 1.0, NAN, NAN, NAN, 3.0],
        }
    }

    #[test]
    fn children_and_lists_are_found() {
        let f = Forest::new(Choice::Deepest, 3, nodes()).unwrap();
        assert_eq!((f.neurons(), f.keys(), f.depth), (3, 3, 2));
        assert_eq!((&f.first_child[..], &f.children[..]), (&[1, 3, 4, 4, 5, 6, 7, 8][..], &[2, 1, 0, 0, 0, 0, 0, 0][..]));
        assert_eq!((f.wildcard[5], f.start[6], f.wildcard[0], f.start[0]), (6, 7, NONE, NONE));
        assert_eq!((f.child(0, 2), f.child(0, 1), f.child(1, 1)), (2, NONE, 3));
        assert_eq!(
            (f.root_offsets.clone(), &f.root_node[..], &f.root_neuron[..]),
            (vec![0, 1, 1, 2, 3], &[1, 2, 6][..], &[0, 0, 2][..])
        );
        assert_eq!((f.candidates(0).collect::<Vec<_>>(), f.candidate_count(0), f.candidate_count(1)), (vec![0, 2], 2, 1));
        assert!(f.has_root_child(0, 2) && !f.has_root_child(2, 0));
        let (again, first) = (f.to_nodes(), nodes());
        assert_eq!((again.offsets, again.key, again.children), (first.offsets, first.key, first.children));
        let none = Forest::new(Choice::Largest, 0, Nodes { offsets: vec![0], ..Nodes::default() }).unwrap();
        assert_eq!((none.neurons(), none.keys(), none.depth), (0, 0, 0));
    }

    #[test]
    fn arrays_that_are_no_tries_are_refused() {
        type Change = fn(&mut Nodes);
        let cases: [(Change, &str); 19] = [
            (|n| n.offsets.clear(), "offsets: nothing to nothing; expected 0 to 8, the number of nodes"),
            (|n| n.offsets[0] = 1, "offsets: 1 to 8; expected 0 to 8, the number of nodes"),
            (|n| n.offsets[3] = 7, "offsets: 0 to 7; expected 0 to 8, the number of nodes"),
            (|n| n.offsets[2] = 4, "offsets: 4 behind 4; expected rising offsets: every trie has a root"),
            (|n| n.offsets[1] = 6, "offsets: 5 behind 6; expected rising offsets: every trie has a root"),
            (|n| n.children.truncate(7), "children: 7 nodes; expected 8, as many as there are keys"),
            (|n| n.value.push(NAN), "value: 9 nodes; expected 8, as many as there are keys"),
            (|n| n.children[1] = 0, "children: no parent for node 3; expected a parent for every node but roots"),
            (|n| n.children[0] = 0, "children: no parent for node 1; expected a parent for every node but roots"),
            (|n| n.children[2] = 1, "children: children of node 2 up to node 4; expected nodes of neuron 0, below 4"),
            (
                |n| n.children[7] = u32::MAX,
                "children: children of node 7 up to node 4294967302; expected nodes of neuron 2, below 8",
            ),
            (|n| n.key[1] = 3, "key: key 3 below node 0; expected keys below 3"),
            (|n| n.key[1] = 2, "key: key 2 behind key 2 below node 0; expected rising keys"),
            (|n| n.key[6] = START, "key: a pattern without a token at node 5; expected a token before the start of a sequence"),
            (|n| n.value[7] = NAN, "key: the start of a sequence in the middle of a pattern at node 7; expected it at the end"),
            (
                |n| n.key[1..3].copy_from_slice(&[WILDCARD, 0]),
                "key: key 0 behind key 4294967295 below node 0; expected rising keys",
            ),
            (|n| n.value[2] = f32::INFINITY, "value: inf of node 2; expected finite values, NaN where there is none"),
            (|n| n.value[4] = 0.5, "value: 0.5 of node 4, a root; expected NaN: a pattern has an element"),
            (
                |n| (n.offsets, n.key, n.children, n.value) = chain(LONGEST + 1),
                "children: a pattern of more than 4096 elements at node 4096; expected at most 4096",
            ),
        ];
        for (change, want) in cases {
            let mut nodes = nodes();
            change(&mut nodes);
            let Flaw { array, found, expected } = Forest::new(Choice::Deepest, 3, nodes).unwrap_err();
            assert_eq!(format!("{array}: {found}; expected {expected}"), want);
        }
        let (offsets, key, children, value) = chain(LONGEST);
        assert_eq!(Forest::new(Choice::Deepest, 3, Nodes { offsets, key, children, value }).unwrap().depth, LONGEST);
    }

    /// One trie with one pattern of `n` elements.
    fn chain(n: usize) -> (Vec<u32>, Vec<u32>, Vec<u32>, Vec<f32>) {
        let last = |i: usize| i == n;
        let children = (0..=n).map(|i| u32::from(!last(i))).collect();
        (vec![0, n as u32 + 1], vec![0; n + 1], children, (0..=n).map(|i| if last(i) { 1.0 } else { NAN }).collect())
    }
}
