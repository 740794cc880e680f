//! Sums along the canonical binary tree over the block index.
//!
//! Leaf `i` is block `i`; a node joins two neighbouring aligned subtrees of equal size. Only the
//! complete subtrees seen so far are kept, at most one a level, so memory is O(log blocks) and the
//! result does not depend on how the blocks were batched.

/// A sum over blocks that can be joined with the sum over the blocks behind it.
pub trait Join {
    fn join(self, later: Self) -> Self;
}

/// Complete subtrees from the left end on; `first` is the index of their first block.
#[derive(Clone, Debug)]
pub struct Tree<S> {
    subtrees: Vec<(usize, u32, S)>,
    next: usize,
}

impl<S: Join> Default for Tree<S> {
    fn default() -> Self {
        Self { subtrees: Vec::new(), next: 0 }
    }
}

impl<S: Join> Tree<S> {
    /// Adds the sum of the next block.
    pub fn push(&mut self, sum: S) {
        self.subtrees.push((self.next, 0, sum));
        self.next += 1;
        while let [.., (first, a, _), (_, b, _)] = &self.subtrees[..] {
            if a != b || (first >> a) % 2 != 0 {
                break;
            }
            let Some((_, _, later)) = self.subtrees.pop() else { break };
            let Some((first, level, earlier)) = self.subtrees.pop() else { break };
            self.subtrees.push((first, level + 1, earlier.join(later)));
        }
    }
    /// The sum over everything, the incomplete right edge joined from right to left; `None` without
    /// blocks.
    pub fn finish(self) -> Option<S> {
        self.subtrees.into_iter().map(|(_, _, s)| s).rev().reduce(|later, earlier| earlier.join(later))
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
            tree.push(Trace(i.to_string()));
            assert!(tree.subtrees.len() <= 3);
        }
        assert_eq!(tree.finish().map(|t| t.0).as_deref(), Some("(((01)(23))((45)6))"));
    }

    #[test]
    fn no_blocks_have_no_sum() {
        assert!(Tree::<Trace>::default().finish().is_none());
    }
}
