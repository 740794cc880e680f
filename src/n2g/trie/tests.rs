//! The golden vectors of `n2g.md` 5.6, and the self-test of OpenAI's code in 3.1. What the reference codes
//! give on a real model is in `reference`.

use serde_json::json;

use super::*;
use crate::n2g::lines::{Inherited, Rules, Suffix, Traced, lines, suffix_line};
use crate::n2g::vocabulary::{Fold, Vocabulary};

const BOS: u32 = 0;
const RULES: Rules = Rules { importance: 0.75, activation: 0.5, pivot: None, skip: &[BOS] };

/// Prompts as groups: an original, then its augmentations. A prompt has its words, the importance of each
/// for the last one, and the activations of the last ones.
type Prompt<'a> = (&'a str, &'a [f64], &'a [f64]);

/// A trie built from groups of prompts, the words that its tests use being tokens.
struct Golden {
    vocabulary: Vocabulary,
    trie: Trie,
}

impl Golden {
    fn new(groups: &[&[Prompt]]) -> Self {
        let words = "<bos> The the cat Cat black Black white red big dark a x y q p b zzz every";
        // Every word as it stands at the start of a text, and with a space before it.
        let texts = words.split(' ').map(String::from).chain(words.split(' ').map(|w| format!(" {w}"))).collect();
        let mut golden = Self { vocabulary: Vocabulary::new(texts, Fold::Normalised), trie: Trie::new() };
        for group in groups {
            let mut inherited = None;
            for prompt in *group {
                let traced = golden.traced(prompt);
                lines(&traced, inherited.as_ref(), &RULES, &golden.vocabulary).iter().for_each(|l| golden.trie.insert(l));
                inherited.get_or_insert_with(|| Inherited::of(&traced, &RULES));
            }
        }
        golden.trie.merge_wildcards();
        golden
    }
    /// The ids of a text, with the BOS token before it.
    fn ids(&self, text: &str) -> Vec<u32> {
        let id = |word: String| (0..self.vocabulary.size() as u32).find(|id| self.vocabulary.text(*id) == word).unwrap();
        let spaced = |(i, word): (usize, &str)| id(if i == 0 { word.into() } else { format!(" {word}") });
        [BOS].into_iter().chain(text.split(' ').enumerate().map(spaced)).collect()
    }
    fn traced(&self, (text, importance, last): &Prompt) -> Traced {
        let tokens = self.ids(text);
        let n = tokens.len();
        let activation = [vec![0.0; n - last.len()], last.to_vec()].concat();
        // The last column is given; a token that fires before it matters to itself alone.
        let own = |t: usize| (0..n).map(|k| f64::from(u8::from(k == t))).collect();
        let column = |t: usize| if t == n - 1 { [&[0.0], *importance].concat() } else { own(t) };
        Traced { importance: (n - last.len()..n).map(|t| (t, column(t))).collect(), tokens, activation }
    }
    #[track_caller]
    fn predicts(&self, text: &str, want: &[f64]) {
        let keys: Vec<u32> = self.ids(text).into_iter().map(|id| self.vocabulary.key(id).unwrap()).collect();
        let predict = |t| self.trie.predict(&keys[1..], t, Choice::Deepest).unwrap_or(0.0);
        let found: Vec<f64> = (0..keys.len() - 1).map(predict).collect();
        assert_eq!(found, want, "{text}");
        // With the BOS token, which is matched like any other.
        let found: Vec<f64> = (0..keys.len()).map(|t| self.trie.predict(&keys, t, Choice::Deepest).unwrap_or(0.0)).collect();
        assert_eq!(found, [&[0.0], want].concat(), "BOS {text}");
    }
    #[track_caller]
    fn stores(&self, activating: &[&str], important: &[&str]) {
        let names = |keys: &BTreeSet<u32>| keys.iter().map(|key| self.vocabulary.name(*key).to_string()).collect::<BTreeSet<_>>();
        let want = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let Tokens { activating: a, important: i } = self.trie.tokens();
        assert_eq!((names(&a), names(&i)), (want(activating), want(important)));
    }
}

const A: Prompt = ("The black cat", &[0.2, 0.9, 0.99], &[1.0]);
const RED: Prompt = ("the red cat", &[0.9, 0.1, 1.0], &[0.7]);

#[test]
fn golden_a_needs_its_context() {
    let g = Golden::new(&[&[A]]);
    g.predicts("black cat", &[0.0, 1.0]);
    g.predicts("Black Cat", &[0.0, 1.0]);
    g.predicts("white cat", &[0.0, 0.0]);
    g.stores(&["cat"], &["black"]);
}

