//! The trie of one neuron: lines joined at their heads.

/// Key of an element that any token matches.
pub const WILDCARD: u32 = u32::MAX;
/// Key of an element that the beginning of the sequence matches, and nothing else.
pub const START: u32 = u32::MAX - 1;

/// One element of a pattern. Node 0 of a trie is its root, which has no key.
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, PartialEq)]
pub struct Trie {
    pub nodes: Vec<Node>,
}
