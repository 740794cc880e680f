//! What the modules share: fixtures, random networks and data, runs on the CPU, error measures.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use faer::{Mat, MatRef};
use mechgraph::basis::closed::Nodes;
use mechgraph::basis::quadrature::{Rule, points};
use mechgraph::basis::rotation::{Basis, Threshold};
use mechgraph::basis::{self, BasisKind, EdgeKind, Graph, Method, Options, Problem, edges};
use mechgraph::data::stream::{Input, Runner};
use mechgraph::data::{DataSet, Samples};
use mechgraph::device::{Arena, Builder, Cpu, DType, Device, Real, View};
use mechgraph::model::forward::{Batch, Value};
use mechgraph::model::sections::Network;
use mechgraph::model::{ActFn, MlpConfig, Model, Norm, TransformerConfig, random_mlp, random_transformer};
use mechgraph::ops::{self, Launch, probes};
use mechgraph::progress::{Mode, Progress};

/// The folder of shared fixtures; where it is absent the test says so and is counted.
pub fn shared() -> Option<PathBuf> {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: ../shared is absent ({} tests so far)", SKIPPED.fetch_add(1, Ordering::Relaxed) + 1);
    None
}

/// Numbers in `[-1, 1)` that depend on `seed` alone.
pub fn numbers(n: usize, seed: u64) -> Vec<f64> {
    let unit = |i: u64| (probes::splitmix(probes::splitmix(seed) ^ i) >> 11) as f64 / (1u64 << 53) as f64;
    (0..n as u64).map(|i| 2.0 * unit(i) - 1.0).collect()
}

/// A matrix of such numbers.
pub fn random(rows: usize, cols: usize, seed: u64) -> Mat<f64> {
    let x = numbers(rows * cols, seed);
    Mat::from_fn(rows, cols, |i, j| x[i * cols + j])
}

/// A basis of `k` random directions of a node layer of width `d`, C+ unrelated to C: edges between
/// such bases leave no error room to hide in.
pub fn random_basis(d: usize, k: usize, seed: u64) -> Basis {
    let scaled = |m: Mat<f64>, width: usize| Mat::from_fn(m.nrows(), m.ncols(), |i, j| m[(i, j)] * (3.0 / width as f64).sqrt());
    let (c, c_pinv) = (scaled(random(d, k, seed), d), scaled(random(k, d, seed ^ 0xC0), k));
    let none = Mat::zeros(d, 0);
    Basis { c, c_pinv, w: none.clone(), w_pinv: none, v: None, lambda: Vec::new(), eigenvalues: Vec::new(), constant: false }
}

/// Ragged sizes: widths 10 and 17, 3 heads of 4, 13 tokens, 7 logits.
pub fn transformer_config(norm: Norm, act: ActFn) -> TransformerConfig {
    TransformerConfig {
        n_layers: 2,
        d_model: 10,
        n_ctx: 6,
        d_head: 4,
        n_heads: 3,
        d_mlp: 17,
        d_vocab: 13,
        d_vocab_out: 7,
        act,
        norm,
        eps: 1e-5,
        parallel: false,
        attn_scale: true,
        read_last: false,
    }
}

/// A model with data to run it on.
pub struct Case {
    pub name: String,
    pub model: Model,
    pub data: DataSet,
    pub threads: usize,
    pub batch: Option<usize>,
}

/// `n` sequences of random tokens, or `n` random input vectors, that fit `model`.
pub fn data(model: &Model, n: usize, seed: u64) -> DataSet {
    let samples = match (model, model.n_ctx(), model.d_vocab()) {
        (Model::Mlp(m), ..) => {
            let width = m.config.input_size;
            Samples::Inputs { x: numbers(n * width, seed), n, width }
        }
        (_, Some(t), Some(d_vocab)) => {
            let id = |x: f64| ((0.5 * x + 0.5) * d_vocab as f64) as u32;
            Samples::Tokens { ids: numbers(n * t, seed).into_iter().map(id).collect(), n, t }
        }
        _ => panic!("a model of sequences without a context"),
    };
    of_samples(samples)
}

/// A data set without labels.
pub fn of_samples(samples: Samples) -> DataSet {
    DataSet { samples, labels: None, mask: None, text: None, name: "random".into(), sha256: String::new() }
}

