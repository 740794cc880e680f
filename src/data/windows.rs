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
    let bos = match (cut.bos, tokenizer.bos()?) {
        (false, _) => None,
        (true, Some(id)) => Some(id),
        (true, None) => {
            let expected = "bos_token in tokenizer_config.json or bos_token_id in config.json";
            return Err(Error::flag("--bos", format!("{}, a model without BOS token", loaded.name), expected));
        }
    };
    let eos = if kind == TextKind::Jsonl { tokenizer.eos()? } else { None };
    let stream = stream(&documents.texts, &tokenizer, eos)?;
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
fn stream(texts: &[String], tokenizer: &Tokenizer, eos: Option<u32>) -> Result<Vec<u32>> {
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
