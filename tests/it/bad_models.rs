//! Broken and contradictory Hugging Face folders, a test for each kind: one sentence that names the file,
//! tensor or flag, status 1, and nothing written.

use serde_json::{Value, json};

use crate::command::{Case, assert_no_results, failure, ints, read, run, tokens, with_header, write};
use crate::hf_folder::{CONTEXT, FAMILIES, VOCABULARY, case, config, is_encoder, shard, singles, weights, write_index};
use crate::text::tokenizer;

/// The sentence with which every command that loads a model refuses the folder, paths cut to the case's.
pub fn refused(case: &Case) -> String {
    let sentence = failure(&case.eval_args(&[]));
    for args in [case.capture_args(&[]), case.jvp_args(&[]), case.lib_args(&[])] {
        assert_eq!(failure(&args), sentence, "{args:?}");
    }
    assert_nothing_written(case);
    sentence.replace(&format!("{}/", case.dir.path().display()), "")
}

/// The sentence of one command line that fails.
fn fails(case: &Case, args: &[String]) -> String {
    let sentence = failure(args);
    assert_nothing_written(case);
    sentence.replace(&format!("{}/", case.dir.path().display()), "")
}

fn assert_nothing_written(case: &Case) {
    assert!(!case.path("F").exists() && !case.path("F.partial").exists());
    assert_no_results(&case.run_dir());
}

fn works(args: &[String]) {
    let outcome = run(args);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{args:?}");
}

/// A folder of `family` with keys set.
fn with(family: &str, keys: &[(&str, Value)]) -> Case {
    let case = case(family);
    keys.iter().for_each(|(key, value)| case.set_config(key, value.clone()));
    case
}

#[test]
fn every_folder_works_while_it_is_whole() {
    for family in FAMILIES {
        let case = case(family);
        works(&case.eval_args(&["--dtype", "f64"]));
        works(&case.capture_args(&[]));
        shard(&case);
        works(&case.eval_args(&[]));
    }
}

const INDEX: &str = "MODEL/model.safetensors.index.json";
const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

#[test]
fn an_index_that_is_cut_short_or_no_json() {
    let case = case("llama");
    shard(&case);
    let whole = std::fs::read_to_string(case.path(INDEX)).unwrap();
    let expected = "; expected a weight_map of tensors to shards";
    for text in [&whole[..whole.len() / 2], &whole[..whole.len() - 1], "", "{\"weight_map\": ", "\u{0}", "weights"] {
        case.put(INDEX, text);
        let sentence = refused(&case);
        assert!(
            sentence.starts_with(&format!("{INDEX}: an index that is no JSON (")) && sentence.ends_with(expected),
            "{sentence}"
        );
    }
    for text in ["[]", "{}", "null", r#"{"weight_map": 3}"#, r#"{"weight_map": {}}"#] {
        case.put(INDEX, text);
        assert_eq!(refused(&case), format!("{INDEX}: an index without a weight_map that lists tensors{expected}"), "{text}");
    }
}

#[test]
fn an_index_that_lies() {
    let case = case("mistral");
    let map = shard(&case);
    let (first, second) = (map.keys().next().unwrap(), map.keys().nth(1).unwrap());
    let lie = |tensor: &str, shard: Option<&str>| {
        let mut map = map.clone();
        match shard {
            Some(shard) => map.insert(tensor.into(), shard.into()),
            None => map.remove(tensor),
        };
        write_index(&case, &map);
        refused(&case)
    };
    let each = "the tensors that the index gives to this shard";
    assert_eq!(
        lie(first, Some(SHARDS[1])),
        format!(
            "MODEL/{}: tensor {first}: a tensor that model.safetensors.index.json places in {}; expected {each}",
            SHARDS[0], SHARDS[1]
        )
    );
    assert_eq!(
        lie(second, None),
        format!(
            "MODEL/{}: tensor {second}: a tensor that model.safetensors.index.json does not list; expected {each}",
            SHARDS[1]
        )
    );
    assert_eq!(
        lie("model.ghost.weight", Some(SHARDS[0])),
        format!(
            "{INDEX}: tensor model.ghost.weight: not in {}; expected each tensor in the shard that the index gives it",
            SHARDS[0]
        )
    );
    assert_eq!(
        lie(first, Some("model-3.safetensors")),
        "MODEL/model-3.safetensors: no such file; expected a shard that model.safetensors.index.json names"
    );
    for outside in ["../data.safetensors", "/etc/passwd", "..", "", "a/b", "a\\b"] {
        let entry = Value::from(outside);
        assert_eq!(
            lie(first, Some(outside)),
            format!("{INDEX}: tensor {first}: weight_map entry {entry}; expected the plain name of a file in the same folder")
        );
    }
}

