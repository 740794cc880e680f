//! Helpers of the tests: the shared fixtures, small configurations, and safetensors files made or changed by hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::config::{ActFn, MlpConfig, Norm, TransformerConfig};

/// dtype, shape and bytes of a tensor in a file.
pub(crate) type Stored = (&'static str, Vec<usize>, Vec<u8>);
/// The tensors of a file by name.
pub(crate) type Tensors = BTreeMap<String, Stored>;

/// Two blocks with sizes that are all different.
pub(crate) fn transformer_config(norm: Norm, act: ActFn) -> TransformerConfig {
    TransformerConfig {
        n_layers: 2,
        d_model: 6,
        n_ctx: 5,
        d_head: 3,
        n_heads: 2,
        d_mlp: 7,
        d_vocab: 11,
        d_vocab_out: 9,
        act,
        norm,
        eps: 1e-5,
        parallel: false,
        attn_scale: true,
        read_last: false,
    }
}

/// Widths 4, 5, 6, 3.
pub(crate) fn mlp_config(bias: bool) -> MlpConfig {
    MlpConfig { input_size: 4, hidden_sizes: vec![5, 6], output_size: 3, act: ActFn::Tanh, bias }
}

/// The folder of shared fixtures, if it is there.
pub(crate) fn shared() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    if !dir.is_dir() {
        println!("skipped: ../shared is absent");
        return None;
    }
    Some(dir)
}

/// A `tokenizer.json`: three words between white space, the ids 0 and 4 for unknown ones and `<s>`, 5 for `</s>`.
pub(crate) fn words() -> Value {
    let special = |id: u32, content: &str| {
        let plain = json!({"id": id, "content": content, "special": true});
        let flags = ["single_word", "lstrip", "rstrip", "normalized"].map(|key| (key.to_string(), json!(false)));
        let Value::Object(map) = plain else { unreachable!("an object") };
        Value::Object(map.into_iter().chain(flags).collect())
    };
    let vocab = json!({"<unk>": 0, "the": 1, "cat": 2, "sat": 3, "<s>": 4});
    json!({
        "version": "1.0",
        "added_tokens": [special(4, "<s>"), special(5, "</s>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    })
}
/// Writes a safetensors file.
pub(crate) fn write(path: &Path, tensors: &Tensors) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, (dtype, shape, raw)) in tensors {
        let offsets = [data.len(), data.len() + raw.len()];
        header.insert(name.clone(), serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend_from_slice(raw);
    }
    let header = serde_json::Value::Object(header).to_string();
    std::fs::write(path, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()).unwrap();
}

/// Rewrites a file of f64 tensors with a change.
pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Tensors)) {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors =
        file.iter().map(|(name, t)| (name.to_string(), ("F64", t.shape().to_vec(), t.data().to_vec()))).collect();
    change(&mut tensors);
    write(path, &tensors);
}

/// The largest absolute difference; infinite where a value is NaN or the lengths differ.
pub(crate) fn max_diff(a: &[f64], b: &[f64]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    a.iter().zip(b).map(|(x, y)| if (x - y).is_nan() { f64::INFINITY } else { (x - y).abs() }).fold(0.0, f64::max)
}
