//! `config.json`: which architecture a model has, and its sizes.
//!
//! Every key is checked, and unknown keys are refused: a key that this build ignores could change
//! what the model computes.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::hf;
use crate::error::{Error, Result};

/// Largest width, vocabulary or context. Products of two such sizes in bytes fit into 64 bits.
pub const MAX_SIZE: usize = 1 << 24;
/// Largest number of layers.
pub const MAX_LAYERS: usize = 4096;

/// What `config.json` describes.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    Transformer(TransformerConfig),
    Mlp(MlpConfig),
    HuggingFace(Box<hf::Spec>),
}

/// A decoder-only transformer in TransformerLens' terms.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformerConfig {
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Largest number of positions.
    pub n_ctx: usize,
    pub d_head: usize,
    pub n_heads: usize,
    /// MLP neurons per block.
    pub d_mlp: usize,
    /// Number of token ids the embedding knows.
    pub d_vocab: usize,
    /// Number of logits; equal to `d_vocab` unless the file says otherwise.
    pub d_vocab_out: usize,
    pub act: ActFn,
    pub norm: Norm,
    /// Added to the variance inside every norm.
    pub eps: f64,
    /// Attention and MLP both read the block's input.
    pub parallel: bool,
    /// Attention scores are divided by `sqrt(d_head)`.
    pub attn_scale: bool,
    /// Only the last position is read out.
    pub read_last: bool,
}

/// A stack of affine maps with an activation function between each two.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpConfig {
    pub input_size: usize,
    pub hidden_sizes: Vec<usize>,
    pub output_size: usize,
    pub act: ActFn,
    /// The file holds biases; without them they are zero.
    pub bias: bool,
}

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActFn {
    Relu,
    /// `x Phi(x)`, by the error function.
    Gelu,
    /// GELU by the tanh approximation.
    GeluNew,
    Silu,
    /// `x softmax(x)` over a layer's neurons, followed by a LayerNorm.
    SoluLn,
    Tanh,
    Sigmoid,
    Identity,
}

/// The norms before attention, MLP and unembedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    None,
    /// LayerNorm without weights.
    LnPre,
    /// LayerNorm with a gain and a bias.
    Ln,
}

impl ActFn {
    const ALL: [ActFn; 8] =
        [ActFn::Relu, ActFn::Gelu, ActFn::GeluNew, ActFn::Silu, ActFn::SoluLn, ActFn::Tanh, ActFn::Sigmoid, ActFn::Identity];
    /// The name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            ActFn::Relu => "relu",
            ActFn::Gelu => "gelu",
            ActFn::GeluNew => "gelu_new",
            ActFn::Silu => "silu",
            ActFn::SoluLn => "solu_ln",
            ActFn::Tanh => "tanh",
            ActFn::Sigmoid => "sigmoid",
            ActFn::Identity => "identity",
        }
    }
    /// The function of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }
}

impl MlpConfig {
    /// The widths of all layers, from the input to the output.
    pub fn widths(&self) -> Vec<usize> {
        [&[self.input_size], self.hidden_sizes.as_slice(), &[self.output_size]].concat()
    }
}

impl Config {
    /// Reads the bytes of a `config.json`; `path` names it in errors. Also returns the file as JSON.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<(Self, Value)> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|e| Error::file(path, format!("no valid JSON ({e})"), "a JSON object"))?;
        let Value::Object(map) = &value else {
            return Err(Error::file(path, format!("JSON that is {}", brief(&value)), "a JSON object"));
        };
        let keys = Keys { path, map };
        const LAYOUTS: &str =
            "a Hugging Face model_type, or \"architecture\": \"transformer_lens\" or \"mlp\", the layouts that this build reads";
        let config = match map.get("architecture") {
            Some(Value::String(s)) if s == "transformer_lens" => Config::Transformer(transformer(&keys)?),
            Some(Value::String(s)) if s == "mlp" => Config::Mlp(mlp(&keys)?),
            Some(other) => return Err(keys.error("architecture", other, LAYOUTS)),
            None if map.contains_key("model_type") => Config::HuggingFace(Box::new(hf::read(&keys)?)),
            None => return Err(Error::file(path, "neither a key model_type nor a key architecture", LAYOUTS)),
        };
        Ok((config, value))
    }
}

