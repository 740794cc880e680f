//! `tokenizer.json` of a model folder: text to token ids and back, by the library of the file's format.
//!
//! Nothing here touches the network or starts a thread, and no file or text makes it panic.

mod cuts;
mod guard;
mod mask;
mod texts;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokenizers::models::ModelWrapper;
use tokenizers::utils::parallelism::set_parallelism;
use tokenizers::{PostProcessorWrapper, Tokenizer as Pipeline};

use crate::error::{Error, Result};
use crate::text;
use guard::guarded;
pub use mask::Frame;

/// The file in a model's folder.
pub const FILE: &str = "tokenizer.json";
/// The file beside it that may name special tokens.
const NAMES: &str = "tokenizer_config.json";
/// The most bytes of a `tokenizer.json`; those of vocabularies of a quarter million tokens have some 30 MB.
const MAX_BYTES: u64 = 256 << 20;
/// The most white space characters in a row. From some hundred thousand on, the patterns that split text
/// give up their search without a word, and the ids would not be those of the other bindings.
const MAX_BLANKS: usize = 100_000;
const EXPECTED: &str = "the tokenizer.json of a model";

/// The tokenizer of a model.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    path: PathBuf,
    pipeline: Pipeline,
    size: usize,
    /// Whether a long text may be encoded in pieces.
    may_cut: bool,
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
        let files = files(folder)?;
        let named = files.get(1).map_or(b"{}".as_slice(), |(_, bytes)| bytes);
        Self::parse(&folder.join(FILE), &files[0].1, (folder.join(NAMES), named), config)
    }
    /// As [`Tokenizer::open`], from the bytes of a `tokenizer.json` that lies in no folder; `folder` stands
    /// for it in errors.
    pub fn embedded(folder: &Path, bytes: &[u8], config: &Value) -> Result<Self> {
        Self::parse(&folder.join(FILE), bytes, (folder.join(NAMES), b"{}"), config)
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
        let may_cut = cuts::may_cut(&pipeline);
        Ok(Self { path: path.into(), pipeline, size, may_cut, names: (names, named), ids: (config_path, config.clone()), sha256 })
    }
    /// The ids of a whole text, without special tokens around it. Special tokens that stand in the
    /// text by name get their ids, as in the library's other bindings.
    ///
    /// Fails on more than 100,000 white space characters in a row, and on characters for which the
    /// vocabulary has neither a token nor one for the unknown, if the model calls that an error.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if let Some(at) = long_blank(text) {
            let found = format!("a text with more than {MAX_BLANKS} white space characters in a row, up to byte {at}");
            return Err(Error::file(&self.path, found, "shorter runs of white space: patterns would give up there"));
        }
        let failed = |e| Error::file(&self.path, format!("a tokenizer that fails on the text ({e})"), "one that can encode it");
        let (mut ids, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let (piece, later) = if self.may_cut { cuts::next_piece(rest, cuts::PIECE) } else { (rest, "") };
            ids.extend_from_slice(guarded(|| self.pipeline.encode_fast(piece, false)).map_err(failed)?.get_ids());
            rest = later;
        }
        Ok(ids)
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
    /// By id below [`Tokenizer::size`]: the text of that token alone, as a reader of text sees it.
    ///
    /// Tokens of byte-level vocabularies are their bytes as UTF-8, and those of byte fallbacks (`<0x0A>`)
    /// their byte; bytes that are no UTF-8 alone are escaped as `\xE2\x80`, so that different bytes have
    /// different texts. `▁` of SentencePiece is a space. Special tokens have their names, word pieces keep
    /// their `##`, and an id without token is `<id 123>`.
    pub fn token_texts(&self) -> Result<Vec<String>> {
        let failed =
            |e| Error::file(&self.path, format!("a tokenizer that fails to list its tokens ({e})"), "one that can list them");
        guarded(|| Ok(texts::texts(&self.pipeline, self.size))).map_err(failed)
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
    /// The ids of special tokens, which stand for no text, ascending.
    pub fn special_ids(&self) -> Vec<u32> {
        let added = self.pipeline.get_added_tokens_decoder();
        let mut ids: Vec<u32> = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
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

/// Names and bytes: `tokenizer.json` of a folder and, where there is one, `tokenizer_config.json`.
pub fn files(folder: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut files = vec![(FILE, text::read_up_to(&folder.join(FILE), EXPECTED, MAX_BYTES)?)];
    let names = folder.join(NAMES);
    if names.exists() {
        files.push((NAMES, text::read(&names, "a JSON object")?));
    }
    Ok(files)
}

/// Where a run of white space becomes too long.
fn long_blank(text: &str) -> Option<usize> {
    let mut run = 0;
    let mut too_long = |c: char| {
        run = if c.is_whitespace() { run + 1 } else { 0 };
        run > MAX_BLANKS
    };
    text.char_indices().find(|(_, c)| too_long(*c)).map(|(at, _)| at)
}

/// A value of a file, short enough for a sentence.
fn brief(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::fixture::{shared, words};

    fn parse_with(file: &Value, named: &str, config: &Value) -> Result<Tokenizer> {
        let names = (PathBuf::from("M/tokenizer_config.json"), named.as_bytes());
        Tokenizer::parse(Path::new("M/tokenizer.json"), file.to_string().as_bytes(), names, config)
    }
    fn parse(file: &Value) -> Result<Tokenizer> {
        parse_with(file, "{}", &Value::Null)
    }
    fn message(file: &Value) -> String {
        let e = parse(file).unwrap_err().to_string();
        assert!(e.starts_with("M/tokenizer.json: ") && e.contains("; expected "), "{e}");
        e
    }

    #[test]
    fn text_becomes_ids_and_ids_text() {
        let t = parse(&words()).unwrap();
        assert_eq!(t.encode("the cat\nsat <s>the dog</s>").unwrap(), [1, 2, 3, 4, 1, 0, 5]);
        assert_eq!((t.encode("").unwrap(), t.encode(" \n").unwrap(), t.size()), (vec![], vec![], 6));
        assert_eq!((t.decode(&[1, 4, 0]).unwrap(), t.decode(&[5]).unwrap()), ("the <s> <unk>".into(), "</s>".into()));
        let e = t.decode(&[1, 6]).unwrap_err().to_string();
        assert_eq!(e, "M/tokenizer.json: no token of id 6; expected ids of its vocabulary");
        assert_eq!(t.sha256(), format!("{:x}", Sha256::digest(words().to_string())));
    }

    #[test]
    fn neither_truncation_nor_padding_nor_a_template_is_applied() {
        let mut file = words();
        file["truncation"] = json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
        file["padding"] = json!({"strategy": {"Fixed": 5}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"});
        file["post_processor"] = json!({"type": "BertProcessing", "sep": ["</s>", 5], "cls": ["<s>", 4]});
        let t = parse(&file).unwrap();
        assert_eq!((t.encode("the cat sat the").unwrap(), t.encode("the").unwrap()), (vec![1, 2, 3, 1], vec![1]));
    }

    #[test]
    fn special_tokens_come_from_one_file_or_the_other() {
        let find = |named: &str, config: Value| {
            let t = parse_with(&words(), named, &config).unwrap();
            (t.bos().map_err(|e| e.to_string()), t.eos().map_err(|e| e.to_string()))
        };
        let ids = json!({"bos_token_id": 1, "eos_token_id": [2, 3]});
        assert_eq!(find("{}", Value::Null), (Ok(None), Ok(None)));
        assert_eq!(find("{}", json!({"bos_token_id": null, "eos_token_id": []})), (Ok(None), Ok(None)));
        assert_eq!(find("{}", ids.clone()), (Ok(Some(1)), Ok(Some(2))));
        assert_eq!(find(r#"{"bos_token": "<s>", "eos_token": null}"#, ids.clone()), (Ok(Some(4)), Ok(Some(2))));
        assert_eq!(find(r#"{"eos_token": {"content": "</s>", "special": true}}"#, ids), (Ok(Some(1)), Ok(Some(5))));
        for (token, shown) in [("\"<bos>\"", "\"<bos>\""), ("3", "3"), ("{\"content\": 3}", "{\"content\":3}")] {
            let bos = find(&format!("{{\"bos_token\": {token}}}"), Value::Null).0.unwrap_err();
            let expected = "expected a token of tokenizer.json, or null";
            assert_eq!(bos, format!("M/tokenizer_config.json: key bos_token is {shown}; {expected}"));
        }
        for id in [json!(6), json!(-1), json!("<s>"), json!(1.5), json!([6, 1]), json!(4294967296u64)] {
            let bos = find("{}", json!({"bos_token_id": id})).0.unwrap_err();
            assert!(bos.starts_with("M/config.json: key bos_token_id is ") && bos.ends_with("or null"), "{bos}");
        }
        let e = parse_with(&words(), "[]", &Value::Null).unwrap_err().to_string();
        assert!(e.starts_with("M/tokenizer_config.json: no JSON object (invalid type: sequence"), "{e}");
    }

    #[test]
    fn broken_files_are_refused() {
        let with = |key: &str, value: Value| {
            let mut file = words();
            file[key] = value;
            file
        };
        let bpe = |merges: Value, more: Value| {
            let mut model = json!({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": merges});
            model.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
            with("model", model)
        };
        assert!(parse(&bpe(json!([["a", "b"]]), json!({"dropout": 0.0}))).is_ok());
        for (file, part) in [
            (json!([]), "no tokenizer that can be built ("),
            (json!({}), "no tokenizer that can be built ("),
            (with("version", json!("9.0")), "no tokenizer that can be built ("),
            (with("model", json!({"type": "none"})), "no tokenizer that can be built ("),
            (
                with(
                    "pre_tokenizer",
                    json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}),
                ),
                "no tokenizer that can be built (",
            ),
            (bpe(json!([["a", "c"]]), Value::Null), "no tokenizer that can be built ("),
            // Merges longer than any token, and shorter than the prefix that they should have.
            (bpe(json!([["ab", "ab"]]), Value::Null), "no tokenizer that can be built ("),
            (bpe(json!([["a", "b"]]), json!({"continuing_subword_prefix": "###"})), "no tokenizer that can be built ("),
            (bpe(json!([]), json!({"dropout": 0.5})), "merges that are dropped at random (dropout 0.5)"),
        ] {
            let e = message(&file);
            assert!(e.contains(part), "{e}");
        }
        let mut empty = with("model", json!({"type": "WordLevel", "vocab": {}, "unk_token": "<unk>"}));
        empty["added_tokens"] = json!([]);
        assert!(message(&empty).contains("an empty vocabulary"));
    }

    #[test]
    fn texts_that_cannot_be_encoded_are_refused() {
        let mut file = words();
        file["model"]["unk_token"] = json!("<none>");
        let e = parse(&file).unwrap().encode("the dog").unwrap_err().to_string();
        assert!(e.starts_with("M/tokenizer.json: a tokenizer that fails on the text ("), "{e}");
        let t = parse(&words()).unwrap();
        let blank = "\n ".repeat(MAX_BLANKS / 2);
        assert_eq!(t.encode(&format!("the{blank}the{blank}cat")).unwrap(), [1, 1, 2]);
        let e = t.encode(&format!("the{blank} cat")).unwrap_err().to_string();
        assert!(e.contains("a text with more than 100000 white space characters in a row, up to byte 100003; expected"), "{e}");
    }

    #[test]
    fn missing_and_huge_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Tokenizer::open(dir.path(), &Value::Null).map(drop).map_err(|e| e.to_string());
        assert!(open().unwrap_err().ends_with("tokenizer.json: no such file; expected the tokenizer.json of a model"));
        std::fs::write(dir.path().join(FILE), words().to_string()).unwrap();
        assert_eq!(open(), Ok(()));
        std::fs::write(dir.path().join("tokenizer_config.json"), "{").unwrap();
        assert!(open().unwrap_err().contains("tokenizer_config.json: no JSON object (EOF"));
        std::fs::File::create(dir.path().join(FILE)).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(open().unwrap_err().contains("tokenizer.json: more than 268435456 bytes"));
    }

    #[test]
    fn published_ids_are_met() {
        let Some(shared) = shared() else { return };
        let folder = shared.join("fixtures/lm/glassllm-en");
        let t = Tokenizer::open(&folder, &json!({"bos_token_id": 2, "eos_token_id": 3})).unwrap();
        assert!(t.may_cut);
        let text = std::fs::read_to_string(shared.join("fixtures/lm/alice.txt")).unwrap();
        let goldens = crate::model::Checkpoint::open(&folder.join("goldens.safetensors")).unwrap();
        let want: Vec<u32> = goldens.tensor_i64("all_tokens").unwrap().into_iter().map(|id| id as u32).collect();
        assert!(want.len() > 40_000);
        assert_eq!(t.encode(&text).unwrap(), want);
        assert!(text.starts_with(&t.decode(&want[..2000]).unwrap()));
        assert_eq!((t.size(), t.bos().unwrap(), t.eos().unwrap()), (1024, Some(2), Some(3)));
        // Longer than a piece, and in one piece.
        let long = text.repeat(3);
        assert!(long.len() > cuts::PIECE);
        let whole = Tokenizer { may_cut: false, ..t.clone() };
        assert_eq!(t.encode(&long).unwrap(), whole.encode(&long).unwrap());
    }
}
