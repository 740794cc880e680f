//! Runs the built binary on small models and data sets in a temporary folder, and holds what must be
//! true of every success and of every failure.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mechgraph::device::DType;
use mechgraph::model::{ActFn, MlpConfig, Model, Norm, TransformerConfig, random_mlp, random_transformer, save};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

/// dtype, shape and bytes of a tensor.
pub type Stored = (String, Vec<usize>, Vec<u8>);
/// The tensors of a file by name.
pub type Tensors = BTreeMap<String, Stored>;

/// What a run of the binary left on its streams.
#[derive(Debug)]
pub struct Outcome {
    /// `None` after a signal.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The binary with its arguments, without an input and without backtraces.
pub fn mechgraph<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mechgraph"));
    // Without a desktop, Mesa's device selection writes complaints to stderr.
    command.env("NODEVICE_SELECT", "1");
    command.args(args).stdin(Stdio::null()).env("RUST_BACKTRACE", "0").env_remove("RAYON_NUM_THREADS");
    command
}

/// Runs the binary to its end. A panic or a death by signal is a failure of the test, whatever it is about.
pub fn run<S: AsRef<OsStr>>(args: &[S]) -> Outcome {
    let output = mechgraph(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let outcome = Outcome { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    let is_panic = outcome.status.is_none_or(|s| s > 2) || outcome.stderr.contains("panicked");
    assert!(!is_panic, "{:?}: {outcome:?}", args.iter().map(AsRef::as_ref).collect::<Vec<&OsStr>>());
    outcome
}

/// The sentence of a failing run: status 1, nothing on stdout, on stderr one line `error: ..` and at
/// most one `hint: ..`, in one sentence that says what was found and what is expected or which
/// operation failed.
pub fn failure<S: AsRef<OsStr>>(args: &[S]) -> String {
    let outcome = run(args);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(1), ""), "{outcome:?}");
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let sentence = match lines[..] {
        [error] => error,
        [error, hint] if hint.starts_with("hint: ") && hint.len() > 12 => error,
        _ => panic!("{outcome:?}"),
    };
    let sentence = sentence.strip_prefix("error: ").unwrap_or_else(|| panic!("{outcome:?}"));
    assert!(sentence.contains("; expected ") || sentence.contains(" failed: "), "{sentence}");
    assert!(sentence.len() < 1500 && !sentence.contains(char::is_control) && !sentence.ends_with('.'), "{sentence}");
    sentence.into()
}

/// A folder with a model, a data set for it and a place for a run.
#[derive(Debug)]
pub struct Case {
    pub dir: TempDir,
}

