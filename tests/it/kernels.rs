//! `mechgraph kernels`: names, texts and explanations, without a driver.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::Value;

use crate::command::{failure, mechgraph, run};

fn output(args: &[&str]) -> String {
    let outcome = run(&[&["kernels"], args].concat());
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{args:?}");
    outcome.stdout
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&output(&[args, &["--json"]].concat())).unwrap()
}

fn usage_error(args: &[&str]) -> String {
    let outcome = run(&[&["kernels"], args].concat());
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""), "{args:?}");
    outcome.stderr
}

#[test]
fn the_list_is_sorted_and_names_every_text_once() {
    let list = output(&["--list"]);
    let lines: Vec<&str> = list.lines().collect();
    let pairs: Vec<(&str, &str)> = lines.iter().map(|l| l.split_once('@').unwrap()).collect();
    assert!(pairs.is_sorted(), "{list}");
    assert_eq!(pairs.iter().collect::<BTreeSet<_>>().len(), lines.len(), "{list}");
    for kernel in ["gram_f64_sm80", "gram_f32_sm80", "linear_f32_sm80"] {
        assert!(pairs.iter().filter(|(k, _)| *k == kernel).count() >= 2, "{kernel} in {list}");
    }
    let rows = json(&["--list"]);
    let rows = rows["kernels"].as_array().unwrap();
    let names = rows.iter().map(|r| format!("{}@{}", r["kernel"].as_str().unwrap(), r["configuration"].as_str().unwrap()));
    assert!(names.eq(lines.iter().copied()));
    assert!(rows.iter().all(|r| r["threads"].as_u64() > Some(0) && r["shared"].is_u64()));
}

#[test]
fn every_name_of_the_list_is_dumped() {
    // One process a kernel; the configurations of each are expanded by the library, as the command does.
    let mut kernels = BTreeSet::new();
    for name in output(&["--list"]).lines() {
        let (kernel, configuration) = name.split_once('@').unwrap();
        let spec = mechgraph::kernel::registry::find(kernel).unwrap();
        let text = spec.expand(&spec.configuration(configuration).unwrap()).unwrap();
        assert!(text.contains(kernel) && !text.contains("{{"), "{name}");
        if kernels.insert(kernel.to_string()) {
            assert_eq!(output(&["--dump", name]), text, "{name}");
        }
    }
    let first = output(&["--dump", "gram_f64_sm80"]);
    assert!(first.contains(".visible .entry gram_f64_sm80(") && first.contains(".target sm_80"), "{first}");
}

