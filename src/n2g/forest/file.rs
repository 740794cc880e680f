//! `tries.safetensors`.
//!
//! | tensor | dtype, shape | |
//! |---|---|---|
//! | `neurons` | U32 [neurons, 2] | layer and number in the layer, rising |
//! | `offsets` | U32 [neurons + 1] | the nodes of neuron i are `offsets[i]` to `offsets[i + 1]`, its root first, then level by level; the children of a node stand together by rising key, behind those of the node before it |
//! | `key` | U32 [nodes] | what the node matches: a key, 2^32 - 1 for any token, 2^32 - 2 for the start of a text; 0 for roots |
//! | `children` | U32 [nodes] | how many children the node has |
//! | `value` | F32 [nodes] | value of the pattern that ends at the node, NaN where none does |
//! | `importance`, `activation` | F32 [nodes] | of the node's token, where the node was made |
//! | `activates` | U8 [nodes] | 1 where that token fired itself |
//! | `text.key` | U32 [ids] | the key of each token id; keys are counted in the order in which they first come up |
//! | `text.offsets`, `text.bytes` | U32 [ids + 1], U8 | the text of each id, UTF-8 |
//! | `name.offsets`, `name.bytes` | U32 [keys + 1], U8 | the text that stands for each key, UTF-8 |
//!
//! Metadata: `schema_version`, `choice` (`deepest`, `shallowest` or `largest`: which of the patterns that
//! match gives the prediction), `mode`, `model_sha256`, `tokenizer_sha256`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Origin, Tries};
use crate::error::{Error, Result};
use crate::model::Checkpoint;
use crate::n2g::trie::Choice;
use crate::n2g::vocabulary::Vocabulary;
use crate::ops::forest::{Flaw, Forest, Nodes};

/// The file of a RUN.
pub const FILE: &str = "tries.safetensors";
const SCHEMA_VERSION: &str = "1";
const EXPECTED: &str = "a tries.safetensors that mechgraph wrote";

