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
