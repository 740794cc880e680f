//! `mechgraph n2g` on real models: what the reference implementations gave, the goldens of exemplars,
//! interrupted runs, and what is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mechgraph::model::Checkpoint;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::command::{failure, manifest, mechgraph, run};
use crate::naive::shared;

/// The model whose results the reference implementations published here, and its text.
fn glassllm() -> Option<(PathBuf, PathBuf)> {
    let lm = shared()?.join("fixtures/lm");
    Some((lm.join("glassllm-en"), lm.join("alice.txt")))
}

fn n2g(model: &Path, data: &Path, out: &Path, flags: &str) -> Vec<String> {
    let mut args = vec!["n2g".into(), model.display().to_string()];
    args.extend(["--data".into(), data.display().to_string(), "--out".into(), out.display().to_string(), "--quiet".into()]);
    args.extend(flags.split_whitespace().map(String::from));
    args
}

fn demo(out: &Path, flags: &str) -> Vec<String> {
    let fixed = ["n2g", "demo:lm", "--out", out.to_str().unwrap(), "--quiet"].map(String::from);
    fixed.into_iter().chain(flags.split_whitespace().map(String::from)).collect()
}

fn records(run: &Path) -> BTreeMap<(u64, u64), Value> {
    let text = std::fs::read_to_string(run.join("neurons.jsonl")).unwrap();
    let record = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        ((record["layer"].as_u64().unwrap(), record["neuron"].as_u64().unwrap()), record)
    };
    text.lines().map(record).collect()
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[track_caller]
fn close(found: &Value, want: &Value, tolerance: f64) {
    let (found, want) = (numbers(found), numbers(want));
    assert_eq!(found.len(), want.len());
    let worst = found.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance, "{worst}: {found:?} {want:?}");
}

/// A trie of numbers within 0.001 of each other under the same names.
#[track_caller]
fn same_trie(found: &Value, want: &Value, tolerance: f64) {
    match (found, want) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = |m: &serde_json::Map<String, Value>| m.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(keys(a), keys(b));
            a.iter().for_each(|(key, value)| same_trie(value, &b[key], tolerance));
        }
        _ => assert!((found.as_f64().unwrap() - want.as_f64().unwrap()).abs() <= tolerance, "{found} {want}"),
    }
}

