//! Reading the keys of a Hugging Face configuration, where a key that is absent or null has a default.

use serde_json::Value;

use super::super::config::{Keys, MAX_SIZE};
use crate::error::Result;
use crate::model::lm::Rotary;
use crate::model::lm::rotary::Llama3;
use crate::ops::activation::Activation;

impl<'a> Keys<'a> {
    /// The value of a key, unless it is absent or null.
    pub(super) fn given(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }
    pub(super) fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.given(key).is_some() { self.size(key, MAX_SIZE) } else { Ok(default) }
    }
    pub(super) fn maybe_size(&self, key: &str) -> Result<Option<usize>> {
        self.given(key).map(|_| self.size(key, MAX_SIZE)).transpose()
    }
    pub(super) fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        if self.given(key).is_some() { self.bool(key) } else { Ok(default) }
    }
    /// A positive number.
    pub(super) fn number(&self, key: &str) -> Result<f64> {
        let v = self.get(key)?;
        v.as_f64().filter(|x| *x > 0.0 && x.is_finite()).ok_or_else(|| self.error(key, v, "a number above 0"))
    }
    pub(super) fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        if self.given(key).is_some() { self.number(key) } else { Ok(default) }
    }
    pub(super) fn maybe_number(&self, key: &str) -> Result<Option<f64>> {
        self.given(key).map(|_| self.number(key)).transpose()
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
        let v = self.given(key).unwrap_or(&default);
        let found = NAMES.iter().find(|(name, _)| v.as_str() == Some(name)).map(|(_, act)| *act);
        found.ok_or_else(|| self.error(key, v, &format!("one of {}", NAMES.map(|(name, _)| name).join(", "))))
    }
    /// The rotary embedding of heads of which a `share` is rotated. `theta_key` names the base; the newer
    /// key `rope_parameters` holds base, share and scaling together.
    pub(super) fn rotary(&self, theta_key: &str, theta: f64, d_head: usize, share_key: Option<&str>) -> Result<Rotary> {
        let parameters = self.section("rope_parameters")?;
        let theta = match &parameters {
            Some(p) if p.given("rope_theta").is_some() => p.number("rope_theta")?,
            _ => self.number_or(theta_key, theta)?,
        };
        let share = match (&parameters, share_key) {
            (Some(p), _) if p.given("partial_rotary_factor").is_some() => p.number("partial_rotary_factor")?,
            (_, Some(key)) => self.number_or(key, 1.0)?,
            (_, None) => 1.0,
        };
        // Rounded down, as the library does.
        let width = (d_head as f64 * share) as usize;
        if width == 0 || !width.is_multiple_of(2) || width > d_head {
            let found = format!("heads of width {d_head} of which {share} is rotated, {width} coordinates");
            return Err(crate::error::Error::file(self.path, found, "an even number of at least 2 rotated coordinates"));
        }
        let rotary = Rotary::new(theta, width);
        for section in [parameters, self.section("rope_scaling")?].into_iter().flatten() {
            let kind = section.given("rope_type").or_else(|| section.given("type")).and_then(Value::as_str);
            match kind {
                None | Some("default") => {}
                Some("llama3") => {
                    return Ok(rotary.llama3(&Llama3 {
                        factor: section.number("factor")?,
                        low_freq_factor: section.number("low_freq_factor")?,
                        high_freq_factor: section.number("high_freq_factor")?,
                        original_context: section.number("original_max_position_embeddings")?,
                    }));
                }
                Some(other) => {
                    let found = Value::from(other);
                    return Err(section.error(
                        "rope_type",
                        &found,
                        "default or llama3, the rotary scalings that this build computes",
                    ));
                }
            }
        }
        Ok(rotary)
    }
    /// A nested object.
    fn section(&self, key: &str) -> Result<Option<Keys<'a>>> {
        match self.given(key) {
            None => Ok(None),
            Some(Value::Object(map)) if map.values().any(Value::is_object) => {
                Err(self.error(key, &Value::Object(map.clone()), "one set of parameters for all layers"))
            }
            Some(Value::Object(map)) => Ok(Some(Keys { path: self.path, map })),
            Some(v) => Err(self.error(key, v, "an object or null")),
        }
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
}
