//! A whole LIB run on a modular-addition transformer, files on disk to RUN, against two rivals in the
//! same session: PyTorch's autograd (benches/peers/lib_modadd.py) and faer alone on the same GEMMs.
//!
//! ```text
//! cargo bench --bench lib_modadd -- MODEL DATASET.safetensors [--python PYTHON]
//! ```
//!
//! Prints a table, and last one JSON object for benches/results/. The PyTorch side needs torch and
//! safetensors in PYTHON and is left out without it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use mechgraph::model::Checkpoint;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Map, Value, json};

const RUNS: usize = 5;
const LAYERS: &str = "ln1.0,ln2.0,unembed,output";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [model, data, rest @ ..] = &args[..] else {
        eprintln!("usage: cargo bench --bench lib_modadd -- MODEL DATASET.safetensors [--python PYTHON]");
        // `cargo bench` without arguments runs every bench: nothing to do is no failure.
        return;
    };
    let python = rest.iter().position(|a| a == "--python").and_then(|i| rest.get(i + 1));
    let dir = std::env::temp_dir().join(format!("mechgraph-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary folder");
    let (out, train) = (dir.join("run"), format!("{data}#train"));

    let runs: Vec<Run> = (0..RUNS).map(|_| run(model, &train, &out)).collect();
    let whole = median(runs.iter().map(|r| r.seconds).collect());
    println!("whole run, median of {RUNS}: {whole:.3} s");
    let last = &runs[RUNS - 1];
    for (name, seconds) in &last.stages {
        println!("  {name:<16} {seconds:>7.3} s  {:>5.1} %", 100.0 * seconds / last.seconds);
    }
    let rest = last.seconds - last.inside();
    println!("  {:<16} {rest:>7.3} s  {:>5.1} %", "load and write", 100.0 * rest / last.seconds);

    // The MLP's edges skip hidden units that are off: counted as they are, and as the formula has them.
    let rivals: Vec<Value> = [("open units only", active_share(model, data)), ("all hidden units", 1.0)]
        .map(|(which, share)| {
            let gemms = gemms(model, data, &out, share);
            let flops: f64 = gemms.iter().map(Gemm::flops).sum();
            let alone = median((0..RUNS).map(|_| gemms.iter().map(Gemm::seconds).sum()).collect());
            println!("faer alone, {which}: {alone:.3} s for {:.1} GFLOP; whole run {:.2} x", flops / 1e9, whole / alone);
            json!({"units": which, "share": share, "seconds": alone, "gflop": flops / 1e9, "ratio": whole / alone})
        })
        .to_vec();

    let (long, long_train) = (dir.join("long.safetensors"), dir.join("long.safetensors#train"));
    repeat_samples(Path::new(data), &long, 10);
    let tenfold = run(model, &long_train.to_string_lossy(), &out);
    let (time, memory) = (tenfold.inside() / last.inside(), tenfold.peak_memory / last.peak_memory);
    println!("ten times the samples: {time:.2} x the time of all stages, {memory:.2} x the peak memory");

    run(model, &train, &out);
    let peer = python.map(|p| peer(p, model, data, &out));
    if let Some(peer) = &peer {
        let seconds = peer["total_seconds"].as_f64().unwrap_or(f64::NAN);
        println!("PyTorch {} autograd: {seconds:.1} s, {:.1} x the whole run", peer["torch"], seconds / whole);
    }
    let stages: Map<String, Value> = last.stages.iter().map(|(n, s)| (n.clone(), json!(s))).collect();
    let result = json!({
        "bench": "lib_modadd",
        "seconds": runs.iter().map(|r| r.seconds).collect::<Vec<_>>(),
        "median_seconds": whole,
        "stages": stages,
        "faer": rivals,
        "tenfold_time": time,
        "tenfold_memory": memory,
        "pytorch": peer,
    });
    println!("{result}");
    std::fs::remove_dir_all(&dir).expect("the temporary folder can be removed");
}

/// One run of the binary.
struct Run {
    seconds: f64,
    stages: Vec<(String, f64)>,
    peak_memory: f64,
}

impl Run {
    /// Seconds of all stages, without loading and writing. The passes of single sections run inside
    /// the stage `bases`.
    fn inside(&self) -> f64 {
        self.stages.iter().filter(|s| !s.0.contains(' ')).map(|s| s.1).sum()
    }
}

fn run(model: &str, data: &str, out: &Path) -> Run {
    let start = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_mechgraph"))
        .args(["lib", model, "--data", data, "--node-layers", LAYERS, "--threshold", "1e-15", "--quiet", "--force", "--out"])
        .arg(out)
        .status();
    let seconds = start.elapsed().as_secs_f64();
    assert!(status.expect("the binary starts").success(), "mechgraph lib failed");
    let text = std::fs::read_to_string(out.join("run.json")).expect("run.json");
    let json: Value = serde_json::from_str(&text).expect("run.json is JSON");
    let times = json["times_seconds"].as_object().expect("times");
    Run {
        seconds,
        stages: times.iter().map(|(n, s)| (n.clone(), s.as_f64().unwrap_or(0.0))).collect(),
        peak_memory: json["peak_memory_bytes"].as_f64().unwrap_or(f64::NAN),
    }
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}

