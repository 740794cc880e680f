//! Which exemplars of a neuron are for training, and which of them nearly repeat a stronger one.

use rand_mt::Mt;

/// Tokens in front of the maxima that are compared.
const BEFORE: usize = 15;
/// The fewest tokens that tell a repetition.
const FEWEST: usize = 8;

/// Ranks for training and for testing, in the order in which they are used: the halves of
/// scikit-learn's `train_test_split(ranks, train_size=0.5, random_state=seed)`, of which the smaller one
/// trains.
pub fn split(ranks: usize, seed: u32) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..ranks).collect();
    let mut random = Mt::new(seed);
    // NumPy's shuffle of `RandomState`: from the end, each with one at or in front of it.
    for i in (1..ranks).rev() {
        let mask = u32::MAX >> (i as u32).leading_zeros();
        let other = std::iter::repeat_with(|| random.next_u32() & mask).find(|other| *other <= i as u32);
        order.swap(i, other.unwrap_or(0) as usize);
    }
    let train = order.split_off(ranks.div_ceil(2));
    (train, order)
}

/// For each of some windows and positions of maxima, strongest first, the number of the first stronger one
/// that it nearly repeats: laid over each other at the maxima, at least three quarters of the up to 16
/// tokens up to the maximum are the same, of at least 8 that both windows have there.
pub fn duplicates(exemplars: &[(&[u32], usize)]) -> Vec<Option<usize>> {
    (0..exemplars.len()).map(|i| (0..i).find(|&j| repeats(exemplars[i], exemplars[j]))).collect()
}

/// Whether one window nearly repeats another; see [`duplicates`].
pub fn repeats((a, at_a): (&[u32], usize), (b, at_b): (&[u32], usize)) -> bool {
    let shared = at_a.min(at_b).min(BEFORE);
    let same = (0..=shared).filter(|back| a[at_a - back] == b[at_b - back]).count();
    shared + 1 >= FEWEST && 4 * same >= 3 * (shared + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_ranks_are_split_as_published() {
        let (train, test) = split(20, 0);
        assert_eq!(train, [5, 14, 9, 7, 16, 11, 3, 0, 15, 12]);
        assert_eq!(test, [18, 1, 19, 8, 10, 17, 6, 13, 4, 2]);
    }

    #[test]
    fn any_number_of_ranks_is_split_once() {
        for n in 0..40 {
            let (train, test) = split(n, 7);
            assert_eq!((train.len(), test.len()), (n / 2, n.div_ceil(2)));
            let mut all = [train, test].concat();
            all.sort_unstable();
            assert_eq!(all, (0..n).collect::<Vec<_>>());
        }
        // numpy.random.RandomState(3).permutation(7)
        let (train, test) = split(7, 3);
        assert_eq!([test, train].concat(), [4, 6, 5, 3, 1, 0, 2]);
    }

    #[test]
    fn windows_that_end_alike_are_duplicates_wherever_the_maximum_lies() {
        let text: Vec<u32> = (0..40).map(|i| i * i % 23).collect();
        let shifted = [&[90, 91, 92][..], &text].concat();
        let mut edited = text.clone();
        edited[25] = 77;
        let mut other = text.clone();
        (12..30).step_by(2).for_each(|i| other[i] = 60);
        let exemplars: [(&[u32], usize); 5] = [(&text, 30), (&shifted, 33), (&edited, 30), (&other, 30), (&text, 3)];
        assert_eq!(duplicates(&exemplars), [None, Some(0), Some(0), None, None]);
    }
}
