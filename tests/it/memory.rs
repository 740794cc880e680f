//! What `eval` says of its memory, and that weights which are computed with as they lie in their file are
//! never copied.

use std::path::Path;

use half::bf16;
use mechgraph::model::TransformerConfig;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};
use serde_json::{Value, json};

use crate::command::{Case, ints, run, tokens, transformer, transformer_config, write};

/// A Llama of these sizes with random weights at a dtype (bf16 or f32), as its library writes it.
fn llama(folder: &Path, dtype: Dtype, [d, neurons, layers, vocabulary]: [usize; 4]) {
    std::fs::create_dir_all(folder).unwrap();
    let config = json!({
        "model_type": "llama", "hidden_size": d, "intermediate_size": neurons, "num_hidden_layers": layers,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": vocabulary, "max_position_embeddings": 128,
        "tie_word_embeddings": true, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut shapes = vec![("model.embed_tokens.weight".to_string(), vec![vocabulary, d]), ("model.norm.weight".into(), vec![d])];
    for l in 0..layers {
        for (name, shape) in [
            ("input_layernorm", vec![d]),
            ("post_attention_layernorm", vec![d]),
            ("self_attn.q_proj", vec![d, d]),
            ("self_attn.k_proj", vec![d / 2, d]),
            ("self_attn.v_proj", vec![d / 2, d]),
            ("self_attn.o_proj", vec![d, d]),
            ("mlp.gate_proj", vec![neurons, d]),
            ("mlp.up_proj", vec![neurons, d]),
            ("mlp.down_proj", vec![d, neurons]),
        ] {
            shapes.push((format!("model.layers.{l}.{name}.weight"), shape));
        }
    }
    // The same few thousand numbers again and again.
    let numbers: Vec<f32> = (0..4099).map(|i| ((i * 2_654_435_761u64 % 4099) as f32 / 4099.0 - 0.5) * 0.1).collect();
    let encode = |x: &f32| match dtype {
        Dtype::BF16 => bf16::from_f32(*x).to_le_bytes().to_vec(),
        _ => x.to_le_bytes().to_vec(),
    };
    let period: Vec<u8> = numbers.iter().flat_map(encode).collect();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            (name, shape, period.iter().copied().cycle().take(bytes).collect())
        })
        .collect();
    let views = tensors.iter().map(|(n, shape, raw)| (n, TensorView::new(dtype, shape.clone(), raw).unwrap()));
    serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}

/// What `eval` reports of a folder, on two sequences of 64 tokens.
fn report(folder: &Path, flags: &[&str]) -> Value {
    let data = folder.join("data.safetensors");
    write(&data, &[("tokens".to_string(), ints(&[2, 64], |i| (i * 7 % 50) as i64))].into());
    let args = ["eval", folder.to_str().unwrap(), "--data", data.to_str().unwrap(), "--json", "--quiet", "--threads", "2"];
    let outcome = run(&[&args, flags].concat());
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    serde_json::from_str(&outcome.stdout).unwrap()
}

fn bytes(report: &Value, key: &str) -> u64 {
    report.pointer(key).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {key} in {report}"))
}

#[test]
#[cfg(target_os = "linux")]
fn eval_holds_no_copy_of_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    for (dtype, sizes) in [(Dtype::BF16, [512, 2048, 6, 16_000]), (Dtype::F32, [512, 1536, 4, 8_000])] {
        let folders = [dir.path().join(format!("small-{dtype:?}")), dir.path().join(format!("large-{dtype:?}"))];
        llama(&folders[0], dtype, [16, 16, 1, 64]);
        llama(&folders[1], dtype, sizes);
        let size = |folder: &Path| std::fs::metadata(folder.join("model.safetensors")).unwrap().len();
        let reports = folders.each_ref().map(|folder| report(folder, &[]));
        let [own, peak] = reports.each_ref().map(|r| bytes(r, "/peak_bytes"));
        let [small_plan, plan] = reports.each_ref().map(|r| bytes(r, "/plan_bytes"));
        let file = size(&folders[1]);
        // What the process needs for a model of next to no weights.
        let constant = own - small_plan - size(&folders[0]);
        println!("{dtype:?}: file {file}, plan {plan}, peak {peak}, constant {constant}");
        assert!(file > 50 << 20, "{file}");
        assert!(peak > file, "the weights were read: {peak} for a file of {file}");
        let most = file + file / 5 + plan + constant;
        assert!(peak <= most, "{dtype:?}: peak {peak}, at most {most}: 1.2 x {file}, plan {plan}, constant {constant}");
        let (mapped, copied) = (bytes(&reports[1], "/weights/mapped_bytes"), bytes(&reports[1], "/weights/copied_bytes"));
        assert!(mapped <= file && file - mapped < 1 << 16 && 1000 * copied < file, "{}", reports[1]);
        std::fs::remove_dir_all(&folders[1]).unwrap();
    }
}

#[test]
fn a_plan_counts_the_weights_that_are_copied() {
    let config = TransformerConfig { read_last: false, d_vocab_out: 11, ..transformer_config() };
    let case = Case::new(&transformer(config), &tokens(&[7, 4], |i| i % 11));
    let outcome = run(&case.eval_args(&["--json"]));
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    // W_E, W_pos, W_Q to W_O with their biases, W_in, W_out, W_U with theirs, at four bytes.
    let numbers: usize =
        crate::command::read(&case.weights()).values().map(|(_, shape, _)| shape.iter().product::<usize>()).sum();
    assert_eq!((bytes(&report, "/weights/mapped_bytes"), bytes(&report, "/weights/copied_bytes")), (0, 4 * numbers as u64));
    let wide: Value = serde_json::from_str(&run(&case.eval_args(&["--json", "--dtype", "f64"])).stdout).unwrap();
    assert_eq!(bytes(&wide, "/weights/copied_bytes"), 8 * numbers as u64);
    assert!(bytes(&report, "/plan_bytes") > 4 * numbers as u64 && bytes(&wide, "/plan_bytes") > bytes(&report, "/plan_bytes"));
    let text = run(&case.eval_args(&[])).stdout;
    let line = |key: &str| text.lines().find(|l| l.starts_with(key)).unwrap_or_else(|| panic!("no {key} in {text}")).to_string();
    assert!(line("weights").contains("0.0 MB left in the file, 0.0 MB copied (this layout is rearranged)"), "{text}");
    assert!(line("plan").ends_with(" MB") && (line("peak").ends_with(" MB") || cfg!(not(target_os = "linux"))), "{text}");
}

#[test]
fn products_with_a_large_vocabulary_need_no_copy_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let plan = |vocabulary| {
        llama(dir.path(), Dtype::F32, [64, 64, 1, vocabulary]);
        bytes(&report(dir.path(), &["--batch", "1"]), "/plan_bytes")
    };
    // Of every token that there is more there are the logits of 128 rows. A copy of the embedding would be
    // 10 MB more.
    let (small, large) = (plan(40_000), plan(80_000));
    assert!(large - small <= 40_000 * 4 * 128 + (4 << 20), "{small} and {large}");
}
