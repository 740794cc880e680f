//! Predictions of a neuron against the truth, with two baselines made from the same training windows.
//!
//! Activations here are normalised: divided by the neuron's largest one.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::record::Counts;
use super::vocabulary::Vocabulary;

/// Tokens in front of the one that fires in the keys of the n-gram baseline.
const CONTEXT: usize = 5;
/// Resamples of a bootstrap.
const RESAMPLES: usize = 1000;

/// A window of a neuron: token ids and normalised activations.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    pub tokens: &'a [u32],
    pub act: &'a [f64],
}

/// Predictions counted against the truth, and the sums of R squared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    pub counts: Counts,
    /// Sums of the activations, of their squares, and of squared differences to the predictions.
    pub sum: f64,
    pub squares: f64,
    pub errors: f64,
}

impl Tally {
    /// Adds a window with its predictions, 0 where there is none.
    pub fn add(&mut self, act: &[f64], predicted: &[f64], fire: f64) {
        for (a, p) in act.iter().zip(predicted) {
            self.counts.add(*a >= fire, *p >= fire);
            self.sum += a;
            self.squares += a * a;
            self.errors += (a - p) * (a - p);
        }
    }
    /// `1 - MSE / variance` (the reference's "correlation"); 0 where activations do not vary.
    pub fn r2(&self) -> f64 {
        let n = self.counts.tokens as f64;
        let variance = self.squares / n - (self.sum / n).powi(2);
        if variance > 0.0 { 1.0 - self.errors / n / variance } else { 0.0 }
    }
}

impl Counts {
    /// Adds a token.
    pub fn add(&mut self, fires: bool, predicted: bool) {
        self.tokens += 1;
        match (fires, predicted) {
            (true, true) => self.tp += 1,
            (false, true) => self.fp += 1,
            (true, false) => self.fn_ += 1,
            (false, false) => {}
        }
    }
    /// Adds other tokens.
    pub fn merge(&mut self, other: &Self) {
        self.tp += other.tp;
        self.fp += other.fp;
        self.fn_ += other.fn_;
        self.tokens += other.tokens;
    }
}

/// The baselines of a neuron, reduced to what they let fire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baselines {
    /// Keys of exact tokens that fire in a training window: token lookup.
    pub tokens: BTreeSet<u32>,
    /// [`gram`]s that do: n-gram lookup.
    pub grams: BTreeSet<u64>,
}

impl Baselines {
    /// What fires in the training windows. `exact` tells tokens by their texts alone.
    pub fn new(train: &[Window], exact: &Vocabulary, fire: f64) -> Self {
        let mut baselines = Self::default();
        for w in train {
            for t in (0..w.tokens.len()).filter(|&t| w.act[t] >= fire) {
                baselines.tokens.extend(exact.key(w.tokens[t]));
                baselines.grams.insert(gram(w.tokens, t, exact));
            }
        }
        baselines
    }
    /// Counts both baselines on a window: token lookup, n-gram lookup.
    pub fn count(&self, w: Window, exact: &Vocabulary, fire: f64, counts: [&mut Counts; 2]) {
        let [tokens, grams] = counts;
        for t in 0..w.tokens.len() {
            let fires = w.act[t] >= fire;
            let is_known = exact.key(w.tokens[t]).is_some_and(|key| self.tokens.contains(&key));
            tokens.add(fires, is_known);
            // A gram ends with its token: without that it cannot be known.
            grams.add(fires, is_known && self.grams.contains(&gram(w.tokens, t, exact)));
        }
    }
}

/// The key of the n-gram baseline at a position: the texts of the token and the five in front of it in one
/// string, hashed.
pub fn gram(tokens: &[u32], position: usize, exact: &Vocabulary) -> u64 {
    let mut hash = DefaultHasher::new();
    let text: String = tokens[position.saturating_sub(CONTEXT)..=position].iter().map(|id| exact.text(*id)).collect();
    text.hash(&mut hash);
    hash.finish()
}

/// Neurons by what fires them: the baselines of many at once.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// By key of an exact token.
    pub tokens: Vec<Vec<u32>>,
    pub grams: HashMap<u64, Vec<u32>>,
}

impl Lookup {
    /// Turns the baselines of neurons round; they are known by their place.
    pub fn new<'a>(baselines: impl Iterator<Item = &'a Baselines>, exact: &Vocabulary) -> Self {
        let mut lookup = Self { tokens: vec![Vec::new(); exact.key_count()], grams: HashMap::new() };
        for (i, b) in baselines.enumerate() {
            b.tokens.iter().for_each(|key| lookup.tokens[*key as usize].push(i as u32));
            b.grams.iter().for_each(|gram| lookup.grams.entry(*gram).or_default().push(i as u32));
        }
        lookup
    }
}