impl TransformerConfig {
    /// The configuration as the contents of a `config.json`.
    pub fn to_json(&self) -> Value {
        let mut v = json!({
            "architecture": "transformer_lens",
            "n_layers": self.n_layers,
            "d_model": self.d_model,
            "n_ctx": self.n_ctx,
            "d_head": self.d_head,
            "n_heads": self.n_heads,
            "d_mlp": self.d_mlp,
            "d_vocab": self.d_vocab,
            "d_vocab_out": self.d_vocab_out,
            "act_fn": self.act.name(),
            "normalization_type": match self.norm {
                Norm::None => Value::Null,
                Norm::LnPre => "LNPre".into(),
                Norm::Ln => "LN".into(),
            },
            "eps": self.eps,
            "positional_embedding_type": "standard",
            "parallel_attn_mlp": self.parallel,
            "use_attn_scale": self.attn_scale,
        });
        if self.read_last {
            v["read_position"] = "last".into();
        }
        v
    }
}

impl MlpConfig {
    /// The configuration as the contents of a `config.json`.
    pub fn to_json(&self) -> Value {
        json!({
            "architecture": "mlp",
            "input_size": self.input_size,
            "hidden_sizes": self.hidden_sizes,
            "output_size": self.output_size,
            "activation_fn": self.act.name(),
            "bias": self.bias,
        })
    }
}

fn transformer(keys: &Keys) -> Result<TransformerConfig> {
    keys.only(&[
        "architecture",
        "n_layers",
        "d_model",
        "n_ctx",
        "d_head",
        "n_heads",
        "d_mlp",
        "d_vocab",
        "d_vocab_out",
        "act_fn",
        "normalization_type",
        "eps",
        "positional_embedding_type",
        "parallel_attn_mlp",
        "use_attn_scale",
        "read_position",
        "attention_dir",
        // Read with the tokenizer, where special tokens are asked for.
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
    ])?;
    keys.fixed("positional_embedding_type", "standard")?;
    if keys.map.contains_key("attention_dir") {
        keys.fixed("attention_dir", "causal")?;
    }
    let read_last = keys.map.contains_key("read_position");
    if read_last {
        keys.fixed("read_position", "last")?;
    }
    let norm = match keys.get("normalization_type")? {
        Value::Null => Norm::None,
        Value::String(s) if s == "LNPre" => Norm::LnPre,
        Value::String(s) if s == "LN" => Norm::Ln,
        other => return Err(keys.error("normalization_type", other, "null, \"LNPre\" or \"LN\"")),
    };
    let eps = keys.get("eps")?;
    let eps = eps.as_f64().filter(|e| *e > 0.0).ok_or_else(|| keys.error("eps", eps, "a number above 0"))?;
    let d_vocab = keys.size("d_vocab", MAX_SIZE)?;
    let c = TransformerConfig {
        n_layers: keys.size("n_layers", MAX_LAYERS)?,
        d_model: keys.size("d_model", MAX_SIZE)?,
        n_ctx: keys.size("n_ctx", MAX_SIZE)?,
        d_head: keys.size("d_head", MAX_SIZE)?,
        n_heads: keys.size("n_heads", MAX_SIZE)?,
        d_mlp: keys.size("d_mlp", MAX_SIZE)?,
        d_vocab,
        d_vocab_out: if keys.map.contains_key("d_vocab_out") { keys.size("d_vocab_out", MAX_SIZE)? } else { d_vocab },
        act: keys.act("act_fn")?,
        norm,
        eps,
        parallel: keys.bool("parallel_attn_mlp")?,
        attn_scale: keys.bool("use_attn_scale")?,
        read_last,
    };
    if c.n_heads * c.d_head > MAX_SIZE {
        let found = format!("keys n_heads and d_head are {} and {}", c.n_heads, c.d_head);
        return Err(Error::file(keys.path, found, format!("a product of at most {MAX_SIZE}")));
    }
    Ok(c)
}

fn mlp(keys: &Keys) -> Result<MlpConfig> {
    keys.only(&["architecture", "input_size", "hidden_sizes", "output_size", "activation_fn", "bias"])?;
    let act = keys.act("activation_fn")?;
    if act == ActFn::SoluLn {
        return Err(keys.error("activation_fn", &act.name().into(), "an elementwise function: the mlp layout has no norm"));
    }
    let hidden = keys.get("hidden_sizes")?;
    let wrong = || keys.error("hidden_sizes", hidden, &format!("a list of whole numbers from 1 to {MAX_SIZE}"));
    let list = hidden.as_array().ok_or_else(wrong)?;
    if list.len() >= MAX_LAYERS {
        return Err(Error::file(
            keys.path,
            format!("key hidden_sizes has {} entries", list.len()),
            format!("fewer than {MAX_LAYERS}"),
        ));
    }
    let hidden_sizes = list.iter().map(|v| whole(v, MAX_SIZE).ok_or_else(wrong)).collect::<Result<_>>()?;
    Ok(MlpConfig {
        input_size: keys.size("input_size", MAX_SIZE)?,
        hidden_sizes,
        output_size: keys.size("output_size", MAX_SIZE)?,
        act,
        bias: keys.bool("bias")?,
    })
}

