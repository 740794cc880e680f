//! Sums along the canonical binary tree over the block index.
//!
//! Leaf `i` is block `i`; a node joins two neighbouring aligned subtrees of equal size. Only the
//! complete subtrees seen so far are kept, at most one a level, so memory is O(log blocks) and the
//! result does not depend on how the blocks were batched.

/// A sum over blocks that can be joined with the sum over the blocks behind it.
pub trait Join {
    fn join(self, later: Self) -> Self;
}

/// The sum over the `2^level` blocks from `first` on.
#[derive(Clone, Debug)]
pub struct Subtree<S> {
    pub first: usize,
    pub level: u32,
    pub sum: S,
}

/// Complete subtrees from block 0 on, without gaps.
#[derive(Clone, Debug)]
pub struct Tree<S> {
    subtrees: Vec<Subtree<S>>,
}

impl<S> Default for Tree<S> {
    fn default() -> Self {
        Self { subtrees: Vec::new() }
    }
}

impl<S: Join> Tree<S> {
    /// Number of blocks that are in.
    pub fn done(&self) -> usize {
        self.subtrees.last().map_or(0, |s| s.first + (1 << s.level))
    }
    /// The complete subtrees, left to right.
    pub fn subtrees(&self) -> &[Subtree<S>] {
        &self.subtrees
    }
    /// A tree of given subtrees; `None` unless they are those of some number of blocks.
    pub fn from_subtrees(subtrees: Vec<Subtree<S>>) -> Option<Self> {
        let mut next = 0;
        let mut level = usize::BITS;
        for s in &subtrees {
            if s.first != next || s.level >= level {
                return None;
            }
            next += 1 << s.level;
            level = s.level;
        }
        Some(Self { subtrees })
    }
    /// Adds the sum of the next block.
    pub fn push(&mut self, sum: S) {
        let mut top = Subtree { first: self.done(), level: 0, sum };
        while let Some(before) = self.subtrees.pop_if(|s| s.level == top.level) {
            top = Subtree { first: before.first, level: top.level + 1, sum: before.sum.join(top.sum) };
        }
        self.subtrees.push(top);
    }
    /// The sum over everything, the incomplete right edge joined from right to left; `None` without
    /// blocks.
    pub fn finish(self) -> Option<S> {
        self.subtrees.into_iter().map(|s| s.sum).rev().reduce(|later, earlier| earlier.join(later))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sum that writes down how it was joined.
    struct Trace(String);
    impl Join for Trace {
        fn join(self, later: Self) -> Self {
            Trace(format!("({}{})", self.0, later.0))
        }
    }

    #[test]
    fn the_tree_over_seven_blocks_is_canonical() {
        let mut tree = Tree::default();
        for i in 0..7 {
            assert_eq!(tree.done(), i);
            tree.push(Trace(i.to_string()));
            assert!(tree.subtrees.len() <= 3);
        }
        assert_eq!(tree.finish().map(|t| t.0).as_deref(), Some("(((01)(23))((45)6))"));
    }

    #[test]
    fn no_blocks_have_no_sum() {
        assert!(Tree::<Trace>::default().finish().is_none());
    }

    #[test]
    fn only_the_subtrees_of_a_number_of_blocks_are_taken() {
        let subtree = |first, level| Subtree { first, level, sum: Trace(String::new()) };
        assert!(Tree::from_subtrees(vec![subtree(0, 2), subtree(4, 0)]).is_some());
        for bad in [vec![subtree(1, 0)], vec![subtree(0, 1), subtree(3, 0)], vec![subtree(0, 1), subtree(2, 1)]] {
            assert!(Tree::from_subtrees(bad).is_none());
        }
    }
}
