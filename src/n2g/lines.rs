//! Lines: what a prompt says of a neuron, one for each token that fires it, read backwards.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::trie::{START, WILDCARD};
use super::vocabulary::Vocabulary;

/// A prompt and what the neuron does on it.
#[derive(Clone, Debug, Default)]
pub struct Traced {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// `[tokens]`: normalised activation of each.
    pub activation: Vec<f64>,
    /// By position t of a token that fires: the importance `1 - a_t(k masked) / a_t` of every position k
    /// of the prompt for it, `[tokens]`.
    pub importance: BTreeMap<usize, Vec<f64>>,
}

/// One element of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Element {
    /// Key of the token, or [`super::trie::WILDCARD`] or [`super::trie::START`].
    pub key: u32,
    /// Importance for the token at the head of the line; of that token, for itself.
    pub importance: f64,
    /// Normalised activation of the token itself.
    pub activation: f64,
    /// Whether the token itself fires.
    pub activates: bool,
}

/// From a token that fires backwards to the farthest one that matters to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub elements: Vec<Element>,
    /// Activation of the head.
    pub value: f64,
}

/// What makes a line.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// A token matters if its importance is greater.
    pub importance: f64,
    /// A token fires if its normalised activation is greater.
    pub activation: f64,
    /// The only position that may head a line; without it every one that fires does.
    pub pivot: Option<usize>,
    /// Ids that no pattern holds, such as those around texts: lines pass over them, and none begins there.
    pub skip: &'a [u32],
}

/// By position of a prompt: which positions matter to it. Augmentations of the prompt take them over,
/// whatever their own importances are: by position, or as [`Inherited::replaced`] has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited(Vec<BTreeSet<usize>>);

impl Inherited {
    /// Of the original prompt of a group. Nothing matters to a position that heads no line.
    pub fn of(original: &Traced, rules: &Rules) -> Self {
        let important = |t: usize| {
            let Some(column) = head(original, t, rules) else { return BTreeSet::new() };
            let matters = |k: &usize| importance(column, *k) > rules.importance && !rules.skip.contains(&original.tokens[*k]);
            (0..=t).filter(matters).collect()
        };
        Self((0..original.tokens.len()).map(important).collect())
    }
    /// Of a suffix of [`suffix_line`]: what is literal in it matters to its last token.
    pub fn of_suffix(original: &Suffix, literal: f64) -> Self {
        let salient = (0..original.tokens.len()).filter(|&k| importance(&original.saliency, k) >= literal).collect();
        let before = original.tokens.len().saturating_sub(1);
        Self(std::iter::repeat_n(BTreeSet::new(), before).chain([salient]).collect())
    }
    /// For a prompt in which `count` positions stand in the place of those of `range`: each of them matters
    /// where one of the old ones did, and what is behind them has moved.
    pub fn replaced(&self, range: &Range<usize>, count: usize) -> Self {
        let new = range.start..range.start + count;
        let moved = |k: usize| if k < range.start { k } else { k + count - range.len() };
        let carried = |t: usize, old: &BTreeSet<usize>| {
            let kept = old.iter().filter(|k| !range.contains(k)).map(|k| moved(*k));
            let own = if old.range(range.clone()).next().is_some() { new.clone() } else { 0..0 };
            kept.chain(own).filter(|k| *k <= t).collect::<BTreeSet<usize>>()
        };
        let none = BTreeSet::new();
        let at = |t: usize| self.0.get(t).unwrap_or(&none);
        // A position in the place of others heads a line if the last of those did.
        let old = |t: usize| match t {
            _ if t < new.start => t,
            _ if t < new.end => range.end.saturating_sub(1),
            _ => t - count + range.len(),
        };
        Self((0..self.0.len() + count - range.len()).map(|t| carried(t, at(old(t)))).collect())
    }
    /// The literal parts of a suffix with what it inherits: those are as salient as `literal` at least.
    pub fn raise(&self, suffix: &mut Suffix, literal: f64) {
        let last = suffix.tokens.len().saturating_sub(1);
        for (_, saliency) in suffix.saliency.iter_mut().enumerate().filter(|(k, _)| self.contains(last, *k)) {
            // No number is greater than any.
            *saliency = if *saliency > literal { *saliency } else { literal };
        }
    }
    /// Whether position `k` matters to `t`; behind the end of the original prompt its last position stands
    /// for `t`.
    fn contains(&self, t: usize, k: usize) -> bool {
        self.0.get(t).or(self.0.last()).is_some_and(|important| important.contains(&k))
    }
}

