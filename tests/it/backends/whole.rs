//! Whole runs with small models, on a device from end to end: nothing is left to the host, and the results are those of
//! the CPU.

use std::collections::BTreeMap;
use std::path::Path;

use mechgraph::model::config::{ActFn, Norm, TransformerConfig};
use serde_json::Value;

use super::lib::flags;
use super::{Backend, on_every_backend};
use crate::command::{Case, Graph, inputs, manifest, mlp, mlp_config, read, read_graph, run, tokens, transformer};

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

/// Node layers with one nonlinear stage between each two, where closed forms are.
const FINE: &str = "--node-layers ln1.0,ln1_out.0,attn_in.0,add_resid1.0,ln2.0,ln2_out.0,mlp_in.0,add_resid2.0";

/// What the backends are compared on: a model with data, and flags.
fn cases() -> Vec<(&'static str, Case, String)> {
    let sequences = || tokens(&[9, 5], |i| (i * i + i / 3) % 11);
    let of = |config: TransformerConfig| Case::new(&transformer(config), &sequences());
    let pre = || of(config(Norm::LnPre, ActFn::Gelu));
    let parallel = || TransformerConfig { parallel: true, ..config(Norm::LnPre, ActFn::GeluNew) };
    let last = || TransformerConfig { read_last: true, ..config(Norm::None, ActFn::Relu) };
    let network = || Case::new(&mlp(mlp_config(ActFn::Relu)), &inputs(&[9, 4], |i| (1.7 * i as f64).sin()));
    let rule = "--integration gauss-legendre --intervals 1";
    vec![
        ("closed forms", pre(), format!("--method moments {FINE}")),
        ("closed forms under a quadrature", pre(), format!("--method auto {rule} {FINE}")),
        ("norms as one function", of(config(Norm::LnPre, ActFn::Silu)), format!("--no-isolate-ln-var {FINE}")),
        ("jacobians", of(config(Norm::LnPre, ActFn::SoluLn)), "--method jvp --node-layers ln1.0,ln2.0,ln1.1".into()),
        ("random sources", pre(), "--sources-pos 2 --sources-edges 3 --node-layers ln1.0,ln2.0,ln1.1".into()),
        ("functional edges", of(parallel()), "--edges functional --node-layers ln1.0,ln1_out.0,add_resid1.0".into()),
        ("last position, no norm", of(last()), "--method auto".into()),
        ("an mlp", network(), "--method moments".into()),
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
    if backend != Backend::Cpu {
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

/// A random language model of two small blocks with a tokenizer, and a text.
fn reader() -> Case {
    let config =
        TransformerConfig { d_vocab: 2048, d_vocab_out: 2048, n_ctx: 24, d_model: 12, ..config(Norm::LnPre, ActFn::Gelu) };
    let case = Case::new(&transformer(config), &tokens(&[1, 1], |i| i));
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demos/lm");
    std::fs::copy(demo.join("tokenizer.json"), case.path("MODEL/tokenizer.json")).unwrap();
    let text = std::fs::read_to_string(demo.join("sample.txt")).unwrap();
    std::fs::write(case.path("text.txt"), text.chars().take(900).collect::<String>()).unwrap();
    case
}

fn command(case: &Case, words: &str, backend: Backend, paths: &[(&str, &str)]) -> String {
    let paths: Vec<(String, String)> =
        paths.iter().map(|(flag, path)| (flag.to_string(), case.path(path).display().to_string())).collect();
    let flags = flags(backend);
    let words = words.split(' ').map(String::from).chain(paths.into_iter().flat_map(|(flag, path)| [flag, path]));
    let words = words.filter(|word| !word.is_empty()).chain(["--quiet".into(), "--threads".into(), "2".into()]);
    let outcome = run(&words.chain(flags).collect::<Vec<_>>());
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    outcome.stdout
}

/// Nodes and keys of all tries, and the values of their patterns.
fn tries(path: &Path) -> (Vec<Vec<u8>>, Vec<f32>) {
    let tensors = read(path);
    let value = |name: &str| bytemuck::pod_collect_to_vec::<u8, f32>(&tensors[name].2);
    let shape = |name: &str| tensors[name].2.clone();
    (["offsets", "key", "children"].map(shape).to_vec(), value("value"))
}

on_every_backend! {
    fn n2g_from_end_to_end_gives_the_cpus_tries_and_predictions(backend: Backend) {
        let case = reader();
        let n2g = |out: &str, backend| {
            let words = "n2g --window 24 --top-k 6 --layers 0,1 --neurons 0..5";
            command(&case, words, backend, &[("", "MODEL"), ("--data", "text.txt"), ("--out", out)]);
            if backend != Backend::Cpu {
                nothing_on_the_host(&case.path(out));
            }
            tries(&case.path(&format!("{out}/tries.safetensors")))
        };
        let (expected, found) = (n2g("cpu", Backend::Cpu), n2g("found", backend));
        assert!(expected.1.len() > 50, "{} nodes", expected.1.len());
        assert_eq!(expected.0, found.0, "{backend:?}");
        let apart = expected.1.iter().zip(&found.1).filter(|(a, b)| !(a.is_nan() && b.is_nan() || (*a - *b).abs() <= 1e-5));
        assert_eq!(apart.count(), 0, "{backend:?}");
        let predicted = |backend| command(&case, "predict --text the_cat_and_the_dog --json", backend, &[("", "cpu")]);
        assert_eq!(predicted(Backend::Cpu), predicted(backend), "{backend:?}");
    }
}

#[test]
fn cuda_interpreter_two_gpus_give_the_bytes_of_one() {
    // Two blocks, the second of them ragged.
    let case = Case::new(&transformer(config(Norm::LnPre, ActFn::Gelu)), &tokens(&[110, 5], |i| (i * i + i / 3) % 11));
    let words = "--method moments --edges none --node-layers ln2.0,ln2_out.0,mlp_in.0";
    let graph = |gpus: &str| {
        lib(&case, gpus, Backend::Interpreter, &format!("{words} --gpus {gpus}"));
        let name = manifest(&case.path(gpus))["device"]["name"].to_string();
        (std::fs::read(case.path(gpus).join("graph.safetensors")).unwrap(), name.starts_with("\"2 x "))
    };
    let (one, two) = (graph("0"), graph("0,1"));
    assert!(one.0 == two.0 && !one.1 && two.1);
}
