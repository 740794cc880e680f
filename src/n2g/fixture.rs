//! Helpers of the tests: lines made by hand, those of the reference's results, and records.

use serde_json::Value;

use super::graph::{Graph, Thresholds};
use super::lines::{Element, Line, Rules, Traced, lines};
use super::record::{Counts, Exemplar, Prompt, Record, Scores, Status, TextScores};
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
    let ids: Vec<u32> = goldens.tensor_i64("all_tokens").unwrap().into_iter().map(|id| id as u32).collect();
    let texts = Tokenizer::open(&model, &Value::Null).unwrap().token_texts().unwrap();
    let vocabulary = Vocabulary::new(texts, Fold::Normalised);
    let rules = Rules { importance: 0.75, activation: 0.5, pivot: None, skip: &[] };
    let with_lines = |n: &Value| {
        let prompts = n["prompts"].as_array().unwrap().iter();
        (n.clone(), prompts.flat_map(|p| lines(&traced(p, &ids), None, &rules, &vocabulary)).collect(), vocabulary.clone())
    };
    Some(file["neurons"].as_array().unwrap().iter().map(with_lines).collect())
}

fn traced(prompt: &Value, ids: &[u32]) -> Traced {
    let number = |key: &str| prompt[key].as_u64().unwrap() as usize;
    let row = |list: &Value| list.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    let columns = prompt["importance"].as_object().unwrap().iter();
    let window = &ids[128 * number("window")..128 * (number("window") + 1)];
    Traced {
        tokens: window[number("start")..number("end")].to_vec(),
        activation: row(&prompt["norm_act"]),
        importance: columns.map(|(t, column)| (t.parse().unwrap(), row(column))).collect(),
    }
}

/// A record of a neuron with a graph, two exemplars of ids 0, 1 and 2, a prompt and all scores.
pub(crate) fn record(layer: usize, neuron: usize) -> Record {
    let v = vocabulary(&["the", " cat", "\n"]);
    let lines = [line(&v, &[(" cat", 1.0, 1.0), ("the", 0.9, 0.0)]), line(&v, &[(" cat", 1.0, 0.8), ("\n", 0.8, 0.0)])];
    let exemplar = |window: usize, value: f32, duplicate_of| Exemplar {
        window,
        position: 5,
        value,
        duplicate_of,
        start: 4,
        tokens: vec![0, 1, 2],
        activations: vec![-0.25, value, 0.0],
    };
    let counts = |tp, fp, fn_| Counts { tp, fp, fn_, tokens: 100 };
    let text =
        TextScores { trie: counts(1, 3, 1), r2: 0.1, token: counts(1, 1, 1), ngram: counts(0, 0, 2), f1_interval: (0.125, 0.75) };
    Record {
        layer,
        neuron,
        status: Status::Done,
        a_max: 4.0,
        firing_rate: 0.0125,
        exemplars: vec![exemplar(7, 4.0, None), exemplar(9, 3.5, Some(0))],
        train: vec![0],
        test: vec![1],
        prompts: vec![Prompt {
            window: 7,
            pivot: 5,
            act: 4.0,
            start: 4,
            end: 6,
            accepted: true,
            suffix_max: 4.0,
            scale: 1.0,
            anchored: None,
            tokens: vec![0, 1],
            norm_act: vec![0.0, 1.0],
            argmax: 1,
            importance: [(1, vec![0.9, 1.0])].into(),
            augments: None,
        }],
        graph: Some(Graph::new(&lines, &v, Thresholds { activation: 0.5, importance: 0.75 })),
        scores: Some(Scores {
            any: None,
            held_out: counts(3, 1, 1),
            r2: 0.5,
            token: counts(2, 1, 2),
            ngram: counts(1, 0, 3),
            f1_interval: (0.5, 1.0),
            unique: counts(1, 1, 1),
            text: Some(text),
        }),
    }
}
