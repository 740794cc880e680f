//! What commands that read an N2G run share: the name of a neuron, and the files of the RUN.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde_json::Value;

use super::run_dir::RunDir;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::model::Tokenizer;
use crate::n2g::forest::{self, Tries};
use crate::n2g::record::{self, Record};
use crate::n2g::records::{self, Records};
use crate::text;

/// A neuron as it is typed: `LAYER:NEURON`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neuron {
    pub layer: usize,
    pub neuron: usize,
}

impl FromStr for Neuron {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parts = text.split_once(':').and_then(|(l, n)| Some(Self { layer: l.parse().ok()?, neuron: n.parse().ok()? }));
        parts.ok_or_else(|| "expected LAYER:NEURON, as in 3:17".into())
    }
}

impl fmt::Display for Neuron {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.layer, self.neuron)
    }
}

/// The folder of a finished N2G run.
#[derive(Debug)]
pub struct Opened {
    pub dir: RunDir,
    pub manifest: Manifest,
}

impl Opened {
    /// Fails on a folder that holds no finished run, or one of another command.
    pub fn new(path: &Path) -> Result<Self> {
        let (dir, manifest) = RunDir::open_finished(path)?;
        match manifest.fingerprint.command.as_str() {
            "n2g" => Ok(Self { dir, manifest }),
            other => Err(Error::file(path, format!("a run of `mechgraph {other}`"), "a run of `mechgraph n2g`")),
        }
    }
    /// The record of a neuron; fails if the run has none of this name.
    pub fn record(&self, neuron: Neuron) -> Result<Record> {
        let path = self.dir.file(record::FILE);
        records::find(&path, neuron.layer, neuron.neuron)?
            .ok_or_else(|| Error::file(&path, format!("no neuron {neuron}"), "LAYER:NEURON of a neuron that the run has"))
    }
    /// All records, in the order of the file.
    pub fn records(&self) -> Result<Records> {
        Records::open(&self.dir.file(record::FILE))
    }
    /// The tries; `None` where the run ended before them.
    pub fn tries(&self) -> Result<Option<Tries>> {
        let path = self.dir.file(forest::FILE);
        path.exists().then(|| Tries::load(&path)).transpose()
    }
    /// The tokenizer; what it does not say itself it takes from a `config.json` beside it.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let config = self.dir.file("config.json");
        let json = match config.exists() {
            true => serde_json::from_slice(&text::read(&config, "a JSON object")?)
                .map_err(|e| Error::file(&config, format!("no valid JSON ({e})"), "the config.json of the model"))?,
            false => Value::Null,
        };
        Tokenizer::open(&self.dir.file(""), &json)
    }
    /// Fails on tries that were built from another model or with another tokenizer than the run's.
    pub fn check_origin(&self, tries: &Tries, tokenizer: &Tokenizer) -> Result<()> {
        let (origin, model) = (&tries.origin, &self.manifest.fingerprint.model);
        for (what, name, sha256) in
            [("model", &origin.model_sha256, model.sha256.as_str()), ("tokenizer", &origin.tokenizer_sha256, tokenizer.sha256())]
        {
            if name != sha256 {
                let short = |sha256: &str| sha256.chars().take(12).collect::<String>();
                let found = format!("tries of another {what} (sha256 {})", short(name));
                let expected = format!("those of the run's {what} (sha256 {})", short(sha256));
                return Err(Error::file(&self.dir.file(forest::FILE), found, expected));
            }
        }
        Ok(())
    }
    /// By id: the text of the token.
    pub fn texts(&self) -> Result<Vec<String>> {
        texts(&self.dir)
    }
}

/// By id: the text of the token, from the tokenizer in the folder of a run.
pub fn texts(dir: &RunDir) -> Result<Vec<String>> {
    Tokenizer::open(&dir.file(""), &Value::Null)?.token_texts()
}

