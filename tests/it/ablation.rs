//! `mechgraph ablate`, end to end: the paper's curves, the files of a RUN, and what is refused.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mechgraph::device::DType;
use mechgraph::model::{ActFn, Model, Norm, TransformerConfig, random_transformer, save};
use serde_json::Value;

fn mechgraph(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mechgraph")).args(args).arg("--quiet").output().unwrap()
}

/// Runs a command that works, and returns what it printed.
#[track_caller]
fn works(args: &[&str]) -> String {
    let out = mechgraph(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Runs a command that fails with status 1, and returns its one sentence.
#[track_caller]
fn fails(args: &[&str]) -> String {
    let out = mechgraph(args);
    let text = String::from_utf8(out.stderr).unwrap();
    let sentences: Vec<&str> = text.lines().filter(|l| !l.starts_with("hint: ")).collect();
    assert_eq!((out.status.code(), sentences.len()), (Some(1), 1), "{args:?}: {text}");
    sentences[0].strip_prefix("error: ").unwrap().to_string()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The paper's artefacts of a seed, where they are there.
fn paper(seed: usize) -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../shared/fixtures/lib-paper/seed{seed}"));
    if !dir.is_dir() {
        println!("skipped: ../shared is absent");
        return None;
    }
    Some(dir)
}

/// Samples of the paper's test split.
const SAMPLES: f64 = 8939.0;

/// Every point of `found` lies within `samples` of the same point of `want`.
#[track_caller]
fn assert_curve(found: &Value, want: &Value, samples: f64, what: &str) {
    for (kept, value) in found.as_object().unwrap() {
        let Some(want) = want[kept].as_f64() else { panic!("{what}: the paper has no {kept}") };
        let off = (value.as_f64().unwrap() - want) * SAMPLES;
        assert!(off.abs() < samples + 0.5, "{what}: {off:.0} samples off with {kept} kept");
    }
}

#[test]
fn node_and_edge_ablations_of_the_paper_are_reproduced() {
    let Some(dir) = paper(0) else { return };
    let tmp = tempfile::tempdir().unwrap();
    let run = tmp.path().join("run");
    let (model, run_arg) = (dir.to_str().unwrap(), run.to_str().unwrap());
    let data = |split: &str| format!("{}#{split}", dir.join("dataset.safetensors").display());
    let (train, test) = (data("train"), data("test"));
    let layers = "ln1.0,ln2.0,unembed,output";
    works(&["lib", model, "--data", &train, "--node-layers", layers, "--threshold", "1e-15", "--out", run_arg]);
    let ablate = |flags: &[&str]| works(&[&["ablate", run_arg, "--data", &test][..], flags].concat());

    // Half of the paper's points: the truncated end, the tail and all that matters.
    let some = ["--schedule", "linear", "--points", "2", "--at", "1,2,3,4,5,6,7,8,9,10,11,13,15,17,25,60,113"];
    let node = |basis: &str, file: &str, theirs: &str, bounds: [f64; 3]| {
        let printed = ablate(&[&["--kind", "node", "--basis", basis][..], &some].concat());
        assert!(printed.contains("ln2.0") && printed.lines().count() < 45, "{printed}");
        let (found, want) = (json(&run.join(file)), json(&dir.join(theirs)));
        assert_eq!(found["unablated_accuracy"], want["unablated_accuracy"]);
        assert_eq!((&found["schema_version"], &found["config"]["kind"]), (&Value::from(1), &Value::from("node")));
        assert_eq!(found["node_ablation_accuracy"].as_object().unwrap().len(), 3);
        for (layer, samples) in ["ln1.0", "ln2.0", "unembed"].into_iter().zip(bounds) {
            let found = &found["node_ablation_accuracy"][layer];
            assert_eq!(found.as_object().unwrap().len(), 19);
            assert_curve(found, &want["node_ablation_accuracy"][layer], samples, layer);
        }
    };
    node("lib", "ablation-node.json", "lib.json", [5.0, 1.0, 1.0]);
    node("pca", "ablation-node-pca.json", "pca.json", [1.0, 1.0, 1.0]);

    let printed = ablate(&["--kind", "edge", "--layers", "unembed"]);
    let (found, want) = (json(&run.join("ablation-edge.json")), json(&dir.join("lib.json")));
    let (required, theirs) = (&found["edges_required"], &want["edges_required"]["unembed"]);
    assert_eq!((&required["unembed"], required.as_object().unwrap().len()), (theirs, 1));
    assert_curve(&found["edge_ablation_accuracy"]["unembed"], &want["edge_ablation_accuracy"]["unembed"], 2.0, "edges");
    assert!(printed.contains("unembed: 633 edges required"), "{printed}");

    // The page shows all three; a second result under the same name needs --force.
    let page = std::fs::read_to_string(run.join("index.html")).unwrap();
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    let shown: Value = serde_json::from_str(rest.split_once("</script").unwrap().0).unwrap();
    let titles: Vec<&str> = shown["curves"].as_array().unwrap().iter().map(|c| c["title"].as_str().unwrap()).collect();
    assert_eq!(titles.len(), 3);
    assert!(titles[1].starts_with("Node ablation, principal directions on dataset.safetensors#test"), "{titles:?}");
    assert_eq!(shown["curves"][0]["series"][1][0], "ln2.0");
    assert_eq!((shown["layers"].as_array().unwrap().len(), shown["edges"].as_array().unwrap().len()), (4, 3));
    assert!(page.contains("Fewest edges that keep the accuracy") && page.contains("<td>633</td>"));
    let error = fails(&["ablate", run_arg, "--data", &test, "--kind", "edge"]);
    assert!(error.contains("ablation-edge.json: a file that exists already; expected a new name, or --force"), "{error}");
    ablate(&["--kind", "node", "--layers", "unembed", "--schedule", "linear", "--points", "2", "--metric", "loss", "--force"]);
    let loss = json(&run.join("ablation-node.json"));
    let none = loss["node_ablation_loss"]["unembed"]["0"].as_f64().unwrap();
    assert!((none - 114f64.ln()).abs() < 1e-12 && loss["unablated_loss"].as_f64().unwrap() < 0.1);
    assert!(loss.get("node_ablation_accuracy").is_none());
}

/// A model that reads every position, and data for it without labels.
fn small(dir: &Path, seed: u64) -> (String, String) {
    let config = TransformerConfig {
        n_layers: 1,
        d_model: 6,
        n_ctx: 5,
        d_head: 3,
        n_heads: 2,
        d_mlp: 7,
        d_vocab: 11,
        d_vocab_out: 11,
        act: ActFn::Relu,
        norm: Norm::Ln,
        eps: 1e-5,
        parallel: false,
        attn_scale: true,
        read_last: false,
    };
    let model = dir.join("model");
    std::fs::create_dir_all(&model).unwrap();
    save(&Model::Transformer(random_transformer(config, DType::F64, seed).unwrap()), &model).unwrap();
    let ids: Vec<u8> = (0..200i32).flat_map(|i| (i * i % 11).to_le_bytes()).collect();
    let header = format!(r#"{{"tokens":{{"dtype":"I32","shape":[40,5],"data_offsets":[0,{}]}}}}"#, ids.len());
    let data = dir.join("data.safetensors");
    std::fs::write(&data, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &ids].concat()).unwrap();
    (model.to_str().unwrap().into(), data.to_str().unwrap().into())
}

#[test]
fn a_language_model_is_measured_by_its_next_tokens() {
    let tmp = tempfile::tempdir().unwrap();
    let (model, data) = small(tmp.path(), 1);
    let run = tmp.path().join("run");
    let run_arg = run.to_str().unwrap();
    works(&["lib", &model, "--data", &data, "--out", run_arg]);
    for (kind, schedule) in [("node", "exponential"), ("edge", "bisect")] {
        works(&["ablate", run_arg, "--data", &data, "--kind", kind, "--schedule", schedule, "--metric", "loss"]);
    }
    let (node, edge) = (json(&run.join("ablation-node.json")), json(&run.join("ablation-edge.json")));
    assert_eq!(node["unablated_loss"], edge["unablated_loss"]);
    for layer in ["ln1.0", "ln2.0", "unembed"] {
        let curve = &node["node_ablation_loss"][layer];
        assert_eq!(curve["7"], node["unablated_loss"], "{layer}");
        assert!((curve["0"].as_f64().unwrap() - 11f64.ln()).abs() < 1e-12);
        let required = edge["edges_required"][layer].as_u64().unwrap();
        assert!(required <= 7 * if layer == "unembed" { 11 } else { 7 });
    }
    // Another precision than the run's, and an early stop behind the first value that is off.
    let f32 = ["ablate", run_arg, "--data", &data, "--kind", "node", "--dtype", "f32", "--metric", "loss", "--force"];
    works(&[&f32[..], &["--stop-at", "0.01"]].concat());
    let stopped = json(&run.join("ablation-node.json"));
    assert_eq!(stopped["dtype"], "f32");
    let base = stopped["unablated_loss"].as_f64().unwrap();
    assert!((base / node["unablated_loss"].as_f64().unwrap() - 1.0).abs() < 1e-5);
    for curve in stopped["node_ablation_loss"].as_object().unwrap().values() {
        let off: Vec<f64> = curve.as_object().unwrap().values().map(|v| (v.as_f64().unwrap() - base).abs()).collect();
        let last = off.len() - 1;
        assert!(off[..last].iter().all(|x| *x <= 0.01) && (off[last] > 0.01 || last == 7), "{off:?}");
    }
}

#[test]
fn the_demo_needs_no_data() {
    let tmp = tempfile::tempdir().unwrap();
    let run = tmp.path().join("run");
    let run_arg = run.to_str().unwrap();
    works(&["lib", "demo:modadd", "--out", run_arg]);
    works(&["ablate", run_arg, "--kind", "node", "--layers", "unembed", "--schedule", "linear", "--points", "3"]);
    let found = json(&run.join("ablation-node.json"));
    assert_eq!(found["data"]["name"], "demo:modadd#test");
    assert!(found["unablated_accuracy"].as_f64().unwrap() >= 0.998);
    assert!(found["node_ablation_accuracy"]["unembed"]["0"].as_f64().unwrap() < 0.5);
}

#[test]
fn what_cannot_be_ablated_is_told_in_one_sentence() {
    let tmp = tempfile::tempdir().unwrap();
    let (model, data) = small(tmp.path(), 1);
    let [run, bare, other] = ["run", "bare", "other"].map(|name| tmp.path().join(name).to_str().unwrap().to_string());
    works(&["lib", &model, "--data", &data, "--out", &run]);
    works(&["lib", &model, "--data", &data, "--edges", "none", "--out", &bare]);
    let on = |run: &str, flags: &str| {
        let args = ["ablate", run, "--data", &data].into_iter().chain(flags.split(' '));
        fails(&args.collect::<Vec<_>>())
    };
    let cases = [
        (on(&other, "--kind node"), "other: nothing; expected the folder of a finished run"),
        (on(&bare, "--kind edge"), "graph.safetensors: no edges; expected a run with edges"),
        (on(&run, "--kind node --layers ln1.0,output"), "--layers: found output; expected one of ln1.0, ln2.0, unembed"),
        (on(&run, "--kind edge --layers mlp_in.0"), "--layers: found mlp_in.0; expected one of ln1.0, ln2.0, unembed"),
        (on(&run, "--kind node --at 8"), "--at: found 8; expected at most 7, the directions of ln1.0"),
        (
            on(&run, "--kind edge --schedule linear --points 2 --at 50 --layers ln1.0"),
            "--at: found 50; expected at most 49, the edges of ln1.0",
        ),
        (on(&run, "--kind node --max-memory 1K"), "memory: the plan needs"),
        (fails(&["ablate", &run, "--kind", "node"]), "--data: found nothing"),
        (
            fails(&["ablate", &run, "--kind", "node", "--data", "/nonexistent.safetensors"]),
            "/nonexistent.safetensors: no such file",
        ),
    ];
    for (found, part) in cases {
        assert!(found.contains(part), "{found}");
    }
    assert!(!Path::new(&run).join("ablation-node.json").exists());

    let (graph, manifest) = (Path::new(&run).join("graph.safetensors"), Path::new(&run).join("run.json"));
    let text = std::fs::read_to_string(&manifest).unwrap();
    for (from, to, part) in [
        ("\"status\": \"done\"", "\"status\": \"running\"", "an unfinished run"),
        ("\"command\": \"lib\"", "\"command\": \"eval\"", "a run of mechgraph eval; expected a run of mechgraph lib"),
        ("\"width\": 7", "\"width\": 9", "node layer ln1.0 with 9 coordinates; expected 7, as in the model"),
        ("\"features\": 6", "\"features\": 5", "ln1.0.C: shape [7, 6]; expected shape [7, 5]"),
        ("\"name\": \"ln2.0\"", "\"name\": \"ln9.0\"", "the unknown node layer 'ln9.0'"),
    ] {
        assert!(text.contains(from), "{from}");
        std::fs::write(&manifest, text.replace(from, to)).unwrap();
        let found = on(&run, "--kind node");
        assert!(found.contains(part), "{found}");
    }
    std::fs::write(&manifest, &text).unwrap();
    std::fs::write(&graph, &std::fs::read(&graph).unwrap()[..1000]).unwrap();
    let found = on(&run, "--kind node");
    assert!(found.contains("graph.safetensors: "), "{found}");

    // The model at the place that the RUN names is another one by now.
    small(tmp.path(), 2);
    let found = on(&bare, "--kind node");
    let sha256 = json(&Path::new(&bare).join("run.json"))["model"]["sha256"].as_str().unwrap().to_string();
    assert!(
        found.contains("a run of another model") && found.contains(&sha256) && found.matches("with sha256 ").count() == 2,
        "{found}"
    );
}
