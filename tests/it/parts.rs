//! Any part of a model: a pass ends where the last site is known, and of the samples only the positions
//! are written that are asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mechgraph::data;
use mechgraph::device::{Builder, DType};
use mechgraph::model::forward::Batch;
use mechgraph::model::lm::forward::forward;
use mechgraph::model::lm::{Order, Projections};
use mechgraph::model::{ActFn, Checkpoint, Lm, Model, Norm, TransformerConfig};

use crate::command::{Tensors, failure, run, tokens, write};
use crate::naive::{configs, random, read, shared, with_runner};

/// The launches of a pass that ends at `sites` of one layer, by name.
fn launches(model: &Model, lm: &Lm, sites: &[&str], layer: usize) -> BTreeMap<&'static str, usize> {
    let sites: Vec<String> = sites.iter().map(|s| s.to_string()).collect();
    let places = model.places("--sites", &sites, &[layer]).unwrap();
    let mut b = Builder::new(lm.dtype);
    let inputs = lm.inputs(&mut b, Batch { samples: 2, positions: 3 }, false);
    forward(&mut b, lm, inputs, &places).unwrap();
    let mut counts = BTreeMap::new();
    b.finish().launches.iter().for_each(|l| *counts.entry(l.name()).or_insert(0) += 1);
    counts
}

/// A deep random model of each order of the halves, and fixtures with other orders and projections.
fn models() -> Vec<(String, Model)> {
    let deep = |parallel| {
        let config = TransformerConfig {
            n_layers: 9,
            norm: Norm::Ln,
            act: ActFn::Gelu,
            read_last: false,
            parallel,
            ..configs()[0].clone()
        };
        (format!("random, parallel {parallel}"), Model::Transformer(random(&config, DType::F32, 1)))
    };
    let mut models = vec![deep(false), deep(true)];
    if let Some(shared) = shared() {
        for name in ["hf/llama", "hf/phi", "hf/gpt_neox", "hf/gemma2", "masked-lm/bert"] {
            let path = shared.join("fixtures").join(name);
            models.push((name.into(), Model::load(path.to_str().unwrap(), DType::F32).unwrap().model));
        }
    }
    models
}

#[test]
fn a_pass_does_not_run_what_lies_behind_its_sites() {
    for (name, model) in models() {
        let lm = model.lm().unwrap();
        let block = &lm.blocks[0];
        let projections = if matches!(block.attention.projections, Projections::Fused { .. }) { 1 } else { 3 };
        let up = if block.mlp.gate.is_some() { 2 } else { 1 };
        let whole = projections + 1 + up + 1;
        // The MLP of a parallel block needs nothing of its attention.
        let in_front = match block.order {
            Order::Parallel | Order::SharedNorm => 0,
            Order::Sequential | Order::PostNorm => projections + 1,
        };
        let both = if in_front == 0 { projections } else { in_front };
        for layer in [0, 1, lm.blocks.len() - 1] {
            for (sites, linear, sdpa) in [
                (&["resid_pre"][..], 0, 0),
                (&["q"], projections, 0),
                (&["v", "k"], projections, 0),
                (&["pattern"], projections, 1),
                (&["z"], projections, 1),
                (&["attn_out"], projections + 1, 1),
                (&["resid_mid"], projections + 1, 1),
                (&["mlp_pre"], in_front + up, usize::from(in_front > 0)),
                (&["mlp_act"], in_front + up, usize::from(in_front > 0)),
                (&["mlp_act", "q"], both + up, usize::from(in_front > 0)),
                (&["mlp_out"], whole, 1),
                (&["resid_post"], whole, 1),
            ] {
                let found = launches(&model, &lm, sites, layer);
                let of = |what: &str| found.get(what).copied().unwrap_or(0);
                let want = (layer * whole + linear, layer + sdpa, 1);
                assert_eq!((of("Linear"), of("Sdpa"), of("TokenEmbed")), want, "{name}, {sites:?}, layer {layer}: {found:?}");
            }
        }
        let dense = usize::from(lm.head.as_ref().is_some_and(|h| h.dense.is_some()));
        let found = launches(&model, &lm, &["logits"], 0);
        assert_eq!((found["Linear"], found["Sdpa"]), (lm.blocks.len() * whole + 1 + dense, lm.blocks.len()), "{name}");
    }
}

/// The folder of a model, its data, and sequences of how many tokens.
fn cases(dir: &Path) -> Vec<(PathBuf, PathBuf, usize)> {
    let config = TransformerConfig { n_layers: 3, n_heads: 3, n_ctx: 7, read_last: false, ..configs()[20].clone() };
    let folder = dir.join("model");
    mechgraph::model::save(&Model::Transformer(random(&config, DType::F32, 2)), &folder).unwrap();
    write(&dir.join("data"), &tokens(&[80, 7], |i| (i * i + i / 3) % 11));
    let mut cases = vec![(folder, dir.join("data"), 7)];
    if let Some(shared) = shared() {
        for name in ["hf/llama", "hf/gpt2", "hf/gpt_neox", "hf/qwen3", "hf/gemma2"] {
            let folder = shared.join("fixtures").join(name);
            cases.push((folder.clone(), folder.join("goldens.safetensors"), 21));
        }
    }
    cases
}