/// Prompts, scores, baselines and tries of every neuron of a published file that is not near a threshold.
fn published(mode: &str) {
    let Some((model, text)) = glassllm() else { return };
    let file = shared().unwrap().join(format!("fixtures/n2g-reference/{mode}.json"));
    let file: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let neurons: Vec<&Value> = file["neurons"].as_array().unwrap().iter().filter(|n| n["near_threshold"] == false).collect();
    assert!(neurons.len() >= 29);
    let names: BTreeSet<u64> = neurons.iter().map(|n| n["neuron"].as_u64().unwrap()).collect();
    let names: Vec<String> = names.iter().map(u64::to_string).collect();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let flags = format!("--mode {mode} --until tries --neurons {}", names.join(","));
    assert_eq!(run(&n2g(&model, &text, &out, &flags)).status, Some(0));
    let records = records(&out);
    let is_reference = mode == "reference";
    for n in neurons {
        let (layer, neuron) = (n["layer"].as_u64().unwrap(), n["neuron"].as_u64().unwrap());
        let found = &records[&(layer, neuron)];
        let a_max = n["a_max"].as_f64().unwrap();
        assert!((found["a_max"].as_f64().unwrap() - a_max).abs() <= 1e-4 * a_max);
        let window = |rank: &Value| found["exemplars"][rank.as_u64().unwrap() as usize]["window"].clone();
        for part in ["train", "test"] {
            let used: Vec<Value> = found[part].as_array().unwrap().iter().map(window).collect();
            assert_eq!(Value::from(used), n[part], "{layer}:{neuron} {part}");
        }
        let (prompts, wanted) = (found["prompts"].as_array().unwrap(), n["prompts"].as_array().unwrap());
        assert_eq!(prompts.len(), wanted.len());
        for (p, q) in prompts.iter().zip(wanted) {
            for key in ["window", "pivot", "start", "end"] {
                assert_eq!(p[key], q[key], "{layer}:{neuron} {key}");
            }
            let pivot = (q["pivot"].as_u64().unwrap() - q["start"].as_u64().unwrap()).to_string();
            if is_reference {
                assert_eq!((&p["accepted"], &p["argmax"]), (&q["accepted"], &q["argmax"]));
                assert!((p["scale"].as_f64().unwrap() - q["scale"].as_f64().unwrap()).abs() <= 1e-4);
                close(&p["norm_act"], &q["norm_act"], 0.001 + 1e-6);
                let columns = |x: &Value| x["importance"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
                assert_eq!(columns(p), columns(q));
                columns(q).iter().for_each(|t| close(&p["importance"][t], &q["importance"][t], 1e-4));
            } else {
                assert_eq!(p["anchored"][0], !q["can_pad_start"].as_bool().unwrap());
                close(&p["importance"][&pivot], &q["saliency"], 1e-4);
            }
        }
        let scores = &found["scores"];
        let mut counted = vec![("held_out", &n["score"])];
        counted.extend(n.get("score_any").map(|any| ("any", any)));
        if is_reference {
            counted.extend([("token", &n["baselines"]["token"]), ("ngram", &n["baselines"]["ngram5"])]);
            assert!((scores["r2"].as_f64().unwrap() - n["score"]["r2"].as_f64().unwrap()).abs() < 1e-3);
        }
        for (ours, want) in counted.into_iter().filter(|(_, want)| want["near_threshold"] != true) {
            let found = ["tp", "fp", "fn_"].map(|key| &scores[ours][key]);
            assert_eq!(found, ["tp", "fp", "fn"].map(|key| &want[key]), "{layer}:{neuron} {ours}");
        }
        let shown = run(&["show", out.to_str().unwrap(), &format!("{layer}:{neuron}"), "--json"]);
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
        same_trie(&shown["trie"], &n["trie"], if is_reference { 0.001 + 1e-6 } else { 1e-4 * a_max });
    }
}

#[test]
fn the_reference_mode_is_the_published_code() {
    published("reference");
}

#[test]
fn the_openai_mode_is_the_published_code() {
    published("openai");
}

#[test]
fn exemplars_are_the_strongest_windows_of_every_neuron() {
    let Some((model, text)) = glassllm() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    assert_eq!(run(&n2g(&model, &text, &out, "--until exemplars")).status, Some(0));
    let (found, want) = (
        Checkpoint::open(&out.join("exemplars.safetensors")).unwrap(),
        Checkpoint::open(&model.join("goldens.safetensors")).unwrap(),
    );
    let tokens = want.tensor_i64("all_tokens").unwrap();
    for layer in 0..4 {
        let name = |what: &str| format!("exemplar.{what}.{layer}");
        let shape = want.shape(&name("value")).unwrap().to_vec();
        let (a, b) = (found.tensor_f64(&name("value"), &shape).unwrap(), want.tensor_f64(&name("value"), &shape).unwrap());
        let largest = b.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-5 * largest));
        let [(windows, wanted), (positions, golden)] =
            ["window", "position"].map(|what| (found.tensor_i64(&name(what)).unwrap(), want.tensor_i64(&name(what)).unwrap()));
        let k = shape[1];
        for at in 0..windows.len() {
            if windows[at] != wanted[at] {
                // Windows whose values are as good as equal may change places.
                let row = &b[at / k * k..(at / k + 1) * k];
                let near = row.iter().enumerate().filter(|(c, x)| *c != at % k && (*x - b[at]).abs() <= 1e-6 * largest).count();
                assert!(near > 0 || at % k == k - 1, "layer {layer}, {at}: window {} and not {}", windows[at], wanted[at]);
            } else if positions[at] != golden[at] {
                // A window that begins with one token several times has the same activation at each of them, but
                // for rounding.
                let of = |position: i64| tokens[(128 * windows[at] + position) as usize];
                let last = positions[at].max(golden[at]);
                assert!(
                    (0..last).all(|p| of(p) == of(last)),
                    "layer {layer}, {at}: position {} and not {}",
                    positions[at],
                    golden[at]
                );
            }
        }
        let counts = found.tensor_i64(&format!("histogram.{layer}")).unwrap();
        assert!(counts.chunks_exact(128).all(|neuron| neuron.iter().sum::<i64>() == 396 * 128));
    }
    assert!(!out.join("tries.safetensors").exists() && out.join("index.html").exists());
}