/// The lines of a prompt (`n2g.md` 1.5), in the order of their heads.
///
/// A position heads a line if it fires and its importances were measured: the caller gives a column for
/// every position that is to have one. The head is literal, and so is what matters to it by its own
/// importance or by what an augmentation inherits; all else is a wildcard. A line ends with the farthest
/// literal. Ids beyond the vocabulary are passed over as those of [`Rules::skip`] are.
pub fn lines(prompt: &Traced, inherited: Option<&Inherited>, rules: &Rules, vocabulary: &Vocabulary) -> Vec<Line> {
    let line = |t: usize| {
        let column = head(prompt, t, rules)?;
        vocabulary.key(prompt.tokens[t])?;
        let (mut elements, mut end) = (Vec::new(), 0);
        for k in (0..=t).rev().filter(|&k| !rules.skip.contains(&prompt.tokens[k])) {
            let Some(key) = vocabulary.key(prompt.tokens[k]) else { continue };
            let importance = importance(column, k);
            let is_literal = k == t || importance > rules.importance || inherited.is_some_and(|i| i.contains(t, k));
            let activation = prompt.activation[k];
            let activates = activation > rules.activation;
            elements.push(Element { key: if is_literal { key } else { WILDCARD }, importance, activation, activates });
            if is_literal {
                end = elements.len();
            }
        }
        elements.truncate(end);
        Some(Line { elements, value: prompt.activation[t] })
    };
    (0..prompt.tokens.len()).filter_map(line).collect()
}

/// The importances of every position for `t`, if that heads a line.
fn head<'a>(prompt: &'a Traced, t: usize, rules: &Rules) -> Option<&'a [f64]> {
    let may = rules.pivot.is_none_or(|pivot| pivot == t) && !rules.skip.contains(&prompt.tokens[t]);
    let column = prompt.importance.get(&t).filter(|_| may && prompt.activation[t] > rules.activation);
    column.map(Vec::as_slice)
}

/// An importance; 0 where it was not measured or is no number, as where the original activation is 0.
fn importance(column: &[f64], k: usize) -> f64 {
    column.get(k).copied().filter(|x| x.is_finite()).unwrap_or(0.0)
}

/// The shortest end of a text on which a neuron still fires, by OpenAI's procedure (`n2g.md` 3.1).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Suffix {
    /// Token ids; the last one fires the neuron.
    pub tokens: Vec<u32>,
    /// `[tokens]`: `1 - a(token masked) / a(suffix)`, the activations being those of the last token.
    pub saliency: Vec<f64>,
    /// Activation of the last token, not normalised.
    pub value: f64,
    /// Whether the neuron fires on it at the start of a text only.
    pub anchored: bool,
}

