//! What configurations mean, against the values of the library's own configuration classes
//! (transformers 5.23): defaults, null, and both spellings of a key.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Spec, read};
use crate::model::config::Keys;
use crate::model::lm::rotary::Llama3;
use crate::model::lm::{Order, Rotary};
use crate::ops::activation::Activation;

fn parse(family: &str, keys: Value) -> Result<Spec, String> {
    let Value::Object(mut map) = keys else { panic!("no object") };
    map.insert("model_type".into(), family.into());
    read(&Keys { path: Path::new("c"), map: &map }).map_err(|e| e.to_string())
}

#[track_caller]
fn spec(family: &str, keys: Value) -> Spec {
    parse(family, keys).unwrap_or_else(|e| panic!("{e}"))
}

/// The windows of all layers.
fn windows(family: &str, keys: Value) -> Vec<Option<usize>> {
    spec(family, keys).layers.iter().map(|l| l.window).collect()
}

fn rotary(family: &str, keys: Value) -> Rotary {
    spec(family, keys).rotary.unwrap()
}

#[test]
fn a_file_that_says_nothing_has_the_librarys_sizes() {
    // Width, layers, heads, heads of keys, width of a head, of the MLP, context, vocabulary.
    for (family, sizes) in [
        ("gpt2", [768, 12, 12, 12, 64, 3072, 1024, 50_257]),
        ("gpt_neo", [2048, 24, 16, 16, 128, 8192, 2048, 50_257]),
        ("gpt_neox", [6144, 44, 64, 64, 96, 24_576, 2048, 50_432]),
        ("llama", [4096, 32, 32, 32, 128, 11_008, 2048, 32_000]),
        ("mistral", [4096, 32, 32, 8, 128, 14_336, 131_072, 32_000]),
        ("qwen2", [4096, 32, 32, 32, 128, 22_016, 32_768, 151_936]),
        ("qwen3", [4096, 32, 32, 32, 128, 22_016, 32_768, 151_936]),
        ("gemma", [3072, 28, 16, 16, 256, 24_576, 8192, 256_000]),
        ("gemma2", [2304, 26, 8, 4, 256, 9216, 8192, 256_000]),
        ("phi", [2048, 24, 32, 32, 64, 8192, 2048, 51_200]),
        ("bert", [768, 12, 12, 12, 64, 3072, 512, 30_522]),
        ("distilbert", [768, 6, 12, 12, 64, 3072, 512, 30_522]),
    ] {
        let s = spec(family, json!({}));
        let found = [s.d_model, s.layers.len(), s.heads, s.kv_heads, s.d_head, s.d_mlp, s.n_ctx, s.d_vocab];
        assert_eq!((s.family, found), (family, sizes));
    }
}

#[test]
fn a_file_that_says_nothing_has_the_librarys_switches() {
    use Activation::{Gelu, GeluNew, Silu};
    for (family, act, eps, is_tied, order) in [
        ("gpt2", GeluNew, 1e-5, true, Order::Sequential),
        ("gpt_neo", GeluNew, 1e-5, true, Order::Sequential),
        ("gpt_neox", Gelu, 1e-5, false, Order::Parallel),
        ("llama", Silu, 1e-6, false, Order::Sequential),
        ("mistral", Silu, 1e-6, false, Order::Sequential),
        ("qwen2", Silu, 1e-6, false, Order::Sequential),
        ("qwen3", Silu, 1e-6, false, Order::Sequential),
        ("gemma", GeluNew, 1e-6, true, Order::Sequential),
        ("gemma2", GeluNew, 1e-6, true, Order::Sequential),
        ("phi", GeluNew, 1e-5, false, Order::SharedNorm),
        ("bert", Gelu, 1e-12, true, Order::PostNorm),
        ("distilbert", Gelu, 1e-12, true, Order::PostNorm),
    ] {
        let s = spec(family, json!({}));
        assert_eq!((s.act, s.norm.eps, s.is_tied, s.order), (act, eps, is_tied, order), "{family}");
        let tied = spec(family, json!({"tie_word_embeddings": !is_tied})).is_tied;
        assert_eq!(tied, !is_tied, "{family}");
        let bias = match family {
            "gpt2" | "gpt_neox" | "phi" | "bert" | "distilbert" => [true, true, true],
            "gpt_neo" => [false, true, true],
            "qwen2" => [true, false, false],
            _ => [false; 3],
        };
        assert_eq!([s.bias.qkv, s.bias.o, s.bias.mlp], bias, "{family}");
    }
    let s = spec("gemma2", json!({}));
    assert_eq!((s.attention_softcap, s.logit_softcap, s.layers[0].scale), (Some(50.0), Some(30.0), 1.0 / 16.0));
    assert_eq!((spec("gpt2", json!({})).layers[3].scale, spec("gpt_neo", json!({})).layers[3].scale), (0.125, 1.0));
}

