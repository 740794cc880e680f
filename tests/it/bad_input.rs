//! Bad input, a test for each kind: one sentence that names the file, tensor or flag, status 1, and
//! nothing left behind that could be taken for a result.

use std::path::{Path, PathBuf};

use mechgraph::model::{ActFn, Norm, TransformerConfig};
use serde_json::json;

use crate::command::{
    Case, Tensors, assert_no_results, failure, inputs, ints, mechgraph, mlp, mlp_config, read, reals, run, tokens, transformer,
    transformer_config, with_header, write,
};

/// Asserts that a sentence holds all of `parts`, in their order.
fn says(sentence: &str, parts: &[&str]) {
    let mut rest = sentence;
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("no '{part}' in '{rest}' of: {sentence}"));
        rest = &rest[at + part.len()..];
    }
}

/// A transformer on data of these tensors.
fn with_data(data: &Tensors) -> Case {
    Case::new(&transformer(transformer_config()), data)
}

/// Runs the binary where no file can grow beyond 4 KiB: its status and what it says.
#[cfg(target_os = "linux")]
fn limited(args: &[String]) -> (Option<i32>, String) {
    let script = r#"trap '' XFSZ; ulimit -f 8; exec "$0" "$@""#;
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_mechgraph")]).args(args).env("RUST_BACKTRACE", "0");
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn missing_files() {
    for (file, expected) in [
        ("MODEL/config.json", "no such file; expected a folder with config.json and model.safetensors"),
        ("MODEL/model.safetensors", "no such file; expected a safetensors file"),
        ("data.safetensors", "no such file; expected a safetensors file"),
    ] {
        let case = Case::transformer();
        std::fs::remove_file(case.path(file)).unwrap();
        says(&case.loading_fails(), &[file, expected]);
        // A dangling link is no file either.
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("nowhere", case.path(file)).unwrap();
            says(&case.loading_fails(), &[file, expected]);
        }
    }
    let case = Case::transformer();
    std::fs::remove_dir_all(case.path("MODEL")).unwrap();
    says(&case.loading_fails(), &["MODEL: no such folder; expected a folder with config.json"]);
    std::fs::write(case.path("MODEL"), "x").unwrap();
    says(&case.loading_fails(), &["MODEL: no folder; expected a folder with config.json"]);
    let case = Case::transformer();
    let gram = case.path("none.safetensors");
    says(&case.lib_fails(&["--gram-data", gram.to_str().unwrap()]), &["none.safetensors: no such file"]);
    says(&failure(&["lib", "demo:none", "--out", gram.to_str().unwrap()]), &["demo:none", "expected demo:modadd"]);
    says(&failure(&["lib", "", "--data", "d", "--out", gram.to_str().unwrap()]), &["MODEL: found nothing"]);
}

#[test]
fn folders_in_place_of_files() {
    for (file, found) in [
        ("MODEL/config.json", "a folder; expected a folder with config.json"),
        ("MODEL/model.safetensors", "no regular file; expected a safetensors file"),
        ("data.safetensors", "no regular file; expected a safetensors file"),
    ] {
        let case = Case::transformer();
        std::fs::remove_file(case.path(file)).unwrap();
        std::fs::create_dir(case.path(file)).unwrap();
        says(&case.loading_fails(), &[file, found]);
    }
}

#[test]
fn endless_devices_in_place_of_files() {
    if !Path::new("/dev/zero").exists() {
        println!("skipped: there is no /dev/zero");
        return;
    }
    #[cfg(unix)]
    for (file, found) in [
        ("MODEL/config.json", "more than 16777216 bytes"),
        ("MODEL/model.safetensors", "no regular file"),
        ("data.safetensors", "no regular file"),
    ] {
        let case = Case::transformer();
        std::fs::remove_file(case.path(file)).unwrap();
        std::os::unix::fs::symlink("/dev/zero", case.path(file)).unwrap();
        says(&case.loading_fails(), &[file, found]);
    }
}

#[test]
fn files_without_bytes() {
    for (file, found) in [
        ("MODEL/config.json", "no valid JSON (EOF"),
        ("MODEL/model.safetensors", "0 bytes; expected a safetensors file of at least 8 bytes"),
        ("data.safetensors", "0 bytes; expected a safetensors file of at least 8 bytes"),
    ] {
        let case = Case::transformer();
        std::fs::write(case.path(file), "").unwrap();
        says(&case.loading_fails(), &[file, found]);
    }
}

#[test]
fn truncated_safetensors() {
    let case = Case::transformer();
    for path in [case.weights(), case.data()] {
        let whole = std::fs::read(&path).unwrap();
        for (keep, found) in [
            (5, "5 bytes; expected a safetensors file of at least 8 bytes"),
            (40, "bytes in a file of 40 bytes; expected a complete safetensors file"),
            (whole.len() - 1, "expected offsets inside the file (was it cut short?)"),
        ] {
            std::fs::write(&path, &whole[..keep]).unwrap();
            says(&case.loading_fails(), &[path.to_str().unwrap(), found]);
        }
        std::fs::write(&path, &whole).unwrap();
    }
    case.lib_works(&[]);
}

