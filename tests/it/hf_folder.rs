//! Tiny Hugging Face folders of every family with random weights, for tests that need no fixtures.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::command::{Case, Stored, Tensors, ints, tokens, write};
use crate::common::numbers;

/// Every `model_type`.
pub const FAMILIES: [&str; 12] =
    ["gpt2", "gpt_neo", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi", "bert", "distilbert"];

/// Widths of the residual stream, of a head and of the MLP, and the other sizes of the folders.
const WIDTH: usize = 12;
const HEAD: usize = 4;
const MLP: usize = 7;
pub const VOCABULARY: usize = 11;
pub const CONTEXT: usize = 5;
const LAYERS: usize = 2;

pub fn is_encoder(family: &str) -> bool {
    ["bert", "distilbert"].contains(&family)
}

/// The keys of a family's configuration that hold sizes.
pub fn size_keys(family: &str) -> Vec<&'static str> {
    match family {
        "gpt2" => vec!["n_embd", "n_head", "n_layer", "n_positions", "n_inner", "vocab_size"],
        "gpt_neo" => vec![
            "hidden_size",
            "num_heads",
            "num_layers",
            "max_position_embeddings",
            "intermediate_size",
            "window_size",
            "vocab_size",
        ],
        "distilbert" => vec!["dim", "n_heads", "n_layers", "hidden_dim", "max_position_embeddings", "vocab_size"],
        _ => {
            let mut keys = vec![
                "hidden_size",
                "num_attention_heads",
                "num_hidden_layers",
                "intermediate_size",
                "max_position_embeddings",
                "vocab_size",
            ];
            match family {
                "gpt_neox" => {}
                "bert" => keys.push("type_vocab_size"),
                "mistral" | "gemma2" => keys.extend(["num_key_value_heads", "sliding_window", "head_dim"]),
                _ => keys.extend(["num_key_value_heads", "head_dim"]),
            }
            keys
        }
    }
}

/// The configuration of a family's folder.
pub fn config(family: &str) -> Value {
    let mut config = json!({"model_type": family});
    for key in size_keys(family) {
        config[key] = match key {
            "n_embd" | "hidden_size" | "dim" => WIDTH,
            "n_head" | "num_heads" | "n_heads" | "num_attention_heads" => WIDTH / HEAD,
            "n_layer" | "num_layers" | "n_layers" | "num_hidden_layers" => LAYERS,
            "n_inner" | "intermediate_size" | "hidden_dim" => MLP,
            "vocab_size" => VOCABULARY,
            "num_key_value_heads" => kv_heads(family),
            "head_dim" => HEAD,
            "window_size" | "sliding_window" => 3,
            "type_vocab_size" => 2,
            _ => CONTEXT,
        }
        .into();
    }
    match family {
        "gpt_neo" => config["attention_types"] = json!([[["global", "local"], 1]]),
        "gpt_neox" => config["rotary_pct"] = json!(0.5),
        _ => {}
    }
    config
}

fn kv_heads(family: &str) -> usize {
    if family == "phi" { WIDTH / HEAD } else { 1 }
}