#[test]
fn attention_and_mlp_have_the_biases_that_a_file_asks_for() {
    let bias = |family: &str, keys: Value| {
        let b = spec(family, keys).bias;
        [b.qkv, b.o, b.mlp]
    };
    assert_eq!(bias("llama", json!({"attention_bias": true})), [true, true, false]);
    assert_eq!(bias("llama", json!({"mlp_bias": true})), [false, false, true]);
    assert_eq!(bias("qwen3", json!({"attention_bias": true})), [true, true, false]);
    assert_eq!(bias("gpt_neox", json!({"attention_bias": false})), [false, false, true]);
    // Keys that these families' code does not read.
    assert_eq!(bias("mistral", json!({"attention_bias": true, "mlp_bias": true})), [false; 3]);
    assert_eq!(bias("qwen2", json!({"attention_bias": true})), [true, false, false]);
}

#[test]
fn null_is_none_only_where_the_library_takes_it_so() {
    let heads = |family: &str, keys: Value| {
        let s = spec(family, keys);
        (s.kv_heads, s.d_head)
    };
    let none = json!({"num_key_value_heads": null, "head_dim": null, "hidden_size": 60, "num_attention_heads": 6});
    for family in ["llama", "mistral", "qwen2"] {
        assert_eq!(heads(family, none.clone()), (6, 10), "{family}");
    }
    assert_eq!(heads("phi", json!({"num_key_value_heads": null, "head_dim": null, "num_attention_heads": 16})), (16, 128));
    for family in ["qwen3", "gemma", "gemma2"] {
        assert!(parse(family, none.clone()).unwrap_err().contains("key head_dim is null"), "{family}");
    }
    // Eight heads of keys, as the class has them, do not fit six of queries.
    let six = json!({"hidden_size": 60, "num_attention_heads": 6});
    assert!(parse("mistral", six.clone()).unwrap_err().contains("6 heads of queries and 8 of keys"));
    assert_eq!(heads("llama", six), (6, 10));
    assert_eq!(spec("gpt2", json!({"n_inner": null, "n_embd": 24})).d_mlp, 96);
    assert_eq!(spec("gpt_neo", json!({"intermediate_size": null, "hidden_size": 32})).d_mlp, 128);
    assert_eq!(spec("distilbert", json!({"dim": 24})).d_mlp, 3072);
    for (family, key) in [
        ("gpt2", "n_embd"),
        ("llama", "hidden_size"),
        ("bert", "vocab_size"),
        ("distilbert", "hidden_dim"),
        ("gpt2", "layer_norm_epsilon"),
        ("llama", "rope_theta"),
        ("llama", "attention_bias"),
        ("gpt2", "scale_attn_weights"),
        ("gemma2", "hidden_activation"),
        ("gemma", "hidden_act"),
    ] {
        assert!(parse(family, json!({key: null})).unwrap_err().contains(&format!("key {key} is null")), "{family}, {key}");
    }
    let s = spec("gemma2", json!({"attn_logit_softcapping": null, "final_logit_softcapping": null}));
    assert_eq!((s.attention_softcap, s.logit_softcap), (None, None));
}