impl Tries {
    /// The bytes of `tries.safetensors`: equal for equal tries.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let nodes = self.forest.to_nodes();
        let is_root = |node: usize| self.forest.offsets.binary_search(&(node as u32)).is_ok();
        let keys: Vec<u32> = nodes.key.iter().enumerate().map(|(i, key)| if is_root(i) { 0 } else { *key }).collect();
        let flags: Vec<u8> = self.activates.iter().map(|flag| (*flag).into()).collect();
        let neurons: Vec<u32> = self.neurons.iter().flat_map(|n| [n.0, n.1]).collect();
        let vocabulary = &self.vocabulary;
        let ids: Vec<u32> = (0..vocabulary.size() as u32).collect();
        let texts = Strings::new(ids.iter().map(|id| vocabulary.text(*id)))?;
        let names = Strings::new((0..vocabulary.key_count() as u32).map(|key| vocabulary.name(key)))?;
        let text_keys: Vec<u32> = ids.iter().filter_map(|id| vocabulary.key(*id)).collect();
        let reals = |x: &[f32]| ("F32", x.len(), bytemuck::cast_slice::<_, u8>(x).to_vec());
        let ints = |x: &[u32]| ("U32", x.len(), bytemuck::cast_slice::<_, u8>(x).to_vec());
        let bytes = |x: &[u8]| ("U8", x.len(), x.to_vec());
        // Those of four bytes first, so that all lie aligned.
        let tensors = [
            ("neurons", ints(&neurons)),
            ("offsets", ints(&nodes.offsets)),
            ("key", ints(&keys)),
            ("children", ints(&nodes.children)),
            ("value", reals(&nodes.value)),
            ("importance", reals(&self.importance)),
            ("activation", reals(&self.activation)),
            ("text.key", ints(&text_keys)),
            ("text.offsets", ints(&texts.offsets)),
            ("name.offsets", ints(&names.offsets)),
            ("activates", bytes(&flags)),
            ("text.bytes", bytes(texts.bytes.as_bytes())),
            ("name.bytes", bytes(names.bytes.as_bytes())),
        ];
        let metadata = BTreeMap::from([
            ("schema_version", SCHEMA_VERSION),
            ("choice", self.forest.choice.name()),
            ("mode", &self.origin.mode),
            ("model_sha256", &self.origin.model_sha256),
            ("tokenizer_sha256", &self.origin.tokenizer_sha256),
        ]);
        let mut header = Map::from_iter([("__metadata__".to_string(), json!(metadata))]);
        let mut data = Vec::new();
        for (name, (dtype, len, bytes)) in tensors {
            let shape = if name == "neurons" { vec![len / 2, 2] } else { vec![len] };
            let at = [data.len(), data.len() + bytes.len()];
            header.insert(name.into(), json!({"dtype": dtype, "shape": shape, "data_offsets": at}));
            data.extend(bytes);
        }
        let mut header = Value::Object(header).to_string();
        header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
        Ok([&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat())
    }
    /// Reads a file.
    ///
    /// Fails with one sentence, whatever the file holds, if it is not what [`Tries::to_bytes`] gives for
    /// some tries: a missing or malformed file, another version, tensors that are missing or of another
    /// shape or dtype, neurons out of order, arrays that are no tries, numbers that are not finite, texts
    /// that are no UTF-8, keys out of range.
    pub fn load(path: &Path) -> Result<Self> {
        let file = File(Checkpoint::open(path)?);
        let metadata = file.metadata()?;
        let text = |key: &str| {
            let value = metadata.get(key).and_then(Value::as_str);
            value.map(String::from).ok_or_else(|| Error::file(path, format!("no {key} in the metadata"), EXPECTED))
        };
        let version = text("schema_version")?;
        if version != SCHEMA_VERSION {
            return Err(Error::file(path, format!("schema_version {version}"), format!("schema_version {SCHEMA_VERSION}")));
        }
        let name = text("choice")?;
        let choice = Choice::ALL.into_iter().find(|choice| choice.name() == name);
        let choice = choice.ok_or_else(|| Error::file(path, format!("choice {name}"), "deepest, shallowest or largest"))?;
        let origin =
            Origin { mode: text("mode")?, model_sha256: text("model_sha256")?, tokenizer_sha256: text("tokenizer_sha256")? };
        let vocabulary = file.vocabulary()?;
        let neurons = file.neurons()?;
        let offsets = file.ints("offsets", Some(neurons.len() + 1))?;
        let key = file.ints("key", None)?;
        let count = key.len();
        let nodes = Nodes { offsets, key, children: file.ints("children", Some(count))?, value: file.reals("value", count)? };
        let (importance, activation) = (file.finite("importance", count)?, file.finite("activation", count)?);
        let activates = file.flags("activates", count)?;
        let forest = Forest::new(choice, vocabulary.key_count(), nodes)
            .map_err(|Flaw { array, found, expected }| Error::tensor(path, array, found, expected))?;
        let (forest, vocabulary) = (Arc::new(forest), Arc::new(vocabulary));
        Ok(Self { forest, vocabulary, origin, neurons, importance, activation, activates })
    }
}

/// Texts behind each other.
#[derive(Default)]
struct Strings {
    offsets: Vec<u32>,
    bytes: String,
}

impl Strings {
    fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut all = Self { offsets: vec![0], bytes: String::new() };
        for text in texts {
            all.bytes += text;
            let end = u32::try_from(all.bytes.len());
            let found = || format!("texts of {} bytes", all.bytes.len());
            all.offsets.push(end.map_err(|_| Error::numeric("vocabulary", found(), "fewer than 2^32"))?);
        }
        Ok(all)
    }
}

/// The tensors of a file, each checked for what it is.
struct File(Checkpoint);

