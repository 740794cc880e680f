//! Lines: what a prompt says of a neuron, one for each token that fires it, read backwards.

use std::collections::{BTreeMap, BTreeSet};

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

/// By position of a prompt: which positions matter to it. Augmentations of the prompt take them over, by
/// position, whatever their own importances are.
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
