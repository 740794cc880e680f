//! Whole LIB runs of the binary on a backend against the same run on the CPU.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::{Backend, adapter, on_every_backend};
use crate::command::{manifest, read_graph, run};

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

/// Samples of the demo that a backend takes: two blocks and a ragged third where time is short.
fn samples(backend: Backend) -> &'static str {
    match backend {
        Backend::Cpu | Backend::Interpreter | Backend::Llvmpipe => "350",
        Backend::Nvidia => "3830",
    }
}

fn lib(out: &Path, dtype: &str, samples: &str, flags: &[String]) {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let args = ["lib", "demo:modadd", "--method", "moments", "--out", out.to_str().unwrap(), "--dtype", dtype];
    let outcome = run(&[&args[..], &["--samples", samples, "--quiet", "--threads", "2"], &flags].concat());
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
}

/// The first ten Lambda of every rotated node layer.
fn top(run: &Path) -> Vec<(String, Vec<f64>)> {
    let graph = read_graph(run);
    let layers = graph.iter().filter_map(|(name, (_, x))| Some((name.strip_suffix(".Lambda")?, x)));
    layers.map(|(name, x)| (name.into(), x[..10].to_vec())).collect()
}

fn same_lambda(backend: Backend, dtype: &str, bar: f64, on_device: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let (reference, found) = (dir.path().join("cpu"), dir.path().join("found"));
    lib(&reference, dtype, samples(backend), &flags(Backend::Cpu));
    lib(&found, dtype, samples(backend), &flags(backend));
    let (expected, found_top) = (top(&reference), top(&found));
    assert_eq!(expected.len(), 3, "ln1.0, ln2.0, unembed");
    for ((layer, expected), (_, found)) in expected.iter().zip(&found_top) {
        for (i, (expected, found)) in expected.iter().zip(found).enumerate() {
            let error = (found / expected - 1.0).abs();
            assert!(error <= bar, "{backend:?} {dtype}: Lambda {i} of {layer} is {found:e}, {expected:e} on the CPU");
        }
    }
    let operations = &manifest(&found)["operations"];
    if backend == Backend::Cpu {
        assert_eq!(*operations, Value::Null);
        return;
    }
    let names =
        |side: &str| -> BTreeSet<&str> { operations[side].as_array().unwrap().iter().filter_map(Value::as_str).collect() };
    assert_eq!(names("device"), on_device.iter().copied().collect());
    assert!(names("host").contains("attention") && names("host").is_disjoint(&names("device")));
}

on_every_backend! {
    f64:
    fn lib_finds_the_cpus_lambda_in_f64(backend: Backend) { same_lambda(backend, "f64", 1e-9, &["gram"]) }
}

on_every_backend! {
    fn lib_finds_the_cpus_lambda_in_f32(backend: Backend) { same_lambda(backend, "f32", 1e-4, &["gram", "linear"]) }
}
