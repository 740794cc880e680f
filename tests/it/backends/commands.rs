//! The commands of the binary on a backend against the same command on the CPU.

use std::path::Path;

use mechgraph::model::config::TransformerConfig;
use serde_json::Value;

use super::lib::flags;
use super::{Backend, on_every_backend};
use crate::command::{Case, Outcome, Tensors, ints, read, reals, run, tokens, transformer, transformer_config, write};
use crate::naive::max_error;

/// The bar of activations and products in f32 on any backend: max-abs error over max-abs value.
const BAR: f64 = 5e-6;

/// Runs a command, with nothing left to the host.
pub(super) fn works(backend: Backend, command: &str, more: &[&str]) -> String {
    let outcome = outcome(backend, command, more);
    assert!(!outcome.stderr.contains("leaves to the host"), "{command}: {outcome:?}");
    outcome.stdout
}

/// Runs a command in f32, with its progress on stderr.
fn outcome(backend: Backend, command: &str, more: &[&str]) -> Outcome {
    let flags = flags(backend);
    let words = command.split(' ').chain(["--progress", "plain", "--dtype", "f32"]).chain(flags.iter().map(String::as_str));
    let outcome = run(&words.chain(more.iter().copied()).collect::<Vec<_>>());
    assert_eq!(outcome.status, Some(0), "{command}: {outcome:?}");
    outcome
}

/// The numbers of a file of f32 tensors, but for the token ids.
fn numbers(path: &Path) -> Vec<(String, Vec<f64>)> {
    let decode = |(dtype, _, bytes): (String, Vec<usize>, Vec<u8>)| {
        assert_eq!(dtype, "F32");
        bytes.chunks_exact(4).map(|c| f64::from(bytemuck::pod_read_unaligned::<f32>(c))).collect()
    };
    read(path).into_iter().filter(|(name, _)| name != "tokens").map(|(name, stored)| (name, decode(stored))).collect()
}

/// Runs a command that writes tensors to `--out`, here and on the CPU, and compares the files.
pub(super) fn same_tensors(backend: Backend, command: &str, folder: &Path, count: usize) {
    let file = |name: &str, backend: Backend| {
        let out = folder.join(name);
        works(backend, command, &["--threads", "2", "--out", out.to_str().unwrap()]);
        numbers(&out)
    };
    let (expected, found) = (file("expected", Backend::Cpu), file("found", backend));
    assert_eq!((expected.len(), found.len()), (count, count));
    for ((name, expected), (_, found)) in expected.iter().zip(&found) {
        let error = max_error(found, expected);
        assert!(error <= BAR, "{backend:?}: {command}: {name}: {error:e}");
    }
}

on_every_backend! {
    fn eval_finds_the_cpus_scores(backend: Backend) {
        let score = |backend| -> Value {
            serde_json::from_str(&works(backend, "eval demo:modadd --samples 60 --json", &[])).unwrap()
        };
        let (expected, found) = (score(Backend::Cpu), score(backend));
        assert_eq!(found["accuracy"], expected["accuracy"]);
        let loss = |score: &Value| score["loss"].as_f64().unwrap();
        assert!((loss(&found) - loss(&expected)).abs() <= 1e-6, "{backend:?}: {found} {expected}");
    }
    fn capture_writes_the_cpus_activations(backend: Backend) {
        let folder = tempfile::tempdir().unwrap();
        let command = "capture demo:modadd --samples 200 --sites resid_pre,z,mlp_act,logits";
        same_tensors(backend, command, folder.path(), 4);
    }
    fn jvp_writes_the_cpus_products(backend: Backend) {
        let folder = tempfile::tempdir().unwrap();
        let given = folder.path().join("given");
        let direction = |phase: f64| reals(&[4, 3, 128], move |i| (1.3 * i as f64 + phase).sin());
        let tokens = ints(&[4, 3], |i| if i % 3 == 2 { 113 } else { (17 * i % 113) as i64 });
        let tensors = [("tokens", tokens), ("tangent.0", direction(0.0)), ("cotangent.0", direction(1.0))];
        write(&given, &Tensors::from(tensors.map(|(name, stored)| (name.to_string(), stored))));
        same_tensors(backend, &format!("jvp demo:modadd --data {}", given.display()), folder.path(), 2);
    }
    fn ablate_finds_the_cpus_accuracies(backend: Backend) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let small = "lib demo:modadd --samples 200 --node-layers ln2.0,unembed --edges none --method moments";
        works(Backend::Cpu, small, &["--out", out.to_str().unwrap()]);
        let curve = |backend| -> Value {
            let flags = "--data demo:modadd#test --samples 60 --kind node --schedule linear --points 3 --force";
            works(backend, &format!("ablate {} {flags}", out.display()), &["--threads", "2"]);
            serde_json::from_slice(&std::fs::read(out.join("ablation-node.json")).unwrap()).unwrap()
        };
        let (expected, found) = (curve(Backend::Cpu), curve(backend));
        for key in ["unablated_accuracy", "node_ablation_accuracy"] {
            assert!(!expected[key].is_null() && expected[key] == found[key], "{backend:?}: {found:#} {expected:#}");
        }
    }
    fn what_is_left_to_the_host_is_said(backend: Backend) {
        // Heads too wide for the kernels of CUDA.
        let config = TransformerConfig { n_heads: 1, d_head: 260, ..transformer_config() };
        let case = Case::new(&transformer(config), &tokens(&[3, 4], |i| i % 11));
        let [model, data, out] = ["MODEL", "data.safetensors", "F"].map(|name| case.path(name).display().to_string());
        let stderr = outcome(backend, &format!("capture {model} --data {data} --out {out} --sites z"), &[]).stderr;
        let said = stderr.contains("note: cuda leaves to the host: sdpa\n");
        assert_eq!(said, matches!(backend, Backend::Interpreter | Backend::Nvidia), "{backend:?}: {stderr}");
        assert!(said || !stderr.contains("leaves to the host"), "{backend:?}: {stderr}");
    }
    fn lib_writes_the_same_bytes_for_any_threads_and_batch(backend: Backend) {
        let folder = tempfile::tempdir().unwrap();
        let small = "lib demo:modadd --samples 350 --node-layers ln2.0,unembed --edges none --method moments";
        let graph = |threads: &str, batch: &str| {
            let out = folder.path().join(format!("{threads}-{batch}"));
            works(backend, small, &["--threads", threads, "--batch", batch, "--out", out.to_str().unwrap()]);
            std::fs::read(out.join("graph.safetensors")).unwrap()
        };
        let one = graph("1", "1");
        assert!(one.len() > 10_000 && one == graph("2", "100000") && one == graph("2", "1"), "{backend:?}");
    }
}