const SITES: [&str; 7] = ["q", "k", "v", "z", "pattern", "mlp_act", "resid_post"];

/// Of a tensor `[N, T, ..]`, or of patterns `[N, heads, T, keys]`, the given positions.
fn cut(name: &str, (shape, x): (Vec<usize>, Vec<f64>), positions: &[usize]) -> (Vec<usize>, Vec<f64>) {
    let axis = if name.starts_with("pattern") { 2 } else { 1 };
    let inner: usize = shape[axis + 1..].iter().product();
    let rows = x.chunks(shape[axis] * inner).flat_map(|part| positions.iter().flat_map(|p| part[p * inner..][..inner].to_vec()));
    let mut kept = shape.clone();
    kept[axis] = positions.len();
    (kept, rows.collect())
}

#[test]
fn chosen_positions_and_layers_are_those_of_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    for (folder, data, t) in cases(dir.path()) {
        let capture = |flags: &[&str]| {
            let out = dir.path().join("f");
            let args = ["capture", folder.to_str().unwrap(), "--data", data.to_str().unwrap(), "--out", out.to_str().unwrap()];
            let sites = SITES.join(",");
            let outcome = run(&[&args[..], &["--sites", &sites, "--quiet", "--force", "--threads", "2"], flags].concat());
            assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
            Checkpoint::open(&out).unwrap()
        };
        let whole = capture(&[]);
        for (given, positions) in [("0", vec![0]), ("1..3,5", vec![1, 2, 5]), ("6,2..4", vec![2, 3, 6])] {
            let some = capture(&["--positions", given, "--layers", "1..3"]);
            assert_eq!(some.names().count(), 2 * SITES.len() + 1, "{}", some.contents());
            for name in some.names().filter(|n| *n != "tokens") {
                assert!(name.ends_with(".1") || name.ends_with(".2"), "{name}");
                assert_eq!(read(&some, name), cut(name, read(&whole, name), &positions), "{name} of {}", folder.display());
            }
            let last = capture(&["--positions", &(t - 1).to_string()]);
            assert_eq!(read(&last, "z.0"), cut("z.0", read(&whole, "z.0"), &[t - 1]));
        }
        let refused = |flags: &[&str]| {
            let out = dir.path().join("none");
            let args = ["capture", folder.to_str().unwrap(), "--data", data.to_str().unwrap(), "--out", out.to_str().unwrap()];
            failure(&[&args[..], &["--sites", "q", "--quiet"], flags].concat())
        };
        let beyond = format!("--positions: found position {t}; expected positions below {t}, as many as a sample has");
        assert_eq!(refused(&["--positions", &t.to_string()]), beyond);
    }
}

#[test]
fn heads_of_keys_keep_their_own_axis() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    for name in ["hf/llama", "hf/qwen3", "hf/gemma2", "hf/mistral"] {
        let folder = shared.join("fixtures").join(name);
        let model = Model::load(folder.to_str().unwrap(), DType::F64).unwrap().model;
        let lm = model.lm().unwrap();
        let a = &lm.blocks[1].attention;
        assert!(a.kv_heads < a.heads, "{name}");
        let set = data::load(folder.join("goldens.safetensors").to_str().unwrap(), &model).unwrap();
        let names = ["q.1", "k.1", "v.1", "z.1", "pattern.1"].map(String::from);
        let places = model.places("--sites", &names, &[]).unwrap();
        let out = dir.path().join("f");
        with_runner(2, None, |runner| {
            let none = BTreeMap::new();
            mechgraph::model::capture::capture(&model, &set, &places, Some(&[3, 20]), runner, &out, &none).unwrap();
        });
        let file = Checkpoint::open(&out).unwrap();
        let shapes = names.map(|n| file.shape(&n).unwrap().to_vec());
        let (h, kv, d) = (a.heads, a.kv_heads, a.d_head);
        assert_eq!(shapes, [[3, 2, h, d], [3, 2, kv, d], [3, 2, kv, d], [3, 2, h, d], [3, h, 2, 21]], "{name}");
        for row in read(&file, "pattern.1").1.chunks(2 * 21) {
            assert!(row[4..21].iter().all(|p| *p == 0.0), "{name}: a query at position 3 sees no later key");
            assert!(row.chunks(21).all(|p| (p.iter().sum::<f64>() - 1.0).abs() < 1e-12), "{name}");
        }
    }
}

#[test]
fn positions_behind_the_last_attention_of_a_model_that_reads_one_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = TransformerConfig { n_layers: 2, n_ctx: 7, read_last: true, ..configs()[2].clone() };
    let folder = dir.path().join("model");
    mechgraph::model::save(&Model::Transformer(random(&config, DType::F32, 2)), &folder).unwrap();
    let data: Tensors = tokens(&[5, 7], |i| i % 11);
    write(&dir.path().join("data"), &data);
    let args = |sites: &'static str| {
        let path = |name: &str| dir.path().join(name).display().to_string();
        let words =
            ["capture", &path("model"), "--data", &path("data"), "--out", &path("f"), "--sites", sites, "--positions", "2"];
        words.map(String::from)
    };
    assert_eq!(
        failure(&args("mlp_act.1")),
        "--positions: found position 2; expected positions below 1, as many as mlp_act.1 has"
    );
    assert_eq!(run(&args("mlp_act.0,k.1")).status, Some(0));
}