#[test]
fn golden_b_has_a_wildcard_of_one_token() {
    let g = Golden::new(&[&[("the black cat", &[0.8, 0.1, 1.0], &[1.0])]]);
    g.predicts("the x cat", &[0.0, 0.0, 1.0]);
    g.predicts("a x cat", &[0.0; 3]);
    g.predicts("the cat", &[0.0; 2]);
    g.stores(&["cat"], &["the"]);
}

#[test]
fn golden_c_is_a_unigram() {
    let g = Golden::new(&[&[("cat", &[1.0], &[0.8])]]);
    g.predicts("every cat cat", &[0.0, 0.8, 0.8]);
}

#[test]
fn golden_d_keeps_a_literal_that_ends_a_pattern_beside_a_wildcard() {
    let g = Golden::new(&[&[A], &[RED]]);
    g.predicts("black cat", &[0.0, 1.0]);
    g.predicts("the red cat", &[0.0, 0.0, 0.7]);
    g.predicts("the black cat", &[0.0, 0.0, 1.0]);
    g.predicts("red cat", &[0.0, 0.0]);
}

#[test]
fn golden_e_drops_a_literal_that_ends_none() {
    let g = Golden::new(&[&[("big black cat", &[0.9, 0.9, 1.0], &[1.0])], &[RED]]);
    g.predicts("big zzz cat", &[0.0, 0.0, 1.0]);
    g.predicts("the black cat", &[0.0, 0.0, 0.7]);
    g.predicts("x black cat", &[0.0; 3]);
    g.stores(&["cat"], &["the", "big"]);
}

#[test]
fn golden_f_keeps_the_value_that_came_first() {
    let with = |value| ("The black cat", &[0.2, 0.9, 0.99][..], value);
    let g = Golden::new(&[&[with(&[0.6][..])], &[with(&[1.0])]]);
    g.predicts("black cat", &[0.0, 0.6]);
}

#[test]
fn golden_g_predicts_by_the_longest_pattern() {
    let g = Golden::new(&[&[("cat", &[1.0], &[0.6])], &[("big black cat", &[0.9, 0.9, 1.0], &[1.0])]]);
    g.predicts("cat", &[0.6]);
    g.predicts("black cat", &[0.0, 0.6]);
    g.predicts("big black cat", &[0.0, 0.0, 1.0]);
    let keys: Vec<u32> = g.ids("big black cat")[1..].iter().map(|id| g.vocabulary.key(*id).unwrap()).collect();
    let by = Choice::ALL.map(|choice| g.trie.predict(&keys, 2, choice));
    assert_eq!(by, [Some(1.0), Some(0.6), Some(1.0)]);
}

#[test]
fn golden_h_inherits_positions_in_augmentations() {
    let g = Golden::new(&[&[A, ("The dark cat", &[0.2, 0.3, 0.99], &[0.9])]]);
    g.predicts("dark cat", &[0.0, 0.9]);
    g.predicts("black cat", &[0.0, 1.0]);
}

#[test]
fn golden_i_has_a_context_token_that_fires_too() {
    let g = Golden::new(&[&[("cat cat", &[0.9, 1.0], &[0.9, 1.0])]]);
    g.predicts("cat", &[0.9]);
    g.predicts("cat cat", &[0.9, 1.0]);
    g.stores(&["cat"], &[]);
}

#[test]
fn golden_j_generalises_a_literal_that_ends_nothing() {
    let g = Golden::new(&[&[("x a p", &[1.0; 3], &[1.0])], &[("y q zzz p", &[1.0, 1.0, 0.0, 1.0], &[0.8])]]);
    g.predicts("x b p", &[0.0, 0.0, 1.0]);
    g.predicts("y q a p", &[0.0, 0.0, 0.0, 0.8]);
    g.predicts("y q b p", &[0.0, 0.0, 0.0, 0.8]);
    let nested = g.trie.nested(&g.vocabulary, Style::Reference);
    let below = json!({"q": {"y": {"**END**": 0.8}}, "x": {"**END**": 1.0}});
    assert_eq!(nested, json!({"p": {"**IGNORE**": below}}));
}