/// The files of a run but its manifest and page, which tell times.
fn files(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = [
        "exemplars.safetensors",
        "tries.safetensors",
        "scores.csv",
        "neurons.jsonl",
        "summary.json",
        "tokenizer.json",
        "config.json",
    ];
    names.map(|name| (name.to_string(), std::fs::read(run.join(name)).unwrap())).into()
}

#[test]
fn a_killed_run_ends_with_the_same_bytes_whatever_the_threads() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    let flags = "--layers 0,1 --neurons 0..130 --samples 60 --text-windows 20";
    assert_eq!(run(&demo(&whole, &format!("{flags} --threads 2"))).status, Some(0));
    let mut child = mechgraph(&demo(&killed, &format!("{flags} --threads 1"))).spawn().unwrap();
    // The first block is done, three are not.
    let (first, start) = (killed.join("checkpoint/neurons-0-0.json"), Instant::now());
    while !first.exists() {
        assert!(start.elapsed() < Duration::from_secs(300) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None);
    assert_eq!(manifest(&killed)["status"], "running");
    assert!(!killed.join("tries.safetensors").exists() && !killed.join("checkpoint/neurons-1-128.json").exists());
    let other = failure(&demo(&killed, &format!("{flags} --mode paper")));
    assert!(other.contains("--mode is default, not paper"), "{other}");
    let model = dir.path().join("model");
    std::fs::create_dir(&model).unwrap();
    changed(&model, "unembed.b_U", |b| b[0] += 1.0);
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("demos/lm/sample.txt");
    let other = failure(&n2g(&model, &text, &killed, flags));
    assert!(other.contains("an unfinished run of other work: there model is demo:lm (sha256 "), "{other}");
    assert_eq!(run(&demo(&killed, &format!("{flags} --threads 2"))).status, Some(0));
    for (name, bytes) in files(&whole) {
        assert!(files(&killed)[&name] == bytes, "{name}");
    }
    assert!(!killed.join("checkpoint").exists());
}

#[test]
fn every_mode_runs_on_the_demo_and_is_written_whole() {
    let dir = tempfile::tempdir().unwrap();
    for mode in ["default", "reference", "paper", "openai"] {
        let out = dir.path().join(mode);
        let outcome =
            run(&demo(&out, &format!("--mode {mode} --layers 2 --neurons 0..3,17 --samples 40 --text-windows 8 --bos")));
        assert_eq!(outcome.status, Some(0), "{outcome:?}");
        let first = outcome.stdout.lines().next().unwrap();
        assert!(first.starts_with("layer  neurons  scored") && outcome.stdout.lines().count() == 3, "{}", outcome.stdout);
        let table = std::fs::read_to_string(out.join("scores.csv")).unwrap();
        let columns = table.lines().next().unwrap().split(',').count();
        assert_eq!(table.lines().count(), 5);
        assert!(table.lines().all(|line| line.split(',').count() == columns), "{table}");
        let names: Vec<(u64, u64)> = records(&out).into_keys().collect();
        assert_eq!(names, [(2, 0), (2, 1), (2, 2), (2, 17)]);
        let run_json = manifest(&out);
        assert_eq!((&run_json["settings"]["mask_token"], &run_json["settings"]["bos"]), (&1.into(), &0.into()));
        assert_eq!(run_json["settings"]["site"], "mlp_mid");
        // Every prompt begins with the BOS token, and no window gives it as a maximum.
        for record in records(&out).values() {
            assert!(record["prompts"].as_array().unwrap().iter().all(|p| p["tokens"][0] == 0 && p["tokens"][1] != 0));
            assert!(record["exemplars"].as_array().unwrap().iter().all(|e| e["position"] != 0));
        }
        let predicted = run(&["predict", out.to_str().unwrap(), "--text", "The President of the United States"]);
        assert_eq!(predicted.status, Some(0), "{predicted:?}");
    }
}

