//! Text as samples: its tokens in one stream, cut into windows of one length.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::text::{Documents, TextKind};
use super::{DataSet, Samples};
use crate::error::{Error, Result};
use crate::model::{Loaded, Tokenizer};

/// Tokens in a window where nothing is said, if the model's context holds as many.
const DEFAULT_WINDOW: usize = 128;

/// How text is to be cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Tokens in a window; `None`: 128, or the model's context if that is shorter.
    pub window: Option<usize>,
    /// Every window begins with the BOS token, which is one of its tokens.
    pub bos: bool,
}

/// How the samples of a text came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextInfo {
    pub source: TextKind,
    /// Tokens in a window, the BOS token included.
    pub window: usize,
    /// The id that begins every window, if one does.
    pub bos: Option<u32>,
    /// The id between two documents; `None` for a .txt, and where the model has none.
    pub eos: Option<u32>,
    /// Documents of the file, empty ones included.
    pub documents: usize,
    /// Tokens of the stream: those of the documents and the EOS between them.
    pub tokens: usize,
    /// Tokens at the end of the stream that fill no window.
    pub dropped: usize,
    /// SHA-256 of `tokenizer.json`, in hexadecimal.
    pub tokenizer_sha256: String,
}

/// The windows of a text file for `loaded`.
///
/// The ids of a .txt are those of the whole file in one piece, without special tokens around it. The
/// documents of a .jsonl are encoded one by one, and the EOS token, where the model has one, stands
/// between each two of those that have tokens: an empty one adds nothing. The windows do not overlap;
/// what is left at the end is dropped.
///
/// Fails with one sentence on a model without tokens or without tokenizer, a window that does not fit
/// into its context or holds nothing to predict, a BOS token that it does not have, and a text shorter
/// than one window.
pub fn windows(path: &Path, kind: TextKind, loaded: &Loaded, cut: Cut) -> Result<DataSet> {
    let Some(n_ctx) = loaded.model.n_ctx() else {
        return Err(Error::file(path, "text", "safetensors with inputs [N, d], as the model is an mlp"));
    };
    let window = window(cut, n_ctx)?;
    let documents = Documents::read(path, kind)?;
    let tokenizer = loaded.tokenizer()?;
    let bos = if cut.bos { Some(bos(&tokenizer, &loaded.name)?) } else { None };
    let eos = if kind == TextKind::Jsonl { tokenizer.eos()? } else { None };
    let stream = joined_tokens(&documents.texts, &tokenizer, eos)?;
    let own = window - usize::from(bos.is_some());
    let n = stream.len() / own;
    if n == 0 {
        let found = format!("a text whose tokens number {}", stream.len());
        return Err(Error::file(path, found, format!("at least {own}, those of one window")));
    }
    let ids = stream.chunks_exact(own).flat_map(|w| bos.into_iter().chain(w.iter().copied())).collect();
    let text = TextInfo {
        source: kind,
        window,
        bos,
        eos,
        documents: documents.texts.len(),
        tokens: stream.len(),
        dropped: stream.len() % own,
        tokenizer_sha256: tokenizer.sha256().into(),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let samples = Samples::Tokens { ids, n, t: window };
    Ok(DataSet { samples, labels: None, mask: None, text: Some(text), name, sha256: documents.sha256 })
}

/// The BOS token of the model `name`.
fn bos(tokenizer: &Tokenizer, name: &str) -> Result<u32> {
    tokenizer.bos()?.ok_or_else(|| {
        let expected = "bos_token in tokenizer_config.json or bos_token_id in config.json";
        Error::flag("--bos", format!("{name}, a model without BOS token"), expected)
    })
}

/// The length of the windows, for a model that reads `n_ctx` tokens.
fn window(cut: Cut, n_ctx: usize) -> Result<usize> {
    let wrong = |found: String, expected: String| Err(Error::flag("--window", found, expected));
    match cut.window {
        Some(w) if w > n_ctx => wrong(w.to_string(), format!("at most {n_ctx}, the model's context")),
        Some(w) if w < 2 => wrong(w.to_string(), "at least 2: a window of one token has nothing to predict".into()),
        None if n_ctx < 2 => wrong(format!("a context of {n_ctx}"), "a model that reads at least 2 tokens of text".into()),
        chosen => Ok(chosen.unwrap_or(DEFAULT_WINDOW.min(n_ctx))),
    }
}

/// The tokens of the documents, `eos` between each two that have some.
pub fn joined_tokens(texts: &[String], tokenizer: &Tokenizer, eos: Option<u32>) -> Result<Vec<u32>> {
    let mut stream = Vec::new();
    for text in texts {
        let ids = tokenizer.encode(text)?;
        if !ids.is_empty() && !stream.is_empty() {
            stream.extend(eos);
        }
        stream.extend(ids);
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::*;
    use crate::data::load_or_cut;
    use crate::device::DType;
    use crate::model::fixture::{mlp_config, transformer_config, words};
    use crate::model::{ActFn, Model, Norm, random_mlp, random_transformer, save};

    /// A model of context 5 that embeds 11 ids, in a folder with a tokenizer.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            let config = transformer_config(Norm::None, ActFn::Relu);
            let folder = Self::of(&Model::Transformer(random_transformer(config, DType::F32, 1).unwrap()));
            folder.write("tokenizer.json", &words().to_string());
            folder
        }
        fn of(model: &Model) -> Self {
            let dir = tempfile::tempdir().unwrap();
            save(model, dir.path()).unwrap();
            Self(dir)
        }
        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }
        fn load(&self, spec: &str, window: impl Into<Option<usize>>, bos: bool) -> Result<DataSet> {
            let loaded = Model::load(self.0.path().to_str().unwrap(), DType::F32)?;
            load_or_cut(&format!("{}/{spec}", self.0.path().display()), &loaded, Cut { window: window.into(), bos })
        }
        fn message(&self, spec: &str, window: impl Into<Option<usize>>, bos: bool) -> String {
            let message = self.load(spec, window, bos).unwrap_err().to_string();
            message.replace(&format!("{}/", self.0.path().display()), "")
        }
    }

    fn ids(set: &DataSet) -> Vec<&[u32]> {
        let Samples::Tokens { ids, t, .. } = &set.samples else { panic!("no tokens") };
        ids.chunks_exact(*t).collect()
    }

    #[test]
    fn a_txt_is_cut_into_windows_that_do_not_overlap() {
        let f = Folder::new();
        f.write("t.TXT", "the cat sat the dog\nsat cat the the sat </s>cat cat");
        let set = f.load("t.TXT", None, false).unwrap();
        assert_eq!(ids(&set), [[1, 2, 3, 1, 0], [3, 2, 1, 1, 3]]);
        assert_eq!((set.labels, set.mask, set.name.as_str(), set.sha256.len()), (None, None, "t.TXT", 64));
        let mut info = TextInfo {
            source: TextKind::Txt,
            window: 5,
            bos: None,
            eos: None,
            documents: 1,
            tokens: 13,
            dropped: 3,
            tokenizer_sha256: f.load("t.TXT", 2, false).unwrap().text.unwrap().tokenizer_sha256,
        };
        assert_eq!((set.text.as_ref(), info.tokenizer_sha256.len()), (Some(&info), 64));
        f.write("tokenizer_config.json", &json!({"bos_token": "<s>", "eos_token": "</s>"}).to_string());
        let set = f.load("t.TXT", 4, true).unwrap();
        assert_eq!(ids(&set), [[4, 1, 2, 3], [4, 1, 0, 3], [4, 2, 1, 1], [4, 3, 5, 2]]);
        (info.window, info.bos, info.dropped) = (4, Some(4), 1);
        assert_eq!(set.text, Some(info));
    }

    #[test]
    fn documents_are_joined_by_eos_where_there_is_one() {
        let f = Folder::new();
        let documents = ["", "the cat", " ", "sat", "the the", ""].map(|text| json!({"text": text}).to_string());
        f.write("t.jsonl", &documents.join("\n"));
        let set = f.load("t.jsonl", 2, false).unwrap();
        assert_eq!(ids(&set), [[1, 2], [3, 1]]);
        let info = set.text.unwrap();
        assert_eq!((info.source, info.eos, info.documents, info.tokens, info.dropped), (TextKind::Jsonl, None, 6, 5, 1));
        f.write("tokenizer_config.json", &json!({"eos_token": "</s>"}).to_string());
        let set = f.load("t.jsonl", 2, false).unwrap();
        assert_eq!(ids(&set), [[1, 2], [5, 3], [5, 1]]);
        let info = set.text.unwrap();
        assert_eq!((info.bos, info.eos, info.documents, info.tokens, info.dropped), (None, Some(5), 6, 7, 1));
    }

    #[test]
    fn the_text_of_a_demo_is_cut_like_any_other() {
        let lm = Model::load("demo:lm", DType::F32).unwrap();
        let set = load_or_cut("demo:lm", &lm, Cut::default()).unwrap();
        let text = include_str!("../../demos/lm/sample.txt");
        let f = Folder::new();
        let file = load_or_cut(f.write("sample.txt", text).to_str().unwrap(), &lm, Cut::default()).unwrap();
        assert_eq!((set.name.as_str(), &set.sha256), ("demo:lm", &file.sha256));
        assert_eq!((&set.samples, &set.text), (&file.samples, &file.text));
        let info = set.text.unwrap();
        assert_eq!((info.source, info.window, info.documents), (TextKind::Txt, 128, 1));
        // A model without tokenizer takes no text from anywhere.
        let modadd = Model::load("demo:modadd", DType::F32).unwrap();
        let e = load_or_cut("demo:lm", &modadd, Cut::default()).unwrap_err().to_string();
        assert!(e.ends_with("tokenizer.json: no such file; expected the tokenizer.json of a model"), "{e}");
    }

    #[test]
    fn what_fills_no_window_is_refused() {
        let f = Folder::new();
        f.write("empty.txt", "");
        f.write("none.jsonl", "\n");
        f.write("blank.jsonl", "{\"text\": \"\"}\n{\"text\": \" \"}");
        f.write("short.txt", "the cat sat the");
        for (name, found) in [("empty.txt", 0), ("none.jsonl", 0), ("blank.jsonl", 0), ("short.txt", 4)] {
            let expected = "expected at least 5, those of one window";
            assert_eq!(f.message(name, None, false), format!("{name}: a text whose tokens number {found}; {expected}"));
        }
        assert!(f.load("short.txt", 4, false).is_ok());
        f.write("tokenizer_config.json", &json!({"bos_token": "<s>"}).to_string());
        assert!(f.load("short.txt", 5, true).is_ok());
        assert!(f.message("empty.txt", 2, true).ends_with("number 0; expected at least 1, those of one window"));
    }

    #[test]
    fn windows_fit_the_model() {
        let f = Folder::new();
        f.write("t.txt", "the cat sat the");
        assert_eq!(f.message("t.txt", 6, false), "--window: found 6; expected at most 5, the model's context");
        for bos in [false, true] {
            let e = "--window: found 1; expected at least 2: a window of one token has nothing to predict";
            assert_eq!(f.message("t.txt", 1, bos), e);
        }
        let e = f.message("t.txt", 2, true);
        assert!(e.starts_with("--bos: found ") && e.contains(", a model without BOS token; expected bos_token in "), "{e}");
        let config = crate::model::TransformerConfig { n_ctx: 1, ..transformer_config(Norm::None, ActFn::Relu) };
        let f = Folder::of(&Model::Transformer(random_transformer(config, DType::F32, 1).unwrap()));
        assert!(f.message("t.txt", None, false).starts_with("--window: found a context of 1; expected"));
    }

    #[test]
    fn tokenizers_fit_the_model() {
        let f = Folder::new();
        f.write("t.txt", "the cat sat the");
        let mut file = words();
        file["added_tokens"][1]["id"] = Value::from(10);
        file["model"]["vocab"]["</s>"] = Value::from(10);
        f.write("tokenizer.json", &file.to_string());
        assert!(f.load("t.txt", 2, false).is_ok());
        file["model"]["vocab"]["late"] = Value::from(11);
        f.write("tokenizer.json", &file.to_string());
        let e = f.message("t.txt", 2, false);
        assert_eq!(e, "tokenizer.json: a vocabulary of 12 tokens; expected at most 11, as many as the model embeds");
        std::fs::remove_file(f.0.path().join("tokenizer.json")).unwrap();
        let e = f.message("t.txt", 2, false);
        assert_eq!(e, "tokenizer.json: no such file; expected the tokenizer.json of a model");
        assert_eq!(f.message("no.txt", 2, false), "no.txt: no such file; expected a text file");
        let mlp = Folder::of(&Model::Mlp(random_mlp(mlp_config(true), DType::F32, 1).unwrap()));
        let e = mlp.message("t.txt", None, false);
        assert_eq!(e, "t.txt: text; expected safetensors with inputs [N, d], as the model is an mlp");
    }
}