#[test]
fn exactly_one_of_three_is_asked_for() {
    for args in [
        &[][..],
        &["--list", "--dump", "gram_f64_sm80"],
        &["--list", "--explain", "gram", "--d", "9"],
        &["--dump", "gram_f64_sm80", "--explain", "gram", "--d", "9"],
        &["--list", "--d", "9"],
        &["--list", "--capability", "8.0"],
        &["--dump", "gram_f64_sm80", "--unaligned"],
        &["--dump", "gram_f64_sm80", "--json"],
        &["--explain", "gram"],
        &["--explain", "gram", "--d", "0"],
        &["--explain", "gram", "--d", "9", "--capability", "nine"],
        &["--explain", "gram", "--d", "9", "--peak", "0"],
        &["--explain", "gram", "--d", "9", "--backend", "cpu"],
    ] {
        assert!(usage_error(args).contains("Usage: mechgraph kernels") || args.len() > 2, "{args:?}");
    }
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let kernel = failure(&["kernels", "--dump", "gram_f16"]);
    assert!(kernel.contains("no kernel 'gram_f16'; expected one of ") && kernel.contains(" gram_f32_sm80, "), "{kernel}");
    assert!(kernel.contains("--list") && !kernel.contains("linear"), "{kernel}");
    let configuration = failure(&["kernels", "--dump", "gram_f64_sm80@7x7"]);
    assert!(configuration.contains("no configuration '7x7'") && configuration.contains("32x32x8-cp8"), "{configuration}");
    let explain = |args: &[&str]| failure(&[&["kernels", "--explain"], args].concat());
    assert!(explain(&["norm", "--d", "9"]).contains("--explain: found norm; expected gram or linear"));
    assert!(explain(&["linear", "--d", "9", "--dtype", "bf16"]).contains("--dtype: found bf16"));
    assert!(explain(&["gram", "--d", "9", "--dtype", "bf16"]).contains("--dtype: found bf16"));
    assert!(explain(&["gram", "--d", "9", "--k", "3"]).contains("--k: "));
    let epilogue = explain(&["linear", "--d", "9", "--epilogue", "store"]);
    assert!(epilogue.contains("--epilogue: found store; expected one of ") && epilogue.contains("tangent-gelu"), "{epilogue}");
    assert!(explain(&["linear", "--d", "9", "--rows", "24", "--epilogue", "tangent-relu"]).contains("16"));
    assert!(explain(&["gram", "--d", "9", "--capability", "7.5"]).contains("compute capability 7.5"));
    assert!(explain(&["gram", "--d", "9", "--invocations", "64"]).contains("--invocations: found --backend cuda"));
    assert!(explain(&["product", "--d", "9"]).contains("--backend wgpu"));
    let wgpu = |args: &[&str]| explain(&[args, &["--backend", "wgpu"]].concat());
    assert!(wgpu(&["norm", "--d", "9"]).contains("--explain: found norm; expected gram, linear, product or edges"));
    assert!(wgpu(&["gram", "--d", "9", "--dtype", "f64"]).contains("--dtype: found f64"));
    assert!(wgpu(&["gram", "--d", "9", "--capability", "8.0"]).contains("--capability: found --backend wgpu"));
    assert!(wgpu(&["edges", "--d", "9", "--batch", "2"]).contains("--batch: found --explain edges"));
    assert!(wgpu(&["edges", "--d", "9999"]).contains("--d: found 9999"));
    assert!(wgpu(&["edges"]).contains("--d: found nothing"));
    assert!(wgpu(&["linear", "--d", "9", "--invocations", "32"]).contains("the adapter runs at most 32"));
    assert!(wgpu(&["product", "--d", "9", "--workgroup-memory", "1024"]).contains("the device gives at most 1024"));
}

/// The candidates of an explanation: rejected and legal ones, and the names of those chosen.
fn candidates(answer: &Value) -> (Vec<&Value>, Vec<&Value>, Vec<&str>) {
    let all = answer["candidates"].as_array().unwrap();
    let (rejected, legal): (Vec<&Value>, Vec<&Value>) = all.iter().partition(|c| c["rejected"].is_string());
    let chosen = all.iter().filter(|c| c["chosen"] == true).map(|c| c["configuration"].as_str().unwrap());
    (rejected, legal, chosen.collect())
}

#[test]
fn an_explanation_has_a_reason_or_a_cost_for_every_candidate() {
    let answer = json(&["--explain", "gram", "--d", "769", "--rows", "4096", "--dtype", "f64", "--unaligned"]);
    let (rejected, legal, chosen) = candidates(&answer);
    assert!(rejected.iter().all(|c| c["rejected"].as_str().unwrap().contains("16 bytes") && c["cost"].is_null()));
    assert!(!rejected.is_empty() && !legal.is_empty());
    let cost = |c: &Value| c["cost"].as_f64().unwrap();
    let least = legal.iter().map(|c| cost(c)).fold(f64::INFINITY, f64::min);
    let cheapest = legal.iter().find(|c| cost(c) == least).unwrap();
    assert_eq!(chosen, [cheapest["configuration"].as_str().unwrap()]);
    assert_eq!(answer["flops"].as_f64(), Some(4096.0 * 769.0 * 770.0));
    assert!(answer["compute_floor_ms"].is_null() && answer["memory_floor_ms"].is_null());
    let launches = answer["launches"].as_array().unwrap();
    let names: Vec<&str> = launches.iter().map(|l| l["kernel"].as_str().unwrap().split('@').next().unwrap()).collect();
    assert_eq!(names, ["centre_f64_sm80", "gram_f64_sm80", "gram_fold_sm80"]);
    assert!(launches.iter().all(|l| l["registers"].as_u64() > Some(0) && l["threads"].as_u64() > Some(0)), "{answer}");
    assert_eq!(launches[1]["kernel"], format!("gram_f64_sm80@{}", chosen[0]).as_str());
}