#[test]
fn windows_are_the_librarys() {
    assert_eq!(windows("mistral", json!({"num_hidden_layers": 2})), [Some(4096); 2]);
    assert_eq!(windows("mistral", json!({"num_hidden_layers": 2, "sliding_window": null})), [None; 2]);
    assert_eq!(windows("mistral", json!({"num_hidden_layers": 2, "sliding_window": 7})), [Some(7); 2]);
    let three = |family: &str, mut keys: Value| {
        keys["num_hidden_layers"] = 3.into();
        windows(family, keys)
    };
    for family in ["qwen2", "qwen3"] {
        assert_eq!(three(family, json!({"sliding_window": 5, "max_window_layers": 1})), [None; 3]);
        let used = |mut keys: Value| {
            keys["use_sliding_window"] = true.into();
            three(family, keys)
        };
        assert_eq!(used(json!({"max_window_layers": 1})), [None, Some(4096), Some(4096)]);
        assert_eq!(used(json!({"max_window_layers": 0, "sliding_window": 5})), [Some(5); 3]);
        assert_eq!(used(json!({"max_window_layers": 0, "sliding_window": null})), [None; 3]);
        // The class counts from layer 28 where the file is silent.
        assert_eq!(used(json!({"sliding_window": 5})), [None; 3]);
        let types = json!(["sliding_attention", "full_attention", "full_attention"]);
        assert_eq!(used(json!({"sliding_window": 5, "max_window_layers": 1, "layer_types": types})), [Some(5), None, None]);
    }
    assert_eq!(three("gemma2", json!({})), [Some(4096), None, Some(4096)]);
    let types = json!(["full_attention", "full_attention", "sliding_attention"]);
    assert_eq!(three("gemma2", json!({"sliding_window": 6, "layer_types": types})), [None, None, Some(6)]);
    let neo = |keys: Value| {
        let Value::Object(more) = keys else { panic!("no object") };
        let all: Map<String, Value> = [("num_layers".to_string(), 2.into())].into_iter().chain(more).collect();
        windows("gpt_neo", Value::Object(all))
    };
    assert_eq!(neo(json!({"attention_types": [[["global", "local"], 1]]})), [None, Some(256)]);
    assert_eq!(neo(json!({"attention_types": [[["local"], 1], [["global"], 1]], "window_size": 9})), [Some(9), None]);
    assert_eq!(neo(json!({"attention_layers": ["local", "local"]})), [Some(256); 2]);
    assert_eq!(windows("gpt_neo", json!({})), [None, Some(256)].repeat(12));
}

