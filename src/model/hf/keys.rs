//! Reading the keys of a Hugging Face configuration. A key that is absent has the library's default for
//! the family; null is a value of its own, and stands for none only where the library takes it so.

use serde_json::Value;

use super::super::config::{Keys, MAX_LAYERS, MAX_SIZE};
use super::spec::head_width;
use crate::error::Result;
use crate::ops::activation::Activation;

/// Numbers outside this range overflow single precision in scores, norms or angles.
const SMALLEST: f64 = 1e-30;
const LARGEST: f64 = 1e30;

impl<'a> Keys<'a> {
    pub(super) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }
    /// The value of a key, unless it is absent or null.
    pub(super) fn given(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }
    pub(super) fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.has(key) { self.size(key, MAX_SIZE) } else { Ok(default) }
    }
    pub(super) fn layers_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.has(key) { self.size(key, MAX_LAYERS) } else { Ok(default) }
    }
    /// A size that may be null; `default` where it is absent.
    pub(super) fn maybe_size(&self, key: &str, default: Option<usize>) -> Result<Option<usize>> {
        match self.map.get(key) {
            None => Ok(default),
            Some(Value::Null) => Ok(None),
            Some(_) => self.size(key, MAX_SIZE).map(Some),
        }
    }
    /// `head_dim`, or the model's width over the number of heads where it is absent or null.
    pub(super) fn head_dim(&self, d_model: usize, heads: usize) -> Result<usize> {
        match self.maybe_size("head_dim", None)? {
            Some(width) => Ok(width),
            None => head_width(self, d_model, heads),
        }
    }
    /// A whole number that may be 0.
    pub(super) fn count_or(&self, key: &str, default: u64) -> Result<u64> {
        let Some(v) = self.map.get(key) else { return Ok(default) };
        v.as_u64().ok_or_else(|| self.error(key, v, "a whole number from 0"))
    }
    pub(super) fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        if self.has(key) { self.bool(key) } else { Ok(default) }
    }
    /// A positive number.
    pub(super) fn number(&self, key: &str) -> Result<f64> {
        let v = self.get(key)?;
        let expected = || format!("a number from {SMALLEST:e} to {LARGEST:e}");
        v.as_f64().filter(|x| (SMALLEST..=LARGEST).contains(x)).ok_or_else(|| self.error(key, v, &expected()))
    }
    pub(super) fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        if self.has(key) { self.number(key) } else { Ok(default) }
    }
    /// A positive number that may be null; `default` where it is absent.
    pub(super) fn maybe_number(&self, key: &str, default: Option<f64>) -> Result<Option<f64>> {
        match self.map.get(key) {
            None => Ok(default),
            Some(Value::Null) => Ok(None),
            Some(_) => self.number(key).map(Some),
        }
    }
    /// Fails if the key is there and neither null, false nor empty.
    pub(super) fn refuse(&self, key: &str, expected: &str) -> Result<()> {
        match self.given(key) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(Value::Array(a)) if a.is_empty() => Ok(()),
            Some(Value::Object(o)) if o.is_empty() => Ok(()),
            Some(v) => Err(self.error(key, v, expected)),
        }
    }
    /// Fails if the key is there with another value than the only one that is supported.
    pub(super) fn only_value(&self, key: &str, only: &Value) -> Result<()> {
        match self.given(key) {
            Some(v) if v != only => Err(self.error(key, v, &format!("{only}, the only value that this build computes"))),
            _ => Ok(()),
        }
    }
    /// The elementwise activation function of that library's name.
    pub(super) fn activation(&self, key: &str, default: &str) -> Result<Activation> {
        const NAMES: [(&str, Activation); 10] = [
            ("gelu", Activation::Gelu),
            ("gelu_python", Activation::Gelu),
            ("gelu_new", Activation::GeluNew),
            ("gelu_pytorch_tanh", Activation::GeluNew),
            ("relu", Activation::Relu),
            ("silu", Activation::Silu),
            ("swish", Activation::Silu),
            ("tanh", Activation::Tanh),
            ("sigmoid", Activation::Sigmoid),
            ("linear", Activation::Identity),
        ];
        let default = Value::from(default);
        let v = self.map.get(key).unwrap_or(&default);
        let found = NAMES.iter().find(|(name, _)| v.as_str() == Some(name)).map(|(_, act)| *act);
        found.ok_or_else(|| self.error(key, v, &format!("one of {}", NAMES.map(|(name, _)| name).join(", "))))
    }
    /// Of each layer, whether `layer_types` (or else `default`) calls its attention windowed.
    pub(super) fn windowed(&self, layers: usize, default: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
        let Some(types) = self.given("layer_types") else { return Ok((0..layers).map(default).collect()) };
        let names = || self.error("layer_types", types, &format!("{layers} of full_attention and sliding_attention"));
        let list = types.as_array().filter(|l| l.len() == layers).ok_or_else(names)?;
        let windowed = list.iter().map(|t| match t.as_str() {
            Some("full_attention") => Ok(false),
            Some("sliding_attention") => Ok(true),
            _ => Err(names()),
        });
        windowed.collect()
    }
    /// For a family whose layers are all of one kind: fails if `layer_types` calls one of another kind.
    pub(super) fn all_windowed(&self, layers: usize, windowed: bool) -> Result<()> {
        let Some(types) = self.given("layer_types") else { return Ok(()) };
        match self.windowed(layers, |_| windowed)?.contains(&!windowed) {
            false => Ok(()),
            true => {
                let kind = if windowed { "sliding_attention" } else { "full_attention" };
                Err(self.error("layer_types", types, &format!("{kind} alone, which the family computes in every layer")))
            }
        }
    }
    /// The window of each layer, where those that `is_windowed` names have the same one.
    pub(super) fn windows(&self, window: Option<usize>, is_windowed: Vec<bool>) -> Result<Vec<Option<usize>>> {
        if window.is_none() && is_windowed.contains(&true) {
            let found = self.map.get("sliding_window").unwrap_or(&Value::Null);
            return Err(self.error("sliding_window", found, "a window in use, as layers of sliding_attention have one"));
        }
        Ok(is_windowed.into_iter().map(|w| window.filter(|_| w)).collect())
    }
}
