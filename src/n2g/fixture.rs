//! Helpers of the tests: lines made by hand, and those of the reference's results.

use serde_json::Value;

use super::lines::{Element, Line};
use super::trie::{START, WILDCARD};
use super::vocabulary::{Fold, Vocabulary};
use crate::model::fixture::shared;
use crate::model::{Checkpoint, Tokenizer};

/// A vocabulary whose ids and keys are the places of these texts.
pub(crate) fn vocabulary(texts: &[&str]) -> Vocabulary {
    Vocabulary::new(texts.iter().map(|t| t.to_string()).collect(), Fold::Exact)
}

/// A line of elements by text, importance and activation, from the token that fires backwards; `*` is the
/// wildcard and `^` the start of a text.
pub(crate) fn line(vocabulary: &Vocabulary, elements: &[(&str, f64, f64)]) -> Line {
    let key = |text: &str| match text {
        "*" => WILDCARD,
        "^" => START,
        _ => (0..vocabulary.key_count() as u32).find(|k| vocabulary.name(*k) == text).unwrap(),
    };
    let element = |&(text, importance, activation): &(&str, f64, f64)| Element {
        key: key(text),
        importance,
        activation,
        activates: activation > 0.5,
    };
    Line { elements: elements.iter().map(element).collect(), value: elements[0].2 }
}

/// What the reference implementation left of each neuron, with the lines of its prompts, thresholds 0.5
/// and 0.75; `None` where the shared fixtures are absent.
pub(crate) fn published() -> Option<Vec<(Value, Vec<Line>, Vocabulary)>> {
    let shared = shared()?;
    let model = shared.join("fixtures/lm/glassllm-en");
    let file = std::fs::read(shared.join("fixtures/n2g-reference/reference.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let goldens = Checkpoint::open(&model.join("goldens.safetensors")).unwrap();
    let ids: Vec<usize> = goldens.tensor_i64("all_tokens").unwrap().into_iter().map(|id| id as usize).collect();
    let texts = Tokenizer::open(&model, &Value::Null).unwrap().token_texts().unwrap();
    let vocabulary = Vocabulary::new(texts.iter().map(|t| folded(t)).collect(), Fold::Exact);
    let neurons = file["neurons"].as_array().unwrap().iter();
    let with_lines = |n: &Value| {
        let prompts = n["prompts"].as_array().unwrap().iter();
        (n.clone(), prompts.flat_map(|p| lines(p, &ids, &vocabulary)).collect(), vocabulary.clone())
    };
    Some(neurons.map(with_lines).collect())
}

/// The lines of a prompt: for each token that fires, back to the farthest one that matters.
fn lines(prompt: &Value, ids: &[usize], vocabulary: &Vocabulary) -> Vec<Line> {
    let number = |key: &str| prompt[key].as_u64().unwrap() as usize;
    let tokens = &ids[128 * number("window") + number("start")..128 * number("window") + number("end")];
    let activation: Vec<f64> = prompt["norm_act"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    let line = |t: usize| {
        let importance = |s: usize| prompt["importance"][t.to_string()][s].as_f64().unwrap();
        let element = |s: usize| Element {
            key: if s == t || importance(s) > 0.75 { vocabulary.key(tokens[s] as u32).unwrap() } else { WILDCARD },
            importance: importance(s),
            activation: activation[s],
            activates: activation[s] > 0.5,
        };
        let first = (0..=t).find(|s| *s == t || importance(*s) > 0.75).unwrap();
        Line { elements: (first..=t).rev().map(element).collect(), value: activation[t] }
    };
    (0..tokens.len()).filter(|t| activation[*t] > 0.5).map(line).collect()
}

/// Lower case where the text is in title case, without space around it where it has a letter.
fn folded(text: &str) -> String {
    let mut letters = text.chars().filter(|c| c.is_alphabetic());
    let is_title = letters.next().is_some_and(char::is_uppercase) && letters.all(char::is_lowercase);
    let lower = if is_title && text.len() > 1 { text.to_lowercase() } else { text.into() };
    match lower.chars().any(char::is_alphabetic) {
        true => lower.trim().into(),
        false => lower,
    }
}