impl File {
    fn wrong<T>(&self, tensor: &str, found: impl Into<String>, expected: impl Into<String>) -> Result<T> {
        Err(Error::tensor(self.0.path(), tensor, found, expected))
    }
    /// The metadata; the file's header has been checked but for them.
    fn metadata(&self) -> Result<Map<String, Value>> {
        let bytes = self.0.bytes();
        let header = bytes.split_first_chunk::<8>().and_then(|(len, rest)| rest.get(..u64::from_le_bytes(*len) as usize));
        let header: Option<Map<String, Value>> = header.and_then(|header| serde_json::from_slice(header).ok());
        match header.and_then(|mut header| header.remove("__metadata__")) {
            Some(Value::Object(metadata)) => Ok(metadata),
            _ => Err(Error::file(self.0.path(), "no metadata", EXPECTED)),
        }
    }
    /// A tensor `[len]`, of any length without one.
    fn check(&self, tensor: &str, len: Option<usize>) -> Result<usize> {
        let expected = || len.map_or("shape [n]".into(), |len| format!("shape [{len}]"));
        match self.0.shape(tensor) {
            None => self.wrong(tensor, format!("not in the file, which holds {}", self.0.contents()), expected()),
            Some(&[found]) if len.is_none_or(|len| len == found) => Ok(found),
            Some(shape) => self.wrong(tensor, format!("shape {shape:?}"), expected()),
        }
    }
    fn u32s(&self, tensor: &str) -> Result<Vec<u32>> {
        let values: Option<Vec<u32>> = self.0.tensor_i64(tensor)?.into_iter().map(|x| u32::try_from(x).ok()).collect();
        values.map_or_else(|| self.wrong(tensor, "a value beyond 32 bits, or below 0", "values of U32"), Ok)
    }
    fn ints(&self, tensor: &str, len: Option<usize>) -> Result<Vec<u32>> {
        self.check(tensor, len)?;
        self.u32s(tensor)
    }
    fn flags(&self, tensor: &str, len: usize) -> Result<Vec<bool>> {
        let values = self.ints(tensor, Some(len))?;
        match values.iter().find(|x| **x > 1) {
            Some(x) => self.wrong(tensor, x.to_string(), "0 or 1"),
            None => Ok(values.into_iter().map(|x| x == 1).collect()),
        }
    }
    /// Numbers that may be NaN.
    fn reals(&self, tensor: &str, len: usize) -> Result<Vec<f32>> {
        self.check(tensor, Some(len))?;
        let mut values = vec![0.0; len];
        self.0.elements(tensor)?.read_into(0, &mut values);
        Ok(values)
    }
    fn finite(&self, tensor: &str, len: usize) -> Result<Vec<f32>> {
        let values = self.reals(tensor, len)?;
        match values.iter().position(|x| !x.is_finite()) {
            Some(i) => self.wrong(tensor, format!("{} at index [{i}]", values[i]), "finite values"),
            None => Ok(values),
        }
    }
    fn neurons(&self) -> Result<Vec<(u32, u32)>> {
        let tensor = "neurons";
        match self.0.shape(tensor) {
            Some(&[_, 2]) => {}
            Some(shape) => return self.wrong(tensor, format!("shape {shape:?}"), "shape [n, 2]"),
            None => return self.wrong(tensor, format!("not in the file, which holds {}", self.0.contents()), "shape [n, 2]"),
        }
        let neurons: Vec<(u32, u32)> = self.u32s(tensor)?.chunks_exact(2).map(|n| (n[0], n[1])).collect();
        match neurons.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(&[(a, b), (c, d)]) => self.wrong(tensor, format!("neuron {c}:{d} behind {a}:{b}"), "rising neurons"),
            _ => Ok(neurons),
        }
    }
    /// The strings `WHAT.offsets` and `WHAT.bytes`.
    fn strings(&self, what: &str, count: Option<usize>) -> Result<Vec<String>> {
        let (offsets, bytes) = (format!("{what}.offsets"), format!("{what}.bytes"));
        let ends = self.ints(&offsets, count.map(|count| count + 1))?;
        self.check(&bytes, None)?;
        let raw: Option<Vec<u8>> = self.0.tensor_i64(&bytes)?.into_iter().map(|x| u8::try_from(x).ok()).collect();
        let text = raw.and_then(|raw| String::from_utf8(raw).ok());
        let Some(text) = text else { return self.wrong(&bytes, "no UTF-8", "texts in UTF-8") };
        if (ends.first(), ends.last().map(|&end| end as usize)) != (Some(&0), Some(text.len())) {
            return self.wrong(&offsets, "offsets that do not span the bytes", format!("0 to {}", text.len()));
        }
        let part = |pair: &[u32]| text.get(pair[0] as usize..pair[1] as usize).map(String::from);
        let parts: Option<Vec<String>> = ends.windows(2).map(part).collect();
        parts.map_or_else(|| self.wrong(&offsets, "offsets that fall, or end within a character", "rising ends of texts"), Ok)
    }
    fn vocabulary(&self) -> Result<Vocabulary> {
        let keys = self.ints("text.key", None)?;
        let (texts, names) = (self.strings("text", Some(keys.len()))?, self.strings("name", None)?);
        let vocabulary = Vocabulary::from_parts(texts, keys, names);
        vocabulary.map_or_else(|| self.wrong("text.key", "keys out of order", "every key of a name, counted as they come up"), Ok)
    }
}
