//! Whole LIB runs of the binary on a backend against the same run on the CPU.

use std::collections::BTreeSet;
use std::path::Path;

use mechgraph::model::Checkpoint;
use serde_json::Value;

use super::{Backend, adapter, on_every_backend, on_these_backends};
use crate::command::{Graph, manifest, read_graph, run};
use crate::common::shared;

/// The flags that choose a backend.
pub fn flags(backend: Backend) -> Vec<String> {
    let flags = match backend {
        Backend::Cpu => "--backend cpu".into(),
        Backend::Interpreter => "--backend cuda --driver interpreter".into(),
        Backend::Nvidia => "--backend cuda".into(),
        Backend::Llvmpipe => format!("--backend wgpu --adapter {}", adapter()),
    };
    flags.split(' ').map(String::from).collect()
}

/// What a backend takes of the demo: two blocks and a ragged third where time is short, and fewer node layers where every
/// operation runs on the interpreter.
fn part(backend: Backend) -> &'static [&'static str] {
    match backend {
        Backend::Cpu | Backend::Llvmpipe => &["--samples", "350"],
        Backend::Interpreter => &["--samples", "350", "--node-layers", "ln2.0,unembed", "--edges", "none"],
        Backend::Nvidia => &["--samples", "3830"],
    }
}

fn lib(out: &Path, dtype: &str, part: &[&str], flags: &[String]) {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let args = ["lib", "demo:modadd", "--method", "moments", "--out", out.to_str().unwrap(), "--dtype", dtype];
    let outcome = run(&[&args[..], part, &["--quiet", "--threads", "2"], &flags].concat());
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
}

/// The first ten Lambda of every rotated node layer.
fn top(run: &Path) -> Vec<(String, Vec<f64>)> {
    let graph = read_graph(run);
    let layers = graph.iter().filter_map(|(name, (_, x))| Some((name.strip_suffix(".Lambda")?, x)));
    layers.map(|(name, x)| (name.into(), x[..10].to_vec())).collect()
}

fn same_lambda(backend: Backend, dtype: &str, bar: f64) {
    let dir = tempfile::tempdir().unwrap();
    let (reference, found) = (dir.path().join("cpu"), dir.path().join("found"));
    lib(&reference, dtype, part(backend), &flags(Backend::Cpu));
    lib(&found, dtype, part(backend), &flags(backend));
    let (expected, found_top) = (top(&reference), top(&found));
    assert!(!expected.is_empty() && expected.len() == found_top.len());
    for ((layer, expected), (_, found)) in expected.iter().zip(&found_top) {
        for (i, (expected, found)) in expected.iter().zip(found).enumerate() {
            let error = (found / expected - 1.0).abs();
            assert!(error <= bar, "{backend:?} {dtype}: Lambda {i} of {layer} is {found:e}, {expected:e} on the CPU");
        }
    }
    let operations = &manifest(&found)["operations"];
    let names =
        |side: &str| -> BTreeSet<&str> { operations[side].as_array().unwrap().iter().filter_map(Value::as_str).collect() };
    match backend {
        Backend::Cpu => assert_eq!(*operations, Value::Null),
        _ => assert!(names("host").is_empty() && names("device").contains("gram"), "{operations}"),
    }
}

on_every_backend! {
    f64:
    fn lib_finds_the_cpus_lambda_in_f64(backend: Backend) { same_lambda(backend, "f64", 1e-9) }
}

on_every_backend! {
    fn lib_finds_the_cpus_lambda_in_f32(backend: Backend) { same_lambda(backend, "f32", 1e-4) }
}

/// A run on the published model, from where the first of its bases is that of the paper to rounding.
fn paper(out: &Path, words: &str, flags: &[String]) -> Option<Graph> {
    let folder = shared()?.join("fixtures/lib-paper/seed0");
    let data = format!("{}#train", folder.join("dataset.safetensors").display());
    let args = ["lib", folder.to_str().unwrap(), "--data", &data, "--out", out.to_str().unwrap(), "--dtype", "f32"];
    let layers = ["--node-layers", "ln2.0,unembed,output", "--quiet", "--threads", "2"];
    let flags = words.split(' ').chain(flags.iter().map(String::as_str));
    let outcome = run(&args.into_iter().chain(layers).chain(flags).collect::<Vec<_>>());
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    Some(read_graph(out))
}

mod the_published_lambda_in_f32 {
    use super::*;

    fn promise(backend: Backend) {
        let dir = tempfile::tempdir().unwrap();
        let Some(found) = paper(&dir.path().join("found"), "--edges none", &flags(backend)) else { return };
        let published = Checkpoint::open(&shared().unwrap().join("fixtures/lib-paper/seed0/lib.safetensors")).unwrap();
        for name in ["ln2.0.Lambda", "unembed.Lambda"] {
            let want = published.tensor_f64(name, published.shape(name).unwrap()).unwrap();
            for (i, (found, want)) in found[name].1.iter().zip(&want).take(10).enumerate() {
                assert!((found / want - 1.0).abs() <= 1e-4, "{backend:?}: {name} {i} is {found:e}, published {want:e}");
            }
        }
    }
    on_these_backends! { cpu Cpu, cuda_nvidia Nvidia, wgpu_llvmpipe Llvmpipe }
}

mod edges_of_the_published_model_in_f32 {
    use super::*;

    fn promise(backend: Backend) {
        let dir = tempfile::tempdir().unwrap();
        // Features beyond these are rounding in f32.
        let words = "--samples 128 --threshold-rel 1e-4";
        let Some(want) = paper(&dir.path().join("cpu"), words, &flags(Backend::Cpu)) else { return };
        let found = paper(&dir.path().join("found"), words, &flags(backend)).unwrap();
        for name in ["edges.ln2.0->unembed", "edges.unembed->output"] {
            assert_eq!(found[name].0, want[name].0, "{name}");
            let squares = found[name].1.iter().zip(&want[name].1).map(|(a, b)| ((a - b).powi(2), b.powi(2)));
            let (off, size) = squares.fold((0.0, 0.0), |(off, size), (a, b)| (off + a, size + b));
            assert!((off / size).sqrt() <= 1e-4, "{backend:?}: {name} is off by {:e}", (off / size).sqrt());
        }
    }
    on_these_backends! { cuda_nvidia Nvidia, wgpu_llvmpipe Llvmpipe }
}