impl Case {
    pub fn new(name: impl Into<String>, model: Model, data: DataSet) -> Self {
        Self { name: name.into(), model, data, threads: 1, batch: None }
    }
    /// A random transformer on `n` random sequences.
    pub fn transformer(config: TransformerConfig, dtype: DType, n: usize, seed: u64) -> Self {
        let c = &config;
        let flags = [(c.parallel, " parallel"), (c.read_last, " last position"), (!c.attn_scale, " unscaled")];
        let flags: String = flags.into_iter().filter(|f| f.0).map(|f| f.1).collect();
        let name = format!("{:?} {}{flags} {} seed {seed}", c.norm, c.act.name(), dtype.name());
        let model = Model::Transformer(random_transformer(config, dtype, seed).unwrap());
        let data = data(&model, n, seed + 1);
        Self::new(name, model, data)
    }
    /// A random MLP with the widths of all its layers, on `n` random inputs.
    pub fn mlp(widths: &[usize], act: ActFn, bias: bool, dtype: DType, n: usize, seed: u64) -> Self {
        let [input_size, hidden_sizes @ .., output_size] = widths else { panic!("an MLP has two widths or more") };
        let config =
            MlpConfig { input_size: *input_size, hidden_sizes: hidden_sizes.to_vec(), output_size: *output_size, act, bias };
        let name = format!("mlp {} {} seed {seed}", act.name(), dtype.name());
        let model = Model::Mlp(random_mlp(config, dtype, seed).unwrap());
        let data = data(&model, n, seed + 1);
        Self::new(name, model, data)
    }
    pub fn net(&self) -> Network {
        self.model.network(true).unwrap()
    }
    /// Names of all node layers there can be, the output last.
    pub fn node_layers(&self) -> Vec<String> {
        self.net().modules.into_iter().map(|m| m.id).chain(["output".into()]).collect()
    }
    /// Coordinates of a node layer.
    pub fn width(&self, layer: &str) -> usize {
        let net = self.net();
        let module = net.modules.iter().position(|m| m.id == layer).unwrap_or(net.modules.len());
        mechgraph::model::sections::coords(net.tuple(module).0)
    }
    pub fn problem<'a>(&'a self, options: &'a Options) -> Problem<'a> {
        Problem { model: &self.model, data: &self.data, gram_data: None, options }
    }
    fn run<R>(&self, f: impl FnOnce(&Runner) -> mechgraph::Result<R>) -> mechgraph::Result<R> {
        let (device, progress) = (Device::Cpu(Cpu::new(self.threads)?), Progress::new(Mode::Quiet));
        f(&Runner { device: &device, progress: &progress, batch: self.batch, memory: u64::MAX, checkpoints: None })
    }
    pub fn try_build(&self, options: &Options) -> mechgraph::Result<Graph> {
        self.run(|r| basis::build(self.problem(options), r))
    }
    /// A build with means and Gram matrices of other data.
    #[track_caller]
    pub fn build_with_gram(&self, options: &Options, gram: &DataSet) -> Graph {
        let problem = Problem { gram_data: Some(gram), ..self.problem(options) };
        self.run(|r| basis::build(problem, r)).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
    #[track_caller]
    pub fn build(&self, options: &Options) -> Graph {
        self.try_build(options).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
    /// M' and L' of the section behind node layer `l`.
    #[track_caller]
    pub fn m_dash(&self, options: &Options, l: usize, c: Option<&Mat<f64>>) -> (Mat<f64>, Option<Mat<f64>>) {
        self.try_m_dash(options, l, c).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
    pub fn try_m_dash(
        &self,
        options: &Options,
        l: usize,
        c: Option<&Mat<f64>>,
    ) -> mechgraph::Result<(Mat<f64>, Option<Mat<f64>>)> {
        self.run(|r| basis::section_m_dash(self.problem(options), l, c, r))
    }
    #[track_caller]
    pub fn edges(&self, options: &Options, bases: &[Option<Basis>]) -> Vec<Mat<f64>> {
        self.try_edges(options, bases).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
    pub fn try_edges(&self, options: &Options, bases: &[Option<Basis>]) -> mechgraph::Result<Vec<Mat<f64>>> {
        self.run(|r| basis::edges_between(self.problem(options), bases, r))
    }
    /// All coordinates of every token at a node layer, constants included, `[n, d]`.
    pub fn rows(&self, layer: &str) -> Mat<f64> {
        self.at(layer, edges::whole_rows)
    }
    /// What `emit` makes of the tuple at a node layer, for all data in one program.
    pub fn at(&self, layer: &str, emit: impl FnOnce(&mut Builder<Launch>, &[Value]) -> View) -> Mat<f64> {
        let net = self.net();
        let module = net.modules.iter().position(|m| m.id == layer).unwrap_or(net.modules.len());
        let batch = Batch { samples: self.data.samples.count(), positions: self.data.samples.positions() };
        let mut b = Builder::new(self.model.dtype());
        let (input, taps) = basis::start(&mut b, &self.model, &net, batch, module).unwrap();
        let rows = emit(&mut b, &taps.tuples[module]);
        match self.model.dtype() {
            DType::F32 => run::<f32>(b, &[rows], |m| fill(m, input, &self.data)).remove(0),
            DType::F64 => run::<f64>(b, &[rows], |m| fill(m, input, &self.data)).remove(0),
        }
    }
}

/// Puts the samples of a data set where a program reads them.
fn fill<T: Real>(m: &mut Arena<T>, input: Input, data: &DataSet) {
    match (input, &data.samples) {
        (Input::Tokens(b), Samples::Tokens { ids, .. }) => m.int_mut(b).copy_from_slice(ids),
        (Input::Values(v), Samples::Inputs { x, .. }) => {
            m.real_mut(v.buffer).iter_mut().zip(x).for_each(|(y, x)| *y = T::of(*x));
        }
        _ => panic!("samples of another kind than the model's input"),
    }
}

/// Runs a program and reads some of its views.
pub fn run<T: Real>(b: Builder<Launch>, views: &[View], fill: impl FnOnce(&mut Arena<T>)) -> Vec<Mat<f64>> {
    let program = b.finish();
    let mut arena = Arena::new(&program.layout);
    fill(&mut arena);
    ops::run_cpu(&program, &mut arena);
    views.iter().map(|v| Mat::from_fn(v.rows, v.cols, |i, j| arena.row(v, i)[j].to_f64())).collect()
}

/// The options of a plain run over `layers`: centred, variances isolated, the last layer rotated
/// unless it is the output.
pub fn options(layers: &[impl AsRef<str>], nodes: &Nodes, method: Method) -> Options {
    let node_layers: Vec<String> = layers.iter().map(|l| l.as_ref().to_string()).collect();
    Options {
        basis: BasisKind::Jacobian,
        edges: EdgeKind::Squared,
        sources_pos: None,
        sources_hidden: None,
        sources_edges: None,
        quadrature: vec![nodes.clone(); node_layers.len()],
        threshold: Threshold::Relative(1e-10),
        rotate_final: node_layers.last().is_some_and(|l| l != "output"),
        centre: true,
        isolate_variance: true,
        ngf: false,
        method,
        seed: 0,
        node_layers,
    }
}

/// The plain gradient.
pub fn gradient() -> Nodes {
    points(Rule::Gradient, 0)
}

/// The three quadratures, by name.
pub fn rules() -> [(&'static str, Nodes); 3] {
    [
        ("gradient", gradient()),
        ("gauss-legendre 2", points(Rule::GaussLegendre, 2)),
        ("trapezoidal 3", points(Rule::Trapezoidal, 3)),
    ]
}

/// The relative Frobenius error of `a` against `b`; infinite where a number is not finite.
#[track_caller]
pub fn relative(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> f64 {
    assert_eq!((a.nrows(), a.ncols()), (b.nrows(), b.ncols()), "shapes");
    let error = (a - b).norm_l2();
    match (error, b.norm_l2()) {
        (0.0, _) => 0.0,
        (e, n) if (e / n).is_finite() => e / n,
        _ => f64::INFINITY,
    }
}

/// The largest absolute element; infinite where one is not finite.
pub fn max_abs(a: MatRef<'_, f64>) -> f64 {
    let columns = (0..a.ncols()).flat_map(|j| (0..a.nrows()).map(move |i| a[(i, j)]));
    columns.fold(0.0, |m, x| if x.is_finite() { m.max(x.abs()) } else { f64::INFINITY })
}

/// a b c, as three operands are the usual case here.
pub fn triple(a: MatRef<'_, f64>, b: MatRef<'_, f64>, c: MatRef<'_, f64>) -> Mat<f64> {
    a * b * c
}

/// The largest of many errors, and where it was seen.
#[derive(Default)]
pub struct Worst {
    pub error: f64,
    pub place: String,
    pub count: usize,
}

impl Worst {
    pub fn see(&mut self, error: f64, place: impl Display) {
        self.count += 1;
        // Not a number is the worst error of all.
        if error.is_nan() || error > self.error {
            (self.error, self.place) = (if error.is_nan() { f64::INFINITY } else { error }, place.to_string());
        }
    }
    /// Prints the worst of at least `count` errors, and fails if it is over `bound`.
    #[track_caller]
    pub fn check(&self, what: &str, bound: f64, count: usize) {
        println!("{what}: worst of {} errors {:e}, {}", self.count, self.error, self.place);
        assert!(self.count >= count, "{what}: {} comparisons, expected at least {count}", self.count);
        assert!(
            self.error <= bound,
            "{what}: the worst of {} errors is {:e} ({}); expected at most {bound:e}",
            self.count,
            self.error,
            self.place
        );
    }
}