/// The trie that OpenAI's procedure leaves of a neuron: documents are cut and grown, `fires` tells the
/// activation of the last token of a text.
fn openai(documents: &[&str], vocabulary: &Vocabulary, fires: impl Fn(&[char]) -> f64) -> Trie {
    let mut trie = Trie::new();
    for document in documents {
        let text: Vec<char> = document.chars().collect();
        let value = fires(&text);
        let start = (0..text.len()).rev().find(|&i| fires(&text[i..]) / value >= 0.5).unwrap_or(0);
        let suffix = &text[start..];
        let own = fires(suffix);
        let masked = |k: usize| {
            let mut masked = suffix.to_vec();
            masked[k] = '_';
            1.0 - fires(&masked) / own
        };
        let tokens = suffix.iter().map(|c| *c as u32 - 'a' as u32).collect();
        let anchored = fires(&[&['_'], suffix].concat()) / value < 0.5;
        let suffix = Suffix { tokens, saliency: (0..suffix.len()).map(masked).collect(), value: own, anchored };
        trie.overwrite(&suffix_line(&suffix, 0.5, vocabulary));
    }
    trie
}

#[test]
fn the_self_test_of_the_openai_variant_holds() {
    let vocabulary = Vocabulary::new(('a'..='e').map(String::from).collect(), Fold::Exact);
    let predict = |trie: &Trie, text: &str| -> Vec<f64> {
        let keys: Vec<u32> = text.chars().filter(|c| *c != ' ').map(|c| c as u32 - 'a' as u32).collect();
        (0..keys.len()).map(|t| trie.predict(&keys, t, Choice::Shallowest).unwrap_or(0.0)).collect()
    };
    let nested = |trie: &Trie| trie.nested(&vocabulary, Style::OpenAi);
    let is = |b: bool| f64::from(u8::from(b));

    let first = openai(&["a", "b", "c"], &vocabulary, |text| is(text.len() == 1));
    assert_eq!(nested(&first), json!({"token(*)": {"token(^)": {"<saliency>": 1.0}}}));
    assert_eq!(predict(&first, "a b c"), [1.0, 0.0, 0.0]);

    let c = openai(&["abc", "c", "bac"], &vocabulary, |text| is(text.last() == Some(&'c')));
    assert_eq!(nested(&c), json!({"c": {"<saliency>": 1.0}}));
    assert_eq!(predict(&c, "c b c"), [1.0, 0.0, 1.0]);

    let after = |text: &[char]| is(text.last() == Some(&'c') && text.contains(&'a'));
    let c_after_a = openai(&["abc", "bac", "ac"], &vocabulary, after);
    let one = json!({"<saliency>": 1.0});
    assert_eq!(nested(&c_after_a), json!({"c": {"token(*)": {"a": one}, "a": one}}));
    assert_eq!(predict(&c_after_a, "b c"), [0.0; 2]);
    assert_eq!(predict(&c_after_a, "a c"), [0.0, 1.0]);
    assert_eq!(predict(&c_after_a, "a e c a c"), [0.0, 0.0, 1.0, 0.0, 1.0]);
    assert_eq!(predict(&c_after_a, "a b b c"), [0.0; 4]);

    let none = openai(&[], &vocabulary, |_| 0.0);
    assert_eq!((nested(&none), predict(&none, "a b c")), (json!({}), vec![0.0; 3]));
}

#[test]
fn the_last_writer_wins_where_lines_overwrite() {
    let vocabulary = Vocabulary::new(vec!["a".into(), "b".into()], Fold::Exact);
    let line = |tokens: &[u32], value| {
        let suffix = Suffix { tokens: tokens.to_vec(), saliency: vec![1.0; tokens.len()], value, anchored: false };
        suffix_line(&suffix, 0.5, &vocabulary)
    };
    let (mut first, mut last) = (Trie::new(), Trie::new());
    for line in [line(&[0, 1], 1.0), line(&[0, 1], 2.0), line(&[], 3.0)] {
        first.insert(&line);
        last.overwrite(&line);
    }
    let value = |trie: &Trie| (trie.nodes.len(), trie.nodes[0].end, trie.nodes[2].end);
    assert_eq!((value(&first), value(&last)), ((3, None, Some(1.0)), (3, None, Some(2.0))));
    // A shorter pattern hides those that go on from it.
    last.overwrite(&line(&[1], 5.0));
    assert_eq!(last.predict(&[0, 1], 1, Choice::Shallowest), Some(5.0));
    assert_eq!(last.predict(&[0, 1], 1, Choice::Deepest), Some(2.0));
    assert_eq!(last.predict(&[0, 1], 1, Choice::Largest), Some(5.0));
}
