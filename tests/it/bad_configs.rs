//! Configurations of Hugging Face folders that ask for what is not computed or make no sense: one sentence
//! that names the key, what it holds and what was expected, and never a panic or an allocation of the
//! size that a key claims.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use mechgraph::device::DType;
use mechgraph::model::Model;
use serde_json::{Map, Value, json};

use crate::bad_models::refused;
use crate::command::{Case, run};
use crate::hf_folder::{FAMILIES, case, config, size_keys};

const ROTARY: [&str; 8] = ["gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi"];

/// The sentence with which loading the model fails; `None` if it loads.
fn sentence(case: &Case) -> Option<String> {
    let loaded = catch_unwind(AssertUnwindSafe(|| Model::load(case.path("MODEL").to_str().unwrap(), DType::F32)));
    let config = || std::fs::read_to_string(case.config()).unwrap();
    let sentence = loaded.unwrap_or_else(|_| panic!("panic on {}", config())).err()?.to_string();
    assert!(sentence.contains("; expected ") && !sentence.contains(char::is_control) && sentence.len() < 1500, "{sentence}");
    Some(sentence.replace(&format!("{}/", case.dir.path().display()), ""))
}

/// The sentence for a family's folder with keys set.
#[track_caller]
fn says(family: &str, keys: &[(&str, Value)]) -> String {
    let mut wanted = config(family);
    keys.iter().for_each(|(key, value)| wanted[*key] = value.clone());
    let case = case(family);
    std::fs::write(case.config(), wanted.to_string()).unwrap();
    sentence(&case).unwrap_or_else(|| panic!("loaded: {wanted}")).replace("MODEL/config.json: ", "")
}

#[track_caller]
fn loads(family: &str, keys: &[(&str, Value)]) {
    let case = case(family);
    keys.iter().for_each(|(key, value)| case.set_config(key, value.clone()));
    assert_eq!(sentence(&case), None, "{family}, {keys:?}");
}