/// The 95 % interval of F1 over resampled parts, by the percentiles of 1000 resamples that depend on `seed`
/// alone.
pub fn f1_interval(parts: &[Counts], seed: u64) -> (f64, f64) {
    if parts.is_empty() {
        return (0.0, 0.0);
    }
    let mut random = Random(seed);
    let resampled = (0..RESAMPLES).map(|_| {
        let mut sum = Counts::default();
        (0..parts.len()).for_each(|_| sum.merge(&parts[random.below(parts.len())]));
        sum.f1()
    });
    percentiles(resampled.collect())
}

/// The 95 % interval of a mean over resampled values.
pub fn mean_interval(values: &[f64], seed: u64) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let mut random = Random(seed);
    let mut mean = || (0..values.len()).map(|_| values[random.below(values.len())]).sum::<f64>() / values.len() as f64;
    percentiles((0..RESAMPLES).map(|_| mean()).collect())
}

fn percentiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    (at(0.025), at(0.975))
}

/// Numbers that look random (Steele et al. 2014, splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((((z ^ (z >> 31)) >> 32) * n as u64) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::Fold;
    use super::*;

    #[test]
    fn tallies_count_both_classes() {
        let mut tally = Tally::default();
        tally.add(&[1.0, 0.5, 0.49, 0.0], &[0.5, 0.4, 0.9, 0.0], 0.5);
        let c = tally.counts;
        assert_eq!((c.tp, c.fp, c.fn_, c.tokens), (1, 1, 1, 4));
        assert_eq!((c.precision(), c.recall(), c.f1()), (0.5, 0.5, 0.5));
        assert_eq!((c.negated().tp, c.negated().precision()), (1, 0.5));
        // By hand: MSE 0.10702.., variance 0.12616..
        let (mse, variance) = ((0.25 + 0.01 + 0.1681) / 4.0, (1.0 + 0.25 + 0.2401) / 4.0 - (1.99f64 / 4.0).powi(2));
        assert!((tally.r2() - (1.0 - mse / variance)).abs() < 1e-15);
        assert_eq!(Counts::default().f1(), 0.0);
    }

    #[test]
    fn baselines_fire_where_training_did() {
        let exact = Vocabulary::new(["a", "b", "c", "d"].map(String::from).to_vec(), Fold::Exact);
        let train = [Window { tokens: &[0, 1, 2, 0, 1, 2, 3], act: &[0.0, 0.0, 0.0, 0.0, 0.0, 0.9, 0.4] }];
        let baselines = Baselines::new(&train, &exact, 0.5);
        assert_eq!((baselines.tokens.len(), baselines.grams.len()), (1, 1));
        let (mut tokens, mut grams) = (Counts::default(), Counts::default());
        let test = Window { tokens: &[3, 0, 1, 2, 0, 1, 2], act: &[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0] };
        baselines.count(test, &exact, 0.5, [&mut tokens, &mut grams]);
        assert_eq!((tokens.tp, tokens.fp, tokens.fn_), (2, 0, 0));
        assert_eq!((grams.tp, grams.fp, grams.fn_), (1, 0, 1));
        let lookup = Lookup::new([&baselines, &Baselines::default(), &baselines].into_iter(), &exact);
        assert_eq!((&lookup.tokens[2], lookup.tokens[0].len()), (&vec![0, 2], 0));
    }

    #[test]
    fn intervals_hold_the_score_and_widen_with_spread() {
        let part = |tp, fp| Counts { tp, fp, fn_: 2, tokens: 20 };
        let even = f1_interval(&vec![part(5, 1); 10], 1);
        assert_eq!(even, (part(5, 1).f1(), part(5, 1).f1()));
        let spread: Vec<Counts> = (0..10).map(|i| part(i, 9 - i)).collect();
        let (low, high) = f1_interval(&spread, 1);
        let mut sum = Counts::default();
        spread.iter().for_each(|c| sum.merge(c));
        assert!(low < sum.f1() - 0.05 && high > sum.f1() + 0.05, "{low} {high}");
        assert_eq!(f1_interval(&spread, 1), (low, high));
        assert_ne!(f1_interval(&spread, 2), (low, high));
        // The standard error of the mean of 0..100 is 2.9: 1.96 of it to either side.
        let (low, high) = mean_interval(&(0..100).map(f64::from).collect::<Vec<_>>(), 3);
        assert!((low - 43.8).abs() < 1.0 && (high - 55.2).abs() < 1.0, "{low} {high}");
        assert_eq!(f1_interval(&[], 0), (0.0, 0.0));
    }
}
