//! Neuron to Graph (Foote et al. 2023): for every neuron of a site a trie of the token patterns that
//! fire it, built from the texts that fire it most, scored on texts that it has not seen.
//!
//! Nothing here knows the command line, or which backends there are.

pub mod augment;
pub mod dot;
pub mod evaluate;
pub mod exemplars;
pub mod fit;
#[cfg(test)]
pub(crate) mod fixture;
pub mod forest;
pub mod graph;
pub mod lines;
pub mod neuron;
mod passes;
pub mod predict;
pub mod probe;
pub mod prune;
pub mod record;
pub mod records;
pub mod run;
pub mod saliency;
pub mod settings;
pub mod split;
pub mod summary;
pub mod text;
pub mod trie;
pub mod vocabulary;
pub mod windows;
