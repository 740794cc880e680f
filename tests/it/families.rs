//! Every family gives the numbers of its own library: values at all published sites, and products with
//! the Jacobians of every block; weights of other dtypes; the table of what is supported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use mechgraph::data;
use mechgraph::data::stream::Runner;
use mechgraph::device::DType;
use mechgraph::model::block_jvp::products;
use mechgraph::model::{Checkpoint, Model, Numbers};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};

use crate::naive::{max_error, read, shared, with_runner};

const F64: Numbers = Numbers { dtype: DType::F64, bf16_weights: false };
const F32: Numbers = Numbers { dtype: DType::F32, bf16_weights: false };
const BF16: Numbers = Numbers { dtype: DType::F32, bf16_weights: true };

/// The fixtures: folder under the shared ones, and the `model_type` or layout they stand for.
pub const FIXTURES: [(&str, &str); 18] = [
    ("hf/gpt2", "gpt2"),
    ("hf/gpt_neo", "gpt_neo"),
    ("hf/gpt_neox", "gpt_neox, parallel"),
    ("hf/gpt_neox_seq", "gpt_neox, sequential"),
    ("hf/llama", "llama"),
    ("hf/llama3", "llama, rotary scaling llama3"),
    ("hf/mistral", "mistral"),
    ("hf/qwen2", "qwen2"),
    ("hf/qwen3", "qwen3"),
    ("hf/gemma", "gemma"),
    ("hf/gemma2", "gemma2"),
    ("hf/phi", "phi"),
    ("masked-lm/bert", "bert"),
    ("masked-lm/distilbert", "distilbert"),
    ("transformer-lens/gelu_lnpre", "transformer_lens, gelu, LNPre"),
    ("transformer-lens/relu_nonorm", "transformer_lens, relu, no norm"),
    ("transformer-lens/solu_ln", "transformer_lens, solu_ln, LNPre"),
    ("transformer-lens/solu_ln_full", "transformer_lens, solu_ln, LN"),
];

/// What a fixture was found to give.
#[derive(Debug, Default)]
struct Verdict {
    /// Values that were compared at sites and in products of blocks.
    sites: usize,
    products: usize,
    /// The largest error of each kind, relative to the largest value of its tensor.
    worst: f64,
}

fn load(folder: &Path, numbers: Numbers) -> Model {
    Model::load(folder.to_str().unwrap(), numbers).unwrap().model
}

/// Values at the sites `names` of all layers.
fn capture(model: &Model, file: &Path, names: &[&str], runner: &Runner, out: &Path) -> Checkpoint {
    let data = data::load(file.to_str().unwrap(), model).unwrap();
    let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
    let places = model.places("--sites", &names, &[]).unwrap();
    mechgraph::model::capture::capture(model, &data, &places, None, runner, out, &BTreeMap::new()).unwrap();
    Checkpoint::open(out).unwrap()
}

fn jvp(model: &Model, file: &Path, runner: &Runner, out: &Path) -> Checkpoint {
    let data = data::load(file.to_str().unwrap(), model).unwrap();
    let directions = Checkpoint::open(file).unwrap();
    products(&model.lm().unwrap(), &data, &directions, runner, out, &BTreeMap::new()).unwrap();
    Checkpoint::open(out).unwrap()
}

fn starts(name: &str, kinds: &[&str]) -> bool {
    kinds.iter().any(|k| name.split('.').next() == Some(k))
}

/// Compares all that a fixture publishes.
fn verdict(folder: &Path, numbers: Numbers, bar: f64) -> Verdict {
    let dir = tempfile::tempdir().unwrap();
    let goldens_path = folder.join("goldens.safetensors");
    let goldens = Checkpoint::open(&goldens_path).unwrap();
    let model = load(folder, numbers);
    let mut v = Verdict::default();
    let mut compare = |name: &str, ours: &Checkpoint, ours_name: &str, count: &mut usize| {
        let (want, got) = (read(&goldens, name), read(ours, ours_name));
        assert_eq!(got.0, want.0, "{name} of {}", folder.display());
        let error = max_error(&got.1, &want.1);
        assert!(error <= bar, "{name} of {} in {}: {error:e}", folder.display(), numbers.name());
        v.worst = v.worst.max(error);
        *count += want.1.len();
    };
    let sites: Vec<&str> =
        goldens.names().filter(|n| !starts(n, &["tokens", "attention_mask", "tangent", "cotangent", "jvp", "vjp"])).collect();
    let (mut of_sites, mut of_products) = (0, 0);
    with_runner(2, None, |runner| {
        let file = capture(&model, &goldens_path, &sites, runner, &dir.path().join("f"));
        for site in &sites {
            let place = &model.places("--sites", &[site.to_string()], &[]).unwrap()[0];
            compare(site, &file, &place.name(), &mut of_sites);
        }
        if goldens.names().any(|n| starts(n, &["tangent"])) {
            let file = jvp(&model, &goldens_path, runner, &dir.path().join("g"));
            for name in goldens.names().filter(|n| starts(n, &["jvp", "vjp"])) {
                compare(name, &file, name, &mut of_products);
            }
        }
    });
    Verdict { sites: of_sites, products: of_products, ..v }
}

