//! `tokenizer.json` of a model folder: text to token ids and back, by the library of the file's format.
//!
//! Nothing here touches the network or starts a thread, and no file or text makes it panic.

mod guard;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokenizers::models::ModelWrapper;
use tokenizers::utils::parallelism::set_parallelism;
use tokenizers::{PostProcessorWrapper, Tokenizer as Pipeline};

use crate::error::{Error, Result};
use crate::text;
use guard::guarded;

/// The file in a model's folder.
pub const FILE: &str = "tokenizer.json";
/// The most bytes of a `tokenizer.json`; those of vocabularies of a quarter million tokens have some 30 MB.
const MAX_BYTES: u64 = 256 << 20;
const EXPECTED: &str = "the tokenizer.json of a model";

/// The tokenizer of a model.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    path: PathBuf,
    pipeline: Pipeline,
    size: usize,
    /// The files that may name special tokens, in the order in which they are asked.
    names: (PathBuf, Map<String, Value>),
    ids: (PathBuf, Value),
    sha256: String,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, where there is one, `tokenizer_config.json` of `folder`; `config` is
    /// the content of its `config.json`.
    ///
    /// Fails with one sentence on a missing or broken file, and on merges that are dropped at random.
    pub fn open(folder: &Path, config: &Value) -> Result<Self> {
        let path = folder.join(FILE);
        let bytes = text::read_up_to(&path, EXPECTED, MAX_BYTES)?;
        let names = folder.join("tokenizer_config.json");
        let named = if names.exists() { text::read(&names, "a JSON object")? } else { b"{}".to_vec() };
        Self::parse(&path, &bytes, (names, &named), config)
    }
    fn parse(path: &Path, bytes: &[u8], (names, named): (PathBuf, &[u8]), config: &Value) -> Result<Self> {
        let broken = |e: String| Error::file(path, format!("no tokenizer that can be built ({e})"), EXPECTED);
        // The library's own threads would be beyond --threads.
        set_parallelism(false);
        let (pipeline, size) = guarded(|| {
            let mut pipeline = Pipeline::from_bytes(bytes)?;
            // A text is wanted whole, and with no token that is not in it.
            pipeline.with_truncation(None)?;
            pipeline.with_padding(None).with_post_processor(None::<PostProcessorWrapper>);
            let size = pipeline.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
            Ok((pipeline, size))
        })
        .map_err(broken)?;
        if size == 0 {
            return Err(Error::file(path, "an empty vocabulary", EXPECTED));
        }
        if let ModelWrapper::BPE(bpe) = pipeline.get_model()
            && let Some(p) = bpe.dropout.filter(|p| *p > 0.0)
        {
            return Err(Error::file(path, format!("merges that are dropped at random (dropout {p})"), "no dropout, or 0"));
        }
        let named = serde_json::from_slice(named)
            .map_err(|e| Error::file(&names, format!("no JSON object ({e})"), "a tokenizer's configuration"))?;
        let config_path = path.with_file_name("config.json");
        let sha256 = format!("{:x}", Sha256::digest(bytes));
        Ok(Self { path: path.into(), pipeline, size, names: (names, named), ids: (config_path, config.clone()), sha256 })
    }
    /// The ids of a whole text, without special tokens around it. Special tokens that stand in the
    /// text by name get their ids, as in the library's other bindings.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoded = guarded(|| self.pipeline.encode_fast(text, false));
        let failed = |e| Error::file(&self.path, format!("a tokenizer that fails on the text ({e})"), "one that can encode it");
        encoded.map(|e| e.get_ids().to_vec()).map_err(failed)
    }
    /// The text of `ids`, special tokens by name. Where the ids end within a character, U+FFFD stands
    /// for it. Fails on an id that is not in the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        if let Some(id) = ids.iter().find(|id| self.pipeline.id_to_token(**id).is_none()) {
            return Err(Error::file(&self.path, format!("no token of id {id}"), "ids of its vocabulary"));
        }
        let failed =
            |e| Error::file(&self.path, format!("a tokenizer that fails on token ids ({e})"), "one that can decode them");
        guarded(|| self.pipeline.decode(ids, false)).map_err(failed)
    }
    /// The largest id + 1, tokens that were added to the vocabulary included.
    pub fn size(&self) -> usize {
        self.size
    }
    /// The token that begins a text: `bos_token` of `tokenizer_config.json` (a string, or an object with
    /// the string `content`), else `bos_token_id` of `config.json` (a number, or the first of a list),
    /// else none. Fails if the token is not in the vocabulary.
    pub fn bos(&self) -> Result<Option<u32>> {
        self.special("bos_token")
    }
    /// The token that ends a text, found as in [`Tokenizer::bos`] by `eos_token` and `eos_token_id`.
    pub fn eos(&self) -> Result<Option<u32>> {
        self.special("eos_token")
    }
    /// SHA-256 of `tokenizer.json`, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
    fn special(&self, key: &str) -> Result<Option<u32>> {
        let (path, names) = &self.names;
        match names.get(key) {
            None | Some(Value::Null) => self.special_id(&format!("{key}_id")),
            Some(token) => {
                let expected = "a token of tokenizer.json, or null";
                let name = token.as_str().or_else(|| token.get("content")?.as_str());
                let id = name.and_then(|n| self.pipeline.token_to_id(n));
                id.map(Some).ok_or_else(|| Error::file(path, format!("key {key} is {}", brief(token)), expected))
            }
        }
    }
    fn special_id(&self, key: &str) -> Result<Option<u32>> {
        let (path, config) = &self.ids;
        let value = match config.get(key) {
            Some(Value::Array(list)) => list.first(),
            other => other,
        };
        let Some(value) = value.filter(|v| !v.is_null()) else { return Ok(None) };
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        let known = id.filter(|id| self.pipeline.id_to_token(*id).is_some());
        let expected = "the id of a token of tokenizer.json, or null";
        known.map(Some).ok_or_else(|| Error::file(path, format!("key {key} is {}", brief(value)), expected))
    }
}

/// A value of a file, short enough for a sentence.
fn brief(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}