#[test]
fn both_spellings_of_rotary_keys_mean_the_same() {
    let wide = |theta: f64, width: usize| Rotary::new(theta, width);
    assert_eq!(rotary("llama", json!({})), wide(10_000.0, 128));
    assert_eq!(rotary("llama", json!({"rope_theta": 500.0, "rope_scaling": null})), wide(500.0, 128));
    assert_eq!(rotary("llama", json!({"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}})), wide(500.0, 128));
    // A section that lacks the base takes it from the top level.
    assert_eq!(rotary("llama", json!({"rope_theta": 500, "rope_parameters": {"rope_type": "default"}})), wide(500.0, 128));
    assert_eq!(rotary("llama", json!({"rope_theta": 5.0, "rope_parameters": {"rope_theta": 500.0}})), wide(500.0, 128));
    let scaling = json!({"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0});
    let llama3 = |theta, original_context| {
        wide(theta, 128).llama3(&Llama3 { factor: 4.0, low_freq_factor: 1.0, high_freq_factor: 3.0, original_context })
    };
    // The older key, where it is not empty, takes the place of the newer one, its base included.
    let both = json!({"rope_scaling": scaling, "rope_parameters": {"rope_theta": 7.0, "rope_type": "default"}});
    assert_eq!(rotary("llama", both), llama3(10_000.0, 2048.0));
    let empty = json!({"rope_scaling": {}, "rope_parameters": {"rope_theta": 7.0, "rope_type": "default"}});
    assert_eq!(rotary("llama", empty), wide(7.0, 128));
    let mut whole = scaling.clone();
    whole["original_max_position_embeddings"] = 64.into();
    assert_eq!(rotary("llama", json!({"rope_scaling": whole, "rope_theta": 9.0})), llama3(9.0, 64.0));
    whole["rope_theta"] = json!(9.0);
    assert_eq!(rotary("llama", json!({"rope_parameters": whole})), llama3(9.0, 64.0));
    let short = json!({"rope_parameters": scaling, "max_position_embeddings": 99});
    assert_eq!(rotary("llama", short), llama3(10_000.0, 99.0));
}

#[test]
fn shares_of_a_head_are_the_librarys() {
    let neox = |keys: Value| rotary("gpt_neox", keys);
    assert_eq!(neox(json!({})), Rotary::new(10_000.0, 24));
    assert_eq!(neox(json!({"rotary_pct": 0.5, "rotary_emb_base": 500})), Rotary::new(500.0, 48));
    let section = json!({"rope_type": "default"});
    assert_eq!(neox(json!({"rope_parameters": section})), Rotary::new(10_000.0, 24));
    let under = json!({"rotary_pct": 0.5, "rotary_emb_base": 500, "rope_parameters": section});
    assert_eq!(neox(under), Rotary::new(500.0, 48));
    let section = json!({"rope_type": "default", "rope_theta": 7.0, "partial_rotary_factor": 1.0});
    assert_eq!(neox(json!({"rotary_pct": 0.5, "rope_parameters": section})), Rotary::new(7.0, 96));
    // At the top level the family does not know the names of others.
    assert_eq!(neox(json!({"rope_theta": 500.0, "partial_rotary_factor": 0.5})), Rotary::new(10_000.0, 24));
    let phi = |keys: Value| rotary("phi", keys);
    assert_eq!(phi(json!({})), Rotary::new(10_000.0, 32));
    assert_eq!(phi(json!({"partial_rotary_factor": 0.75, "rope_theta": 9.0})), Rotary::new(9.0, 48));
    assert_eq!(phi(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}})), Rotary::new(7.0, 32));
    let both = json!({"partial_rotary_factor": 1.0, "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}});
    assert_eq!(phi(both), Rotary::new(10_000.0, 16));
    assert_eq!(phi(json!({"head_dim": 20})), Rotary::new(10_000.0, 10));
}

#[test]
fn aliases_and_older_names_are_honoured() {
    let s =
        spec("gpt2", json!({"hidden_size": 60, "num_attention_heads": 6, "num_hidden_layers": 3, "max_position_embeddings": 9}));
    assert_eq!((s.d_model, s.heads, s.layers.len(), s.n_ctx), (60, 6, 3, 9));
    let s = spec("distilbert", json!({"hidden_size": 60, "num_attention_heads": 6, "num_hidden_layers": 3}));
    assert_eq!((s.d_model, s.heads, s.layers.len()), (60, 6, 3));
    let s = spec("gpt_neo", json!({"num_attention_heads": 8, "num_hidden_layers": 24}));
    assert_eq!((s.heads, s.d_head), (8, 256));
    assert_eq!(spec("gpt2", json!({"hidden_size": 24, "n_embd": 24})).d_model, 24);
    // The first files of Gemma mean the approximation by tanh.
    for keys in [
        json!({"hidden_act": "gelu"}),
        json!({"hidden_act": "gelu", "hidden_activation": null}),
        json!({"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"}),
    ] {
        assert_eq!(spec("gemma", keys).act, Activation::GeluNew);
    }
    assert_eq!(spec("gemma", json!({"hidden_act": "relu"})).act, Activation::Relu);
    assert_eq!(spec("gemma2", json!({"hidden_act": "relu"})).act, Activation::GeluNew);
    assert_eq!(spec("gemma2", json!({"hidden_activation": "relu"})).act, Activation::Relu);
    for dtype in ["dtype", "torch_dtype"] {
        assert_eq!(spec("llama", json!({dtype: "bfloat16"})), spec("llama", json!({})));
    }
}

#[test]
fn keys_that_change_no_number_are_notes() {
    for (family, notes) in [
        ("gpt2", json!({"reorder_and_upcast_attn": true, "n_ctx": 3, "attn_pdrop": 0.5, "use_cache": false})),
        ("bert", json!({"chunk_size_feed_forward": 2, "hidden_dropout_prob": 0.3, "classifier_dropout": null})),
        ("distilbert", json!({"sinusoidal_pos_embds": true, "qa_dropout": 0.4})),
        ("llama", json!({"pretraining_tp": 2, "attention_dropout": 0.1, "rope_interleaved": false})),
        ("gpt_neox", json!({"is_decoder": true, "hidden_dropout": 0.1})),
        ("phi", json!({"qk_layernorm": false, "resid_pdrop": 0.1})),
    ] {
        assert_eq!(spec(family, notes), spec(family, json!({})), "{family}");
    }
    let scaled = |keys: Value| spec("gpt2", keys).layers.iter().map(|l| l.scale).collect::<Vec<_>>();
    let by_layer = scaled(json!({"n_layer": 3, "scale_attn_by_inverse_layer_idx": true}));
    assert_eq!(by_layer, [0.125, 0.125 / 2.0, 0.125 / 3.0]);
    assert_eq!(scaled(json!({"n_layer": 2, "scale_attn_weights": false})), [1.0; 2]);
    let sequential = spec("gpt_neox", json!({"use_parallel_residual": false}));
    assert_eq!(sequential.order, Order::Sequential);
}
