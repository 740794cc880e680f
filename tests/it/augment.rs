//! `mechgraph n2g --augment`: prompts with words replaced, by a masked language model and by neighbours among
//! embeddings; and what is refused.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::command::{failure, manifest, read, run, write};
use crate::naive::shared;

const FILES: [&str; 4] = ["tries.safetensors", "scores.csv", "neurons.jsonl", "summary.json"];

fn demo(out: &Path, flags: &str) -> Vec<String> {
    let fixed = ["n2g", "demo:lm", "--out", out.to_str().unwrap(), "--quiet", "--text-windows", "4"].map(String::from);
    fixed.into_iter().chain(flags.split_whitespace().map(String::from)).collect()
}

fn records(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("neurons.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A word piece vocabulary of 91 tokens: letters, letters that go on with a word, and some words.
fn word_pieces() -> Value {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let words =
        "the and of to in that it was he her his you she as with for had at on all said be this not but so very they what";
    let letters = || ('a'..='z').map(String::from);
    let all = special.map(String::from).into_iter().chain(letters()).chain(letters().map(|c| format!("##{c}")));
    let all = all.chain(words.split(' ').map(String::from)).chain([",", ".", "'", "?", ";"].map(String::from));
    let vocab: serde_json::Map<String, Value> = all.enumerate().map(|(id, token)| (token, json!(id))).collect();
    assert_eq!(vocab.len(), 91);
    let added = |(id, content): (usize, &&str)| json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "post_processor": null,
        "added_tokens": special.iter().enumerate().map(added).collect::<Vec<_>>(),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "vocab": vocab, "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
    })
}

/// A masked language model of the shared fixtures with [`word_pieces`] in a folder of its own.
fn masked(dir: &Path, name: &str) -> Option<PathBuf> {
    let from = shared()?.join("fixtures/masked-lm").join(name);
    let folder = dir.join(name);
    std::fs::create_dir(&folder).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::write(folder.join(file), std::fs::read(from.join(file)).unwrap()).unwrap();
    }
    std::fs::write(folder.join("tokenizer.json"), word_pieces().to_string()).unwrap();
    Some(folder)
}

/// The prompts of a run that augment others, each held against what every one of them must be.
fn augmentations(out: &Path, mode: &str, substitutes: usize) -> Vec<(Value, Value)> {
    let mut all = Vec::new();
    for record in records(out) {
        let prompts = record["prompts"].as_array().unwrap();
        let mut groups: BTreeSet<u64> = BTreeSet::new();
        let mut last = 0;
        for (i, p) in prompts.iter().enumerate() {
            let Some(original) = p["augments"].as_u64() else {
                last = i as u64;
                continue;
            };
            // Each original is followed by its own.
            assert_eq!(original, last);
            groups.insert(original);
            let o = &prompts[original as usize];
            assert!(o["augments"].is_null() && o["tokens"] != p["tokens"]);
            for key in ["window", "pivot", "act", "start", "end", "scale", "anchored"] {
                assert_eq!(p[key], o[key], "{key}");
            }
            let value = |p: &Value| p["norm_act"].as_array().unwrap().last().unwrap().as_f64().unwrap();
            if mode != "reference" {
                assert!(
                    value(p) >= 0.5 * value(o) - 1e-6
                        && p["tokens"].as_array().unwrap().last() == o["tokens"].as_array().unwrap().last()
                );
            }
            all.push((o.clone(), p.clone()));
        }
        let own =
            |group: u64| prompts.iter().filter(|p| p["augments"] == group).map(|p| p["tokens"].to_string()).collect::<Vec<_>>();
        for group in groups {
            let (own, original) = (own(group), prompts[group as usize]["tokens"].as_array().unwrap().len());
            assert_eq!(own.iter().collect::<BTreeSet<_>>().len(), own.len(), "one prompt twice");
            assert!(own.len() <= substitutes * original);
        }
    }
    all
}

/// Two runs on one thread and on two, which must be the same, and not that without augmentation.
fn runs(dir: &Path, mode: &str, kind: &str) -> Vec<(Value, Value)> {
    let flags = format!("--layers 4 --neurons 0..2,13 --samples 150 --mode {mode} --substitute-threshold 0.3");
    let out = |name: &str| dir.join(format!("{mode}-{}-{name}", kind.split(':').next().unwrap()));
    for threads in [1, 2] {
        let flags = format!("{flags} --augment {kind} --substitutes 3 --threads {threads}");
        assert_eq!(run(&demo(&out(&threads.to_string()), &flags)).status, Some(0));
    }
    let bytes = |run: &Path, file: &str| std::fs::read(run.join(file)).unwrap();
    for file in FILES {
        assert!(bytes(&out("1"), file) == bytes(&out("2"), file), "{mode}: {file} depends on threads");
    }
    assert_eq!(run(&demo(&out("none"), &flags)).status, Some(0));
    assert!(augmentations(&out("none"), mode, 0).is_empty());
    let tokens = |run: &Path| {
        let summary: Value = serde_json::from_slice(&bytes(run, "summary.json")).unwrap();
        summary["tokens_per_neuron"].as_f64().unwrap()
    };
    assert!(tokens(&out("1")) > tokens(&out("none")));
    augmentations(&out("1"), mode, 3)
}