/// The keys of one file, with errors that name it.
pub(super) struct Keys<'a> {
    pub(super) path: &'a Path,
    pub(super) map: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    pub(super) fn error(&self, key: &str, found: &Value, expected: &str) -> Error {
        Error::file(self.path, format!("key {key} is {}", brief(found)), expected)
    }
    fn only(&self, known: &[&str]) -> Result<()> {
        match self.map.keys().find(|k| !known.contains(&k.as_str())) {
            None => Ok(()),
            Some(k) => {
                let found = format!("unknown key {}", k.escape_debug());
                Err(Error::file(self.path, found, format!("only the keys {}", known.join(", "))))
            }
        }
    }
    pub(super) fn get(&self, key: &str) -> Result<&'a Value> {
        self.map.get(key).ok_or_else(|| Error::file(self.path, format!("no key {key}"), format!("a value for {key}")))
    }
    pub(super) fn size(&self, key: &str, max: usize) -> Result<usize> {
        let v = self.get(key)?;
        whole(v, max).ok_or_else(|| self.error(key, v, &format!("a whole number from 1 to {max}")))
    }
    pub(super) fn bool(&self, key: &str) -> Result<bool> {
        let v = self.get(key)?;
        v.as_bool().ok_or_else(|| self.error(key, v, "true or false"))
    }
    fn fixed(&self, key: &str, only: &str) -> Result<()> {
        let v = self.get(key)?;
        if v.as_str() == Some(only) { Ok(()) } else { Err(self.error(key, v, &format!("\"{only}\""))) }
    }
    fn act(&self, key: &str) -> Result<ActFn> {
        let v = self.get(key)?;
        let names = || ActFn::ALL.map(ActFn::name).join(", ");
        v.as_str().and_then(ActFn::parse).ok_or_else(|| self.error(key, v, &format!("one of {}", names())))
    }
}

/// A whole number from 1 to `max`.
fn whole(v: &Value, max: usize) -> Option<usize> {
    v.as_u64().and_then(|x| usize::try_from(x).ok()).filter(|x| (1..=max).contains(x))
}