#[test]
fn every_family_gives_its_librarys_numbers() {
    let Some(shared) = shared() else { return };
    let mut rows = Vec::new();
    for (folder, what) in FIXTURES {
        let path = shared.join("fixtures").join(folder);
        let bar = if folder.starts_with("transformer-lens") { 1e-4 } else { 5e-6 };
        let (exact, single) = (verdict(&path, F64, 1e-9), verdict(&path, F32, bar));
        assert!(exact.sites > 4000, "{folder}: {exact:?}");
        assert_eq!(exact.products > 0, folder.starts_with("hf/"), "{folder}");
        assert_eq!((exact.sites, exact.products), (single.sites, single.products));
        println!("{folder}: worst {:.1e} in f64, {:.1e} in f32", exact.worst, single.worst);
        rows.push(format!("| {what} | {} | {} |", exact.sites, exact.products));
    }
    check_table(&rows);
}

/// The table in docs/models.md is the one that the tests give. With MECHGRAPH_WRITE_DOCS set it is written.
fn check_table(rows: &[String]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/models.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- table -->\n", "<!-- end of table -->");
    let (front, rest) = text.split_once(begin).unwrap();
    let (_, back) = rest.split_once(end).unwrap();
    let head = "| `model_type`, or layout | values at sites | values of J v and J' w |\n|---|---:|---:|\n";
    let new = format!("{front}{begin}{head}{}\n{end}{back}", rows.join("\n"));
    if std::env::var_os("MECHGRAPH_WRITE_DOCS").is_some() {
        std::fs::write(&path, new).unwrap();
    } else {
        assert!(text == new, "docs/models.md differs from what the tests find; MECHGRAPH_WRITE_DOCS=1 writes it anew:\n{new}");
    }
}

/// A copy of a model folder with its tensors stored as another dtype.
pub fn restored(folder: &Path, dtype: Dtype, to: &Path) -> PathBuf {
    let to = to.join(format!("{dtype:?}"));
    std::fs::create_dir_all(&to).unwrap();
    std::fs::copy(folder.join("config.json"), to.join("config.json")).unwrap();
    let file = Checkpoint::open(&folder.join("model.safetensors")).unwrap();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = file
        .names()
        .map(|name| {
            let (shape, x) = read(&file, name);
            let encode = |x: &f64| match dtype {
                // Of an f64, half drops bits before it rounds.
                Dtype::BF16 => bf16::from_f32(*x as f32).to_le_bytes().to_vec(),
                Dtype::F16 => f16::from_f32(*x as f32).to_le_bytes().to_vec(),
                Dtype::F32 => (*x as f32).to_le_bytes().to_vec(),
                _ => x.to_le_bytes().to_vec(),
            };
            (name.to_string(), shape, x.iter().flat_map(encode).collect())
        })
        .collect();
    let views = tensors.iter().map(|(n, shape, raw)| (n, TensorView::new(dtype, shape.clone(), raw).unwrap()));
    serialize_to_file(views, None, &to.join("model.safetensors")).unwrap();
    to
}