impl Case {
    /// `MODEL/` and `data.safetensors` with the given tensors.
    pub fn new(model: &Model, data: &Tensors) -> Self {
        let case = Self { dir: tempfile::tempdir().unwrap() };
        save(model, &case.path("MODEL")).unwrap();
        write(&case.path("data.safetensors"), data);
        case
    }
    /// One block with gelu and weightless norms, and seven sequences of four tokens.
    pub fn transformer() -> Self {
        Self::new(&transformer(transformer_config()), &tokens(&[7, 4], |i| (i * i + i / 3) % 11))
    }
    /// Widths 4, 5, 6, 3 with relu, and nine inputs.
    pub fn mlp() -> Self {
        Self::new(&mlp(mlp_config(ActFn::Relu)), &inputs(&[9, 4], |i| (1.7 * i as f64).sin()))
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    pub fn weights(&self) -> PathBuf {
        self.path("MODEL/model.safetensors")
    }
    pub fn config(&self) -> PathBuf {
        self.path("MODEL/config.json")
    }
    pub fn data(&self) -> PathBuf {
        self.path("data.safetensors")
    }
    pub fn run_dir(&self) -> PathBuf {
        self.path("RUN")
    }
    /// The command line of `lib` on this case, with more flags.
    pub fn lib_args(&self, flags: &[&str]) -> Vec<String> {
        let out = self.run_dir();
        self.args("lib", &[&["--out", out.to_str().unwrap()], flags].concat())
    }
    /// The command line of `eval`.
    pub fn eval_args(&self, flags: &[&str]) -> Vec<String> {
        self.args("eval", flags)
    }
    /// The command line of a `capture` of the logits into F.
    pub fn capture_args(&self, flags: &[&str]) -> Vec<String> {
        let out = self.path("F");
        self.args("capture", &[&["--out", out.to_str().unwrap(), "--sites", "logits"], flags].concat())
    }
    /// The command line of `jvp` into F.
    pub fn jvp_args(&self, flags: &[&str]) -> Vec<String> {
        let out = self.path("F");
        self.args("jvp", &[&["--out", out.to_str().unwrap()], flags].concat())
    }
    /// The command line of `ablate` on the run, of nodes unless the flags say otherwise.
    pub fn ablate_args(&self, flags: &[&str]) -> Vec<String> {
        let (run, data) = (self.run_dir(), self.data());
        let kind = if flags.contains(&"--kind") { &[][..] } else { &["--kind", "node"] };
        let args = [&["ablate", run.to_str().unwrap(), "--data", data.to_str().unwrap(), "--quiet"], kind, flags].concat();
        args.into_iter().map(String::from).collect()
    }
    fn args(&self, command: &str, flags: &[&str]) -> Vec<String> {
        let (model, data) = (self.path("MODEL"), self.data());
        let args = [command, model.to_str().unwrap(), "--data", data.to_str().unwrap(), "--quiet"];
        args.iter().chain(flags).map(ToString::to_string).collect()
    }
    /// The sentence of a `lib` that fails and leaves nothing behind that could be taken for a result.
    pub fn lib_fails(&self, flags: &[&str]) -> String {
        let sentence = failure(&self.lib_args(flags));
        assert_no_results(&self.run_dir());
        sentence
    }
    /// As [`Case::lib_fails`], in place of a run that is there already.
    pub fn lib_fails_again(&self, flags: &[&str]) -> String {
        self.lib_fails(&[flags, &["--force"]].concat())
    }
    /// The sentence with which every command that reads a model and a data set fails.
    pub fn loading_fails(&self) -> String {
        let sentence = self.lib_fails(&[]);
        for args in [self.eval_args(&[]), self.capture_args(&[])] {
            assert_eq!(failure(&args), sentence, "{args:?}");
        }
        assert!(!self.path("F").exists() && !self.path("F.partial").exists());
        sentence
    }
    /// The graph of a `lib` that works; see [`read_graph`].
    pub fn lib_works(&self, flags: &[&str]) -> Graph {
        let outcome = run(&self.lib_args(flags));
        assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{flags:?}");
        assert_eq!(manifest(&self.run_dir())["status"], "done");
        assert!(std::fs::read_to_string(self.run_dir().join("index.html")).unwrap().contains("</html>"));
        read_graph(&self.run_dir())
    }
    /// Rewrites the weights with a change.
    pub fn edit_weights(&self, change: impl FnOnce(&mut Tensors)) {
        let mut tensors = read(&self.weights());
        change(&mut tensors);
        write(&self.weights(), &tensors);
    }
    /// Rewrites `config.json` with one key set.
    pub fn set_config(&self, key: &str, value: Value) {
        let mut config: Value = serde_json::from_slice(&std::fs::read(self.config()).unwrap()).unwrap();
        config[key] = value;
        std::fs::write(self.config(), config.to_string()).unwrap();
    }
}

/// Neither a finished manifest nor a graph, a page or a piece of them.
pub fn assert_no_results(run: &Path) {
    let Ok(entries) = std::fs::read_dir(run) else { return };
    for entry in entries.map(|e| e.unwrap().file_name().into_string().unwrap()) {
        assert!(entry == "run.json" || entry == "checkpoint", "{entry} is left in {}", run.display());
        assert!(entry != "run.json" || manifest(run)["status"] == "running");
    }
}

/// `run.json` of a folder.
pub fn manifest(run: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(run.join("run.json")).unwrap()).unwrap()
}

/// The tensors of a `graph.safetensors`: shape and elements.
pub type Graph = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