#[test]
fn shards_that_are_missing_or_broken() {
    let case = case("qwen2");
    let map = shard(&case);
    let path = case.path(&format!("MODEL/{}", SHARDS[1]));
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    assert!(refused(&case).contains(&format!("MODEL/{}: tensor ", SHARDS[1])));
    std::fs::write(&path, &whole[..4]).unwrap();
    assert_eq!(refused(&case), format!("MODEL/{}: 4 bytes; expected a safetensors file of at least 8 bytes", SHARDS[1]));
    std::fs::remove_file(&path).unwrap();
    let named = "expected a shard that model.safetensors.index.json names";
    assert_eq!(refused(&case), format!("MODEL/{}: no such file; {named}", SHARDS[1]));
    std::fs::create_dir(&path).unwrap();
    assert_eq!(refused(&case), format!("MODEL/{}: no regular file; {named}", SHARDS[1]));
    std::fs::remove_dir(&path).unwrap();
    // A tensor in both shards.
    std::fs::write(&path, &whole).unwrap();
    let mut both = read(&path);
    let first = map.keys().next().unwrap();
    both.insert(first.clone(), weights("qwen2")[first].clone());
    write(&path, &both);
    assert_eq!(
        refused(&case),
        format!("MODEL/{}: tensor {first}: a tensor that {} holds too; expected each tensor in one shard", SHARDS[1], SHARDS[0])
    );
}