/// The tensors of a family's folder, in f32.
pub fn weights(family: &str) -> Tensors {
    let mut w = Weights::default();
    let (d, kv) = (WIDTH, kv_heads(family) * HEAD);
    match family {
        "gpt2" | "gpt_neo" => {
            w.put("transformer.wte.weight", &[VOCABULARY, d]);
            w.put("transformer.wpe.weight", &[CONTEXT, d]);
            w.norm("transformer.ln_f", d, true);
            for l in 0..LAYERS {
                let at = |name: &str| format!("transformer.h.{l}.{name}");
                w.norm(&at("ln_1"), d, true);
                w.norm(&at("ln_2"), d, true);
                if family == "gpt2" {
                    // Stored as [in, out].
                    for (name, from, to) in
                        [("attn.c_attn", d, 3 * d), ("attn.c_proj", d, d), ("mlp.c_fc", d, MLP), ("mlp.c_proj", MLP, d)]
                    {
                        w.put(&at(&format!("{name}.weight")), &[from, to]);
                        w.put(&at(&format!("{name}.bias")), &[to]);
                    }
                } else {
                    for name in ["q_proj", "k_proj", "v_proj"] {
                        w.linear(&at(&format!("attn.attention.{name}")), d, d, false);
                    }
                    w.linear(&at("attn.attention.out_proj"), d, d, true);
                    w.linear(&at("mlp.c_fc"), d, MLP, true);
                    w.linear(&at("mlp.c_proj"), MLP, d, true);
                }
            }
        }
        "gpt_neox" => {
            w.put("gpt_neox.embed_in.weight", &[VOCABULARY, d]);
            w.put("embed_out.weight", &[VOCABULARY, d]);
            w.norm("gpt_neox.final_layer_norm", d, true);
            for l in 0..LAYERS {
                let at = |name: &str| format!("gpt_neox.layers.{l}.{name}");
                w.norm(&at("input_layernorm"), d, true);
                w.norm(&at("post_attention_layernorm"), d, true);
                w.linear(&at("attention.query_key_value"), d, 3 * d, true);
                w.linear(&at("attention.dense"), d, d, true);
                w.linear(&at("mlp.dense_h_to_4h"), d, MLP, true);
                w.linear(&at("mlp.dense_4h_to_h"), MLP, d, true);
            }
        }
        "bert" | "distilbert" => encoder(family, &mut w),
        _ => {
            let is_phi = family == "phi";
            w.put("model.embed_tokens.weight", &[VOCABULARY, d]);
            w.norm(if is_phi { "model.final_layernorm" } else { "model.norm" }, d, is_phi);
            if !family.starts_with("gemma") {
                w.linear("lm_head", d, VOCABULARY, is_phi);
            }
            for l in 0..LAYERS {
                let at = |name: &str| format!("model.layers.{l}.{name}");
                w.norm(&at("input_layernorm"), d, is_phi);
                for (name, to) in [("q_proj", d), ("k_proj", kv), ("v_proj", kv)] {
                    w.linear(&at(&format!("self_attn.{name}")), d, to, is_phi || family == "qwen2");
                }
                if is_phi {
                    w.linear(&at("self_attn.dense"), d, d, true);
                    w.linear(&at("mlp.fc1"), d, MLP, true);
                    w.linear(&at("mlp.fc2"), MLP, d, true);
                    continue;
                }
                w.linear(&at("self_attn.o_proj"), d, d, false);
                w.norm(&at("post_attention_layernorm"), d, false);
                w.linear(&at("mlp.gate_proj"), d, MLP, false);
                w.linear(&at("mlp.up_proj"), d, MLP, false);
                w.linear(&at("mlp.down_proj"), MLP, d, false);
                if family == "qwen3" {
                    w.norm(&at("self_attn.q_norm"), HEAD, false);
                    w.norm(&at("self_attn.k_norm"), HEAD, false);
                }
                if family == "gemma2" {
                    w.norm(&at("pre_feedforward_layernorm"), d, false);
                    w.norm(&at("post_feedforward_layernorm"), d, false);
                }
            }
        }
    }
    w.0
}

