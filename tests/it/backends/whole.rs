//! Whole runs with small models, on a device from end to end: nothing is left to the host, and the results are those of
//! the CPU.

use std::collections::BTreeMap;
use std::path::Path;

use mechgraph::model::config::{ActFn, Norm, TransformerConfig};
use serde_json::Value;

use super::lib::flags;
use super::{Backend, on_every_backend};
use crate::command::{Case, Graph, inputs, manifest, mlp, mlp_config, read_graph, run, tokens, transformer};

/// Two blocks with all sizes different, the last of them odd.
fn config(norm: Norm, act: ActFn) -> TransformerConfig {
    TransformerConfig {
        n_layers: 2,
        d_model: 10,
        n_ctx: 5,
        d_head: 3,
        n_heads: 2,
        d_mlp: 13,
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

/// What the backends are compared on: a model with data, and flags.
fn cases() -> Vec<(&'static str, Case, &'static str)> {
    let sequences = || tokens(&[9, 5], |i| (i * i + i / 3) % 11);
    let of = |config: TransformerConfig| Case::new(&transformer(config), &sequences());
    let pre = || of(config(Norm::LnPre, ActFn::Gelu));
    vec![
        ("closed forms", pre(), "--method moments"),
        ("closed forms, quadrature", pre(), "--method moments --integration gauss-legendre --intervals 1"),
        ("jacobians, row by row", of(config(Norm::LnPre, ActFn::SoluLn)), "--method jvp"),
        ("random sources", pre(), "--method jvp --sources-pos 2 --sources-edges 3"),
        (
            "functional edges",
            of(TransformerConfig { parallel: true, ..config(Norm::LnPre, ActFn::GeluNew) }),
            "--edges functional",
        ),
        ("last position, no norm", of(TransformerConfig { read_last: true, ..config(Norm::None, ActFn::Relu) }), "--method auto"),
        ("layers as one function", of(config(Norm::LnPre, ActFn::Silu)), "--no-isolate-ln-var"),
        ("mlp", Case::new(&mlp(mlp_config(ActFn::Relu)), &inputs(&[9, 4], |i| (1.7 * i as f64).sin())), "--method moments"),
    ]
}

/// The relative Frobenius distance of two lists of numbers.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    difference / norm(&mut expected.iter().copied()).max(f64::MIN_POSITIVE)
}

fn lib(case: &Case, out: &str, backend: Backend, words: &str) -> Graph {
    let out = case.path(out);
    let (model, data) = (case.path("MODEL"), case.data());
    let paths = [model.to_str().unwrap(), "--data", data.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let flags = flags(backend);
    let flags = flags.iter().map(String::as_str).chain(words.split(' ')).chain(["--quiet", "--threads", "2"]);
    let outcome = run(&["lib"].into_iter().chain(paths).chain(flags).collect::<Vec<_>>());
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{words}: {outcome:?}");
    if matches!(backend, Backend::Interpreter | Backend::Nvidia) {
        nothing_on_the_host(&out);
    }
    read_graph(&out)
}

fn nothing_on_the_host(run: &Path) {
    let operations = &manifest(run)["operations"];
    assert_eq!(operations["host"], Value::Array(vec![]), "{operations}");
}

/// Lambda and edges, whose features have no sign.
fn results(graph: &Graph) -> BTreeMap<String, Vec<f64>> {
    let kept = graph.iter().filter(|(name, _)| name.ends_with(".Lambda") || name.starts_with("edges."));
    kept.map(|(name, (_, x))| (name.clone(), x.iter().map(|x| x.abs()).collect())).collect()
}

fn same_graphs(backend: Backend, dtype: &str, threshold: &str, bar: f64) {
    for (what, case, words) in cases() {
        let words = format!("{words} --dtype {dtype} --threshold-rel {threshold}");
        let expected = results(&lib(&case, "cpu", Backend::Cpu, &words));
        let found = results(&lib(&case, "found", backend, &words));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");
        for (name, expected) in &expected {
            assert_eq!(found[name].len(), expected.len(), "{backend:?} {what}: {name}");
            let error = distance(&found[name], expected);
            assert!(error <= bar, "{backend:?} {what} {dtype}: {name} is off by {error:e}");
        }
    }
}

on_every_backend! {
    f64:
    fn lib_from_end_to_end_in_f64(backend: Backend) { same_graphs(backend, "f64", "1e-10", 1e-9) }
}

on_every_backend! {
    fn lib_from_end_to_end_in_f32(backend: Backend) { same_graphs(backend, "f32", "1e-4", 1e-4) }
}

/// The files of a run that hold its results.
fn results_of(run: &Path, files: &[&str]) -> Vec<Vec<u8>> {
    files.iter().map(|file| std::fs::read(run.join(file)).unwrap()).collect()
}

#[test]
fn cuda_interpreter_two_gpus_give_the_bytes_of_one() {
    let (_, case, words) = cases().swap_remove(0);
    let graph = |gpus: &str| {
        lib(&case, gpus, Backend::Interpreter, &format!("{words} --gpus {gpus}"));
        results_of(&case.path(gpus), &["graph.safetensors"])
    };
    assert_eq!(graph("0"), graph("0,1"));
    assert_eq!(manifest(&case.path("0,1"))["backend"]["device"].as_str().map(|name| name.starts_with("2 x ")), Some(true));
}