/// The line of a suffix: literal from a saliency of `literal` up, the last token no exception; an anchored
/// one ends with [`START`]. The elements' importances are their saliencies; activations within the suffix
/// are not measured, and are 0 before the last token.
pub fn suffix_line(suffix: &Suffix, literal: f64, vocabulary: &Vocabulary) -> Line {
    let head = suffix.tokens.len().wrapping_sub(1);
    let element = |k: usize| {
        let importance = importance(&suffix.saliency, k);
        let key = vocabulary.key(suffix.tokens[k]).filter(|_| importance >= literal).unwrap_or(WILDCARD);
        Element { key, importance, activation: if k == head { suffix.value } else { 0.0 }, activates: k == head }
    };
    let start = Element { key: START, importance: 0.0, activation: 0.0, activates: false };
    let elements = (0..suffix.tokens.len()).rev().map(element).chain(suffix.anchored.then_some(start)).collect();
    Line { elements, value: suffix.value }
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::Fold;
    use super::*;

    const RULES: Rules = Rules { importance: 0.75, activation: 0.5, pivot: None, skip: &[9] };

    fn vocabulary() -> Vocabulary {
        Vocabulary::new((0..10).map(|id| format!("t{id}")).collect(), Fold::Exact)
    }
    fn prompt(tokens: &[u32], activation: &[f64], importance: &[(usize, &[f64])]) -> Traced {
        let importance = importance.iter().map(|(t, column)| (*t, column.to_vec())).collect();
        Traced { tokens: tokens.to_vec(), activation: activation.to_vec(), importance }
    }
    fn keys(lines: &[Line]) -> Vec<Vec<u32>> {
        lines.iter().map(|line| line.elements.iter().map(|e| e.key).collect()).collect()
    }

    #[test]
    fn a_line_goes_back_to_the_farthest_token_that_matters() {
        let columns: [(usize, &[f64]); 2] = [(2, &[0.75, 0.76, 0.2]), (4, &[0.1, 0.9, 0.0, 0.75, 0.3])];
        let p = prompt(&[1, 2, 3, 4, 5], &[0.0, 0.51, 0.7, 0.5, 1.0], &columns);
        let found = lines(&p, None, &RULES, &vocabulary());
        assert_eq!(keys(&found), [vec![3, 2], vec![5, WILDCARD, WILDCARD, 2]]);
        assert_eq!((found[0].value, found[1].value), (0.7, 1.0));
        assert_eq!(found[1].elements[1], Element { key: WILDCARD, importance: 0.75, activation: 0.5, activates: false });
        assert_eq!(found[1].elements[3], Element { key: 2, importance: 0.9, activation: 0.51, activates: true });
        let pivot = Rules { pivot: Some(2), ..RULES };
        assert_eq!(keys(&lines(&p, None, &pivot, &vocabulary())), [[3, 2]]);
        // Position 1 fires, but nobody measured what matters to it.
        assert_eq!(keys(&lines(&p, None, &Rules { pivot: Some(1), ..RULES }, &vocabulary())), [[0u32; 0]; 0]);
        assert_eq!(keys(&lines(&p, None, &Rules { pivot: Some(3), ..RULES }, &vocabulary())), [[0u32; 0]; 0]);
    }

    #[test]
    fn skipped_ids_are_no_wildcards() {
        let columns: [(usize, &[f64]); 2] = [(0, &[1.0]), (3, &[0.9, 0.9, 0.9, 1.0])];
        let p = prompt(&[9, 1, 9, 2], &[0.9, 0.0, 0.0, 1.0], &columns);
        assert_eq!(keys(&lines(&p, None, &RULES, &vocabulary())), [[2, 1]]);
        let p = prompt(&[11, 1, 11, 2], &[0.9, 0.0, 0.0, 1.0], &columns);
        assert_eq!(keys(&lines(&p, None, &RULES, &vocabulary())), [[2, 1]], "ids beyond the vocabulary");
    }

    #[test]
    fn augmentations_inherit_positions() {
        let columns: [(usize, &[f64]); 1] = [(2, &[0.1, 0.9, 1.0])];
        let original = prompt(&[1, 2, 3], &[0.0, 0.0, 1.0], &columns);
        let inherited = Inherited::of(&original, &RULES);
        let weak: [(usize, &[f64]); 1] = [(2, &[0.0, f64::NAN, 1.0])];
        let augmented = prompt(&[1, 4, 3], &[0.0, 0.0, 0.9], &weak);
        assert_eq!(keys(&lines(&augmented, Some(&inherited), &RULES, &vocabulary())), [[3, 4]]);
        assert_eq!(keys(&lines(&augmented, None, &RULES, &vocabulary())), [[3]]);
        // One token longer: the last position of the original stands for the one that it lacks.
        let weak: [(usize, &[f64]); 1] = [(3, &[0.0, 0.0, 0.0, 1.0])];
        let longer = prompt(&[1, 4, 5, 3], &[0.0, 0.0, 0.0, 0.9], &weak);
        assert_eq!(keys(&lines(&longer, Some(&inherited), &RULES, &vocabulary())), [[3, 5, 4]]);
        assert_eq!(keys(&lines(&longer, Some(&Inherited::default()), &RULES, &vocabulary())), [[3]]);
    }

    #[test]
    fn what_is_inherited_moves_with_the_tokens() {
        let of = |sets: &[&[usize]]| Inherited(sets.iter().map(|set| set.iter().copied().collect()).collect());
        let original = of(&[&[0], &[], &[0, 2], &[1, 2, 3]]);
        assert_eq!(original.replaced(&(1..2), 1), original);
        assert_eq!(original.replaced(&(1..2), 3), of(&[&[0], &[], &[], &[], &[0, 4], &[1, 2, 3, 4, 5]]));
        assert_eq!(original.replaced(&(0..2), 1), of(&[&[], &[0, 1], &[0, 1, 2]]));
        assert_eq!(original.replaced(&(2..3), 2), of(&[&[0], &[], &[0, 2], &[0, 2, 3], &[1, 2, 3, 4]]));
        // The line of the last token with two tokens in the place of one.
        let columns: [(usize, &[f64]); 1] = [(3, &[0.9, 0.8, 0.1, 1.0])];
        let original = Inherited::of(&prompt(&[1, 2, 3, 4], &[0.0, 0.0, 0.0, 1.0], &columns), &RULES);
        let weak: [(usize, &[f64]); 1] = [(4, &[0.0; 5])];
        let longer = prompt(&[1, 5, 6, 3, 4], &[0.0, 0.0, 0.0, 0.0, 1.0], &weak);
        let inherited = original.replaced(&(1..2), 2);
        assert_eq!(keys(&lines(&longer, Some(&inherited), &RULES, &vocabulary())), [[4, WILDCARD, 6, 5, 1]]);
        assert_eq!(keys(&lines(&longer, Some(&original), &RULES, &vocabulary())), [[4, 3, WILDCARD, 5, 1]]);
    }

    #[test]
    fn a_suffix_inherits_what_is_literal() {
        let suffix = |tokens: &[u32], saliency: &[f64]| Suffix {
            tokens: tokens.to_vec(),
            saliency: saliency.to_vec(),
            value: 1.0,
            anchored: false,
        };
        let inherited = Inherited::of_suffix(&suffix(&[1, 2, 3], &[0.5, 0.1, f64::NAN]), 0.5).replaced(&(0..1), 2);
        let mut other = suffix(&[7, 8, 2, 3], &[f64::NAN, 0.9, -1.0, 0.0]);
        inherited.raise(&mut other, 0.5);
        assert!(other.saliency[..2] == [0.5, 0.9] && other.saliency[2..] == [-1.0, 0.0]);
        assert_eq!(keys(&[suffix_line(&other, 0.5, &vocabulary())]), [[WILDCARD, WILDCARD, 8, 7]]);
    }

    #[test]
    fn a_suffix_is_literal_where_it_is_salient() {
        let suffix = Suffix { tokens: vec![1, 2, 3], saliency: vec![0.5, 0.49, 0.2], value: 7.5, anchored: true };
        let line = suffix_line(&suffix, 0.5, &vocabulary());
        assert_eq!((keys(std::slice::from_ref(&line)), line.value), (vec![vec![WILDCARD, WILDCARD, 1, START]], 7.5));
        assert_eq!(line.elements[0], Element { key: WILDCARD, importance: 0.2, activation: 7.5, activates: true });
        let line = suffix_line(&Suffix { anchored: false, ..suffix }, 0.1, &vocabulary());
        assert_eq!(keys(&[line]), [[3, 2, 1]]);
        assert_eq!(suffix_line(&Suffix::default(), 0.5, &vocabulary()).elements, []);
    }
}
