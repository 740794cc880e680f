//! `mechgraph doctor` on every backend: what is sound passes, a wrong kernel does not.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::commands::works;
use super::{Backend, on_every_backend};
use crate::command::{Case, failure, mechgraph};
use crate::common::shared;

/// The rows of a run in which everything passes.
fn rows(backend: Backend, model: &Path, data: &Path, checks: &[&str]) -> Vec<Value> {
    let args = [&["--json", "--data", data.to_str().unwrap()], checks].concat();
    let report: Value = serde_json::from_str(&works(backend, &format!("doctor {}", model.display()), &args)).unwrap();
    let rows = report["rows"].as_array().unwrap().clone();
    assert_eq!((&report["passed"], &report["failed"], &report["host"]), (&rows.len().into(), &0.into(), &Value::Array(vec![])));
    for row in &rows {
        let (error, bound) = (row["error"].as_f64().unwrap(), row["bound"].as_f64().unwrap());
        assert!(row["verdict"] == "passed" && row["dtype"] == "f32" && error <= bound && bound <= 1e-4, "{row}");
    }
    rows
}

/// The names of the checks.
fn checks(rows: &[Value]) -> BTreeSet<&str> {
    rows.iter().map(|row| row["check"].as_str().unwrap()).collect()
}

on_every_backend! {
    fn doctor_finds_a_transformer_and_all_operations_sound(backend: Backend) {
        let case = Case::transformer();
        let rows = rows(backend, &case.path("MODEL"), &case.data(), &[]);
        let all = ["M'", "M' by products", "adjoint", "edges", "forward", "gram", "jacobian", "operation", "same bits"];
        assert_eq!(checks(&rows), all.into());
        let operations = rows.iter().filter(|row| row["check"] == "operation");
        // Each at two shapes or more.
        assert!(operations.clone().count() >= 2 * 27);
        // The kernels of the backend, none of which the host did for it.
        let by = |row: &Value, part: &str| row["note"].as_str().unwrap().contains(part);
        for row in operations {
            let named = if backend == Backend::Cpu { by(row, "faer") } else { by(row, "@") && !by(row, "host") };
            assert!(named, "{row}");
        }
        assert!(rows.iter().any(|row| row["error"].as_f64() > Some(1e-9)));
    }

    fn doctor_finds_an_mlp_sound(backend: Backend) {
        let case = Case::mlp();
        let rows = rows(backend, &case.path("MODEL"), &case.data(), &["--checks", "forward,lib"]);
        assert_eq!(checks(&rows), ["M'", "M' by products", "edges", "forward", "gram", "same bits"].into());
    }

    fn doctor_finds_a_hugging_face_model_sound(backend: Backend) {
        let Some(shared) = shared() else { return };
        let model = shared.join("fixtures/hf/gemma2");
        let rows = rows(backend, &model, &model.join("goldens.safetensors"), &["--checks", "forward,jacobians"]);
        assert_eq!(checks(&rows), ["adjoint", "forward", "jacobian", "same bits"].into());
        // The bar of these families.
        let forward = rows.iter().filter(|row| row["check"] == "forward");
        assert!(forward.clone().count() == 4 && forward.clone().all(|row| row["bound"].as_f64() == Some(5e-6)), "{rows:?}");
    }
}

#[test]
fn doctor_says_what_a_hugging_face_model_lacks() {
    let Some(shared) = shared() else { return };
    let model = shared.join("fixtures/hf/gpt2");
    let (data, model) = (format!("{}/goldens.safetensors", model.display()), model.to_str().unwrap());
    let sentence = failure(&["doctor", model, "--data", &data, "--backend", "cpu", "--quiet", "--checks", "lib"]);
    assert!(sentence.contains("--checks: found lib; expected other checks: the basis of Hugging Face models"), "{sentence}");
}

#[test]
fn doctor_says_what_an_mlp_lacks() {
    let case = Case::mlp();
    let (model, data) = (case.path("MODEL"), case.data());
    let args = ["doctor", model.to_str().unwrap(), "--data", data.to_str().unwrap(), "--backend", "cpu", "--quiet"];
    let sentence = failure(&[&args[..], &["--checks", "jacobians"]].concat());
    assert!(sentence.contains("--checks: found jacobians; expected other checks: an mlp has no blocks"), "{sentence}");
}

#[test]
fn doctor_finds_a_wrong_kernel_on_the_interpreter() {
    let sound = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/norm_sm80.ptx")).unwrap();
    let (bias, none) = ("setp.ne.u64     %biased, %b, 0;", "setp.ne.u64     %biased, 0, 0;");
    assert!(sound.contains(bias));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("norm_sm80.ptx"), sound.replace(bias, none)).unwrap();
    let flags = ["--backend", "cuda", "--driver", "interpreter", "--dtype", "f32", "--checks", "operations", "--json"];
    let args = [&["doctor", "--quiet"], &flags[..]].concat();
    let outcome = mechgraph(&args).env("MECHGRAPH_KERNELS", folder.path()).output().unwrap();
    let sentence = String::from_utf8(outcome.stderr).unwrap();
    assert_eq!(outcome.status.code(), Some(1), "{sentence}");
    assert!(sentence.starts_with("error: cuda (") && sentence.contains("first operation of norm 70x130 in f32"), "{sentence}");
    // The table is there all the same, and only what the kernel does is wrong.
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    let failed: Vec<&str> = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["verdict"] == "failed")
        .map(|row| row["of"].as_str().unwrap())
        .collect();
    assert!(
        failed.iter().all(|of| of.starts_with("norm ")) && failed.len() == report["failed"].as_u64().unwrap() as usize,
        "{failed:?}"
    );
}