#[test]
fn headers_that_claim_terabytes() {
    let case = Case::transformer();
    for path in [case.weights(), case.data()] {
        let whole = std::fs::read(&path).unwrap();
        for claim in [1u64 << 43, u64::MAX] {
            std::fs::write(&path, [&claim.to_le_bytes(), &whole[8..]].concat()).unwrap();
            says(&case.loading_fails(), &[path.to_str().unwrap(), &format!("a header length of {claim} bytes in a file of")]);
        }
        let header = format!(r#"{{"tokens":{{"dtype":"I64","shape":[1099511627776,4],"data_offsets":[0,{}]}}}}"#, 1u64 << 45);
        std::fs::write(&path, with_header(&header, &[0; 64])).unwrap();
        says(&case.loading_fails(), &["tensor tokens: data_offsets [0, 35184372088832] in a file with 64 bytes"]);
        std::fs::write(&path, whole).unwrap();
    }
}

#[test]
fn names_out_of_files_stay_on_one_line() {
    let case = Case::transformer();
    let header = r#"{"x":{"dtype":"F3\n\u001b[31m2","shape":[2],"data_offsets":[0,8]}}"#;
    std::fs::write(case.weights(), with_header(header, &[0; 8])).unwrap();
    says(
        &case.loading_fails(),
        &["model.safetensors: tensor x: a header entry that cannot be read (unknown variant `F3  [31m2`"],
    );
    let header = r#"{"a\nb":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    std::fs::write(case.weights(), with_header(header, &[0; 8])).unwrap();
    says(&case.loading_fails(), &[r#"a tensor named "a\nb"; expected names"#]);
    let case = Case::transformer();
    case.set_config("a\nb", json!(1));
    says(&case.loading_fails(), &["config.json: unknown key a\\nb; expected only the keys"]);
}

#[test]
fn wrong_dtypes() {
    let case = Case::transformer();
    case.edit_weights(|t| drop(t.insert("embed.W_E".into(), ints(&[11, 6], |_| 0))));
    says(&case.loading_fails(), &["model.safetensors: tensor embed.W_E: dtype I64; expected F64, F32, F16 or BF16"]);
    let case = with_data(&Tensors::from([("tokens".into(), reals(&[2, 3], |_| 0.0))]));
    says(&case.loading_fails(), &["data.safetensors: tensor tokens: dtype F64; expected integers"]);
    let case = Case::mlp();
    write(&case.data(), &Tensors::from([("inputs".into(), ints(&[2, 4], |_| 0))]));
    says(&case.loading_fails(), &["data.safetensors: tensor inputs: dtype I64; expected F64, F32, F16 or BF16"]);
}

#[test]
fn tensors_missing_surplus_or_of_another_shape() {
    let case = Case::transformer();
    let whole = read(&case.weights());
    case.edit_weights(|t| drop(t.remove("blocks.0.attn.W_Q")));
    says(&case.loading_fails(), &["tensor blocks.0.attn.W_Q: not in the file, which holds blocks.0.attn.W_K", "shape [2, 6, 3]"]);
    write(&case.weights(), &whole);
    case.edit_weights(|t| drop(t.insert("blocks.1.mlp.W_in".into(), reals(&[6, 7], |_| 0.0))));
    says(&case.loading_fails(), &["tensor blocks.1.mlp.W_in: a tensor that the model has no place for; expected only tensors"]);
    write(&case.weights(), &whole);
    case.edit_weights(|t| t.get_mut("blocks.0.mlp.W_in").unwrap().1 = vec![7, 6]);
    says(&case.loading_fails(), &["tensor blocks.0.mlp.W_in: shape [7, 6]; expected shape [6, 7] by config.json"]);
    write(&case.weights(), &Tensors::new());
    says(
        &case.loading_fails(),
        &["tensor embed.W_E: not in the file, which holds no tensors; expected a tensor of shape [11, 6]"],
    );
}

#[test]
fn configs_that_contradict_the_weights() {
    for (key, value, tensor) in [
        ("n_layers", 2, "tensor blocks.1.attn.W_Q: not in the file"),
        ("d_vocab", 12, "tensor embed.W_E: shape [11, 6]; expected shape [12, 6] by config.json"),
        ("n_ctx", 4, "tensor pos_embed.W_pos: shape [5, 6]; expected shape [4, 6]"),
        ("n_heads", 1, "tensor blocks.0.attn.W_Q: shape [2, 6, 3]; expected shape [1, 6, 3]"),
        ("d_mlp", 1 << 24, "tensor blocks.0.mlp.W_in: shape [6, 7]; expected shape [6, 16777216]"),
    ] {
        let case = Case::transformer();
        case.set_config(key, json!(value));
        says(&case.loading_fails(), &["model.safetensors: ", tensor]);
    }
    let case = Case::transformer();
    case.set_config("normalization_type", json!("LN"));
    says(&case.loading_fails(), &["tensor blocks.0.ln1.w: not in the file", "shape [6]"]);
    let case = Case::mlp();
    case.set_config("bias", json!(false));
    says(&case.loading_fails(), &["tensor layers.0.b: a tensor that the model has no place for"]);
}

#[test]
fn numbers_that_are_not_finite() {
    for (bad, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
        let case = Case::transformer();
        case.edit_weights(|t| drop(t.insert("unembed.b_U".into(), reals(&[9], |i| if i == 8 { bad } else { 0.0 }))));
        says(&case.loading_fails(), &["tensor unembed.b_U", &format!("{shown} at index [8]; expected finite values")]);
        let case = Case::mlp();
        write(&case.data(), &inputs(&[2, 4], |i| if i == 6 { bad } else { 0.0 }));
        says(&case.loading_fails(), &["tensor inputs", &format!("{shown} at index [1, 2]; expected finite values")]);
    }
    let case = Case::transformer();
    case.edit_weights(|t| drop(t.insert("unembed.b_U".into(), reals(&[9], |_| 1e300))));
    says(
        &case.lib_fails(&["--dtype", "f32"]),
        &["tensor unembed.b_U: 1e300 at index [0]; expected values within the range of f32"],
    );
}

#[test]
fn models_that_overflow() {
    for (scale, dtype, place) in
        [(1e160, "f64", "node layer ln1.0"), (1e60, "f64", "node layer ln2.0"), (1e30, "f32", "node layer ln1.0")]
    {
        let model = transformer(TransformerConfig { norm: Norm::None, ..transformer_config() });
        let case = Case::new(&model, &tokens(&[5, 3], |i| i % 11));
        case.edit_weights(|t| {
            for (_, _, raw) in t.values_mut() {
                let x = raw.chunks_exact(8).map(|c| scale * f64::from_le_bytes(c.try_into().unwrap()));
                *raw = x.flat_map(f64::to_le_bytes).collect();
            }
        });
        let sentence = case.lib_fails(&["--dtype", dtype]);
        says(&sentence, &["the Gram matrix of", place, "exceed the range of", dtype, "; expected finite numbers"]);
        assert_eq!(sentence.contains("--dtype f64"), dtype == "f32", "{sentence}");
        // A failure leaves the folder to other work.
        assert!(!case.run_dir().join("run.json").exists());
    }
}

#[test]
fn tokens_that_the_model_does_not_know() {
    for id in [11, -1, i64::MAX, i64::MIN, 1 << 32] {
        let case = with_data(&Tensors::from([("tokens".into(), ints(&[2, 3], |i| if i == 4 { id } else { 10 }))]));
        let expected = "in row 1, position 1; expected ids from 0 to 10, the model's vocabulary";
        says(&case.loading_fails(), &["data.safetensors: tensor tokens: token id", &id.to_string(), expected]);
    }
    let case = with_data(&tokens(&[2, 6], |_| 0));
    says(&case.loading_fails(), &["tensor tokens: sequences of 6 tokens; expected at most 5, the model's context n_ctx"]);
}

#[test]
fn empty_data_sets() {
    for shape in [[0, 4], [4, 0]] {
        let found =
            format!("tensor tokens: shape {shape:?}, an empty data set; expected at least one sequence of at least one token");
        says(&with_data(&tokens(&shape, |_| 0)).loading_fails(), &["data.safetensors: ", &found]);
    }
    let case = Case::mlp();
    write(&case.data(), &inputs(&[0, 4], |_| 0.0));
    says(&case.loading_fails(), &["tensor inputs: shape [0, 4], an empty data set; expected at least one input vector"]);
}

#[test]
fn data_of_another_kind() {
    let case = with_data(&inputs(&[2, 4], |_| 0.0));
    says(&case.loading_fails(), &["tensor tokens: not in the file, which holds inputs; expected token ids [N, T]"]);
    write(&case.data(), &tokens(&[20], |_| 0));
    says(&case.loading_fails(), &["tensor tokens: shape [20]; expected [N, T]"]);
    let two = [("a.tokens", 0), ("b.tokens", 1)].map(|(name, id)| (name.to_string(), ints(&[1, 2], |_| id)));
    write(&case.data(), &Tensors::from(two));
    says(&case.loading_fails(), &["several data sets: a, b; expected a choice, such as FILE#a"]);
    let file = case.data().to_str().unwrap().to_string();
    let out = case.run_dir();
    let (model, out) = (case.path("MODEL"), out.to_str().unwrap());
    let lib = |data: &str| failure(&["lib", model.to_str().unwrap(), "--data", data, "--out", out]);
    says(&lib(&format!("{file}#c")), &["tensor c.tokens: not in the file, which holds a.tokens, b.tokens"]);
    says(&lib(&format!("{file}#")), &["--data: found", "expected FILE or FILE#NAME"]);
    let case = Case::mlp();
    write(&case.data(), &inputs(&[2, 5], |_| 0.0));
    says(&case.loading_fails(), &["tensor inputs: shape [2, 5], vectors of width 5; expected width 4, the model's input_size"]);
}

#[test]
fn labels_that_do_not_fit() {
    for (labels, found) in [
        (ints(&[2], |_| 0), "tensor labels: shape [2]; expected shape [3] or [3, 2], by the samples"),
        (ints(&[3], |i| 8 + (i / 2) as i64), "tensor labels: label 9 at index [2]; expected labels from 0 to 8"),
        (ints(&[3], |_| -1), "tensor labels: label -1 at index [0]; expected labels from 0 to 8"),
        (reals(&[3], |_| 0.0), "tensor labels: dtype F64; expected integers"),
    ] {
        let mut data = tokens(&[3, 2], |i| i);
        data.insert("labels".into(), labels);
        says(&with_data(&data).loading_fails(), &["data.safetensors: ", found]);
    }
}

#[test]
fn text_without_a_tokenizer() {
    let case = Case::transformer();
    for (name, prose) in [("prose.txt", "once upon a time"), ("prose.jsonl", "{\"text\": \"once upon a time\"}")] {
        let text = case.path(name);
        std::fs::write(&text, prose).unwrap();
        let (model, out) = (case.path("MODEL"), case.run_dir());
        let args = ["lib", model.to_str().unwrap(), "--data", text.to_str().unwrap(), "--out", out.to_str().unwrap()];
        says(&failure(&args), &["MODEL/tokenizer.json: no such file; expected the tokenizer.json of a model"]);
    }
}

#[test]
fn node_layers_that_do_not_fit() {
    let case = Case::transformer();
    for (layers, found) in [
        ("ln1.0,nope.3", "found the unknown node layer 'nope.3'; expected one of add_embed, ln1.0"),
        ("ln1.0,ln1.1", "found the unknown node layer 'ln1.1'"),
        ("ln2.0,ln1.0", "found 'ln1.0' behind 'ln2.0'; expected node layers in the model's order"),
        ("ln1.0,ln2.0,ln1.0", "found ln1.0 twice; expected each name once"),
        ("ln1.0", "found only 'ln1.0'; expected at least two node layers"),
        ("output", "found only 'output'; expected at least two node layers"),
    ] {
        says(&case.lib_fails(&["--node-layers", layers]), &["--node-layers: ", found]);
    }
    let case = Case::mlp();
    for (layers, found) in [
        ("layers.0,layers.2", "found a gap between 'layers.0' and 'layers.2'; expected a run of layers without gaps"),
        ("layers.1,layers.3", "found the unknown node layer 'layers.3'; expected one of layers.0, layers.1, layers.2, output"),
        ("layers.2", "found only 'layers.2'"),
    ] {
        says(&case.lib_fails(&["--node-layers", layers]), &["--node-layers: ", found]);
    }
}

#[test]
fn flags_that_the_model_cannot_follow() {
    let case = Case::transformer();
    for (flags, found) in [
        (vec!["--method", "moments"], "--method: found moments, but section ln1.0->ln2.0 has no closed form ("),
        (vec!["--basis", "(1-alpha)^2"], "--basis: found (1-alpha)^2 with --integration gradient, where it is 0"),
        (vec!["--node-layers", "ln1.0,output", "--rotate-final"], "--rotate-final: found output as the last node layer"),
        (vec!["--dtype", "bf16"], "--dtype: found bf16; expected f64 or f32"),
        (
            vec!["--quadrature", "ln9=gradient", "--node-layers", "ln1.0,unembed"],
            "--quadrature: found ln9; expected one of ln1.0",
        ),
    ] {
        says(&case.lib_fails(&flags), &[found]);
    }
    let case = Case::new(&transformer(TransformerConfig { act: ActFn::SoluLn, ..transformer_config() }), &tokens(&[2, 2], |i| i));
    let flags = ["--method", "moments", "--node-layers", "mlp_act.0,mlp_out.0"];
    says(&case.lib_fails(&flags), &["--method: found moments, but section mlp_act.0->mlp_out.0 has no closed form ("]);
}

#[test]
fn activations_that_cannot_be_folded() {
    for (act, name) in [(ActFn::Tanh, "tanh"), (ActFn::Sigmoid, "sigmoid")] {
        let case = Case::new(&mlp(mlp_config(act)), &inputs(&[3, 4], |i| i as f64));
        let expected = "which never reaches 1, so that no constant neuron can carry the biases behind it; expected relu, gelu";
        says(&case.lib_fails(&[]), &["config.json: the activation function: ", name, expected]);
    }
}

#[test]
fn hostile_configs() {
    let case = Case::transformer();
    let text = std::fs::read_to_string(case.config()).unwrap();
    // The eps of the file, whichever way it is written.
    let huge = text.lines().map(|l| if l.contains("\"eps\"") { "\"eps\": 1e999," } else { l }).collect::<String>();
    let deep = [r#"{"a":"#.repeat(100_000), "[".repeat(100_000)];
    for (bytes, found) in [
        (deep[0].as_bytes(), "no valid JSON (recursion limit"),
        (deep[1].as_bytes(), "no valid JSON (recursion limit"),
        (b"null", "JSON that is null; expected a JSON object"),
        (b"\xff\xfe\0\x01", "no valid JSON ("),
        (&text.as_bytes()[..text.len() / 2], "no valid JSON (EOF"),
        (huge.as_bytes(), "no valid JSON (number out of range"),
        (br#"{"model_type": "t5"}"#, "key model_type is \"t5\"; expected one of gpt2, gpt_neo,"),
        (b"{}", "neither a key model_type nor a key architecture; expected"),
    ] {
        std::fs::write(case.config(), bytes).unwrap();
        says(&case.loading_fails(), &["config.json: ", found]);
    }
    for (key, value, expected) in [
        ("d_vocab", json!(1e30), "a whole number from 1 to 16777216"),
        ("d_vocab", json!(u64::MAX), "a whole number from 1 to 16777216"),
        ("n_layers", json!(1_000_000), "a whole number from 1 to 4096"),
        ("d_model", json!(-6), "a whole number from 1 to 16777216"),
        ("d_mlp", json!(0), "a whole number from 1 to 16777216"),
        ("n_heads", json!("2"), "a whole number from 1 to 16777216"),
        ("eps", json!(-1e-5), "a number above 0"),
        ("act_fn", json!("x".repeat(100_000)), "one of relu, gelu"),
        ("normalization_type", json!("RMS"), "null, \"LNPre\" or \"LN\""),
        ("positional_embedding_type", json!("rotary"), "\"standard\""),
        ("architecture", json!(["mlp"]), "\"architecture\": \"transformer_lens\" or \"mlp\""),
    ] {
        std::fs::write(case.config(), &text).unwrap();
        case.set_config(key, value);
        says(&case.loading_fails(), &["config.json: key ", key, " is ", "; expected ", expected]);
    }
    std::fs::write(case.config(), &text).unwrap();
    case.lib_works(&[]);
}

#[test]
fn configuration_files() {
    let case = Case::transformer();
    let toml = case.path("flags.toml");
    let deep = format!("seed = {}", "[".repeat(100_000));
    for (text, found) in [
        ("colour = 1", "unknown key `colour`; expected names of flags of `mechgraph lib`, without the dashes"),
        ("node_layers = 'a'", "unknown key `node_layers`; expected `node-layers`"),
        ("basis = 'fourier'", "basis = \"fourier\"; expected one of jacobian, pca"),
        ("seed = -1", "seed = \"-1\"; expected a value for --seed"),
        ("threads = 0", "threads = \"0\"; expected a whole number from 1 to 1024"),
        ("[seed]\nx = 1", "`seed` with a value of type table; expected a string, a number"),
        ("seed = 1\nngf =", "no TOML in line 2"),
        (&deep, "no TOML in line 1"),
    ] {
        std::fs::write(&toml, text).unwrap();
        says(&case.lib_fails(&["--config", toml.to_str().unwrap()]), &["flags.toml: ", found]);
    }
    std::fs::write(&toml, b"seed = \xff").unwrap();
    says(&case.lib_fails(&["--config", toml.to_str().unwrap()]), &["flags.toml: text that is not UTF-8"]);
    std::fs::remove_file(&toml).unwrap();
    says(&case.lib_fails(&["--config", toml.to_str().unwrap()]), &["flags.toml: no such file; expected a TOML file"]);
    says(&case.lib_fails(&["--config", case.dir.path().to_str().unwrap()]), &[": a folder; expected a TOML file"]);
}

#[test]
fn plans_beyond_memory() {
    let out = tempfile::tempdir().unwrap();
    let run_dir = out.path().join("RUN");
    let lib = |flags: &[&str]| failure(&[&["lib", "demo:modadd", "--out", run_dir.to_str().unwrap(), "--quiet"], flags].concat());
    let refused = |flags: &[&str], parts: &[&str]| {
        let sentence = lib(flags);
        says(
            &sentence,
            &[&["memory: the plan needs "], parts, &["; expected at most ", "bytes, what is free or --max-memory allows"]]
                .concat(),
        );
        assert!(!run_dir.exists(), "refused before anything is written");
        sentence
    };
    let matrices =
        "for the matrices of the node layers (ln1.0, the widest, has 129 coordinates; fewer or narrower ones need less)";
    says(&refused(&["--max-memory", "1M"], &[matrices]), &["; expected at most 1048576 bytes"]);
    let pass = |needs: &str| format!("bytes for the pass 'moments' (even with --batch 1; fewer layers{needs} need less)");
    refused(&["--max-memory", "8M"], &[&pass(" or --dtype f32")]);
    refused(&["--max-memory", "8M", "--dtype", "f32"], &[&pass("")]);
    // What comes last is planned first, too.
    let edges = refused(&["--max-memory", "30M", "--sources-edges", "3", "--method", "jvp"], &["bytes for the pass '"]);
    assert!(!edges.contains("'moments'"), "{edges}");
    // Refused before the matrices of such a model are made.
    let config =
        TransformerConfig { d_model: 30_000, n_heads: 1, d_head: 1, d_mlp: 1, d_vocab: 2, n_ctx: 1, ..transformer_config() };
    let case = Case::new(&transformer(config), &tokens(&[2, 1], |i| i));
    let matrices = "bytes for the matrices of the node layers (ln1.0, the widest, has 30001 coordinates";
    says(&case.lib_fails(&["--max-memory", "1G"]), &["memory: the plan needs ", matrices]);
}

#[test]
fn folders_that_cannot_be_written() {
    let case = Case::transformer();
    let file = case.path("file");
    std::fs::write(&file, "mine").unwrap();
    let (model, data) = (case.path("MODEL"), case.data());
    let lib = |out: &Path| {
        let args = ["lib", model.to_str().unwrap(), "--data", data.to_str().unwrap(), "--out", out.to_str().unwrap(), "--quiet"];
        failure(&args)
    };
    says(&lib(&file), &["file: a file; expected a folder for the run"]);
    says(&lib(&file.join("RUN")), &["file/RUN: creating the folder failed: "]);
    says(&lib(&case.path(&"x".repeat(300))), &["x: creating the folder failed: "]);
    if Path::new("/proc/self").exists() {
        says(&lib(Path::new("/proc/nope")), &["/proc/nope: creating the folder failed: "]);
    }
    says(&lib(&model), &["MODEL: a folder with files but no run.json (", "; expected an empty folder, or the folder of a run"]);
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
}

#[cfg(target_os = "linux")]
#[test]
fn disks_that_are_full() {
    use std::os::unix::fs::symlink;
    let case = Case::transformer();
    // What is written to /dev/full finds no space.
    std::fs::create_dir(case.run_dir()).unwrap();
    symlink("/dev/full", case.run_dir().join("run.json.partial")).unwrap();
    says(&case.lib_fails(&[]), &["RUN/run.json: writing failed: No space left on device"]);
    // The manifest fits, the graph does not.
    let (status, stderr) = limited(&case.lib_args(&[]));
    assert_eq!((status, stderr.lines().count()), (Some(1), 1), "{stderr}");
    says(&stderr, &["error: ", "RUN/graph.safetensors: writing failed: File too large"]);
    assert_no_results(&case.run_dir());
    case.lib_works(&[]);
}

#[test]
fn output_files_that_cannot_be_written() {
    let mut data = tokens(&[300, 4], |i| i % 11);
    data.insert("tangent.0".into(), reals(&[300, 4, 6], |i| i as f64));
    let case = with_data(&data);
    for args in [case.capture_args(&[]), case.jvp_args(&[])] {
        let out = case.path("F");
        assert_eq!(run(&args).status, Some(0));
        let before = std::fs::read(&out).unwrap();
        says(&failure(&args), &["F: a file that exists already; expected a new name, or --force to replace the file"]);
        assert_eq!(std::fs::read(&out).unwrap(), before);
        #[cfg(target_os = "linux")]
        {
            // A failing rewrite keeps what was there.
            let forced = [&args[..], &["--force".to_string()]].concat();
            let (status, stderr) = limited(&forced);
            assert_eq!((status, stderr.lines().count()), (Some(1), 1), "{stderr}");
            says(&stderr, &["error: ", "F: writing failed: File too large"]);
            assert_eq!(std::fs::read(&out).unwrap(), before);
            assert!(!case.path("F.partial").exists());
        }
        std::fs::remove_file(&out).unwrap();
        std::fs::create_dir(&out).unwrap();
        says(&failure(&args), &["F: a folder; expected a file name to write to"]);
        std::fs::remove_dir(&out).unwrap();
    }
    let to = |out: PathBuf| {
        let mut args = case.capture_args(&["--force"]);
        let at = args.iter().position(|a| a == "--out").unwrap() + 1;
        args[at] = out.to_str().unwrap().into();
        failure(&args)
    };
    says(&to(case.data().join("F")), &["data.safetensors/F", " failed: "]);
    says(&to(case.path("none/F")), &["none/F", " failed: "]);
    for input in [case.weights(), case.config(), case.data()] {
        says(&to(input), &["--out: found ", "; expected "]);
    }
    case.lib_works(&[]);
}

/// A finished run of a transformer whose outputs are tokens.
fn finished() -> Case {
    let config = TransformerConfig { d_vocab_out: 11, ..transformer_config() };
    let case = Case::new(&transformer(config), &tokens(&[7, 4], |i| (i * i + i / 3) % 11));
    case.lib_works(&[]);
    case
}

#[test]
fn runs_that_cannot_be_ablated() {
    let case = finished();
    let (run_json, graph) = (case.run_dir().join("run.json"), case.run_dir().join("graph.safetensors"));
    let (manifest, tensors) = (std::fs::read_to_string(&run_json).unwrap(), std::fs::read(&graph).unwrap());
    let fails = |parts: &[&str]| {
        says(&failure(&case.ablate_args(&[])), parts);
        assert!(!case.run_dir().join("ablation-node.json").exists());
    };
    // The manifest.
    for (from, to, found) in [
        ("\"status\": \"done\"", "\"status\": \"running\"", "RUN: an unfinished run; expected the folder of a finished run"),
        ("\"command\": \"lib\"", "\"command\": \"eval\"", "RUN: a run of mechgraph eval; expected a run of mechgraph lib"),
        ("\"name\": \"ln1.0\"", "\"name\": \"ln1.9\"", "run.json: node layers ln1.9, ln2.0, unembed"),
        ("\"name\": \"ln1.0\"", "\"name\": \"unembed\"", "run.json: node layers unembed, ln2.0, unembed"),
        (
            "\"width\": 7",
            "\"width\": 1152921504606846976",
            "run.json: node layer ln1.0 with 1152921504606846976 coordinates; expected 7",
        ),
        ("\"features\": 6", "\"features\": 5", "graph.safetensors: tensor ln1.0.C: shape [7, 6]; expected shape [7, 5]"),
        ("\"dtype\": \"f64\"", "\"dtype\": \"f16\"", "run.json: a malformed manifest (unknown variant `f16`"),
        ("\"seed\": 0", "\"seed\": -1", "run.json: a malformed manifest ("),
    ] {
        assert!(manifest.contains(from), "{from}: {manifest}");
        std::fs::write(&run_json, manifest.replacen(from, to, 1)).unwrap();
        fails(&[found]);
    }
    std::fs::write(&run_json, &manifest[..manifest.len() / 2]).unwrap();
    fails(&["run.json: a malformed manifest (EOF"]);
    std::fs::remove_file(&run_json).unwrap();
    fails(&["RUN: no run.json; expected the folder of a finished run"]);
    std::fs::write(&run_json, &manifest).unwrap();
    // The graph.
    std::fs::write(&graph, &tensors[..tensors.len() - 1]).unwrap();
    fails(&["graph.safetensors: tensor ", "expected offsets inside the file (was it cut short?)"]);
    let mut less = read(graph_with(&graph, &tensors));
    let c = less.remove("ln1.0.C").unwrap();
    write(&graph, &less);
    fails(&["graph.safetensors: tensor ln1.0.C: not in the file"]);
    less.insert("ln1.0.C".into(), reals(&c.1, |_| f64::NAN));
    write(&graph, &less);
    fails(&["graph.safetensors: tensor ln1.0.C: NaN at index [0, 0]; expected finite values"]);
    std::fs::remove_file(&graph).unwrap();
    fails(&["graph.safetensors: no such file; expected a safetensors file"]);
    std::fs::write(&graph, &tensors).unwrap();
    // The model.
    let config = std::fs::read_to_string(case.config()).unwrap();
    std::fs::write(case.config(), format!("{config} ")).unwrap();
    fails(&["RUN: a run of another model, with sha256 ", "; expected a run of the model at ", "MODEL, with sha256 "]);
    std::fs::rename(case.path("MODEL"), case.path("MOVED")).unwrap();
    fails(&["MODEL: no such folder; expected a folder with config.json"]);
    std::fs::rename(case.path("MOVED"), case.path("MODEL")).unwrap();
    std::fs::write(case.config(), config).unwrap();
    // With all of it back in place, it works, once.
    assert_eq!(run(&case.ablate_args(&[])).status, Some(0));
    says(&failure(&case.ablate_args(&[])), &["ablation-node.json: a file that exists already", "--force to replace the file"]);
}

/// Puts the graph back, and returns its path.
fn graph_with<'a>(path: &'a Path, bytes: &[u8]) -> &'a Path {
    std::fs::write(path, bytes).unwrap();
    path
}

#[test]
fn ablations_that_cannot_be_run() {
    let case = finished();
    for (flags, found) in [
        (&["--at", "8"][..], "--at: found 8; expected at most 7, the directions of ln1.0"),
        (&["--layers", "output"], "--layers: found output; expected one of ln1.0, ln2.0, unembed"),
        (&["--kind", "edge", "--basis", "pca"], "--basis: found pca with --kind edge"),
        (&["--kind", "edge", "--at", "3"], "--at: found the bisect schedule"),
        (&["--schedule", "linear"], "--points: found nothing"),
        (&["--max-memory", "1K"], "memory: the plan needs "),
    ] {
        says(&failure(&case.ablate_args(flags)), &[found]);
    }
    // More points than directions are as many as there are.
    let flags = ["--schedule", "linear", "--points", "18446744073709551615"];
    assert_eq!(run(&case.ablate_args(&flags)).status, Some(0));
    write(&case.data(), &tokens(&[2, 2], |_| 11));
    says(&failure(&case.ablate_args(&["--force"])), &["tensor tokens: token id 11 in row 0"]);
    write(&case.data(), &tokens(&[4, 1], |i| i));
    says(&failure(&case.ablate_args(&["--force"])), &["tensor labels: not in the file, and samples of one token"]);
    write(&case.data(), &tokens(&[3, 3], |i| i));
    case.lib_works(&["--force", "--edges", "none"]);
    says(&failure(&case.ablate_args(&["--kind", "edge"])), &["graph.safetensors: no edges; expected a run with edges"]);
    says(&failure(&["ablate", "none", "--kind", "node"]), &["none: nothing; expected the folder of a finished run"]);
}

#[test]
fn directions_that_do_not_fit() {
    let fails = |name: &str, stored| {
        let mut data = tokens(&[2, 3], |i| i);
        data.insert(name.into(), stored);
        let case = with_data(&data);
        let sentence = failure(&case.jvp_args(&[]));
        assert!(!case.path("F").exists() && !case.path("F.partial").exists());
        sentence
    };
    says(&fails("tangent.1", reals(&[2, 3, 6], |_| 1.0)), &["tangent.1", "; expected "]);
    says(&fails("tangent.0", reals(&[2, 3, 5], |_| 1.0)), &["tensor tangent.0: shape [2, 3, 5]; expected shape [2, 3, 6]"]);
    says(&fails("cotangent.0", ints(&[2, 3, 6], |_| 1)), &["tensor cotangent.0: dtype I64; expected F64, F32, F16 or BF16"]);
    says(
        &fails("tangent.0", reals(&[2, 3, 6], |i| if i == 7 { f64::NAN } else { 1.0 })),
        &["tensor tangent.0: NaN at index [0, 1, 1]"],
    );
    says(&fails("other", reals(&[1], |_| 1.0)), &["tangent", "; expected "]);
    let sentence = failure(&Case::mlp().jvp_args(&[]));
    says(&sentence, &["MODEL: found MODEL, an mlp; expected a transformer"]);
}

#[test]
fn sites_that_do_not_exist() {
    let case = Case::transformer();
    for (sites, found) in [
        ("nope", "--sites: found nope; expected one of resid_pre, "),
        ("mlp_act.7", "--sites: found mlp_act.7; expected layers below 1"),
    ] {
        let mut args = case.capture_args(&[]);
        *args.iter_mut().find(|a| *a == "logits").unwrap() = sites.into();
        says(&failure(&args), &[found]);
    }
    says(&failure(&case.capture_args(&["--layers", "0..2"])), &["--layers: found layer 1; expected layers below 1"]);
}

#[test]
fn nothing_to_predict() {
    let case = Case::mlp();
    says(&failure(&case.eval_args(&[])), &["data.safetensors: tensor labels: not in the file; expected labels [N]"]);
    let case = with_data(&tokens(&[4, 1], |i| i));
    says(
        &failure(&case.eval_args(&[])),
        &["tensor labels: not in the file, and samples of one token; expected labels, or samples"],
    );
    let case = with_data(&tokens(&[4, 2], |_| 10));
    says(&failure(&case.eval_args(&[])), &["tensor tokens: token id 10 as a next token; expected ids from 0 to 8"]);
}

#[test]
fn runs_of_other_work() {
    let case = Case::transformer();
    case.lib_works(&[]);
    says(&failure(&case.lib_args(&[])), &["RUN: a finished run; expected a new folder, or --force to replace the run"]);
    let path = case.run_dir().join("run.json");
    let done = std::fs::read_to_string(&path).unwrap();
    let running = done.replace("\"status\": \"done\"", "\"status\": \"running\"");
    assert_ne!(running, done);
    std::fs::write(&path, &running).unwrap();
    says(
        &failure(&case.lib_args(&["--basis", "pca"])),
        &["RUN: an unfinished run of other work: there --basis is jacobian, not pca;"],
    );
    says(
        &failure(&case.lib_args(&["--dtype", "f32"])),
        &["dtype is f64, not f32; expected a run of the same work, a new folder, or --force"],
    );
    let weights = std::fs::read(case.weights()).unwrap();
    case.edit_weights(|t| t.get_mut("unembed.b_U").unwrap().2[0] ^= 1);
    says(
        &failure(&case.lib_args(&[])),
        &["an unfinished run of other work: there model is MODEL (sha256 ", "), not MODEL (sha256 "],
    );
    std::fs::write(case.weights(), weights).unwrap();
    let data = read(&case.data());
    write(&case.data(), &tokens(&[7, 4], |_| 1));
    says(&failure(&case.lib_args(&[])), &["there data is data.safetensors (sha256 ", "), not data.safetensors (sha256 "]);
    write(&case.data(), &data);
    for (text, found) in [
        ("{", "run.json: a malformed manifest ("),
        ("", "run.json: a malformed manifest ("),
        ("[]", "run.json: no schema_version; expected a run.json that mechgraph wrote"),
        (
            &running.replace("\"schema_version\": 1", "\"schema_version\": 9"),
            "run.json: schema_version 9; expected schema_version 1",
        ),
    ] {
        std::fs::write(&path, text).unwrap();
        says(&failure(&case.lib_args(&[])), &[found]);
    }
    case.lib_works(&["--force"]);
    // Files that are not of a run are nobody's to remove, --force or not.
    std::fs::remove_file(&path).unwrap();
    says(&failure(&case.lib_args(&["--force"])), &["RUN: a folder with files but no run.json (", "; expected an empty folder"]);
}

#[test]
fn wrong_usage() {
    for args in [
        &["nope"][..],
        &["lib"],
        &["lib", "M"],
        &["lib", "M", "--out"],
        &["lib", "M", "--out", ""],
        &["lib", "M", "--out", "R", "--bach", "3"],
        &["lib", "M", "--out", "R", "--data", "D", "--basis", "fourier"],
        &["lib", "M", "--out", "R", "--data", "D", "--node-layers", ""],
        &["lib", "M", "--out", "R", "--data", "D", "--threads", "1000000"],
        &["lib", "M", "--out", "R", "--data", "D", "--sources-pos", "9223372036854775808"],
        &["lib", "M", "--out", "R", "--data", "D", "--max-memory", "-1"],
        &["lib", "M", "N", "--out", "R", "--data", "D"],
        &["devices", "x"],
    ] {
        let outcome = run(args);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(outcome.stderr.starts_with("error: ") && outcome.stderr.contains("--help"), "{args:?}: {}", outcome.stderr);
    }
    // Without arguments there is nothing wrong to name: the help itself is the answer.
    let outcome = mechgraph::<&str>(&[]).output().unwrap();
    assert_eq!(outcome.status.code(), Some(2));
    assert!(String::from_utf8(outcome.stderr).unwrap().contains("Usage: mechgraph <COMMAND>"));
}