#[test]
fn prompts_as_long_as_the_context_are_run_whole() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    // No suffix passes but the whole window, and there is no room for a token in front of that.
    let flags = "--mode openai --layers 5 --neurons 0..3 --samples 40 --until tries --prune-ratio 1 --prune-step 128";
    assert_eq!(run(&demo(&out, flags)).status, Some(0));
    let found = records(&out);
    assert!(found.values().all(|r| r["status"] == "done"), "{found:?}");
    let lengths = |r: &Value| r["prompts"].as_array().unwrap().iter().map(|p| p["tokens"].as_array().unwrap().len()).max();
    assert!(found.values().filter_map(lengths).max().unwrap() > 100);
}

#[test]
fn scores_can_be_measured_on_another_text() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("other.txt");
    std::fs::write(&text, "It was a dark and stormy night; the rain fell in torrents. ".repeat(40)).unwrap();
    let out = dir.path().join("run");
    let flags = format!("--layers 1 --neurons 0..4 --samples 40 --held-out {}", text.display());
    assert_eq!(run(&demo(&out, &flags)).status, Some(0));
    assert_eq!(manifest(&out)["held_out"]["name"], "other.txt");
    let found = records(&out);
    let tokens: BTreeSet<u64> = found.values().map(|r| r["scores"]["text"]["trie"]["tokens"].as_u64().unwrap()).collect();
    assert!(tokens.len() == 1 && tokens.first().unwrap().is_multiple_of(128), "{tokens:?}");
}

#[test]
fn neurons_that_are_never_positive_are_counted_and_have_no_scores() {
    let dir = tempfile::tempdir().unwrap();
    changed(dir.path(), "blocks.0.mlp.b_in", |b| (b[1], b[3]) = (-1000.0, -1000.0));
    let (out, text) = (dir.path().join("run"), Path::new(env!("CARGO_MANIFEST_DIR")).join("demos/lm/sample.txt"));
    let flags = "--site mlp_pre --layers 0 --neurons 0..5 --samples 20 --text-windows 4";
    assert_eq!(run(&n2g(dir.path(), &text, &out, flags)).status, Some(0));
    let found = records(&out);
    for (name, record) in &found {
        let is_negative = name.1 == 1 || name.1 == 3;
        assert_eq!(record["status"] == "not-positive", is_negative, "{name:?}");
        assert_eq!(record["scores"].is_null(), is_negative);
        assert_eq!(record["a_max"].as_f64().unwrap() < 0.0, is_negative);
    }
    let summary: Value = serde_json::from_slice(&std::fs::read(out.join("summary.json")).unwrap()).unwrap();
    assert_eq!((&summary["all"]["not_positive"], &summary["all"]["scored"]), (&2.into(), &3.into()));
    let table = std::fs::read_to_string(out.join("scores.csv")).unwrap();
    assert_eq!(table.lines().filter(|line| line.contains("not-positive,,-")).count(), 2);
}

/// The embedded model in a folder of its own, one of its tensors changed and stored in f32.
fn changed(folder: &Path, tensor: &str, change: impl FnOnce(&mut [f32])) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("demos/lm");
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(from.join(name), folder.join(name)).unwrap();
    }
    let path = from.join("model.safetensors");
    let shape = Checkpoint::open(&path).unwrap().shape(tensor).unwrap().to_vec();
    let values = Checkpoint::open(&path).unwrap().tensor_f64(tensor, &shape).unwrap();
    let mut values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
    change(&mut values);
    let values: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let views = file.tensors().into_iter().map(|(name, view)| match name == tensor {
        true => (name, TensorView::new(Dtype::F32, shape.clone(), &values).unwrap()),
        false => (name, view),
    });
    std::fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn a_neuron_that_fails_says_why_and_the_others_are_done() {
    let dir = tempfile::tempdir().unwrap();
    changed(dir.path(), "blocks.0.mlp.W_in", |w| w.iter_mut().skip(3).step_by(512).for_each(|w| *w = 3e38));
    let (out, text) = (dir.path().join("run"), Path::new(env!("CARGO_MANIFEST_DIR")).join("demos/lm/sample.txt"));
    let flags = "--site mlp_pre --layers 0 --neurons 0..6 --samples 20 --text-windows 4";
    assert_eq!(run(&n2g(dir.path(), &text, &out, flags)).status, Some(0));
    let found = records(&out);
    let reason = found[&(0, 3)]["status"]["failed"].as_str().unwrap();
    assert!(reason.contains("that are not finite"), "{reason}");
    let others: Vec<&Value> = found.iter().filter(|(name, _)| name.1 != 3).map(|(_, r)| &r["status"]).collect();
    assert!(others.iter().all(|s| **s == "done") && others.len() == 5, "{others:?}");
    let summary: Value = serde_json::from_slice(&std::fs::read(out.join("summary.json")).unwrap()).unwrap();
    assert_eq!((&summary["all"]["failed"], &summary["all"]["scored"]), (&1.into(), &5.into()));
    assert_eq!(run(&["show", out.to_str().unwrap(), "0:3"]).status, Some(0));
}