/// Reads a graph and checks what holds for any: all numbers are finite, C+ C = I up to rounding,
/// every layer has a feature, edges join the features of their ends.
pub fn read_graph(run: &Path) -> Graph {
    let graph: Graph = read(&run.join("graph.safetensors"))
        .into_iter()
        .map(|(name, (dtype, shape, raw))| {
            assert_eq!(dtype, "F64");
            (name, (shape, raw.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().unwrap())).collect()))
        })
        .collect();
    for (name, (_, x)) in &graph {
        assert!(x.iter().all(|x: &f64| x.is_finite()), "{name} is not finite");
    }
    let mut features = BTreeMap::new();
    for (name, (shape, c)) in graph.iter().filter(|(n, _)| n.ends_with(".C")) {
        let (d, k) = (shape[0], shape[1]);
        let (shape, pinv) = &graph[&format!("{name}_pinv")];
        assert!(k > 0 && *shape == [k, d], "{name}: {d}x{k}, {shape:?}");
        for (i, j) in (0..k).flat_map(|i| (0..k).map(move |j| (i, j))) {
            let dot: f64 = (0..d).map(|l| pinv[i * d + l] * c[l * k + j]).sum();
            assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-6, "{name}: C+C[{i}, {j}] = {dot}");
        }
        features.insert(name.trim_end_matches(".C").to_string(), k);
    }
    for (name, (shape, _)) in graph.iter().filter(|(n, _)| n.starts_with("edges.")) {
        let (from, to) = name.trim_start_matches("edges.").split_once("->").unwrap();
        assert_eq!(shape[1], features[from], "{name}");
        assert!(features.get(to).is_none_or(|&k| k == shape[0]), "{name}: {shape:?}");
    }
    assert!(!features.is_empty());
    graph
}

/// One block, all sizes different.
pub fn transformer_config() -> TransformerConfig {
    TransformerConfig {
        n_layers: 1,
        d_model: 6,
        n_ctx: 5,
        d_head: 3,
        n_heads: 2,
        d_mlp: 7,
        d_vocab: 11,
        d_vocab_out: 9,
        act: ActFn::Gelu,
        norm: Norm::LnPre,
        eps: 1e-5,
        parallel: false,
        attn_scale: true,
        read_last: false,
    }
}

pub fn mlp_config(act: ActFn) -> MlpConfig {
    MlpConfig { input_size: 4, hidden_sizes: vec![5, 6], output_size: 3, act, bias: true }
}

pub fn transformer(config: TransformerConfig) -> Model {
    Model::Transformer(random_transformer(config, DType::F64, 3).unwrap())
}

pub fn mlp(config: MlpConfig) -> Model {
    Model::Mlp(random_mlp(config, DType::F64, 3).unwrap())
}

/// A data set of tokens, by flat index.
pub fn tokens(shape: &[usize], id: impl Fn(usize) -> usize) -> Tensors {
    Tensors::from([("tokens".into(), ints(shape, |i| id(i) as i64))])
}

/// A data set of input vectors, by flat index.
pub fn inputs(shape: &[usize], x: impl Fn(usize) -> f64) -> Tensors {
    Tensors::from([("inputs".into(), reals(shape, x))])
}

pub fn ints(shape: &[usize], x: impl Fn(usize) -> i64) -> Stored {
    ("I64".into(), shape.to_vec(), (0..shape.iter().product()).flat_map(|i| x(i).to_le_bytes()).collect())
}

pub fn reals(shape: &[usize], x: impl Fn(usize) -> f64) -> Stored {
    ("F64".into(), shape.to_vec(), (0..shape.iter().product()).flat_map(|i| x(i).to_le_bytes()).collect())
}

/// Writes a safetensors file, unchecked.
pub fn write(path: &Path, tensors: &Tensors) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, (dtype, shape, raw)) in tensors {
        let offsets = [data.len(), data.len() + raw.len()];
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend_from_slice(raw);
    }
    std::fs::write(path, with_header(&Value::Object(header).to_string(), &data)).unwrap();
}

/// The bytes of a safetensors file.
pub fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// The tensors of a safetensors file.
pub fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let stored = |t: safetensors::tensor::TensorView| (format!("{:?}", t.dtype()), t.shape().to_vec(), t.data().to_vec());
    file.tensors().into_iter().map(|(name, t)| (name, stored(t))).collect()
}
