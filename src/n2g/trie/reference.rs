//! Tries, stores and predictions of the reference codes on a real model (`fixtures/n2g-reference`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};

use super::{Choice, Style, Tokens, Trie};
use crate::model::fixture::shared;
use crate::model::{Checkpoint, Tokenizer};
use crate::n2g::lines::{Rules, Suffix, Traced, lines, suffix_line};
use crate::n2g::vocabulary::{Fold, Vocabulary};

const WINDOW: usize = 128;

/// The neurons of a mode, the windows of text and the texts of ids.
struct Fixture {
    neurons: Vec<Value>,
    tokens: Vec<u32>,
    texts: Vec<String>,
}

impl Fixture {
    fn open(shared: &Path, name: &str) -> Self {
        let json = std::fs::read_to_string(shared.join("fixtures/n2g-reference").join(name)).unwrap();
        let mut json: Value = serde_json::from_str(&json).unwrap();
        let folder = shared.join("fixtures/lm/glassllm-en");
        let tokenizer = Tokenizer::open(&folder, &Value::Null).unwrap();
        let goldens = Checkpoint::open(&folder.join("goldens.safetensors")).unwrap();
        let tokens = goldens.tensor_i64("all_tokens").unwrap().into_iter().map(|id| id as u32).collect();
        let texts = (0..tokenizer.size() as u32).map(|id| tokenizer.decode(&[id]).unwrap()).collect();
        let Value::Array(neurons) = json["neurons"].take() else { panic!("neurons") };
        let neurons = neurons.into_iter().filter(|n| n["near_threshold"] == false).collect();
        Self { neurons, tokens, texts }
    }
    fn window(&self, window: &Value) -> &[u32] {
        let window = size(window);
        &self.tokens[WINDOW * window..WINDOW * (window + 1)]
    }
    /// The tokens of a prompt.
    fn prompt(&self, prompt: &Value) -> Vec<u32> {
        self.window(&prompt["window"])[size(&prompt["start"])..size(&prompt["end"])].to_vec()
    }
    /// Predictions on every test window: the positions are equal, the values within `tolerance`.
    fn check_predictions(&self, neuron: &Value, trie: &Trie, vocabulary: &Vocabulary, choice: Choice, tolerance: f64) -> usize {
        let mut count = 0;
        for window in neuron["predictions"].as_array().unwrap() {
            let keys: Vec<u32> = self.window(&window["window"]).iter().map(|id| vocabulary.key(*id).unwrap()).collect();
            let predict = |t| trie.predict(&keys, t, choice).filter(|value| *value != 0.0).map(|value| (t, value));
            let found: BTreeMap<usize, f64> = (0..keys.len()).filter_map(predict).collect();
            let want: BTreeMap<usize, f64> =
                window["pred"].as_array().unwrap().iter().map(|pair| (size(&pair[0]), number(&pair[1]))).collect();
            assert_eq!(found.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "{}", name(neuron));
            found.iter().for_each(|(t, value)| assert!((value - want[t]).abs() <= tolerance, "{} at {t}", name(neuron)));
            count += found.len();
        }
        count
    }
}

fn size(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}
fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}
fn name(neuron: &Value) -> String {
    format!("neuron {}:{}", neuron["layer"], neuron["neuron"])
}

/// Equal keys, those of objects in one order, and values within `tolerance`.
#[track_caller]
fn assert_same(found: &Value, want: &Value, tolerance: f64, neuron: &Value) {
    // A value has no place among the children here.
    let children =
        |object: &Map<String, Value>| object.iter().filter(|m| m.1.is_object()).map(|m| m.0.clone()).collect::<Vec<_>>();
    match (found, want) {
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!((children(a), a.len()), (children(b), b.len()), "{}: {found} {want}", name(neuron));
            a.iter().for_each(|(key, found)| assert_same(found, &b[key], tolerance, neuron));
        }
        _ => assert!((number(found) - number(want)).abs() <= tolerance, "{}: {found} {want}", name(neuron)),
    }
}

#[test]
fn the_reference_gives_the_same_tries_stores_and_predictions() {
    let Some(shared) = shared() else { return };
    let fixture = Fixture::open(&shared, "reference.json");
    let vocabulary = Vocabulary::new(fixture.texts.clone(), Fold::Normalised);
    let rules = Rules { importance: 0.75, activation: 0.5, pivot: None, skip: &[] };
    // Three decimals: a value on the edge of rounding may move by one unit.
    let (tolerance, mut predictions, mut merged) = (0.001, 0, 0);
    for neuron in &fixture.neurons {
        let mut trie = Trie::new();
        for prompt in neuron["prompts"].as_array().unwrap() {
            let columns = prompt["importance"].as_object().unwrap();
            let prompt = Traced {
                tokens: fixture.prompt(prompt),
                activation: numbers(&prompt["norm_act"]),
                importance: columns.iter().map(|(t, column)| (t.parse().unwrap(), numbers(column))).collect(),
            };
            lines(&prompt, None, &rules, &vocabulary).iter().for_each(|line| trie.insert(line));
        }
        assert_same(&trie.nested(&vocabulary, Style::Reference), &neuron["trie_before_merge"], tolerance, neuron);
        let before = trie.clone();
        trie.merge_wildcards();
        merged += usize::from(trie.canonical() != before.canonical());
        assert_same(&trie.nested(&vocabulary, Style::Reference), &neuron["trie"], tolerance, neuron);
        let Tokens { activating, important } = trie.tokens();
        for (kind, keys) in [("activating", activating), ("important", important)] {
            let want: BTreeSet<&str> = neuron["store"][kind].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
            assert_eq!(keys.iter().map(|key| vocabulary.name(*key)).collect::<BTreeSet<_>>(), want, "{}", name(neuron));
        }
        predictions += fixture.check_predictions(neuron, &trie, &vocabulary, Choice::Deepest, tolerance);
    }
    assert_eq!((fixture.neurons.len(), merged), (30, 2));
    assert!(predictions > 300, "{predictions} predictions");
}

#[test]
fn the_openai_variant_gives_the_same_tries_and_predictions() {
    let Some(shared) = shared() else { return };
    let fixture = Fixture::open(&shared, "openai.json");
    let vocabulary = Vocabulary::new(fixture.texts.clone(), Fold::Exact);
    let mut predictions = 0;
    for neuron in &fixture.neurons {
        let mut trie = Trie::new();
        for prompt in neuron["prompts"].as_array().unwrap() {
            let anchored = number(&prompt["pad_act"]) / number(&prompt["act"]) < 0.5;
            assert_eq!(prompt["can_pad_start"], !anchored);
            let (tokens, saliency) = (fixture.prompt(prompt), numbers(&prompt["saliency"]));
            let suffix = Suffix { tokens, saliency, value: number(&prompt["suffix_act"]), anchored };
            trie.overwrite(&suffix_line(&suffix, 0.5, &vocabulary));
        }
        let tolerance = 1e-4 * number(&neuron["a_max"]);
        assert_same(&trie.nested(&vocabulary, Style::OpenAi), &neuron["trie"], tolerance, neuron);
        predictions += fixture.check_predictions(neuron, &trie, &vocabulary, Choice::Shallowest, tolerance);
    }
    assert_eq!(fixture.neurons.len(), 29);
    assert!(predictions > 300, "{predictions} predictions");
}