#[test]
fn words_are_replaced_by_what_a_masked_model_proposes() {
    let dir = tempfile::tempdir().unwrap();
    let Some(folder) = masked(dir.path(), "distilbert") else { return };
    for mode in ["default", "reference"] {
        let found = runs(dir.path(), mode, &format!("mlm:{}", folder.display()));
        assert!(found.len() > 2, "{mode}: {}", found.len());
    }
    let out = dir.path().join("default-mlm-1");
    let run_json = manifest(&out);
    let augment = &run_json["settings"]["augment"];
    assert_eq!((&augment["kind"], &augment["name"]), (&"mlm".into(), &"distilbert".into()));
    assert_eq!((&augment["sha256"], augment["sha256"].as_str().unwrap().len()), (&run_json["augment"]["sha256"], 64));
    assert_eq!(run_json["settings"]["substitutes"], 3);
}

#[test]
fn words_are_replaced_by_their_neighbours() {
    let dir = tempfile::tempdir().unwrap();
    for mode in ["default", "paper", "openai", "reference"] {
        let found = runs(dir.path(), mode, "embedding:demo:lm");
        assert!(found.len() > 2, "{mode}: {}", found.len());
        // Words of the vocabulary for words: the same number of tokens, and all but one are the same.
        let differ = |(o, p): &(Value, Value)| {
            let (o, p) = (o["tokens"].as_array().unwrap(), p["tokens"].as_array().unwrap());
            if o.len() == p.len() { o.iter().zip(p).filter(|(a, b)| a != b).count() } else { 0 }
        };
        assert!(found.iter().any(|pair| differ(pair) == 1), "{mode}");
        assert!(mode == "reference" || found.iter().all(|pair| differ(pair) <= 1), "{mode}");
    }
}

#[test]
fn a_run_with_other_proposals_is_not_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let flags = "--layers 0 --neurons 0..2 --samples 20 --until tries";
    assert_eq!(run(&demo(&out, &format!("{flags} --augment embedding:demo:lm"))).status, Some(0));
    let mut left = manifest(&out);
    left["status"] = "running".into();
    std::fs::write(out.join("run.json"), left.to_string()).unwrap();
    let e = failure(&demo(&out, flags));
    assert!(e.contains("augmentation is embedding:demo:lm (sha256 ") && e.contains("), not none"), "{e}");
    let e = failure(&demo(&out, &format!("{flags} --augment embedding:demo:lm --substitutes 2")));
    assert!(e.contains("--substitutes is unset, not 2"), "{e}");
    assert_eq!(run(&demo(&out, &format!("{flags} --augment embedding:demo:lm"))).status, Some(0));
    assert_eq!(manifest(&out)["status"], "done");
}

#[test]
fn models_that_propose_nothing_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let fails = |kind: &str, part: &str| {
        let e = failure(&demo(&out, &format!("--augment {kind}")));
        assert!(e.contains(part), "{kind}: {e}");
        assert!(!out.exists() || std::fs::read_dir(&out).unwrap().count() == 0, "{kind}");
    };
    fails("mlm:demo:lm", "demo:lm: a model that reads texts from left to right; expected a masked language model");
    fails("mlm:/no/such", "/no/such: no such folder; expected a folder with config.json and model.safetensors");
    fails("embedding:demo:modadd", "tokenizer.json: no such file; expected the tokenizer.json of a model");
    for kind in ["bert", "mlm:", "word2vec:x"] {
        let outcome = run(&demo(&out, &format!("--augment {kind}")));
        assert!(outcome.status == Some(2) && outcome.stderr.contains("expected none, mlm:DIR or embedding:DIR"), "{outcome:?}");
    }
    let e = failure(&demo(&out, "--augment embedding:demo:lm --until exemplars"));
    assert!(e.contains("--augment: found --until exemplars beside it; expected --until tries or scores"), "{e}");
    let Some(folder) = masked(dir.path(), "bert") else { return };
    let kind = format!("mlm:{}", folder.display());
    let mut pieces = word_pieces();
    pieces["added_tokens"].as_array_mut().unwrap().pop();
    let vocab = pieces["model"]["vocab"].as_object_mut().unwrap();
    let mask = vocab.remove("[MASK]").unwrap();
    vocab.insert("##'".into(), mask);
    std::fs::write(folder.join("tokenizer.json"), pieces.to_string()).unwrap();
    fails(&kind, "tokenizer.json: a vocabulary without a mask token; expected that of a masked language model");
    std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    fails(&kind, "tokenizer.json: no such file; expected the tokenizer.json of a model");
    let mut tensors = read(&folder.join("model.safetensors"));
    tensors.retain(|name, _| !name.starts_with("cls."));
    write(&folder.join("model.safetensors"), &tensors);
    fails(&kind, "bert: a bert checkpoint without an output head; expected a masked language model");
}