#[test]
fn a_choice_among_wgsl_kernels_is_explained_too() {
    for (args, kernel, flops) in [
        (["gram", "--d", "769", "--rows", "4096"], "gram_f32", 4096.0 * 769.0 * 770.0),
        (["linear", "--d", "768", "--rows", "512"], "linear_f32", 2.0 * 512.0 * 768.0 * 768.0),
        (["product", "--d", "100", "--rows", "300"], "product_f32", 2.0 * 300.0 * 100.0 * 100.0),
        (["edges", "--d", "64", "--rows", "300"], "edges_f32", 2.0 * 65.0 * 300.0 * 64.0 * 64.0),
    ] {
        let answer = json(&[&["--backend", "wgpu", "--explain"], &args[..]].concat());
        let (rejected, legal, chosen) = candidates(&answer);
        assert!(!rejected.is_empty() && legal.len() > 1 && chosen.len() == 1, "{answer}");
        assert!(legal.iter().all(|c| c["ctas"].as_u64() > Some(0) && c["cost"].as_f64() > Some(0.0)));
        assert_eq!((answer["flops"].as_f64(), answer["kernel"].as_str()), (Some(flops), Some(kernel)));
        let launches = answer["launches"].as_array().unwrap();
        let own = format!("{kernel}@{}", chosen[0]);
        assert!(launches.iter().any(|l| l["kernel"] == own.as_str()), "{answer}");
        assert!(launches.iter().all(|l| l["registers"].is_null() && l["grid"][0].as_u64() > Some(0)), "{answer}");
    }
    let text = output(&["--backend", "wgpu", "--explain", "product", "--d", "100", "--rows", "300", "--batch", "7"]);
    assert!(text.contains("7 of A [300, 100] f32 times B [100, 100]") && text.contains(" workgroups, "), "{text}");
    assert!(text.contains("at most 256 invocations and 16384 bytes") && text.contains("width of loads"), "{text}");
    let weak = output(&["--backend", "wgpu", "--explain", "product", "--d", "1000", "--invocations", "64"]);
    assert!(weak.contains("-> 32x32x16-v4") && weak.contains("256 invocations, the adapter runs at most 64"), "{weak}");
}

#[test]
fn floors_follow_from_the_rates_given() {
    let args = ["--explain", "linear", "--d", "3072", "--k", "768", "--rows", "4096", "--epilogue", "store-gelu"];
    let answer = json(&[&args[..], &["--peak", "67", "--copy", "4300"]].concat());
    let flops = 2.0 * 4096.0 * 768.0 * 3072.0;
    assert_eq!(answer["flops"].as_f64(), Some(flops));
    let close = |found: &Value, expected: f64| (found.as_f64().unwrap() / expected - 1.0).abs() < 1e-12;
    assert!(close(&answer["compute_floor_ms"], 1e3 * flops / 67e12), "{answer}");
    assert!(close(&answer["memory_floor_ms"], 1e3 * answer["bytes"].as_f64().unwrap() / 4300e9), "{answer}");
    let text = output(&args);
    assert!(text.contains("floor unmeasured") && text.contains("-> ") && text.contains("rejected: "), "{text}");
    assert!(text.contains("-store-gelu") && text.contains("another epilogue"), "{text}");
}

#[test]
fn a_smaller_device_is_handed_what_fits() {
    let shared = |capability: &str| {
        let answer = json(&["--explain", "gram", "--d", "3073", "--dtype", "f64", "--capability", capability]);
        let most = answer["shared_per_block"].as_u64().unwrap();
        let launches = answer["launches"].as_array().unwrap();
        assert!(launches.iter().all(|l| l["shared"].as_u64().unwrap() <= most), "{answer}");
        most
    };
    assert_eq!(["8.0", "8.6", "9.0", "12.0"].map(shared), [163 << 10, 99 << 10, 227 << 10, 99 << 10]);
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    for args in [&["kernels", "--list"][..], &["kernels", "--dump", "gram_f64_sm80"], &["kernels", "--list", "--json"]] {
        let mut child = mechgraph(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""), "{args:?}");
    }
}
