//! Text as data: `eval`, `capture`, `lib` and `ablate` see the tokens of .txt and .jsonl files in windows,
//! say how these came about, and refuse in one sentence what they cannot cut.

use std::collections::BTreeMap;

use mechgraph::model::ActFn;
use serde_json::{Value, json};

use crate::command::{Case, assert_no_results, failure, ints, manifest, mlp, mlp_config, read, run, tokens, write};
use crate::common::shared;

/// Words between white space: ids 3 to 6 for a to d.
pub fn tokenizer() -> Value {
    let special = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true,
        })
    };
    let vocab = json!({"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4, "c": 5, "d": 6});
    json!({
        "version": "1.0",
        "added_tokens": [special(1, "<s>"), special(2, "</s>")],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    })
}

/// A transformer of context 5 with a tokenizer that has a BOS and an EOS token.
fn case() -> Case {
    let case = Case::transformer();
    case.put("MODEL/tokenizer.json", tokenizer().to_string());
    case.put("MODEL/tokenizer_config.json", json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}}).to_string());
    case
}

impl Case {
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }
    /// The same command line on other data.
    pub fn on(&self, args: Vec<String>, file: &str, flags: &[&str]) -> Vec<String> {
        let at = args.iter().position(|a| a == "--data").unwrap() + 1;
        let path = self.path(file).display().to_string();
        let flags = flags.iter().map(|f| f.to_string());
        args[..at].iter().cloned().chain([path]).chain(args[at + 1..].iter().cloned()).chain(flags).collect()
    }
    fn score(&self, file: &str, flags: &[&str]) -> Value {
        let outcome = run(&self.on(self.eval_args(&["--json"]), file, flags));
        assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{file}");
        serde_json::from_str(&outcome.stdout).unwrap()
    }
    /// The sentence with which every command fails that takes text.
    fn text_fails(&self, file: &str, flags: &[&str]) -> String {
        let sentence = failure(&self.on(self.eval_args(&[]), file, flags));
        for args in [self.capture_args(&[]), self.lib_args(&[])] {
            assert_eq!(failure(&self.on(args, file, flags)), sentence, "{file}");
        }
        assert!(!self.path("F").exists() && !self.path("F.partial").exists());
        assert_no_results(&self.run_dir());
        sentence.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

const PROSE: &str = "a b c d a\r\nb d d c x </s>b a";
const LINES: &str = "{\"text\": \"a b\"}\n\n{\"text\": \"\"}\r\n{\"text\": \"c\", \"id\": 3}\n{\"text\": \"d d a\"}\n";

#[test]
fn a_text_scores_as_its_tokens_do() {
    let case = case();
    case.put("t.txt", PROSE);
    case.put("t.JSONL", LINES);
    let about = |source: &str, numbers: [usize; 4], bos: Value, eos: Value| {
        let [window, documents, tokens, dropped] = numbers;
        json!({"source": source, "window": window, "bos": bos, "eos": eos, "documents": documents, "tokens": tokens, "dropped": dropped})
    };
    for (file, flags, shape, ids, mut text) in [
        ("t.txt", &[][..], [2, 5], &[3, 4, 5, 6, 3, 4, 6, 6, 5, 0][..], about("txt", [5, 1, 13, 3], Value::Null, Value::Null)),
        (
            "t.txt",
            &["--window", "4"],
            [3, 4],
            &[3, 4, 5, 6, 3, 4, 6, 6, 5, 0, 2, 4],
            about("txt", [4, 1, 13, 1], Value::Null, Value::Null),
        ),
        (
            "t.txt",
            &["--window", "5", "--bos"],
            [3, 5],
            &[1, 3, 4, 5, 6, 1, 3, 4, 6, 6, 1, 5, 0, 2, 4],
            about("txt", [5, 1, 13, 1], json!(1), Value::Null),
        ),
        ("t.JSONL", &["--window", "3"], [2, 3], &[3, 4, 2, 5, 2, 6], about("jsonl", [3, 4, 8, 2], Value::Null, json!(2))),
    ] {
        let got = case.score(file, flags);
        write(&case.data(), &tokens(&shape, |i| ids[i]));
        let want = case.score("data.safetensors", &[]);
        for key in ["loss", "perplexity", "accuracy", "labelled"] {
            assert_eq!(got[key], want[key], "{key} of {file} {flags:?}");
        }
        assert_eq!(want["data"].get("text"), None);
        let sha256 = got["data"]["text"]["tokenizer_sha256"].as_str().unwrap();
        assert_eq!(sha256.len(), 64);
        text["tokenizer_sha256"] = json!(sha256);
        assert_eq!((&got["data"]["text"], &got["data"]["name"]), (&text, &json!(file)));
    }
    let sampled = case.score("t.txt", &["--samples", "1"]);
    assert_eq!((&sampled["labelled"], &sampled["data"]["text"]["tokens"]), (&json!(4), &json!(13)));
}

#[test]
fn captures_and_runs_say_how_their_text_was_cut() {
    let case = case();
    case.put("t.txt", PROSE);
    let outcome = run(&case.on(case.capture_args(&["--bos"]), "t.txt", &[]));
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
    let bytes = std::fs::read(case.path("F")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let entries: &BTreeMap<String, String> = &header.metadata().clone().unwrap().into_iter().collect();
    let text: Value = serde_json::from_str(&entries["text"]).unwrap();
    assert_eq!((&text["window"], &text["bos"], &text["dropped"]), (&json!(5), &json!(1), &json!(1)));
    assert_eq!((entries["data"].as_str(), read(&case.path("F"))["logits"].1.clone()), ("t.txt", vec![3, 5, 9]));

    let outcome = run(&case.on(case.lib_args(&["--window", "3"]), "t.txt", &[]));
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
    let text = &manifest(&case.run_dir())["data"]["text"];
    assert_eq!(
        (&text["window"], &text["bos"], &text["tokens"], &text["dropped"]),
        (&json!(3), &Value::Null, &json!(13), &json!(1))
    );
    let outcome = run(&case.on(case.ablate_args(&["--schedule", "linear", "--points", "2"]), "t.txt", &["--window", "4"]));
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
    let curve: Value = serde_json::from_slice(&std::fs::read(case.run_dir().join("ablation-node.json")).unwrap()).unwrap();
    assert!(curve.to_string().contains("\"window\":4"), "{curve}");
}

#[test]
fn files_that_are_no_text_are_placed() {
    let case = case();
    let wanted = "expected a JSON object with a string `text`";
    for (name, bytes, sentence) in [
        ("t.txt", &b"a b\n\xffc"[..], "t.txt: no UTF-8 at byte 4; expected UTF-8 text".to_string()),
        (
            "t.jsonl",
            b"{\"text\": \"a\"}\n{\"text\": \"\xc3\"}",
            "t.jsonl: no UTF-8 at byte 24, line 2; expected UTF-8 text".into(),
        ),
        ("t.jsonl", b"{\"text\": \"a\"}\n\n{\"txt\": \"a\"}", format!("t.jsonl: line 3: no field `text`; {wanted}")),
        ("t.jsonl", b"{\"text\": [\"a\"]}", format!("t.jsonl: line 1: a `text` that is no string; {wanted}")),
        (
            "t.jsonl",
            b"{\"text\": \"a\"}\n{\"text\"",
            format!("t.jsonl: line 2: no JSON object (EOF while parsing an object at line 1 column 7); {wanted}"),
        ),
        ("t.txt", b"", "t.txt: a text whose tokens number 0; expected at least 5, those of one window".into()),
        (
            "t.jsonl",
            b"{\"text\": \"\"}",
            "t.jsonl: a text whose tokens number 0; expected at least 5, those of one window".into(),
        ),
        ("t.txt", b"a b c d", "t.txt: a text whose tokens number 4; expected at least 5, those of one window".into()),
    ] {
        case.put(name, bytes);
        assert_eq!(case.text_fails(name, &[]), sentence);
    }
    assert_eq!(case.text_fails("none.txt", &[]), "none.txt: no such file; expected a text file");
    std::fs::create_dir(case.path("folder.txt")).unwrap();
    assert_eq!(case.text_fails("folder.txt", &[]), "folder.txt: no regular file; expected a text file");
    assert_eq!(
        case.text_fails("t.txt#train", &[]),
        "--data: found t.txt#train; expected FILE alone: text has no parts with a NAME"
    );
}

#[test]
fn windows_and_bos_have_their_limits() {
    let case = case();
    case.put("t.txt", PROSE);
    let fails = |flags: &[&str]| case.text_fails("t.txt", flags);
    assert_eq!(fails(&["--window", "6"]), "--window: found 6; expected at most 5, the model's context");
    let one = "--window: found 1; expected at least 2: a window of one token has nothing to predict";
    assert_eq!((fails(&["--window", "1"]), fails(&["--window", "1", "--bos"])), (one.to_string(), one.to_string()));
    assert_eq!(run(&case.on(case.eval_args(&[]), "t.txt", &["--window", "0"])).status, Some(2));
    case.put("MODEL/tokenizer_config.json", "{}");
    let bos = fails(&["--bos"]);
    assert!(bos.starts_with("--bos: found MODEL, a model without BOS token; expected bos_token in "), "{bos}");
    for (flags, flag) in [(&["--window", "3"][..], "--window"), (&["--bos"], "--bos")] {
        let sentence = case.text_fails("data.safetensors", flags);
        assert_eq!(
            sentence,
            format!("{flag}: found data.safetensors, which is no text; expected a .txt or .jsonl file as the data")
        );
    }
    let jvp = failure(&case.on(case.jvp_args(&[]), "t.txt", &[]));
    assert!(jvp.ends_with("t.txt: text; expected a safetensors file"), "{jvp}");
}

#[test]
fn tokenizers_that_do_not_fit_are_named() {
    let case = case();
    write(&case.data(), &tokens(&[7, 4], |i| i % 9));
    case.put("t.txt", PROSE);
    let fails = |flags: &[&str]| case.text_fails("t.txt", flags);
    case.put("MODEL/tokenizer_config.json", "{\"bos_token\": \"<bos>\"}");
    let named = "MODEL/tokenizer_config.json: key bos_token is \"<bos>\"; expected a token of tokenizer.json, or null";
    assert_eq!(fails(&["--bos"]), named);
    assert!(case.score("t.txt", &[])["loss"].is_f64());
    case.put("MODEL/tokenizer_config.json", "{\"bos_token\"");
    assert!(fails(&[]).starts_with("MODEL/tokenizer_config.json: no JSON object (EOF"));
    std::fs::remove_file(case.path("MODEL/tokenizer_config.json")).unwrap();
    case.set_config("bos_token_id", json!(7));
    let id = "MODEL/config.json: key bos_token_id is 7; expected the id of a token of tokenizer.json, or null";
    assert_eq!(fails(&["--bos"]), id);
    case.set_config("bos_token_id", json!([1, 2]));
    assert_eq!(case.score("t.txt", &["--bos"])["data"]["text"]["bos"], 1);

    let mut wide = tokenizer();
    wide["model"]["vocab"]["late"] = json!(11);
    case.put("MODEL/tokenizer.json", wide.to_string());
    let size = "MODEL/tokenizer.json: a vocabulary of 12 tokens; expected at most 11, as many as the model embeds";
    assert_eq!(fails(&[]), size);
    for broken in ["", "{", "[]", "{\"model\": {}}", "\u{0}"] {
        case.put("MODEL/tokenizer.json", broken);
        let sentence = fails(&[]);
        assert!(sentence.starts_with("MODEL/tokenizer.json: no tokenizer that can be built ("), "{sentence}");
        // Data that is no text does not need it.
        assert!(case.score("data.safetensors", &[])["loss"].is_f64());
    }
    std::fs::remove_file(case.path("MODEL/tokenizer.json")).unwrap();
    assert_eq!(fails(&[]), "MODEL/tokenizer.json: no such file; expected the tokenizer.json of a model");
    let mlp = Case::new(&mlp(mlp_config(ActFn::Relu)), &BTreeMap::new());
    mlp.put("t.txt", PROSE);
    assert_eq!(mlp.text_fails("t.txt", &[]), "t.txt: text; expected safetensors with inputs [N, d], as the model is an mlp");
}

#[test]
fn a_tokenizer_that_contradicts_itself_gives_a_sentence() {
    let case = case();
    case.put("t.txt", PROSE);
    // Merges into tokens longer than any of the vocabulary.
    let model = json!({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["ab", "ab"]]});
    case.put("MODEL/tokenizer.json", json!({"version": "1.0", "added_tokens": [], "model": model}).to_string());
    let sentence = case.text_fails("t.txt", &[]);
    assert!(sentence.starts_with("MODEL/tokenizer.json: no tokenizer that can be built ("), "{sentence}");
}

#[test]
fn tensors_of_other_models_are_named() {
    let case = Case::transformer();
    let with = |name: &str, x: fn(usize) -> i64| {
        let mut data = tokens(&[7, 4], |i| i % 9);
        data.insert(name.into(), ints(&[7, 4], x));
        write(&case.data(), &data);
    };
    with("token_type_ids", |_| 0);
    assert!(case.score("data.safetensors", &[])["loss"].is_f64());
    with("token_type_ids", |i| i64::from(i == 6));
    let sentence = case.loading_fails();
    assert!(sentence.ends_with(
        "tensor token_type_ids: segment 1 at index [1, 2]; expected all zeros, or no such tensor: texts of one segment"
    ));
    with("labels", |i| if i % 4 == 1 { (i % 9) as i64 } else { -100 });
    assert_eq!(case.score("data.safetensors", &[])["labelled"], 7);
    with("labels", |_| -100);
    let sentence = failure(&case.eval_args(&[]));
    assert!(
        sentence.ends_with("tensor labels: -100 for every output; expected at least one label that names a class"),
        "{sentence}"
    );
}

#[test]
fn a_trained_model_predicts_its_text() {
    let Some(shared) = shared() else { return };
    let model = shared.join("demo/lm");
    let text = std::fs::read_to_string(model.join("sample.txt")).unwrap();
    let case = Case::transformer();
    // A piece that holds 64 windows.
    case.put("t.txt", text.chars().take(30_000).collect::<String>());
    let eval = |flags: &[&str]| -> Value {
        let path = case.path("t.txt").display().to_string();
        let args = [&["eval", model.to_str().unwrap(), "--data", &path, "--json", "--quiet"], flags].concat();
        let outcome = run(&args);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
        serde_json::from_str(&outcome.stdout).unwrap()
    };
    let plain = eval(&[]);
    assert_eq!((&plain["data"]["text"]["window"], &plain["data"]["text"]["bos"]), (&json!(128), &Value::Null));
    let bos = eval(&["--bos"]);
    assert_eq!(bos["data"]["text"]["bos"], 0);
    let [plain, bos] = [plain, bos].map(|score| score["perplexity"].as_f64().unwrap());
    println!("perplexity {plain}, with BOS {bos}");
    assert!(plain < 60.0 && bos < 60.0, "perplexity {plain}, with BOS {bos}");
}

#[test]
fn the_demo_of_text_needs_no_data() {
    let eval = |flags: &[&str]| -> Value {
        let outcome = run(&[&["eval", "demo:lm", "--samples", "16", "--json", "--quiet"], flags].concat());
        assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
        serde_json::from_str(&outcome.stdout).unwrap()
    };
    let (plain, named) = (eval(&[]), eval(&["--data", "demo:lm"]));
    assert_eq!((&plain["data"], &plain["loss"]), (&named["data"], &named["loss"]));
    assert_eq!((&plain["data"]["name"], &plain["data"]["text"]["source"]), (&json!("demo:lm"), &json!("txt")));
    assert!(plain["perplexity"].as_f64().unwrap() < 60.0, "{plain}");
    assert_eq!(eval(&["--window", "64", "--bos"])["data"]["text"]["bos"], 0);
    let dir = tempfile::tempdir().unwrap();
    let [out, graph] = ["acts.safetensors", "RUN"].map(|name| dir.path().join(name).display().to_string());
    let capture = ["capture", "demo:lm", "--sites", "mlp_act", "--layers", "0", "--samples", "2", "--quiet", "--out", &out];
    assert_eq!(run(&capture).status, Some(0));
    let bytes = std::fs::read(&out).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert!(file.iter().any(|(_, t)| t.shape() == [2, 128, 512]), "{:?}", file.names());
    let lib = ["lib", "demo:lm", "--samples", "1", "--window", "4", "--node-layers", "ln2.5,unembed", "--quiet", "--out", &graph];
    let outcome = run(&lib);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
    let sentence = failure(&["eval", "demo:lm", "--data", "demo:lm#train"]);
    assert_eq!(sentence, "--data: found demo:lm#train; expected FILE alone: text has no parts with a NAME");
}
