//! Sequences of any lengths put together into batches of few shapes, so that few programs serve
//! thousands of them. Only numbers of rows: no tokens, no model.

use super::packed::Packed;

/// What a program of a batch is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Rows of all sequences together.
    pub rows: usize,
    /// Rows that are read out: at least one a sequence.
    pub reads: usize,
}

/// A batch: which sequences go into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub shape: Shape,
    /// Their numbers, in the order of their rows.
    pub sequences: Vec<usize>,
}

/// Puts sequences of these lengths into batches of `rows` rows; of `2 rows`, `4 rows`, .. those that are
/// longer. Long ones come first, so that batches are full and their sequences alike. Empty sequences are in
/// none.
///
/// `reads` is a power of two: with `rows` of 512 there are at most ten shapes, and one more for every
/// doubling of `rows` and `reads` that longer sequences ask for.
pub fn buckets(lengths: &[usize], rows: usize) -> Vec<Bucket> {
    let mut order: Vec<usize> = (0..lengths.len()).filter(|&i| lengths[i] > 0).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
    let mut buckets: Vec<Bucket> = Vec::new();
    let mut free = 0;
    for i in order {
        match buckets.last_mut().filter(|_| lengths[i] <= free) {
            Some(bucket) => bucket.sequences.push(i),
            None => {
                let rows = std::iter::successors(Some(rows.max(1)), |r| r.checked_mul(2)).find(|r| *r >= lengths[i]);
                let rows = rows.unwrap_or(lengths[i]);
                free = rows;
                buckets.push(Bucket { shape: Shape { rows, reads: 0 }, sequences: vec![i] });
            }
        }
        free -= lengths[i];
    }
    buckets.iter_mut().for_each(|b| b.shape.reads = b.sequences.len().next_power_of_two());
    buckets
}

impl Bucket {
    /// The batch, filled up to its shape: row i of what is read out is the last one of `sequences[i]`.
    /// `tokens` gives a sequence by its number, of the length that it had for [`buckets`].
    pub fn pack<'a>(&self, tokens: impl Fn(usize) -> &'a [u32]) -> Packed {
        let mut packed = Packed::new(self.sequences.iter().map(|&i| tokens(i)));
        packed.read_last();
        packed.fill_up(self.shape.rows, self.shape.reads);
        packed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_sequence_is_in_one_batch_and_shapes_are_few() {
        let lengths: Vec<usize> = (0..5000).map(|i: usize| (i * i + 7 * i) % 129).collect();
        let buckets = buckets(&lengths, 512);
        let shapes: BTreeSet<Shape> = buckets.iter().map(|b| b.shape).collect();
        assert!(shapes.len() <= 10, "{shapes:?}");
        let mut seen: Vec<usize> = buckets.iter().flat_map(|b| b.sequences.clone()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..5000).filter(|&i| lengths[i] > 0).collect::<Vec<_>>());
        let used = |b: &Bucket| b.sequences.iter().map(|&i| lengths[i]).sum::<usize>();
        assert!(buckets.iter().all(|b| used(b) <= b.shape.rows && b.sequences.len() <= b.shape.reads));
        // No more than one sequence of free rows, but for the last batch.
        assert!(buckets.iter().rev().skip(1).all(|b| b.shape.rows - used(b) < 129));
    }

    #[test]
    fn long_sequences_have_wider_batches() {
        let of = |lengths: &[usize]| buckets(lengths, 8).into_iter().map(|b| (b.shape, b.sequences)).collect::<Vec<_>>();
        let shape = |rows, reads| Shape { rows, reads };
        let want = [(shape(32, 2), vec![1, 4]), (shape(8, 2), vec![3, 0]), (shape(8, 1), vec![5])];
        assert_eq!(of(&[3, 20, 0, 5, 8, 1]), want);
        assert_eq!(of(&[0]), []);
    }

    #[test]
    fn a_batch_fits_its_shape() {
        let tokens = [&[1, 2, 3][..], &[4], &[5, 6]];
        let lengths = tokens.map(<[u32]>::len);
        let all = buckets(&lengths, 8);
        let batch = all[0].pack(|i| tokens[i]);
        assert_eq!((all[0].sequences.as_slice(), batch.rows(), batch.range(1)), (&[0, 2, 1][..], 8, 3..5));
    }
}
