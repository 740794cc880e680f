//! `mechgraph predict` on the folder of a run: what it prints, and what it refuses.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mechgraph::device::DType;
use mechgraph::manifest::{DeviceInfo, Fingerprint, Manifest, Source};
use mechgraph::model::Tokenizer;
use mechgraph::n2g::forest::{Origin, Tries};
use mechgraph::n2g::lines::{Element, Line};
use mechgraph::n2g::trie::{Choice, START, Trie, WILDCARD};
use mechgraph::n2g::vocabulary::{Fold, Vocabulary};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::{Tensors, failure, run, tokens, write};
use crate::text::tokenizer;

/// A finished run over the tokenizer of `text`: `a <- b` fires neuron 0:2 with 0.75, and so does `c` anywhere with 1;
/// `d` after anything at the start of a text fires 1:0 with 2.5.
struct Run(TempDir);

impl Run {
    fn new(bos: bool) -> Self {
        let run = Self(tempfile::tempdir().unwrap());
        run.put("tokenizer.json", &tokenizer().to_string());
        run.put("config.json", "{\"bos_token_id\": 1, \"eos_token_id\": 2}");
        let sha256 = Tokenizer::open(run.0.path(), &Value::Null).unwrap().sha256().to_string();
        let texts = ["<unk>", "<s>", "</s>", "a", "b", "c", "d"].map(String::from).to_vec();
        let trie = |patterns: &[(&[u32], f64)]| {
            let mut trie = Trie::new();
            for (keys, value) in patterns {
                let element = |key: &u32| Element { key: *key, importance: 1.0, activation: 0.0, activates: true };
                trie.insert(&Line { elements: keys.iter().map(element).collect(), value: *value });
            }
            trie
        };
        let tries = [((0, 2), trie(&[(&[3, 4], 0.75), (&[5], 1.0)])), ((1, 0), trie(&[(&[6, WILDCARD, START], 2.5)]))];
        let origin = Origin { mode: "default".into(), model_sha256: "ab".repeat(32), tokenizer_sha256: sha256.clone() };
        let tries = Tries::new(origin, Choice::Deepest, Arc::new(Vocabulary::new(texts, Fold::Exact)), tries).unwrap();
        std::fs::write(run.path("tries.safetensors"), tries.to_bytes().unwrap()).unwrap();
        run.manifest("n2g", &"ab".repeat(32), if bos { json!(1) } else { Value::Null });
        run
    }
    fn manifest(&self, command: &str, model: &str, bos: Value) {
        let text = json!({
            "source": "txt", "window": 4, "bos": bos, "eos": null, "documents": 1, "tokens": 9, "dropped": 1,
            "tokenizer_sha256": "cd",
        });
        let mut data = Source::new("t.txt", "t.txt", "ef");
        data.text = Some(serde_json::from_value(text).unwrap());
        let fingerprint = Fingerprint {
            command: command.into(),
            version: "0".into(),
            config: Default::default(),
            model: Source::new("M", "M", model),
            data: Some(data),
            gram_data: None,
            held_out: None,
            augment: None,
            seed: 0,
            dtype: DType::F32,
            backend: "cpu".into(),
        };
        let device = DeviceInfo { backend: "cpu".into(), name: "CPU".into(), threads: 1 };
        let mut manifest = Manifest::new(fingerprint, device);
        manifest.finish(vec![]);
        self.put("run.json", &manifest.to_json().unwrap());
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn put(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }
    fn args(&self, flags: &[&str]) -> Vec<String> {
        let folder = self.0.path().display().to_string();
        let file = |flag: &&str| flag.strip_prefix('@').map_or(flag.to_string(), |name| self.path(name).display().to_string());
        ["predict".into(), folder, "--backend".into(), "cpu".into()].into_iter().chain(flags.iter().map(file)).collect()
    }
    fn prints(&self, flags: &[&str]) -> String {
        let outcome = run(&self.args(flags));
        assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{flags:?}");
        outcome.stdout
    }
    /// The predictions as JSON: window, position, token, layer, neuron and value of each.
    fn json(&self, flags: &[&str]) -> Vec<Value> {
        let printed: Value = serde_json::from_str(&self.prints(&[flags, &["--json"]].concat())).unwrap();
        let kind = [&printed["schema_version"], &printed["mode"], &printed["choice"]];
        assert_eq!(kind, [&json!(1), &json!("default"), &json!("deepest")]);
        let fields = ["window", "position", "token", "layer", "neuron", "value"];
        printed["predictions"].as_array().unwrap().iter().map(|p| fields.iter().map(|f| p[*f].clone()).collect()).collect()
    }
    fn fails(&self, flags: &[&str]) -> String {
        failure(&self.args(flags))
            .replace(&format!("{}/", self.0.path().display()), "")
            .replace(&self.0.path().display().to_string(), "RUN")
    }
}

#[test]
fn a_text_is_predicted_token_by_token() {
    let run = Run::new(false);
    let table = [
        "position  neuron         value  token",
        "       1  0:2           0.7500  \"a\"",
        "       1  1:0           2.5000  \"d\"",
        "       2  0:2           1.0000  \"c\"",
    ];
    assert_eq!(run.prints(&["--text", "b a c d"]), [table[0], table[1], table[3]].map(|line| format!("{line}\n")).concat());
    assert_eq!(run.prints(&["--text", "c d d"]).lines().nth(2), Some(table[2]));
    assert_eq!(run.prints(&["--text", "d a"]).lines().collect::<Vec<_>>(), [table[0]]);
    let found = run.json(&["--text", "b a c d"]);
    assert_eq!(found, [json!([null, 1, "a", 0, 2, 0.75]), json!([null, 2, "c", 0, 2, 1.0])]);
    assert_eq!(run.json(&["--text", "d"]), [] as [Value; 0]);
}

#[test]
fn one_neuron_is_told_of_every_token() {
    let run = Run::new(false);
    let found = run.json(&["--text", "b a d", "--neuron", "0:2"]);
    assert_eq!(found, [json!([null, 0, "b", 0, 2, 0.0]), json!([null, 1, "a", 0, 2, 0.75]), json!([null, 2, "d", 0, 2, 0.0])]);
    assert_eq!(run.json(&["--text", "b d", "--neuron", "1:0"])[1], json!([null, 1, "d", 1, 0, 2.5]));
}

#[test]
fn a_file_is_read_window_by_window() {
    let run = Run::new(false);
    run.put("t.txt", "a d b a c d c d a");
    let windows = [json!([0, 1, "d", 1, 0, 2.5]), json!([0, 3, "a", 0, 2, 0.75]), json!([1, 0, "c", 0, 2, 1.0])];
    let late = [json!([1, 1, "d", 1, 0, 2.5]), json!([1, 2, "c", 0, 2, 1.0])];
    assert_eq!(run.json(&["--data", "@t.txt"]), [&windows[..], &late].concat());
    // Windows of 2: a d, b a, c d, c d.
    let found = run.json(&["--data", "@t.txt", "--window", "2"]);
    let places: Vec<_> = found.iter().map(|p| (p[0].as_u64().unwrap(), p[1].as_u64().unwrap())).collect();
    assert_eq!(places, [(0, 1), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]);
    let table = run.prints(&["--data", "@t.txt"]);
    assert_eq!(table.lines().next(), Some("window  position  neuron         value  token"));
    assert_eq!(table.lines().nth(1), Some("     0         1  1:0           2.5000  \"d\""));
    // The EOS token stands between documents.
    run.put("t.jsonl", "{\"text\": \"b\"}\n{\"text\": \"a c\"}\n");
    assert_eq!(run.json(&["--data", "@t.jsonl"]), [json!([0, 3, "c", 0, 2, 1.0])]);
}

#[test]
fn sequences_of_ids_are_taken_as_they_are() {
    // The windows of the run begin with the BOS token; what is given as ids does as it is given.
    let run = Run::new(true);
    let path = run.path("t.safetensors");
    let ids = [4, 3, 5, 3, 6, 6];
    write(&path, &tokens(&[2, 3], |i| ids[i]));
    let found = run.json(&["--data", "@t.safetensors"]);
    assert_eq!(found, [json!([0, 1, "a", 0, 2, 0.75]), json!([0, 2, "c", 0, 2, 1.0]), json!([1, 1, "d", 1, 0, 2.5])]);
    let named = tokens(&[1, 2], |_| 5).remove("tokens").unwrap();
    write(&path, &Tensors::from([("some.tokens".into(), named)]));
    let all = [json!([0, 0, "c", 0, 2, 1.0]), json!([0, 1, "c", 0, 2, 1.0])];
    for spec in ["t.safetensors", "t.safetensors#some"] {
        let spec = run.path(spec).display().to_string();
        assert_eq!(run.json(&["--data", &spec]), all);
    }
    let window = "--window: found t.safetensors, which is no text; expected a .txt or .jsonl file as the data";
    assert_eq!(run.fails(&["--data", "@t.safetensors", "--window", "2"]), window);
    let other = run.path("t.safetensors#other").display().to_string();
    let missing = "t.safetensors: tensor other.tokens: not in the file, which holds some.tokens; expected token ids [N, T]";
    assert_eq!(run.fails(&["--data", &other]), missing);
    write(&path, &tokens(&[2, 2], |i| 4 + i));
    let beyond = "token id 7 in row 1, position 1; expected ids from 0 to 6, the tokenizer's vocabulary";
    assert_eq!(run.fails(&["--data", "@t.safetensors"]), format!("t.safetensors: tensor tokens: {beyond}"));
}

#[test]
fn windows_begin_as_those_of_the_run() {
    let run = Run::new(true);
    // With the BOS token the d is at position 1, behind one token.
    assert_eq!(run.json(&["--text", "d c"]), [json!([null, 1, "d", 1, 0, 2.5]), json!([null, 2, "c", 0, 2, 1.0])]);
    run.put("t.txt", "b a c d a b");
    let found = run.json(&["--data", "@t.txt"]);
    assert_eq!(found, [json!([0, 2, "a", 0, 2, 0.75]), json!([0, 3, "c", 0, 2, 1.0]), json!([1, 1, "d", 1, 0, 2.5])]);
    let least = "--window: found 1; expected at least 2: the run's windows begin with the BOS token";
    assert_eq!(run.fails(&["--data", "@t.txt", "--window", "1"]), least);
}

#[test]
fn what_cannot_be_predicted_is_refused() {
    let new = || Run::new(false);
    let text = ["--text", "a"];
    assert_eq!(new().fails(&["--text", " "]), "--text: found a text without tokens; expected one with a token at least");
    let one = "expected --data: a text given as such is one window";
    assert_eq!(new().fails(&["--text", "a", "--window", "3"]), format!("--window: found 3 beside --text; {one}"));
    assert_eq!(
        new().fails(&["--text", "a", "--neuron", "0:3"]),
        "--neuron: found 0:3; expected one of the 2 that the run has, 0:2 to 1:0"
    );
    let missing = new().fails(&["--data", "@t.safetensors"]);
    assert!(missing.starts_with("t.safetensors: no such file; expected "), "{missing}");
    assert_eq!(new().fails(&["--data", "@t.txt"]), "t.txt: no such file; expected a text file");
    let run = new();
    run.put("t.txt", "a b c");
    assert_eq!(run.fails(&["--data", "@t.txt"]), "t.txt: a text whose tokens number 3; expected at least 4, those of one window");
    for wrong in
        [&[][..], &["--text", "a", "--data", "b.txt"], &["--text", "a", "--neuron", "3"], &["--text", "a", "--window", "0"]]
    {
        assert_eq!(crate::command::run(&run.args(wrong)).status, Some(2), "{wrong:?}");
    }

    let run = new();
    run.manifest("lib", "ab", Value::Null);
    assert_eq!(run.fails(&text), "RUN: a run of `mechgraph lib`; expected a run of `mechgraph n2g`");
    let other = "expected those of the run's";
    run.manifest("n2g", &"cd".repeat(32), Value::Null);
    let want = format!("tries.safetensors: tries of another model (sha256 abababababab); {other} model (sha256 cdcdcdcdcdcd)");
    assert_eq!(run.fails(&text), want);
    let run = new();
    run.put("tokenizer.json", &tokenizer().to_string().replace("\"d\":6", "\"e\":6"));
    let found = run.fails(&text);
    assert!(found.starts_with("tries.safetensors: tries of another tokenizer (sha256 ") && found.contains(other), "{found}");
    let run = new();
    run.put("config.json", "{");
    assert!(run.fails(&text).starts_with("config.json: no valid JSON ("));
    let remove = |name: &str| {
        let run = new();
        std::fs::remove_file(run.path(name)).unwrap();
        run.fails(&text)
    };
    let tries = "expected the tries of a run that went as far as tries";
    assert_eq!(remove("tries.safetensors"), format!("tries.safetensors: no such file; {tries}"));
    assert_eq!(remove("tokenizer.json"), "tokenizer.json: no such file; expected the tokenizer.json of a model");
    assert_eq!(remove("run.json"), "RUN: no run.json; expected the folder of a finished run");
    let run = new();
    run.put("tries.safetensors", "tries of some kind");
    assert!(run.fails(&text).starts_with("tries.safetensors: a header length of "));
    assert!(failure(&["predict", Path::new("/none").to_str().unwrap(), "--text", "a"]).starts_with("/none: nothing; expected"));
}