#[test]
fn rotary_scalings_that_are_not_computed() {
    let supported = "expected \"default\" or \"llama3\", the rotary scalings that this build computes";
    for kind in ["linear", "dynamic", "yarn", "longrope", "mrope", "su", "proportional", ""] {
        for family in ROTARY {
            for (section, key) in [("rope_scaling", "type"), ("rope_scaling", "rope_type"), ("rope_parameters", "rope_type")] {
                let value = json!({key: kind, "factor": 2.0});
                assert_eq!(says(family, &[(section, value)]), format!("key {key} is {}; {supported}", json!(kind)), "{family}");
            }
        }
    }
    for kind in [json!(3), json!(null), json!(["default"])] {
        let value = json!({"rope_type": kind, "factor": 2.0});
        assert_eq!(says("llama", &[("rope_parameters", value)]), format!("key rope_type is {kind}; {supported}"));
    }
    // Of the two keys the newer one counts.
    loads("llama", &[("rope_scaling", json!({"rope_type": "default", "type": "linear"}))]);
    let nested = json!({"full_attention": {"rope_type": "default"}, "sliding_attention": {"rope_type": "linear"}});
    assert!(says("gemma2", &[("rope_parameters", nested)]).ends_with("; expected one set of parameters for all layers"));
    for value in [json!(3), json!("linear"), json!([])] {
        let found = says("qwen2", &[("rope_scaling", value.clone())]);
        assert_eq!(found, format!("key rope_scaling is {value}; expected an object or null"));
    }
    let llama3 = |key: &str, value: Value| {
        let mut section = json!({"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0});
        match value {
            Value::Null => section.as_object_mut().unwrap().remove(key).map(drop).unwrap(),
            value => section[key] = value,
        }
        [("rope_scaling", section)]
    };
    for key in ["factor", "low_freq_factor", "high_freq_factor"] {
        assert_eq!(says("llama", &llama3(key, Value::Null)), format!("no key {key}; expected a value for {key}"));
        let found = says("llama", &llama3(key, json!("2")));
        assert_eq!(found, format!("key {key} is \"2\"; expected a number from 1e-30 to 1e30"));
    }
    assert_eq!(
        says("llama", &llama3("high_freq_factor", json!(1.0))),
        "key high_freq_factor is 1.0; expected more than low_freq_factor, 1"
    );
    let case = case("llama");
    case.set_config("rope_scaling", json!({"type": "yarn", "factor": 2.0}));
    assert_eq!(refused(&case), format!("MODEL/config.json: key type is \"yarn\"; {supported}"));
}

#[test]
fn rotations_that_do_not_fit_a_head() {
    let even = "expected an even number of rotated coordinates, from 2 to the width of a head";
    assert_eq!(
        says("gpt_neox", &[("rotary_pct", json!(0.75))]),
        format!("heads of width 4 of which 0.75 is rotated, 3 coordinates; {even}")
    );
    assert_eq!(
        says("phi", &[("partial_rotary_factor", json!(0.3))]),
        format!("heads of width 4 of which 0.3 is rotated, 1 coordinates; {even}")
    );
    assert_eq!(
        says("phi", &[("rope_parameters", json!({"partial_rotary_factor": 1.5}))]),
        format!("heads of width 4 of which 1.5 is rotated, 6 coordinates; {even}")
    );
    assert_eq!(
        says("llama", &[("head_dim", json!(3))]),
        format!("heads of width 3 of which 1 is rotated, 3 coordinates; {even}")
    );
    // Without the key a quarter of a head is rotated: of 4 coordinates, 1.
    let mut silent = config("gpt_neox");
    silent.as_object_mut().unwrap().remove("rotary_pct");
    let case = case("gpt_neox");
    std::fs::write(case.config(), silent.to_string()).unwrap();
    assert!(sentence(&case).unwrap().ends_with(even));
    let whole = "expected 1, as the family rotates whole heads";
    for keys in [("partial_rotary_factor", json!(0.5)), ("rope_parameters", json!({"partial_rotary_factor": 0.5}))] {
        assert_eq!(says("mistral", &[keys]), format!("key partial_rotary_factor is 0.5; {whole}"));
    }
    for (key, family) in [("rope_theta", "llama"), ("rotary_emb_base", "gpt_neox"), ("rotary_pct", "gpt_neox")] {
        for value in [json!(0), json!(-1.0), json!("10000"), json!(null), json!(1e200)] {
            assert_eq!(
                says(family, &[(key, value.clone())]),
                format!("key {key} is {value}; expected a number from 1e-30 to 1e30")
            );
        }
    }
}

#[test]
fn activations_that_are_not_computed() {
    for family in FAMILIES {
        let key = match family {
            "gpt2" | "gpt_neo" => "activation_function",
            "gemma2" => "hidden_activation",
            "distilbert" => "activation",
            _ => "hidden_act",
        };
        for name in [json!("quick_gelu"), json!("relu2"), json!("GELU"), json!(""), json!(null), json!(3), json!({"a": 1})] {
            let found = says(family, &[(key, name.clone())]);
            let expected =
                "expected one of gelu, gelu_python, gelu_new, gelu_pytorch_tanh, relu, silu, swish, tanh, sigmoid, linear";
            assert_eq!(found, format!("key {key} is {name}; {expected}"), "{family}");
        }
        loads(family, &[(key, json!("relu"))]);
    }
    let found = says("gemma", &[("hidden_act", json!("gelu")), ("hidden_activation", json!("relu"))]);
    assert_eq!(found, "key hidden_activation is \"relu\"; expected the activation of hidden_act, or none");
}

#[test]
fn heads_that_do_not_divide() {
    for family in FAMILIES {
        let key = ["n_head", "num_heads", "n_heads", "num_attention_heads"]
            .into_iter()
            .find(|k| size_keys(family).contains(k))
            .unwrap();
        let mut keys = vec![(key, json!(5))];
        // Where a head has a width of its own, heads of keys must divide those of queries.
        let expected = if size_keys(family).contains(&"head_dim") {
            keys.push(("num_key_value_heads", json!(2)));
            "5 heads of queries and 2 of keys; expected a multiple"
        } else {
            "5 heads at width 12; expected a number of heads that divides the width"
        };
        assert_eq!(says(family, &keys), expected, "{family}");
    }
}

#[test]
fn kinds_of_layers_that_do_not_fit() {
    for family in ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi"] {
        for types in [
            json!(["full_attention"]),
            json!(["full_attention", "chunked_attention"]),
            json!(["full_attention", 3]),
            json!("full_attention"),
            json!({}),
        ] {
            let found = says(family, &[("layer_types", types.clone())]);
            assert_eq!(
                found,
                format!("key layer_types is {types}; expected 2 of full_attention and sliding_attention"),
                "{family}"
            );
        }
        loads(family, &[("layer_types", Value::Null)]);
    }
    let sliding = json!(["sliding_attention", "sliding_attention"]);
    let full = json!(["full_attention", "full_attention"]);
    for family in ["llama", "gemma", "phi"] {
        let found = says(family, &[("layer_types", sliding.clone())]);
        assert_eq!(
            found,
            format!("key layer_types is {sliding}; expected full_attention alone, which the family computes in every layer")
        );
        loads(family, &[("layer_types", full.clone())]);
    }
    let found = says("mistral", &[("layer_types", full.clone())]);
    assert_eq!(
        found,
        format!("key layer_types is {full}; expected sliding_attention alone, which the family computes in every layer")
    );
    let missing = "key sliding_window is null; expected a window in use, as layers of sliding_attention have one";
    assert_eq!(says("gemma2", &[("sliding_window", Value::Null)]), missing);
    loads("gemma2", &[("sliding_window", Value::Null), ("layer_types", full)]);
    for family in ["qwen2", "qwen3"] {
        assert_eq!(says(family, &[("layer_types", sliding.clone())]), missing);
        loads(family, &[("layer_types", sliding.clone()), ("use_sliding_window", json!(true))]);
        for value in [json!(-1), json!("2"), json!(1.5), json!(null)] {
            let found = says(family, &[("max_window_layers", value.clone())]);
            assert_eq!(found, format!("key max_window_layers is {value}; expected a whole number from 0"));
        }
    }
    for types in [
        json!([[["global"], 1]]),
        json!([[["global", "local"], 2]]),
        json!([[["global", "odd"], 1]]),
        json!([["global", "local"], 1]),
        json!([[["global", "local"]]]),
        json!([[["global", "local"], 1.5]]),
        json!([[["global", "local"], -1]]),
        json!([[["global", "local"], u64::MAX]]),
        json!("global"),
        json!({}),
    ] {
        let found = says("gpt_neo", &[("attention_types", types.clone())]);
        let expected = "expected pairs of a list of global and local and a count, for 2 layers";
        assert_eq!(found, format!("key attention_types is {types}; {expected}"));
    }
    let found = says("gpt_neo", &[("attention_layers", json!(["local", "local"]))]);
    assert_eq!(found, "key attention_layers is [\"local\",\"local\"]; expected the kinds of layers that attention_types gives");
    let found = says("gpt_neo", &[("attention_layers", json!(["local"]))]);
    assert_eq!(found, "key attention_layers is [\"local\"]; expected 2 of global and local");
}

#[test]
fn features_that_are_not_computed() {
    for (family, key, value, expected) in [
        ("phi", "qk_layernorm", json!(true), "queries and keys without norms"),
        ("bert", "position_embedding_type", json!("relative_key"), "\"absolute\", the only value that this build computes"),
        ("bert", "is_decoder", json!(true), "an encoder"),
        ("bert", "pruned_heads", json!({"0": [1]}), "a model with all its heads"),
        ("distilbert", "pruned_heads", json!({"0": [1]}), "a model with all its heads"),
        ("gemma", "attention_bias", json!(true), "attention without biases"),
        ("gemma2", "attention_bias", json!(true), "attention without biases"),
        ("gemma", "use_bidirectional_attention", json!(true), "causal attention"),
        ("gemma2", "use_bidirectional_attention", json!(true), "causal attention"),
        ("llama", "rope_interleaved", json!(true), "rotated pairs of half-split coordinates"),
        ("gpt2", "hidden_size", json!(24), "the value of n_embd, which is the same key"),
        ("distilbert", "num_hidden_layers", json!(1), "the value of n_layers, which is the same key"),
    ] {
        assert_eq!(says(family, &[(key, value.clone())]), format!("key {key} is {value}; expected {expected}"));
    }
    for family in FAMILIES {
        let found = says(family, &[("tie_word_embeddings", json!("yes"))]);
        assert_eq!(found, "key tie_word_embeddings is \"yes\"; expected true or false");
    }
}

/// Runs `eval` on the CPU in two gigabytes of address space: an allocation beyond them would abort.
#[cfg(target_os = "linux")]
fn confined(case: &Case) -> (Option<i32>, String) {
    let script = r#"ulimit -v 2000000; exec "$0" "$@""#;
    let mut command = std::process::Command::new("sh");
    let args = case.eval_args(&["--backend", "cpu", "--threads", "1"]);
    command.args(["-c", script, env!("CARGO_BIN_EXE_mechgraph")]).args(args).env("RUST_BACKTRACE", "0");
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
#[cfg(target_os = "linux")]
fn sizes_that_make_no_sense() {
    let mut loaded = 0;
    for family in FAMILIES {
        let (case, whole) = (case(family), config(family));
        assert_eq!(confined(&case), (Some(0), String::new()), "{family}");
        for key in size_keys(family) {
            let wrong =
                [json!("12"), json!(-12), json!(0), json!(1e18), json!(1_000_000_000_000_000_000u64), json!(12.5), json!([12])];
            let wrong = wrong.map(|v| (v, true));
            // Sizes that a configuration could have, but not with these tensors.
            let claimed = [json!(4096), json!(16_777_216)].map(|v| (v, false));
            for (value, is_wrong) in wrong.into_iter().chain(claimed) {
                case.set_config(key, value.clone());
                let (status, stderr) = confined(&case);
                case.set_config(key, whole[key].clone());
                if status == Some(0) && !is_wrong && (key.contains("window") || key == "max_position_embeddings") {
                    loaded += 1;
                    continue;
                }
                assert_eq!(status, Some(1), "{family}, {key} {value}: {stderr}");
                assert!(
                    stderr.lines().count() == 1 && stderr.starts_with("error: ") && stderr.contains("; expected "),
                    "{stderr}"
                );
                assert!(
                    !is_wrong || stderr.contains(&format!("key {key} is {value}; expected a whole number from 1 to")),
                    "{stderr}"
                );
            }
        }
    }
    // Windows, and contexts without a position table, may be longer than any text.
    assert_eq!(loaded, 2 * (3 + 8));
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = mechgraph::ops::probes::splitmix(self.0);
        (self.0 >> 16) as usize % n
    }
    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// A value of any kind, with the words that configurations use among them.
fn anything(random: &mut Random, depth: usize) -> Value {
    const WORDS: [&str; 12] = [
        "default",
        "llama3",
        "linear",
        "type",
        "rope_type",
        "factor",
        "global",
        "local",
        "full_attention",
        "sliding_attention",
        "gelu",
        "12",
    ];
    match random.below(if depth < 3 { 10 } else { 8 }) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 => json!(random.below(20)),
        3 => json!(u64::MAX - random.below(3) as u64),
        4 => json!(-(random.below(1000) as i64)),
        5 => random.of(&[json!(0.5), json!(1e18), json!(-0.0), json!(1e308), json!(5e-324), json!(1.5)]).clone(),
        6 | 7 => json!(random.of(&WORDS)),
        8 => (0..random.below(4)).map(|_| anything(random, depth + 1)).collect(),
        _ => {
            let entries = (0..random.below(4)).map(|_| (random.of(&WORDS).to_string(), anything(random, depth + 1)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
    }
}

/// Changes a configuration in a few places.
fn mutate(config: &mut Map<String, Value>, random: &mut Random) {
    const MORE: [&str; 22] = [
        "rope_scaling",
        "rope_parameters",
        "rope_theta",
        "layer_types",
        "sliding_window",
        "use_sliding_window",
        "max_window_layers",
        "attention_bias",
        "mlp_bias",
        "tie_word_embeddings",
        "hidden_act",
        "head_dim",
        "num_key_value_heads",
        "partial_rotary_factor",
        "attention_layers",
        "attn_logit_softcapping",
        "query_pre_attn_scalar",
        "rms_norm_eps",
        "layer_norm_eps",
        "hidden_activation",
        "quantization_config",
        "pruned_heads",
    ];
    for _ in 0..=random.below(3) {
        let keys: Vec<String> = config.keys().cloned().collect();
        let key = if random.below(3) == 0 || keys.is_empty() { random.of(&MORE).to_string() } else { random.of(&keys).clone() };
        match (random.below(6), config.get(&key).cloned()) {
            (0, Some(_)) => drop(config.remove(&key)),
            (1, Some(value)) => drop(config.insert(key, json!([value]))),
            (2, Some(value)) => drop(config.insert(key, json!(value.to_string()))),
            (3, Some(Value::Number(n))) => {
                drop(config.insert(key, json!(n.as_f64().unwrap_or(0.0) + random.below(3) as f64 - 1.0)))
            }
            (4, Some(Value::Number(n))) => drop(config.insert(key, json!(n.as_u64().unwrap_or(0).wrapping_add(1)))),
            _ => drop(config.insert(key, anything(random, 0))),
        }
    }
}

#[test]
fn mutated_configurations_load_or_are_refused() {
    let start = Instant::now();
    let cases = FAMILIES.map(|family| (case(family), config(family)));
    let (mut fine, mut refused, mut rounds) = (0, 0, 0u64);
    while rounds < 12_000 && start.elapsed() < Duration::from_secs(8) {
        let mut random = Random(rounds);
        let (case, whole) = random.of(&cases);
        let Value::Object(mut changed) = whole.clone() else { unreachable!() };
        mutate(&mut changed, &mut random);
        std::fs::write(case.config(), Value::Object(changed).to_string()).unwrap();
        let began = Instant::now();
        match sentence(case) {
            None => fine += 1,
            Some(_) => refused += 1,
        }
        assert!(began.elapsed() < Duration::from_secs(2), "round {rounds} took {:?}", began.elapsed());
        rounds += 1;
    }
    println!("{rounds} configurations: {fine} loaded, {refused} refused");
    assert!(fine > rounds / 20 && refused > rounds / 5 && rounds >= 100, "{fine} of {rounds} loaded, {refused} refused");
}

#[test]
fn the_binary_refuses_mutated_configurations_as_the_library_does() {
    let cases = FAMILIES.map(|family| (case(family), config(family)));
    let mut fine = 0;
    for round in 0..60 {
        let mut random = Random(1 << 40 | round);
        let (case, whole) = random.of(&cases);
        let Value::Object(mut changed) = whole.clone() else { unreachable!() };
        mutate(&mut changed, &mut random);
        std::fs::write(case.config(), Value::Object(changed).to_string()).unwrap();
        match sentence(case) {
            Some(sentence) => assert_eq!(refused(case), sentence, "round {round}"),
            None => {
                let outcome = run(&case.eval_args(&[]));
                assert!(outcome.status == Some(0) || outcome.stderr.lines().count() == 1, "round {round}: {outcome:?}");
                fine += 1;
            }
        }
    }
    assert!((3..=57).contains(&fine), "{fine} of 60 loaded");
}