#[test]
fn more_exemplars_than_windows_are_as_many_as_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let args: Vec<String> = demo(&out, "--layers 0 --neurons 0..2 --samples 7 --until tries");
    let args: Vec<String> = args.into_iter().filter(|a| a != "--quiet").collect();
    let outcome = run(&args);
    assert_eq!(outcome.status, Some(0));
    assert!(
        outcome.stderr.contains("--top-k 20, but the text has 7 windows: every neuron has 7 exemplars"),
        "{}",
        outcome.stderr
    );
    assert!(records(&out).values().all(|r| r["exemplars"].as_array().unwrap().len() == 7));
}

#[test]
fn refusals_are_one_sentence_and_write_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let short = dir.path().join("short.txt");
    std::fs::write(&short, "Too short.").unwrap();
    for (flags, part) in [
        (format!("--data {}", short.display()), "short.txt: a text whose tokens number "),
        (format!("--held-out {}", short.display()), "short.txt: a text whose tokens number "),
        ("--layers 0..7".into(), "--layers: found layer 6; expected layers below 6, as many as the model has"),
        ("--neurons 512".into(), "--neurons: found neuron 512; expected neurons below 512, as many as the site has"),
        ("--site logits".into(), "--site: found logits; expected a site with one row a position"),
        ("--site pattern".into(), "--site: found pattern; expected a site with one row a position"),
        ("--site mlp_act.5".into(), "--site: found mlp_act.5; expected a site with one row a position"),
        ("--site neurons".into(), "--site: found neurons; expected one of resid_pre"),
        ("--mask-token 2048".into(), "--mask-token: found 2048; expected ids below 2048, those of the tokenizer"),
        (format!("--held-out {} --until tries", short.display()), "expected --until scores, where it is read"),
        ("--max-memory 1K".into(), "memory: the plan needs"),
    ] {
        let e = failure(&demo(&out, &flags));
        assert!(e.contains(part), "{flags}: {e}");
        assert!(!out.exists() || std::fs::read_dir(&out).unwrap().count() == 0, "{flags}");
    }
    let vectors = failure(&["n2g", "demo:modadd", "--out", out.to_str().unwrap()]);
    assert!(vectors.contains("a model that reads out the last position only; expected a language model"), "{vectors}");
    let Some(shared) = shared() else { return };
    let bert = shared.join("fixtures/masked-lm/bert");
    let bert = std::fs::read_dir(bert.parent().unwrap()).unwrap().next().unwrap().unwrap().path();
    let e = failure(&n2g(&bert, &short, &out, ""));
    assert!(e.contains("an encoder; expected a language model that reads from left to right"), "{e}");
    let e = failure(&n2g(&shared.join("fixtures/lm/stories260k"), &short, &out, ""));
    assert!(e.contains("tokenizer.json: no such file; expected the tokenizer.json of a model"), "{e}");
}

#[test]
fn tries_that_are_damaged_are_refused_by_whoever_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    assert_eq!(run(&demo(&out, "--layers 0 --neurons 0..2 --samples 20 --until tries")).status, Some(0));
    let path = out.join("tries.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    for args in [vec!["predict", out.to_str().unwrap(), "--text", "x"], vec!["show", out.to_str().unwrap(), "0:1"]] {
        let e = failure(&args);
        assert!(e.contains("tries.safetensors: "), "{e}");
    }
}