/// A JSON value, cut to what fits into a sentence.
fn brief(v: &Value) -> String {
    let s = v.to_string();
    match s.char_indices().nth(60) {
        Some((i, _)) => format!("{}...", &s[..i]),
        None => s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Value {
        json!({
            "architecture": "transformer_lens", "n_layers": 2, "d_model": 6, "n_ctx": 5, "d_head": 3, "n_heads": 2,
            "d_mlp": 7, "d_vocab": 11, "act_fn": "gelu_new", "normalization_type": "LN", "eps": 1e-5,
            "positional_embedding_type": "standard", "parallel_attn_mlp": true, "use_attn_scale": false
        })
    }
    fn mlp_base() -> Value {
        json!({
            "architecture": "mlp", "input_size": 4, "hidden_sizes": [5, 6], "output_size": 3, "activation_fn": "tanh", "bias": false
        })
    }
    fn read(v: &Value) -> Result<Config> {
        Config::parse(Path::new("M/config.json"), v.to_string().as_bytes()).map(|(c, _)| c)
    }
    fn json_of(c: &Config) -> Value {
        match c {
            Config::Transformer(c) => c.to_json(),
            Config::Mlp(c) => c.to_json(),
            Config::HuggingFace(_) => panic!("such a configuration is only read"),
        }
    }
    fn message(v: &Value) -> String {
        let m = read(v).unwrap_err().to_string();
        assert!(m.starts_with("M/config.json: ") && m.contains("; expected ") && !m.contains('\n'), "{m}");
        m
    }
    fn with(mut v: Value, key: &str, x: Value) -> Value {
        v[key] = x;
        v
    }

    #[test]
    fn reads_every_key() {
        let Config::Transformer(c) = read(&base()).unwrap() else { panic!("not a transformer") };
        let sizes = [c.n_layers, c.d_model, c.n_ctx, c.d_head, c.n_heads, c.d_mlp, c.d_vocab, c.d_vocab_out];
        assert_eq!(sizes, [2, 6, 5, 3, 2, 7, 11, 11]);
        assert_eq!((c.act, c.norm, c.eps), (ActFn::GeluNew, Norm::Ln, 1e-5));
        assert_eq!((c.parallel, c.attn_scale, c.read_last), (true, false, false));
        let more = with(with(base(), "read_position", "last".into()), "d_vocab_out", 4.into());
        let Config::Transformer(c) = read(&with(more, "attention_dir", "causal".into())).unwrap() else { panic!() };
        assert_eq!((c.read_last, c.d_vocab_out), (true, 4));
        let Config::Mlp(m) = read(&mlp_base()).unwrap() else { panic!("not an mlp") };
        assert_eq!((m.widths(), m.act, m.bias), (vec![4, 5, 6, 3], ActFn::Tanh, false));
    }

    #[test]
    fn survives_a_round_trip() {
        for norm in [Value::Null, "LNPre".into(), "LN".into()] {
            let c = read(&with(with(base(), "normalization_type", norm), "read_position", "last".into())).unwrap();
            assert_eq!(read(&json_of(&c)).unwrap(), c);
        }
        for act in ActFn::ALL {
            let c = read(&with(base(), "act_fn", act.name().into())).unwrap();
            assert_eq!(read(&json_of(&c)).unwrap(), c);
        }
        let c = read(&mlp_base()).unwrap();
        assert_eq!(read(&json_of(&c)).unwrap(), c);
    }

    #[test]
    fn every_bad_value_names_its_key() {
        let cases = [
            ("n_layers", json!(0)),
            ("n_layers", json!(5000)),
            ("d_model", json!(0)),
            ("d_model", json!(-4)),
            ("d_model", json!(4.5)),
            ("n_ctx", json!("5")),
            ("d_head", json!(null)),
            ("n_heads", json!(1u64 << 40)),
            ("d_mlp", json!(u64::MAX)),
            ("d_vocab", json!([11])),
            ("d_vocab_out", json!(0)),
            ("act_fn", json!("swish")),
            ("act_fn", json!(3)),
            ("normalization_type", json!("RMS")),
            ("eps", json!(0.0)),
            ("eps", json!(-1e-5)),
            ("eps", json!("small")),
            ("positional_embedding_type", json!("rotary")),
            ("attention_dir", json!("bidirectional")),
            ("read_position", json!("first")),
            ("parallel_attn_mlp", json!(1)),
            ("use_attn_scale", json!("true")),
            ("architecture", json!("rnn")),
        ];
        for (key, value) in cases {
            let m = message(&with(base(), key, value.clone()));
            assert!(m.contains(&format!("key {key} is {value}")), "{m}");
        }
        for (key, value) in [
            ("input_size", json!(0)),
            ("hidden_sizes", json!([5, 0])),
            ("hidden_sizes", json!(5)),
            ("output_size", json!("3")),
            ("activation_fn", json!("solu_ln")),
            ("bias", json!(null)),
        ] {
            let m = message(&with(mlp_base(), key, value.clone()));
            assert!(m.contains(&format!("key {key} is {value}")), "{m}");
        }
    }

    #[test]
    fn every_missing_key_is_named() {
        for v in [base(), mlp_base()] {
            for key in v.as_object().unwrap().keys() {
                let mut less = v.clone();
                less.as_object_mut().unwrap().remove(key);
                // A file without its architecture could be of Hugging Face.
                let named = if key == "architecture" { "nor a key architecture".into() } else { format!("no key {key}") };
                assert!(message(&less).contains(&named));
            }
        }
    }

    #[test]
    fn refuses_unknown_keys_and_other_kinds() {
        assert!(message(&with(base(), "seed", 3.into())).contains("unknown key seed"));
        assert!(message(&with(mlp_base(), "dropout", 0.1.into())).contains("unknown key dropout"));
        let m = message(&json!({"model_type": "t5", "n_layer": 12}));
        assert!(m.contains("key model_type is \"t5\"; expected one of gpt2, gpt_neo,"), "{m}");
        let m = message(&json!({"n_layer": 12}));
        assert!(m.contains("Hugging Face") && m.contains("transformer_lens") && m.contains("mlp"), "{m}");
        assert!(message(&json!([1, 2])).contains("JSON object"));
        assert!(message(&json!("x".repeat(1000))).len() < 200);
        let heads = with(with(base(), "n_heads", MAX_SIZE.into()), "d_head", 2.into());
        assert!(message(&heads).contains("n_heads and d_head"));
        for bytes in [&b"{\"architecture\": "[..], b"", b"\xff\xfe{}"] {
            let m = Config::parse(Path::new("M/config.json"), bytes).unwrap_err().to_string();
            assert!(m.contains("M/config.json: no valid JSON"), "{m}");
        }
    }
}
