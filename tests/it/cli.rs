//! The command line as a user meets it: interrupted and repeated runs, progress, configuration files,
//! pipes that close early.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::command::{Case, failure, manifest, mechgraph, read_graph, run};

/// `lib` on the embedded model.
fn demo<'a>(out: &'a Path, flags: &[&'a str]) -> Vec<&'a str> {
    [&["lib", "demo:modadd", "--out", out.to_str().unwrap()], flags].concat()
}

fn graph(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("graph.safetensors")).unwrap()
}

/// A command line without `--quiet`.
fn loud(args: Vec<String>) -> Vec<String> {
    args.into_iter().filter(|a| a != "--quiet").collect()
}

#[test]
fn a_killed_run_is_taken_over_and_ends_equal() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    assert_eq!(run(&demo(&whole, &["--quiet"])).status, Some(0));
    let mut child = mechgraph(&demo(&killed, &["--progress", "json"])).stderr(Stdio::piped()).spawn().unwrap();
    // The first line comes when the first stage is done or a second has gone by: most is still to be done.
    let mut line = String::new();
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap());
    while !line.contains("\"stage\"") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "no stage");
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "the run ended before it was killed, after {line}");
    assert_eq!(manifest(&killed)["status"], "running");
    assert!(!killed.join("graph.safetensors").exists());
    let other = failure(&demo(&killed, &["--seed", "1"]));
    assert!(other.contains("an unfinished run of other work: there seed is 0, not 1;"), "{other}");
    assert_eq!(run(&demo(&killed, &["--quiet", "--threads", "1"])).status, Some(0));
    assert_eq!(manifest(&killed)["status"], "done");
    assert!(graph(&whole) == graph(&killed), "the graphs differ");
    assert!(!killed.join("checkpoint").exists());
}

#[test]
fn a_finished_run_is_replaced_with_force_alone() {
    let case = Case::transformer();
    case.lib_works(&[]);
    let before = graph(&case.run_dir());
    assert!(failure(&case.lib_args(&["--basis", "pca"])).contains("RUN: a finished run; expected a new folder, or --force"));
    assert!(graph(&case.run_dir()) == before);
    case.lib_works(&["--basis", "pca", "--force"]);
    assert!(graph(&case.run_dir()) != before);
    assert_eq!(manifest(&case.run_dir())["config"]["basis"], "pca");
}

#[test]
fn a_plan_that_fits_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("RUN");
    let lib = |flags: &[&str]| {
        demo(&out, &[&["--quiet", "--force", "--threads", "2"], flags].concat()).into_iter().map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(run(&lib(&["--batch", "100000"])).status, Some(0));
    let (all, peak) = (graph(&out), manifest(&out)["plan_bytes"].as_u64().unwrap());
    assert_eq!(run(&lib(&["--batch", "100000", "--max-memory", &peak.to_string()])).status, Some(0));
    // One byte less: refused, with a batch that fits, and the run before it is still there.
    let less = (peak - 1).to_string();
    let sentence = failure(&lib(&["--batch", "100000", "--max-memory", &less]));
    assert!(graph(&out) == all);
    let batch = sentence.split_once("(--batch ").and_then(|(_, rest)| rest.split_once(" would fit)"));
    let batch = batch.unwrap_or_else(|| panic!("{sentence}")).0;
    assert_eq!(run(&lib(&["--batch", batch, "--max-memory", &less])).status, Some(0));
    assert!(graph(&out) == all, "the batch changes the result");
    // Without --batch the plan finds one by itself.
    assert_eq!(run(&lib(&["--max-memory", &less])).status, Some(0));
    assert!(graph(&out) == all && manifest(&out)["plan_bytes"].as_u64().unwrap() < peak);
}

#[test]
fn progress_comes_in_the_form_asked_for() {
    let case = Case::mlp();
    let lib = |flags: &[&str]| {
        let outcome = run(&loud(case.lib_args(&[flags, &["--force"]].concat())));
        assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(0), ""));
        outcome.stderr
    };
    let json = lib(&["--progress", "json"]);
    let lines = json.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")));
    let (notes, stages): (Vec<Value>, Vec<Value>) = lines.partition(|l: &Value| l["note"].is_string());
    assert!(notes.len() == 1 && notes[0]["note"].as_str().unwrap().starts_with("auto picks "), "{notes:?}");
    for stage in &stages {
        assert!(stage["stage"].is_string() && stage["rate"].is_number(), "{stage}");
        assert!(stage["eta_seconds"].is_number() || stage["eta_seconds"].is_null(), "{stage}");
    }
    for name in ["moments", "bases", "edges"] {
        let last = stages.iter().rfind(|s| s["stage"] == name).unwrap_or_else(|| panic!("no stage {name} in {json}"));
        assert!(last["done"].as_u64() > Some(0) && last["done"] == last["total"], "{last}");
    }
    for flags in [&["--progress", "plain"][..], &[]] {
        let plain = lib(flags);
        let (notes, stages): (Vec<&str>, Vec<&str>) = plain.lines().partition(|l| l.starts_with("note: auto picks "));
        assert!(notes.len() == 1 && stages.iter().all(|l| l.contains(": ") && l.contains("/s")), "{plain}");
        assert!(plain.contains("edges: "), "{plain}");
    }
    for flags in [&["--force"][..], &["--force", "--progress", "json"]] {
        assert_eq!(run(&case.lib_args(flags)).stderr, "", "--quiet and {flags:?}");
    }
}

