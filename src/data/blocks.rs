//! How a data set is cut: blocks of a fixed number of samples, counted from the start of the data.
//!
//! A block is what one program run sees. Its size follows from the sample length and the kind of
//! program alone, so that sums do not depend on `--batch`, `--threads` or shards.

use std::ops::Range;

/// Tokens that a block holds at the most, unless a single sample is longer.
pub const BLOCK_TOKENS: usize = 512;
/// As [`BLOCK_TOKENS`], for forward passes of language models: a weight that is brought into the cache
/// serves more rows.
pub const PACKED_BLOCK_TOKENS: usize = 1024;

/// The blocks of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    pub samples: usize,
    pub per_block: usize,
}

impl Blocks {
    /// `samples` samples of `positions` tokens each, at most `tokens` in a block.
    pub fn new(samples: usize, positions: usize, tokens: usize) -> Self {
        Self { samples, per_block: (tokens / positions.max(1)).max(1) }
    }
    pub fn count(&self) -> usize {
        self.samples.div_ceil(self.per_block)
    }
    /// The samples of block `i`.
    pub fn range(&self, i: usize) -> Range<usize> {
        i * self.per_block..((i + 1) * self.per_block).min(self.samples)
    }
}
