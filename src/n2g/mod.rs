//! Neuron to Graph (Foote et al. 2023): for every neuron of a site a trie of the token patterns that
//! fire it, built from the texts that fire it most, scored on texts that it has not seen.
//!
//! Nothing here knows the command line, or which backends there are.

pub mod forest;
pub mod lines;
pub mod predict;
pub mod record;
pub mod trie;
pub mod vocabulary;