/// `count` products `[m, k] [k, n]`.
struct Gemm {
    m: usize,
    k: usize,
    n: usize,
    count: usize,
}

impl Gemm {
    fn flops(&self) -> f64 {
        2.0 * (self.m * self.k * self.n * self.count) as f64
    }
    /// Seconds on all threads, each product on one thread, as in the run.
    fn seconds(&self) -> f64 {
        let number = |i: usize, j: usize| ((i * 31 + j * 17) % 13) as f64 - 6.0;
        let (a, b) = (Mat::from_fn(self.k, self.m, number), Mat::from_fn(self.k, self.n, number));
        let start = Instant::now();
        let one = |out: &mut Mat<f64>, _| matmul(out.as_mut(), Accum::Add, a.transpose(), b.as_ref(), 1.0, Par::Seq);
        (0..self.count).into_par_iter().for_each_init(|| Mat::<f64>::zeros(self.m, self.n), one);
        start.elapsed().as_secs_f64()
    }
}

/// The matrix products of the run whose result stands in `out`: those of the forward passes, the
/// Gram and derivative moments (half of a full product each), the features and the MLP's edges, at a
/// share of the hidden units. What attention multiplies is left out, so faer is
/// asked for less than the run does.
fn gemms(model: &str, data: &str, out: &Path, share: f64) -> Vec<Gemm> {
    let config = std::fs::read_to_string(Path::new(model).join("config.json")).expect("config.json");
    let config: Value = serde_json::from_str(&config).expect("config.json is JSON");
    let size = |key: &str| config[key].as_u64().expect("a size") as usize;
    let (d, hidden) = (size("d_model"), size("d_mlp"));
    let graph = Checkpoint::open(&out.join("graph.safetensors")).expect("graph.safetensors");
    let k = |layer: &str| graph.shape(&format!("{layer}.C")).expect("a basis")[1];
    let tokens = Checkpoint::open(Path::new(data)).expect("the data set");
    let shape = tokens.shape("train.tokens").expect("train.tokens").to_vec();
    let (samples, positions) = (shape[0], shape[1]);
    let active = (share * hidden as f64).round() as usize;
    let block = 512 / positions;
    let blocks = samples / block;
    let per_block = |rows: usize, k: usize, n: usize, times: usize| Gemm { m: rows, k, n, count: blocks * times };
    vec![
        // Three passes project q, k and v; two go on to the unembedding.
        per_block(block * positions, d, d, 9),
        per_block(block, d, d, 2),
        per_block(block, d, hidden, 2),
        per_block(block, hidden, d, 2),
        // Gram matrices and activation derivatives: the lower triangle only.
        per_block(d, block * positions, d / 2, 1),
        per_block(d, block, d / 2, 2),
        per_block(hidden, block, hidden / 2, 1),
        // Features, and the pre-activations at the projected input.
        per_block(block * positions, d, k("ln1.0"), 4),
        per_block(block, d, k("ln2.0"), 1),
        per_block(block, k("ln2.0"), hidden, 1),
        Gemm { m: k("ln2.0"), k: active, n: k("unembed"), count: samples },
    ]
    .into_iter()
    .filter(|g| g.count > 0)
    .collect()
}

/// The share of (sample, hidden unit) pairs whose relu is open, read from captured neurons.
fn active_share(model: &str, data: &str) -> f64 {
    let path: PathBuf = std::env::temp_dir().join(format!("mechgraph-bench-neurons-{}.safetensors", std::process::id()));
    let status = Command::new(env!("CARGO_BIN_EXE_mechgraph"))
        .args(["capture", model, "--data", &format!("{data}#train"), "--sites", "mlp_act", "--quiet", "--force", "--out"])
        .arg(&path)
        .status();
    assert!(status.expect("the binary starts").success(), "mechgraph capture failed");
    let file = Checkpoint::open(&path).expect("the captured neurons");
    let shape = file.shape("mlp_act.0").expect("mlp_act.0").to_vec();
    let neurons = file.tensor_f64("mlp_act.0", &shape).expect("neurons");
    std::fs::remove_file(&path).expect("the capture can be removed");
    neurons.iter().filter(|x| **x > 0.0).count() as f64 / neurons.len() as f64
}

/// Writes the training split of a data set `times` times over.
fn repeat_samples(from: &Path, to: &Path, times: usize) {
    let file = Checkpoint::open(from).expect("the data set");
    let tensor = |name: &str| {
        let mut shape = file.shape(name).expect("a tensor").to_vec();
        shape[0] *= times;
        (name.to_string(), shape, bytemuck::cast_slice(&file.tensor_i64(name).expect("integers").repeat(times)).to_vec())
    };
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = vec![tensor("train.tokens"), tensor("train.labels")];
    let views = tensors.iter().map(|(n, s, b)| (n, TensorView::new(Dtype::I64, s.clone(), b).expect("a tensor")));
    std::fs::write(to, serialize(views, None).expect("a file")).expect("the longer data set");
}

/// Runs the PyTorch side and returns what it prints.
fn peer(python: &str, model: &str, data: &str, out: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/lib_modadd.py");
    let output = Command::new(python).arg(script).args([model, data]).arg(out.join("graph.safetensors")).output();
    let output = output.expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the peer prints JSON")
}