#[test]
fn weights_of_every_dtype_are_used_as_they_are_stored() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    for (folder, _) in FIXTURES.iter().filter(|(f, _)| f.starts_with("hf/")) {
        let (path, out) = (shared.join("fixtures").join(folder), dir.path().join("f"));
        let goldens = path.join("goldens.safetensors");
        let layers = load(&path, F32).layers();
        let names: Vec<String> = (0..layers).flat_map(|l| [format!("mlp_act.{l}"), format!("resid_post.{l}")]).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).chain(["logits"]).collect();
        with_runner(2, None, |runner| {
            let run = |folder: &Path, numbers| {
                let file = capture(&load(folder, numbers), &goldens, &names, runner, &out);
                names.iter().map(|n| read(&file, n).1).collect::<Vec<_>>()
            };
            for dtype in [Dtype::BF16, Dtype::F16] {
                let stored = restored(&path, dtype, dir.path());
                let (exact, single) = (run(&stored, F64), run(&stored, F32));
                for ((name, a), b) in names.iter().zip(&exact).zip(&single) {
                    let error = max_error(b, a);
                    assert!(error <= 5e-6, "{folder}, {name}, {dtype:?}: {error:e}");
                }
                // Rounding on the way is rounding in the file.
                if dtype == Dtype::BF16 {
                    for ((name, a), b) in names.iter().zip(run(&path, BF16)).zip(&single) {
                        assert!(a == *b, "{folder}, {name}: {:e}", max_error(&a, b));
                    }
                    assert!(run(&path, F32) != single, "{folder}: nothing was rounded");
                }
            }
            // What is stored wider than it is computed is rounded once.
            let wide = restored(&path, Dtype::F64, dir.path());
            assert!(run(&wide, F32) == run(&path, F32) && run(&wide, F64) == run(&path, F64), "{folder}");
        });
    }
}

#[test]
fn products_of_every_family_are_adjoint() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    for (folder, _) in FIXTURES.iter().filter(|(f, _)| f.starts_with("hf/")) {
        let path = shared.join("fixtures").join(folder);
        let goldens = path.join("goldens.safetensors");
        let directions = Checkpoint::open(&goldens).unwrap();
        for (numbers, bar) in [(F64, 1e-10), (F32, 1e-4)] {
            let model = load(&path, numbers);
            with_runner(1, None, |runner| {
                let file = jvp(&model, &goldens, runner, &dir.path().join("g"));
                for l in 0..model.layers() {
                    let of = |f: &Checkpoint, name: &str| read(f, &format!("{name}.{l}")).1;
                    let dot = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>();
                    let forward = dot(of(&file, "jvp"), of(&directions, "cotangent"));
                    let backward = dot(of(&directions, "tangent"), of(&file, "vjp"));
                    let error = (forward - backward).abs() / forward.abs();
                    assert!(error <= bar, "{folder}, block {l}, {}: {error:e}", numbers.name());
                }
            });
        }
    }
}

#[test]
fn a_trained_model_gives_its_librarys_numbers_over_text() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("fixtures/lm/glassllm-en");
    let single = verdict_of_some(&folder, F32);
    assert!(single <= 1e-5, "{single:e}");
    let exact = verdict_of_some(&folder, F64);
    assert!(exact <= 1e-5, "{exact:e}");
}

#[test]
fn the_loss_over_a_whole_text_is_its_librarys() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("fixtures/lm/glassllm-en");
    let want = read(&Checkpoint::open(&folder.join("goldens.safetensors")).unwrap(), "mean_nll").1[0];
    for numbers in [F64, F32] {
        let loaded = Model::load(folder.to_str().unwrap(), numbers).unwrap();
        let text = shared.join("fixtures/lm/alice.txt");
        let data = data::load_or_cut(text.to_str().unwrap(), &loaded, data::Cut { window: None, bos: false }).unwrap();
        with_runner(2, None, |runner| {
            let got = mechgraph::model::evaluate::evaluate(&loaded.model, data, runner).unwrap().loss;
            assert!((got / want - 1.0).abs() <= 1e-5, "{got}, not {want}, in {}", numbers.name());
        });
    }
}

/// Logits and neurons of the first windows.
fn verdict_of_some(folder: &Path, numbers: Numbers) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let goldens_path = folder.join("goldens.safetensors");
    let goldens = Checkpoint::open(&goldens_path).unwrap();
    let names = ["logits", "mlp_act.0", "mlp_act.1", "mlp_act.2", "mlp_act.3"];
    let mut worst = 0.0f64;
    with_runner(2, None, |runner| {
        let file = capture(&load(folder, numbers), &goldens_path, &names, runner, &dir.path().join("f"));
        for name in names {
            let (want, got) = (read(&goldens, name), read(&file, name));
            assert_eq!(got.0, want.0, "{name}");
            worst = worst.max(max_error(&got.1, &want.1));
        }
    });
    worst
}