#[test]
fn an_error_follows_the_progress_on_its_own_line() {
    let case = Case::mlp();
    case.edit_weights(|t| t.values_mut().for_each(|(_, _, raw)| raw.fill(0)));
    let outcome = run(&loud(case.lib_args(&["--progress", "json"])));
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let (error, progress) = lines.split_last().unwrap();
    assert!(error.starts_with("error: node layer ") && outcome.status == Some(1), "{outcome:?}");
    assert!(!progress.is_empty() && progress.iter().all(|l| serde_json::from_str::<Value>(l).is_ok()), "{outcome:?}");
}

#[test]
fn threads_and_batches_do_not_change_a_byte() {
    let case = Case::transformer();
    let bytes = |flags: &[&str]| {
        case.lib_works(&[flags, &["--force"]].concat());
        graph(&case.run_dir())
    };
    let default = bytes(&[]);
    for flags in [&["--threads", "1"][..], &["--threads", "5"], &["--batch", "1"], &["--batch", "18446744073709551615"]] {
        assert!(bytes(flags) == default, "{flags:?}");
    }
}

#[test]
fn a_configuration_file_stands_for_flags() {
    let case = Case::transformer();
    case.lib_works(&["--basis", "pca", "--node-layers", "ln1.0,unembed", "--no-center"]);
    let flags = graph(&case.run_dir());
    let toml = case.path("flags.toml");
    std::fs::write(&toml, "basis = 'neuron'\nnode-layers = ['ln1.0', 'unembed']\nno-center = true\nforce = true\nthreads = 1\n")
        .unwrap();
    let config = toml.to_str().unwrap();
    case.lib_works(&["--config", config, "--basis", "pca"]);
    assert!(graph(&case.run_dir()) == flags);
    let run = manifest(&case.run_dir());
    assert_eq!((run["config"]["basis"].as_str(), run["config"]["node-layers"].as_str()), (Some("pca"), Some("ln1.0,unembed")));
    case.lib_works(&["--config", config]);
    assert!(graph(&case.run_dir()) != flags);
    assert_eq!(manifest(&case.run_dir())["config"]["basis"], "neuron");
}

#[test]
fn the_demo_needs_no_flags() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = mechgraph(&["lib", "demo:modadd", "--out", "RUN"]).current_dir(dir.path()).output().unwrap();
    assert_eq!(outcome.status.code(), Some(0));
    let run = manifest(&dir.path().join("RUN"));
    assert_eq!((run["model"]["name"].as_str(), run["data"]["name"].as_str()), (Some("demo:modadd"), Some("demo:modadd#train")));
    assert_eq!((run["dtype"].as_str(), run["status"].as_str()), (Some("f64"), Some("done")));
    let graph = read_graph(&dir.path().join("RUN"));
    assert_eq!(graph["ln1.0.C"].0[0], 129);
}

#[test]
fn pipes_that_close_early_are_no_failure() {
    let case = Case::mlp();
    let whole = loud(case.lib_args(&["--progress", "plain"]));
    for args in [vec!["devices".to_string()], vec!["lib".into(), "--help".into()], whole] {
        let mut child = mechgraph(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        if args.contains(&"plain".to_string()) {
            drop(child.stderr.take());
        }
        let status = child.wait().unwrap();
        let mut stderr = String::new();
        if let Some(pipe) = &mut child.stderr {
            pipe.read_to_string(&mut stderr).unwrap();
        }
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
    assert_eq!(manifest(&case.run_dir())["status"], "done");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_a_failure() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = mechgraph(&["devices"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: standard output: writing failed: No space left on device"), "{stderr}");
}

#[test]
fn devices_are_listed() {
    let outcome = run(&["devices"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(lines[0].starts_with("backend  ") && lines[0].ends_with("  why"), "{}", outcome.stdout);
    for backend in ["cuda", "wgpu", "cpu"] {
        assert!(lines.iter().any(|l| l.starts_with(backend)), "{}", outcome.stdout);
    }
    let outcome = run(&["devices", "--json"]);
    let json: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let auto = json["auto"].as_str().unwrap();
    let chosen = json["devices"].as_array().unwrap().iter().find(|d| d["backend"] == auto).unwrap();
    assert_eq!(chosen["available"], true);
    assert!(lines.iter().any(|l| l.starts_with(&format!("auto picks {auto}: "))), "{lines:?}");
}

#[test]
fn help_and_version_go_to_stdout() {
    for (args, part) in
        [(&["--help"][..], "Usage: mechgraph"), (&["lib", "--help"], "--node-layers"), (&["--version"], "mechgraph ")]
    {
        let outcome = run(args);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
        assert!(outcome.stdout.contains(part), "{}", outcome.stdout);
    }
}

#[test]
fn cooperative_matrices_are_refused_where_an_adapter_has_none() {
    let adapters = mechgraph::device::Wgpu::adapters();
    if !adapters.iter().any(|a| a.name.contains("llvmpipe") && a.cooperative_matrices.is_empty()) {
        return println!("skipped: wgpu adapter llvmpipe is absent or has cooperative matrices");
    }
    let sentence = failure(&["bench", "linear", "--backend", "wgpu", "--adapter", "llvmpipe", "--cooperative", "--quiet"]);
    let parts =
        ["backend wgpu: llvmpipe ", " has no cooperative matrices; expected cooperative matrices 16x16x16 or 8x8x8 f16 -> f32, "];
    assert!(parts.iter().all(|part| sentence.contains(part)) && sentence.ends_with(", or no --cooperative"), "{sentence}");
}