#[test]
fn weights_that_are_cut_short() {
    let case = case("gpt_neox");
    let whole = std::fs::read(case.weights()).unwrap();
    for (keep, found) in [
        (0, "model.safetensors: 0 bytes; expected a safetensors file of at least 8 bytes"),
        (100, "bytes in a file of 100 bytes; expected a complete safetensors file"),
        (whole.len() - 1, "expected offsets inside the file (was it cut short?)"),
    ] {
        std::fs::write(case.weights(), &whole[..keep]).unwrap();
        assert!(refused(&case).ends_with(found), "{found}");
    }
    std::fs::write(case.weights(), with_header("{}", b"")).unwrap();
    assert!(
        refused(&case)
            .starts_with("MODEL/model.safetensors: tensor gpt_neox.embed_in.weight: not in the file, which holds no tensors;")
    );
    std::fs::remove_file(case.weights()).unwrap();
    assert_eq!(
        refused(&case),
        "MODEL/model.safetensors: no such file; expected a safetensors file, or model.safetensors.index.json and its shards"
    );
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_embedding() {
    for family in ["gpt2", "llama", "gemma2"] {
        let case = case(family);
        case.put("t.txt", "a b c d a b c d");
        let mut wide = tokenizer();
        case.put("MODEL/tokenizer.json", wide.to_string());
        works(&case.on(case.eval_args(&[]), "t.txt", &[]));
        wide["model"]["vocab"]["late"] = json!(VOCABULARY);
        case.put("MODEL/tokenizer.json", wide.to_string());
        for args in [case.eval_args(&[]), case.capture_args(&[])] {
            assert_eq!(
                fails(&case, &case.on(args, "t.txt", &[])),
                format!(
                    "MODEL/tokenizer.json: a vocabulary of {} tokens; expected at most {VOCABULARY}, as many as the model embeds",
                    VOCABULARY + 1
                )
            );
        }
    }
}

#[test]
fn sequences_longer_than_the_context() {
    for family in FAMILIES {
        let case = case(family);
        let long = CONTEXT + 1;
        let mut data = tokens(&[2, long], |i| i % VOCABULARY);
        data.insert("labels".into(), ints(&[2, long], |_| 1));
        write(&case.data(), &data);
        assert_eq!(
            fails(&case, &case.eval_args(&[])),
            format!(
                "data.safetensors: tensor tokens: sequences of {long} tokens; expected at most {CONTEXT}, the model's context n_ctx"
            )
        );
        case.put("t.txt", "a b c d a b c d");
        case.put("MODEL/tokenizer.json", tokenizer().to_string());
        let args = case.on(case.capture_args(&[]), "t.txt", &["--window", &long.to_string()]);
        assert_eq!(fails(&case, &args), format!("--window: found {long}; expected at most {CONTEXT}, the model's context"));
    }
    // A position table shorter than the configuration claims.
    let case = with("gpt2", &[("n_positions", json!(9))]);
    assert_eq!(
        refused(&case),
        "MODEL/model.safetensors: tensor transformer.wpe.weight: shape [5, 12]; expected shape [9, 12] by config.json"
    );
}

#[test]
fn tokens_outside_the_embedding() {
    let case = case("phi");
    write(&case.data(), &tokens(&[2, 4], |i| if i == 6 { VOCABULARY } else { 1 }));
    let sentence = fails(&case, &case.eval_args(&[]));
    assert_eq!(
        sentence,
        "data.safetensors: tensor tokens: token id 11 in row 1, position 2; expected ids from 0 to 10, the model's vocabulary"
    );
}

#[test]
fn weights_of_another_model() {
    let case = case("llama");
    write(&case.weights(), &weights("gpt2"));
    let sentence = refused(&case);
    assert!(
        sentence.starts_with("MODEL/model.safetensors: tensor model.embed_tokens.weight: not in the file, which holds transformer.h.0.attn.c_attn.bias,"),
        "{sentence}"
    );
    for (family, key, tensor) in [
        ("llama", "hidden_size", "model.embed_tokens.weight: shape [11, 12]; expected shape [11, 24]"),
        ("gemma", "intermediate_size", "model.layers.0.mlp.gate_proj.weight: shape [7, 12]; expected shape [24, 12]"),
        ("gpt_neox", "vocab_size", "gpt_neox.embed_in.weight: shape [11, 12]; expected shape [24, 12]"),
        ("bert", "max_position_embeddings", "bert.embeddings.position_embeddings.weight: shape [5, 12]; expected shape [24, 12]"),
        ("bert", "type_vocab_size", "bert.embeddings.token_type_embeddings.weight: shape [2, 12]; expected shape [24, 12]"),
        ("distilbert", "hidden_dim", "distilbert.transformer.layer.0.ffn.lin1.weight: shape [7, 12]; expected shape [24, 12]"),
        ("qwen3", "head_dim", "model.layers.0.self_attn.q_proj.weight: shape [12, 12]; expected shape [72, 12]"),
        ("gpt2", "n_layer", "transformer.h.2.ln_1.weight: not in the file, which holds"),
    ] {
        let sentence = refused(&with(family, &[(key, json!(24))]));
        assert!(sentence.starts_with(&format!("MODEL/model.safetensors: tensor {tensor}")), "{sentence}");
    }
}

#[test]
fn every_tensor_is_needed_and_no_other_is_taken() {
    for family in FAMILIES {
        let case = case(family);
        let whole = weights(family);
        // Of a headless checkpoint, the head may be missing.
        let is_head = |name: &str| {
            ["lm_head.weight", "embed_out.weight", "cls.predictions.transform.dense.weight", "vocab_transform.weight"]
                .contains(&name)
        };
        let names: Vec<&String> = whole.keys().filter(|n| !is_head(n)).collect();
        // Every third, to keep the number of runs small; the first and the last among them.
        for name in names.iter().step_by(3).chain(names.last()) {
            let mut less = whole.clone();
            less.remove(*name);
            write(&case.weights(), &less);
            let sentence = fails(&case, &case.eval_args(&[]));
            // Without its embedding a file is taken for one without prefix.
            let bare = name.split_once('.').map_or("", |(_, bare)| bare);
            let is_named = [name.as_str(), bare].iter().any(|n| sentence.contains(&format!(": tensor {n}: not in the file")));
            assert!(is_named, "{family}, {name}: {sentence}");
        }
        for name in ["surplus.weight", "model.layers.9.mlp.up_proj.weight", "score.weight"] {
            let mut more = whole.clone();
            more.insert(name.into(), singles(&[1], |_| 1.0));
            write(&case.weights(), &more);
            assert_eq!(
                fails(&case, &case.eval_args(&[])),
                format!(
                    "MODEL/model.safetensors: tensor {name}: a tensor that the model has no place for; expected only tensors that config.json calls for"
                )
            );
        }
    }
}

#[test]
fn weights_that_are_no_numbers() {
    let case = case("qwen3");
    let name = "model.layers.1.self_attn.q_norm.weight";
    let mut whole = weights("qwen3");
    whole.insert(name.into(), ("I32".into(), vec![4], vec![0; 16]));
    write(&case.weights(), &whole);
    assert_eq!(refused(&case), format!("MODEL/model.safetensors: tensor {name}: dtype I32; expected F64, F32, F16 or BF16"));
    let name = "model.layers.1.mlp.up_proj.weight";
    for (bits, shown) in [(0x7fc0u16, "NaN"), (0x7f80, "inf"), (0xff80, "-inf")] {
        let mut whole = weights("qwen3");
        let raw = (0..7 * 12).flat_map(|i| if i == 15 { bits } else { 0x3f80 }.to_le_bytes()).collect();
        whole.insert(name.into(), ("BF16".into(), vec![7, 12], raw));
        write(&case.weights(), &whole);
        assert_eq!(
            refused(&case),
            format!("MODEL/model.safetensors: tensor {name}: {shown} at index [1, 3]; expected finite values")
        );
    }
    let mut whole = weights("qwen3");
    whole.insert(name.into(), ("F64".into(), vec![7, 12], 1e300f64.to_le_bytes().repeat(84)));
    write(&case.weights(), &whole);
    assert_eq!(
        fails(&case, &case.eval_args(&[])),
        format!("MODEL/model.safetensors: tensor {name}: 1e300 at index [0, 0]; expected values within the range of f32")
    );
}

#[test]
fn a_tied_model_whose_file_holds_another_head() {
    for (family, embedding, head) in [
        ("gpt2", "transformer.wte.weight", "lm_head.weight"),
        ("gemma", "model.embed_tokens.weight", "lm_head.weight"),
        ("bert", "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
        ("distilbert", "distilbert.embeddings.word_embeddings.weight", "vocab_projector.weight"),
    ] {
        let case = case(family);
        let mut whole = weights(family);
        let same = whole[embedding].clone();
        whole.insert(head.into(), same.clone());
        write(&case.weights(), &whole);
        works(&case.eval_args(&[]));
        let mut other = same;
        other.2[5] ^= 1;
        whole.insert(head.into(), other);
        write(&case.weights(), &whole);
        assert_eq!(
            refused(&case),
            format!(
                "MODEL/model.safetensors: tensor {head}: a matrix other than {embedding}; expected the same, as config.json ties the two"
            )
        );
    }
}

#[test]
fn a_checkpoint_without_a_head_has_no_logits() {
    for (family, head) in [("llama", "lm_head."), ("gpt_neox", "embed_out."), ("bert", "cls."), ("distilbert", "vocab_")] {
        let case = case(family);
        case.edit_weights(|w| w.retain(|name, _| !name.starts_with(head)));
        for args in [case.eval_args(&[]), case.capture_args(&[])] {
            let sentence = fails(&case, &args);
            assert!(sentence.contains("without") && sentence.contains("head"), "{family}: {sentence}");
        }
        write(&case.data(), &tokens(&[3, 4], |i| i % VOCABULARY));
        let args: Vec<String> =
            case.capture_args(&[]).into_iter().map(|a| if a == "logits" { "resid_post".into() } else { a }).collect();
        works(&args);
    }
}

#[test]
fn an_encoder_needs_labels() {
    for family in FAMILIES.into_iter().filter(|f| is_encoder(f)) {
        let case = case(family);
        write(&case.data(), &tokens(&[3, 4], |i| i % VOCABULARY));
        assert_eq!(
            fails(&case, &case.eval_args(&[])),
            "data.safetensors: tensor labels: not in the file; expected labels [N, T]: an encoder reads the whole sequence and predicts no next token"
        );
        case.put("t.txt", "a b c d a b c d");
        case.put("MODEL/tokenizer.json", tokenizer().to_string());
        let sentence = fails(&case, &case.on(case.eval_args(&[]), "t.txt", &[]));
        assert!(sentence.contains("t.txt: tensor labels: not in the file; expected labels [N, T]: an encoder"), "{sentence}");
    }
}

#[test]
fn a_decoder_hides_no_tokens() {
    for family in FAMILIES.into_iter().filter(|f| !is_encoder(f)) {
        let case = case(family);
        let mut data = tokens(&[3, 4], |i| i % VOCABULARY);
        data.insert("attention_mask".into(), ints(&[3, 4], |_| 1));
        write(&case.data(), &data);
        works(&case.eval_args(&[]));
        data.insert("attention_mask".into(), ints(&[3, 4], |i| i64::from(i != 7)));
        write(&case.data(), &data);
        assert_eq!(
            fails(&case, &case.eval_args(&[])),
            "data.safetensors: tensor attention_mask: a hidden token at index [1, 3]; expected all ones, or no mask: only encoders can hide tokens"
        );
    }
}

#[test]
fn graphs_are_of_other_layouts() {
    for family in FAMILIES {
        let case = case(family);
        let sentence = fails(&case, &case.lib_args(&[]));
        assert!(sentence.contains("; expected ") && sentence.contains(family), "{sentence}");
    }
}

#[test]
fn folders_for_other_programs() {
    for kind in ["t5", "mamba", "gpt_oss", "opt", "qwen2_moe", "roberta", "Llama", ""] {
        let sentence = refused(&with("llama", &[("model_type", json!(kind))]));
        assert_eq!(
            sentence,
            format!(
                "MODEL/config.json: key model_type is {}; expected one of {}, the families that this build reads",
                json!(kind),
                FAMILIES.join(", ")
            )
        );
    }
    for kind in [json!(null), json!(3), json!(["llama"])] {
        assert!(
            refused(&with("llama", &[("model_type", kind.clone())]))
                .starts_with(&format!("MODEL/config.json: key model_type is {kind};"))
        );
    }
    let mut nameless = config("llama");
    nameless.as_object_mut().unwrap().remove("model_type");
    let case = case("llama");
    std::fs::write(case.config(), nameless.to_string()).unwrap();
    assert!(
        refused(&case).starts_with(
            "MODEL/config.json: neither a key model_type nor a key architecture; expected a Hugging Face model_type"
        )
    );
    for family in FAMILIES {
        for (key, value, expected) in [
            ("quantization_config", json!({"bits": 4}), "unquantized weights"),
            ("compression_config", json!({"format": "dense"}), "unquantized weights"),
            ("auto_map", json!({"AutoModel": "m.M"}), "a model whose code is the library's own"),
            ("is_encoder_decoder", json!(true), "a model that is no encoder-decoder"),
            ("add_cross_attention", json!(true), "a model without cross-attention"),
            ("per_layer_config", json!({"0": {"hidden_size": 3}}), "one configuration for all layers"),
        ] {
            let case = with(family, &[(key, value.clone())]);
            assert_eq!(
                fails(&case, &case.eval_args(&[])),
                format!("MODEL/config.json: key {key} is {value}; expected {expected}")
            );
        }
    }
}
