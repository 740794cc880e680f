//! The rotary embedding that a configuration describes: base, share of each head and rescaling, in the
//! spellings of the library's versions 4 (`rope_theta`, `rope_scaling`) and 5 (`rope_parameters`).

use serde_json::Value;

use super::super::config::Keys;
use crate::error::{Error, Result};
use crate::model::lm::Rotary;
use crate::model::lm::rotary::Llama3;

/// How a family names what it rotates.
#[derive(Clone, Copy, Debug)]
pub(super) struct RopeKeys {
    /// The base, at the top level of the file.
    pub theta: &'static str,
    /// The share of each head that is rotated, at the top level, and its default; `None` where all is.
    pub share: Option<(&'static str, f64)>,
}

/// Whole heads, base `rope_theta`.
pub(super) const WHOLE: RopeKeys = RopeKeys { theta: "rope_theta", share: None };
const BASE: f64 = 10_000.0;
const SHARE: &str = "partial_rotary_factor";

impl<'a> Keys<'a> {
    /// The rotary embedding of heads of width `d_head` in a model of context `n_ctx`. As in the library, a
    /// `rope_scaling` that is not empty takes the place of `rope_parameters`, and what the section in
    /// use lacks comes from the top level of the file.
    pub(super) fn rotary(&self, names: RopeKeys, d_head: usize, n_ctx: usize) -> Result<Rotary> {
        let (older, newer) = (self.section("rope_scaling")?, self.section("rope_parameters")?);
        let section = older.filter(|s| !s.map.is_empty()).or(newer);
        let within = |key: &str| section.as_ref().filter(|s| s.has(key));
        let theta = match within("rope_theta") {
            Some(s) => s.number("rope_theta")?,
            None => self.number_or(names.theta, BASE)?,
        };
        let share = match (within(SHARE), names.share) {
            (Some(s), Some(_)) => s.number(SHARE)?,
            (None, Some((key, default))) => self.number_or(key, default)?,
            (found, None) => {
                let keys = found.unwrap_or(self);
                match keys.given(SHARE) {
                    Some(v) if v.as_f64() != Some(1.0) => {
                        return Err(keys.error(SHARE, v, "1, as the family rotates whole heads"));
                    }
                    _ => 1.0,
                }
            }
        };
        // Rounded down, as the library does.
        let width = (d_head as f64 * share) as usize;
        if width == 0 || !width.is_multiple_of(2) || width > d_head {
            let found = format!("heads of width {d_head} of which {share} is rotated, {width} coordinates");
            return Err(Error::file(self.path, found, "an even number of rotated coordinates, from 2 to the width of a head"));
        }
        let rotary = Rotary::new(theta, width);
        let Some(s) = section else { return Ok(rotary) };
        let kind = s.map.get("rope_type").or_else(|| s.map.get("type"));
        match kind.map(|v| v.as_str().ok_or(v)) {
            None | Some(Ok("default")) => Ok(rotary),
            Some(Ok("llama3")) => {
                let (low, high) = (s.number("low_freq_factor")?, s.number("high_freq_factor")?);
                if high <= low {
                    return Err(s.error("high_freq_factor", &high.into(), &format!("more than low_freq_factor, {low}")));
                }
                Ok(rotary.llama3(&Llama3 {
                    factor: s.number("factor")?,
                    low_freq_factor: low,
                    high_freq_factor: high,
                    original_context: s.number_or("original_max_position_embeddings", n_ctx as f64)?,
                }))
            }
            Some(Ok(_) | Err(_)) => {
                let expected = "\"default\" or \"llama3\", the rotary scalings that this build computes";
                Err(s.error(if s.has("rope_type") { "rope_type" } else { "type" }, kind.unwrap_or(&Value::Null), expected))
            }
        }
    }
    /// A nested object of one set of parameters.
    fn section(&self, key: &str) -> Result<Option<Keys<'a>>> {
        match self.given(key) {
            None => Ok(None),
            Some(v @ Value::Object(map)) if map.values().any(Value::is_object) => {
                Err(self.error(key, v, "one set of parameters for all layers"))
            }
            Some(Value::Object(map)) => Ok(Some(Keys { path: self.path, map })),
            Some(v) => Err(self.error(key, v, "an object or null")),
        }
    }
}
