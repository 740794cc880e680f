//! `mechgraph capture`: activations equal those of a plain forward pass at every site, and the
//! published ones; the file does not depend on how the work was cut.

use std::collections::BTreeMap;
use std::path::Path;

use mechgraph::data::stream::Runner;
use mechgraph::data::{self, DataSet, Samples};
use mechgraph::device::DType;
use mechgraph::model::{ActFn, Checkpoint, MlpConfig, Model, TransformerConfig, random_mlp};

use crate::naive::{self, Trace, configs, max_error, random, read, sequences, shared, tokens, with_runner};

const SITES: [&str; 14] = [
    "resid_pre",
    "resid_mid",
    "resid_post",
    "mlp_pre",
    "mlp_mid",
    "mlp_act",
    "mlp_out",
    "attn_out",
    "q",
    "k",
    "v",
    "z",
    "pattern",
    "logits",
];

/// Captures sites of all layers into `path`.
fn capture(model: &Model, data: &DataSet, sites: &[&str], runner: &Runner, path: &Path) -> Checkpoint {
    let sites: Vec<String> = sites.iter().map(|s| s.to_string()).collect();
    let layers: Vec<usize> = (0..model.layers()).collect();
    let places = model.places("--sites", &sites, &layers).unwrap();
    mechgraph::model::capture::capture(model, data, &places, None, runner, path, &BTreeMap::new()).unwrap();
    Checkpoint::open(path).unwrap()
}

/// The tensors of a file that are sites.
fn sites(file: &Checkpoint) -> impl Iterator<Item = &str> {
    file.names().filter(|n| *n != "tokens")
}

/// Shape and values that a site should have, from the traces of all sequences.
fn wanted(c: &TransformerConfig, traces: &[Trace], name: &str, t: usize) -> (Vec<usize>, Vec<f64>) {
    let (site, layer) = name.split_once('.').map_or((name, c.n_layers - 1), |(s, l)| (s, l.parse().unwrap()));
    let last_only = c.read_last && layer + 1 == c.n_layers && !["resid_pre", "q", "k", "v"].contains(&site);
    let positions = if last_only { 1 } else { t };
    let tail = match site {
        "pattern" => vec![c.n_heads, positions, t],
        "q" | "k" | "v" | "z" => vec![positions, c.n_heads, c.d_head],
        "logits" => vec![positions, c.d_vocab_out],
        s if s.starts_with("mlp_") && s != "mlp_out" => vec![positions, c.d_mlp],
        _ => vec![positions, c.d_model],
    };
    let cut = |x: &Vec<f64>| match (last_only, site) {
        (false, _) => x.clone(),
        // Of each head, the last query.
        (true, "pattern") => x.chunks(t * t).flat_map(|head| head[(t - 1) * t..].to_vec()).collect(),
        (true, _) => x[x.len() - x.len() / t..].to_vec(),
    };
    ([&[traces.len()], &tail[..]].concat(), traces.iter().flat_map(|trace| cut(&trace[name])).collect())
}

#[test]
fn every_site_of_every_variant_equals_a_plain_forward_pass() {
    let dir = tempfile::tempdir().unwrap();
    let (n, t) = (5, 6);
    for (i, config) in configs().iter().enumerate() {
        for (dtype, bar) in [(DType::F64, 1e-9), (DType::F32, 1e-4)] {
            let m = random(config, dtype, i as u64);
            let data = tokens(config.d_vocab, n, t, i as u64);
            let traces: Vec<Trace> = sequences(&data).into_iter().map(|s| naive::forward(&m, s)).collect();
            let model = Model::Transformer(m);
            with_runner(1, None, |runner| {
                let file = capture(&model, &data, &SITES, runner, &dir.path().join("f"));
                assert_eq!(file.names().count(), 13 * config.n_layers + 2);
                for name in sites(&file) {
                    let (shape, values) = wanted(config, &traces, name, t);
                    let (got_shape, got) = read(&file, name);
                    assert_eq!(got_shape, shape, "{name} of {config:?}");
                    let error = max_error(&got, &values);
                    assert!(error <= bar, "{name}: {error:e} in {dtype:?}, {config:?}");
                }
            });
        }
    }
}

#[test]
fn a_single_position_and_wide_shapes() {
    let dir = tempfile::tempdir().unwrap();
    let base = configs()[0].clone();
    for (n, t, read_last) in [(3, 1, false), (3, 1, true), (2, 7, true)] {
        let config = TransformerConfig { read_last, d_model: 33, n_heads: 3, d_head: 11, d_mlp: 70, n_layers: 2, ..base.clone() };
        let m = random(&config, DType::F64, 8);
        let data = tokens(config.d_vocab, n, t, 3);
        let traces: Vec<Trace> = sequences(&data).into_iter().map(|s| naive::forward(&m, s)).collect();
        with_runner(2, None, |runner| {
            let file = capture(&Model::Transformer(m), &data, &SITES, runner, &dir.path().join("f"));
            for name in sites(&file) {
                let (want, got) = (wanted(&config, &traces, name, t), read(&file, name));
                assert_eq!(got.0, want.0, "{name}");
                assert!(max_error(&got.1, &want.1) <= 1e-12, "{name}");
            }
        });
    }
}