fn encoder(family: &str, w: &mut Weights) {
    let d = WIDTH;
    let is_bert = family == "bert";
    let of = |name: &str| format!("{family}.embeddings.{name}");
    w.put(&of("word_embeddings.weight"), &[VOCABULARY, d]);
    w.put(&of("position_embeddings.weight"), &[CONTEXT, d]);
    if is_bert {
        w.put(&of("token_type_embeddings.weight"), &[2, d]);
    }
    w.norm(&of("LayerNorm"), d, true);
    for l in 0..LAYERS {
        let (block, linears, norms) = match is_bert {
            true => (
                format!("bert.encoder.layer.{l}"),
                [
                    "attention.self.query",
                    "attention.self.key",
                    "attention.self.value",
                    "attention.output.dense",
                    "intermediate.dense",
                    "output.dense",
                ],
                ["attention.output.LayerNorm", "output.LayerNorm"],
            ),
            false => (
                format!("distilbert.transformer.layer.{l}"),
                ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2"],
                ["sa_layer_norm", "output_layer_norm"],
            ),
        };
        for (i, name) in linears.iter().enumerate() {
            let (from, to) = [(d, d), (d, MLP), (MLP, d)][i.saturating_sub(3)];
            w.linear(&format!("{block}.{name}"), from, to, true);
        }
        norms.iter().for_each(|name| w.norm(&format!("{block}.{name}"), d, true));
    }
    let (dense, norm, bias) = match is_bert {
        true => ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),
        false => ("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
    };
    w.linear(dense, d, d, true);
    w.norm(norm, d, true);
    w.put(bias, &[VOCABULARY]);
}

#[derive(Default)]
struct Weights(Tensors);

impl Weights {
    fn put(&mut self, name: &str, shape: &[usize]) {
        let seed = name.bytes().fold(7, |h: u64, b| h.wrapping_mul(31).wrapping_add(b.into()));
        let values = numbers(shape.iter().product(), seed);
        self.0.insert(name.into(), singles(shape, |i| 0.7 * values[i] as f32));
    }
    fn linear(&mut self, name: &str, from: usize, to: usize, bias: bool) {
        self.put(&format!("{name}.weight"), &[to, from]);
        if bias {
            self.put(&format!("{name}.bias"), &[to]);
        }
    }
    fn norm(&mut self, name: &str, width: usize, bias: bool) {
        self.put(&format!("{name}.weight"), &[width]);
        if bias {
            self.put(&format!("{name}.bias"), &[width]);
        }
    }
}

/// An f32 tensor, by flat index.
pub fn singles(shape: &[usize], x: impl Fn(usize) -> f32) -> Stored {
    ("F32".into(), shape.to_vec(), (0..shape.iter().product()).flat_map(|i| x(i).to_le_bytes()).collect())
}

/// A family's folder as the model of a case, and three sequences of four tokens, with labels for encoders.
pub fn case(family: &str) -> Case {
    let case = Case { dir: tempfile::tempdir().unwrap() };
    std::fs::create_dir(case.path("MODEL")).unwrap();
    std::fs::write(case.config(), config(family).to_string()).unwrap();
    write(&case.weights(), &weights(family));
    let mut data = tokens(&[3, 4], |i| (5 * i + i / 3) % VOCABULARY);
    if is_encoder(family) {
        data.insert("labels".into(), ints(&[3, 4], |i| if i % 3 == 0 { (i % VOCABULARY) as i64 } else { -100 }));
    }
    write(&case.data(), &data);
    case
}

/// Writes the weights of a case's model as two shards and their index, and returns which tensor is in which.
pub fn shard(case: &Case) -> BTreeMap<String, String> {
    let all = crate::command::read(&case.weights());
    std::fs::remove_file(case.weights()).unwrap();
    let shard = |i: usize| format!("model-0000{}-of-00002.safetensors", i % 2 + 1);
    let map: BTreeMap<String, String> = all.keys().enumerate().map(|(i, name)| (name.clone(), shard(i))).collect();
    for i in 0..2 {
        let part = all.iter().filter(|(name, _)| map[*name] == shard(i)).map(|(name, t)| (name.clone(), t.clone())).collect();
        write(&case.path(&format!("MODEL/{}", shard(i))), &part);
    }
    write_index(case, &map);
    map
}

pub fn write_index(case: &Case, map: &BTreeMap<String, String>) {
    let index = json!({"metadata": {"total_size": 0}, "weight_map": map});
    std::fs::write(case.path("MODEL/model.safetensors.index.json"), index.to_string()).unwrap();
}