/// The text of an id, also of one beyond the vocabulary.
pub fn text_of(texts: &[String], id: u32) -> String {
    texts.get(id as usize).cloned().unwrap_or_else(|| format!("<id {id}>"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cli::tests::parsed;
    use crate::manifest::tests::example;
    use crate::model::fixture::words;
    use crate::n2g::fixture::{line, record, vocabulary};
    use crate::n2g::forest::Origin;
    use crate::n2g::trie::{Choice, Trie};

    /// The trie of neuron 0:1: ` cat` behind `the`, and behind two tokens and a line feed.
    pub(crate) fn tries() -> Tries {
        let v = vocabulary(&["the", " cat", "\n"]);
        let mut trie = Trie::new();
        trie.insert(&line(&v, &[(" cat", 1.0, 0.75), ("the", 0.9, 0.0)]));
        trie.insert(&line(&v, &[(" cat", 1.0, 0.5), ("*", 0.1, 0.0), ("*", 0.1, 0.0), ("\n", 0.9, 0.0)]));
        Tries::new(Origin::default(), Choice::Deepest, Arc::new(v), [((0, 1), trie)]).unwrap()
    }

    /// A finished run of these neurons, with a tokenizer of six ids.
    pub(crate) fn run_of(path: &Path, neurons: &[(usize, usize)]) -> RunDir {
        let mut manifest = example();
        manifest.fingerprint.command = "n2g".into();
        let dir = RunDir::create(path, true, &manifest).unwrap();
        let lines = neurons.iter().map(|&(l, n)| serde_json::to_string(&record(l, n)).unwrap() + "\n");
        dir.write(record::FILE, lines.collect::<String>().as_bytes()).unwrap();
        dir.write("tokenizer.json", words().to_string().as_bytes()).unwrap();
        dir.finish(manifest, Vec::new()).unwrap();
        dir
    }

    #[test]
    fn neurons_are_named_by_layer_and_number() {
        assert_eq!("3:17".parse(), Ok(Neuron { layer: 3, neuron: 17 }));
        assert_eq!(Neuron { layer: 3, neuron: 17 }.to_string(), "3:17");
        for bad in ["", "3", "3:", ":1", "3:x", "-1:2", "1:2:3", "1_2", "1:99999999999999999999999"] {
            assert!(bad.parse::<Neuron>().is_err(), "{bad}");
        }
        assert!(parsed("mechgraph show RUN 3").unwrap_err().starts_with("usage: "));
    }

    #[test]
    fn other_folders_and_neurons_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("RUN");
        let message = |neuron: &str| {
            let e = Opened::new(&path).and_then(|run| run.record(neuron.parse().unwrap())).map(drop).unwrap_err().to_string();
            assert!(!e.contains('\n'), "{e}");
            e.replace(&format!("{}", path.display()), "RUN")
        };
        assert_eq!(message("0:0"), "RUN: nothing; expected the folder of a finished run");
        let lib = RunDir::create(&path, false, &example()).unwrap();
        assert_eq!(message("0:0"), "RUN: an unfinished run; expected the folder of a finished run");
        lib.finish(example(), Vec::new()).unwrap();
        assert_eq!(message("0:0"), "RUN: a run of `mechgraph lib`; expected a run of `mechgraph n2g`");
        run_of(&path, &[(0, 1), (1, 0)]);
        let e = message("1:1");
        assert_eq!(e, "RUN/neurons.jsonl: no neuron 1:1; expected LAYER:NEURON of a neuron that the run has");
        let run = Opened::new(&path).unwrap();
        assert_eq!(run.record("1:0".parse().unwrap()).unwrap(), record(1, 0));
        assert!(run.tries().unwrap().is_none());
        run.dir.write(forest::FILE, &tries().to_bytes().unwrap()).unwrap();
        assert_eq!(run.tries().unwrap().unwrap().find(0, 1), Some(0));
        run.dir.write(forest::FILE, b"x").unwrap();
        assert!(run.tries().unwrap_err().to_string().contains("tries.safetensors: "));
        assert_eq!((run.records().unwrap().count(), run.texts().unwrap()[2].as_str()), (2, "cat"));
        std::fs::remove_file(path.join("neurons.jsonl")).unwrap();
        assert_eq!(message("0:1"), "RUN/neurons.jsonl: no such file; expected the records of neurons");
        std::fs::remove_file(path.join("tokenizer.json")).unwrap();
        let e = run.texts().unwrap_err().to_string();
        assert!(e.ends_with("tokenizer.json: no such file; expected the tokenizer.json of a model"), "{e}");
    }

    #[test]
    fn ids_beyond_the_vocabulary_have_a_text() {
        let texts = ["a".to_string()];
        assert_eq!((text_of(&texts, 0), text_of(&texts, 1)), ("a".into(), "<id 1>".into()));
    }
}