#[test]
fn blocks_threads_and_batches_leave_no_trace_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = configs()[27].clone();
    let (n, t) = (530, 7);
    let m = random(&config, DType::F32, 4);
    let data = tokens(config.d_vocab, n, t, 5);
    let traces: Vec<Trace> = sequences(&data).into_iter().map(|s| naive::forward(&m, s)).collect();
    let model = Model::Transformer(m);
    let path = dir.path().join("f");
    let mut bytes = Vec::new();
    for (threads, batch) in [(1, None), (3, None), (2, Some(1)), (2, Some(300))] {
        with_runner(threads, batch, |runner| {
            let file = capture(&model, &data, &SITES, runner, &path);
            for name in sites(&file) {
                let (want, got) = (wanted(&config, &traces, name, t), read(&file, name));
                assert_eq!(got.0, want.0, "{name}");
                assert!(max_error(&got.1, &want.1) <= 1e-4, "{name}");
            }
            bytes.push(file.bytes().to_vec());
        });
    }
    assert!(bytes.windows(2).all(|w| w[0] == w[1]));
}

#[test]
fn memory_does_not_grow_with_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let config = configs()[5].clone();
    let model = Model::Transformer(random(&config, DType::F32, 4));
    let plan = |n: usize| {
        let data = tokens(config.d_vocab, n, 7, 5);
        let path = dir.path().join("f");
        with_runner(2, None, |runner| drop(capture(&model, &data, &["logits", "pattern"], runner, &path)))
    };
    let (small, large) = (plan(73 * 8 + 5), plan(73 * 80 + 5));
    assert!(small > 0 && small == large, "{small} bytes, {large} bytes for ten times the data");
}

#[test]
fn layers_of_an_mlp() {
    let dir = tempfile::tempdir().unwrap();
    for (i, act) in naive::ACTS.into_iter().filter(|a| *a != ActFn::SoluLn).enumerate() {
        let config =
            MlpConfig { input_size: 5, hidden_sizes: vec![7, 3][..i % 3].to_vec(), output_size: 4, act, bias: i % 2 == 0 };
        let m = random_mlp(config, DType::F64, i as u64).unwrap();
        let (n, x) = (600, naive::Numbers::new(9).many(600 * 5));
        let traces: Vec<Trace> = x.chunks(5).map(|x| naive::forward_mlp(&m, x)).collect();
        let samples = Samples::Inputs { x: x.clone(), n, width: 5 };
        let data = DataSet { samples, labels: None, mask: None, text: None, name: "x".into(), sha256: String::new() };
        let model = Model::Mlp(m);
        with_runner(2, None, |runner| {
            let file = capture(&model, &data, &["act", "pre", "logits"], runner, &dir.path().join("f"));
            assert_eq!(file.names().count(), 2 * model.layers() + 1);
            for name in file.names() {
                let want: Vec<f64> = traces.iter().flat_map(|t| t[name].clone()).collect();
                let (shape, got) = read(&file, name);
                assert_eq!(shape, [n, want.len() / n], "{name}");
                assert!(max_error(&got, &want) <= 1e-12, "{name} with {act:?}");
            }
        });
    }
}

#[test]
fn published_activations_are_met() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    for name in ["gelu_lnpre", "relu_nonorm", "solu_ln", "solu_ln_full"] {
        let folder = shared.join("fixtures/transformer-lens").join(name);
        let goldens = Checkpoint::open(&folder.join("goldens.safetensors")).unwrap();
        for (dtype, bar) in [(DType::F64, 1e-9), (DType::F32, 1e-4)] {
            let model = Model::load(folder.to_str().unwrap(), dtype).unwrap().model;
            let data = data::load(folder.join("goldens.safetensors").to_str().unwrap(), &model).unwrap();
            let hooks: Vec<&str> = goldens.names().filter(|n| *n != "tokens").collect();
            assert!(hooks.len() >= 13);
            with_runner(2, None, |runner| {
                let file = capture(&model, &data, &hooks, runner, &dir.path().join("f"));
                for hook in hooks {
                    let ours = [("mlp.hook_pre", "mlp_pre"), ("mlp.hook_mid", "mlp_mid"), ("mlp.hook_post", "mlp_act")];
                    let ours = ours.iter().fold(hook.to_string(), |name, (theirs, ours)| name.replace(theirs, ours));
                    let (want, got) = (read(&goldens, hook), read(&file, &ours));
                    assert_eq!(got.0, want.0, "{hook}");
                    let error = max_error(&got.1, &want.1);
                    assert!(error <= bar, "{name}, {hook}, {dtype:?}: {error:e}");
                }
            });
        }
    }
}
