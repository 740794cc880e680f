//! Sequences of hundreds and thousands of tokens: a block's values, tangents and cotangents are those of
//! plain loops over all pairs of positions, and memory grows with the length, not with its square.

use std::collections::BTreeMap;
use std::path::Path;

use mechgraph::data::{DataSet, Samples};
use mechgraph::device::{DType, Tensor};
use mechgraph::model::block_jvp::products;
use mechgraph::model::capture::capture;
use mechgraph::model::evaluate::evaluate;
use mechgraph::model::lm::{Attention, Block, Embedding, Head, Linear, Mlp, Norm, Order, Projections, Rotary};
use mechgraph::model::{Checkpoint, Lm, Model};
use mechgraph::ops::activation::Activation;
use mechgraph::ops::linear::Matrix;
use mechgraph::ops::norm::Kind;

use crate::command::{Tensors, ints, reals, write};
use crate::dual::{Dual, PROBES};
use crate::naive::{Numbers, max_error, read, tokens, with_runner};

/// Widths of the model; two heads of queries share one of keys.
const D: usize = 6;
const HEADS: usize = 2;
const D_HEAD: usize = 4;
const NEURONS: usize = 7;
const VOCABULARY: usize = 11;
const EPS: f64 = 1e-5;

/// How a model attends, and how long its sequence is.
#[derive(Clone, Copy, Debug)]
struct Variant {
    t: usize,
    window: Option<usize>,
    softcap: Option<f64>,
    /// Sees the whole sequence, with norms behind the halves and a mask.
    encoder: bool,
}

/// The weights as plain numbers, `[d_in, d_out]`.
struct Weights {
    tokens: Vec<f64>,
    positions: Vec<f64>,
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    o: Vec<f64>,
    gate: Vec<f64>,
    up: Vec<f64>,
    down: Vec<f64>,
    gains: [Vec<f64>; 2],
    unembed: Vec<f64>,
}

impl Weights {
    fn new(t: usize, seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        let mut many = |n: usize, scale: f64| -> Vec<f64> { numbers.many(n).iter().map(|x| x * scale).collect() };
        Self {
            tokens: many(VOCABULARY * D, 1.0),
            positions: many(t * D, 0.5),
            q: many(D * HEADS * D_HEAD, 1.0),
            k: many(D * D_HEAD, 1.0),
            v: many(D * D_HEAD, 1.0),
            o: many(HEADS * D_HEAD * D, 0.6),
            gate: many(D * NEURONS, 0.8),
            up: many(D * NEURONS, 0.8),
            down: many(NEURONS * D, 0.6),
            gains: [many(D, 0.3), many(D, 0.3)].map(|g| g.iter().map(|x| 1.0 + x).collect()),
            unembed: many(D * VOCABULARY, 1.0),
        }
    }
    fn lm(&self, dtype: DType, s: Variant) -> Lm {
        let tensor = |x: &[f64], rows: usize| Tensor::from_f64(dtype, rows, x.len() / rows, x.to_vec());
        let linear = |x: &[f64], rows| Linear { w: Matrix::whole(&tensor(x, rows)), transpose: false, bias: None };
        let kind = if s.encoder { Kind::Layer } else { Kind::Rms };
        let norm = |i: usize| Some(Norm { kind, eps: EPS, w: Some(tensor(&self.gains[i], 1)), b: None });
        let (q, k, v) = (linear(&self.q, D), linear(&self.k, D), linear(&self.v, D));
        let block = Block {
            order: if s.encoder { Order::PostNorm } else { Order::Sequential },
            norm1: norm(0),
            attention: Attention {
                projections: Projections::Separate { q, k, v, norms: None },
                heads: HEADS,
                kv_heads: 1,
                d_head: D_HEAD,
                scale: 0.7,
                softcap: s.softcap,
                window: s.window,
                o: linear(&self.o, HEADS * D_HEAD),
            },
            attention_norm: None,
            norm2: norm(1),
            mlp: Mlp {
                gate: Some(linear(&self.gate, D)),
                up: linear(&self.up, D),
                act: Activation::Silu,
                norm: None,
                down: linear(&self.down, NEURONS),
            },
            mlp_norm: None,
        };
        let unembed = linear(&self.unembed, D);
        Lm {
            family: "plain",
            dtype,
            d_model: D,
            n_ctx: s.t,
            d_vocab: VOCABULARY,
            embedding: Embedding {
                tokens: tensor(&self.tokens, VOCABULARY),
                scale: None,
                positions: s.encoder.then(|| tensor(&self.positions, s.t)),
                row: None,
                norm: None,
            },
            rotary: (!s.encoder).then(|| Rotary::new(100.0, D_HEAD)),
            blocks: vec![block],
            final_norm: None,
            head: Some(Head { dense: None, unembed, softcap: None }),
            is_causal: !s.encoder,
            reads_last: false,
            paths: BTreeMap::new(),
        }
    }
    /// The residual stream in front of the block.
    fn embed(&self, s: Variant, ids: &[u32]) -> Vec<f64> {
        let row = |(position, id): (usize, &u32)| {
            let at = |i: usize| if s.encoder { self.positions[position * D + i] } else { 0.0 };
            (0..D).map(|i| self.tokens[*id as usize * D + i] + at(i)).collect::<Vec<_>>()
        };
        ids.iter().enumerate().flat_map(row).collect()
    }
    /// The values of each head as attention has mixed them, and the residual stream behind the block.
    fn block(&self, s: Variant, seen: &[bool], x: &[Dual]) -> (Vec<Dual>, Vec<Dual>) {
        let norm = |x: &[Dual], i: usize| normed(x, s.encoder, &self.gains[i]);
        let input = if s.encoder { x.to_vec() } else { norm(x, 0) };
        let (mut q, mut k) = (times(&input, &self.q, D), times(&input, &self.k, D));
        if !s.encoder {
            rotate(&mut q, HEADS);
            rotate(&mut k, 1);
        }
        let z = attend(s, seen, &q, &k, &times(&input, &self.v, D));
        let mut mid = add(x, &times(&z, &self.o, HEADS * D_HEAD));
        if s.encoder {
            mid = norm(&mid, 0);
        }
        let input = if s.encoder { mid.clone() } else { norm(&mid, 1) };
        let (gate, up) = (times(&input, &self.gate, D), times(&input, &self.up, D));
        let hidden: Vec<Dual> = gate.iter().zip(&up).map(|(g, u)| *g / ((-*g).exp() + 1.0) * *u).collect();
        let y = add(&mid, &times(&hidden, &self.down, NEURONS));
        (z, if s.encoder { norm(&y, 1) } else { y })
    }
}

fn add(a: &[Dual], b: &[Dual]) -> Vec<Dual> {
    a.iter().zip(b).map(|(a, b)| *a + *b).collect()
}

fn times(x: &[Dual], w: &[f64], d_in: usize) -> Vec<Dual> {
    let d_out = w.len() / d_in;
    let row = |x: &[Dual], j: usize| (0..d_in).fold(Dual::default(), |sum, i| sum + x[i] * w[i * d_out + j]);
    x.chunks(d_in).flat_map(|x| (0..d_out).map(move |j| row(x, j))).collect()
}

fn normed(x: &[Dual], centred: bool, gain: &[f64]) -> Vec<Dual> {
    let mut y = Vec::new();
    for row in x.chunks(D) {
        let mean = row.iter().fold(Dual::default(), |sum, x| sum + *x) * if centred { 1.0 / D as f64 } else { 0.0 };
        let square = row.iter().fold(Dual::default(), |sum, x| sum + (*x - mean) * (*x - mean)) * (1.0 / D as f64);
        let deviation = (square + EPS).sqrt();
        y.extend(row.iter().zip(gain).map(|(x, g)| (*x - mean) / deviation * *g));
    }
    y
}

fn rotate(x: &mut [Dual], heads: usize) {
    for (i, head) in x.chunks_mut(D_HEAD).enumerate() {
        for (j, frequency) in [1.0, 0.1].into_iter().enumerate() {
            let (sin, cos) = ((i / heads) as f64 * frequency).sin_cos();
            let (a, b) = (head[j], head[j + 2]);
            (head[j], head[j + 2]) = (a * cos - b * sin, b * cos + a * sin);
        }
    }
}

fn attend(s: Variant, seen: &[bool], q: &[Dual], k: &[Dual], v: &[Dual]) -> Vec<Dual> {
    let mut z = vec![Dual::default(); q.len()];
    for query in 0..s.t {
        let first = s.window.map_or(0, |w| (query + 1).saturating_sub(w));
        let end = if s.encoder { s.t } else { query + 1 };
        for head in 0..HEADS {
            let at = (query * HEADS + head) * D_HEAD;
            let q = &q[at..][..D_HEAD];
            let score = |key: &usize| {
                let dot = q.iter().zip(&k[key * D_HEAD..]).fold(Dual::default(), |sum, (q, k)| sum + *q * *k) * 0.7;
                s.softcap.map_or(dot, |c| (dot * (1.0 / c)).tanh() * c)
            };
            let keys: Vec<usize> = (first..end).filter(|key| seen[*key]).collect();
            let scores: Vec<Dual> = keys.iter().map(score).collect();
            let top = scores.iter().fold(f64::NEG_INFINITY, |top, s| top.max(s.v));
            let weights: Vec<Dual> = scores.iter().map(|s| (*s + -top).exp()).collect();
            let sum = weights.iter().fold(Dual::default(), |sum, w| sum + *w);
            for (key, weight) in keys.iter().zip(&weights) {
                let p = *weight / sum;
                (0..D_HEAD).for_each(|i| z[at + i] = z[at + i] + p * v[key * D_HEAD + i]);
            }
        }
    }
    z
}

/// One random direction, and units at an early and a late position.
fn directions(t: usize) -> Vec<Vec<f64>> {
    let units = [(2, 1), (t - 70, 5)].map(|(position, i)| {
        let mut unit = vec![0.0; t * D];
        unit[position * D + i] = 1.0;
        unit
    });
    std::iter::once(Numbers::new(9).many(t * D)).chain(units).collect()
}

fn data(ids: &[u32], n: usize, mask: Option<Vec<u32>>) -> DataSet {
    let samples = Samples::Tokens { ids: ids.repeat(n), n, t: ids.len() };
    DataSet { samples, labels: None, mask, text: None, name: "long".into(), sha256: String::new() }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn check(s: Variant, dir: &Path) {
    let w = Weights::new(s.t, 3);
    let ids: Vec<u32> = (0..s.t).map(|i| ((i * i + i / 7) % VOCABULARY) as u32).collect();
    let seen: Vec<bool> = (0..s.t).map(|i| !s.encoder || i % 5 != 2).collect();
    let (given, directions) = (w.embed(s, &ids), directions(s.t));
    assert_eq!(directions.len(), PROBES);
    let dual = |i: usize| Dual { v: given[i], d: std::array::from_fn(|r| directions[r][i]) };
    let (z, y) = w.block(s, &seen, &(0..given.len()).map(dual).collect::<Vec<_>>());
    let value = |x: &[Dual]| x.iter().map(|x| x.v).collect::<Vec<_>>();

    let cotangent = Numbers::new(11).many(s.t * D);
    let file = dir.join("directions");
    let stack = |x: &dyn Fn(usize) -> f64| reals(&[PROBES, s.t, D], x);
    write(
        &file,
        &Tensors::from([
            ("tokens".into(), ints(&[PROBES, s.t], |i| i64::from(ids[i % s.t]))),
            ("tangent.0".into(), stack(&|i| directions[i / (s.t * D)][i % (s.t * D)])),
            ("cotangent.0".into(), stack(&|i| cotangent[i % (s.t * D)])),
        ]),
    );
    let mask = |n: usize| s.encoder.then(|| seen.iter().map(|s| u32::from(*s)).collect::<Vec<_>>().repeat(n));
    for (dtype, bar) in [(DType::F64, 1e-11), (DType::F32, 2e-5)] {
        let lm = w.lm(dtype, s);
        let model = Model::Lm(lm.clone());
        let places = model.places("--sites", &["resid_pre", "z", "resid_post"].map(String::from), &[0]).unwrap();
        let (out, products_out) = (dir.join("captured"), dir.join("products"));
        with_runner(1, None, |runner| {
            capture(&model, &data(&ids, 1, mask(1)), &places, None, runner, &out, &BTreeMap::new()).unwrap();
            let given = Checkpoint::open(&file).unwrap();
            products(&lm, &data(&ids, PROBES, mask(PROBES)), &given, runner, &products_out, &BTreeMap::new()).unwrap();
        });
        let captured = Checkpoint::open(&out).unwrap();
        let near = |what: &str, got: &[f64], want: &[f64]| {
            let error = max_error(got, want);
            assert!(error <= bar, "{what} in {}: {error:e}, {s:?}", dtype.name());
        };
        for (name, want) in [("resid_pre.0", &given), ("z.0", &value(&z)), ("resid_post.0", &value(&y))] {
            near(name, &read(&captured, name).1, want);
        }
        let file = Checkpoint::open(&products_out).unwrap();
        let (jvp, vjp) = (read(&file, "jvp.0").1, read(&file, "vjp.0").1);
        let top = vjp.iter().fold(0.0f64, |top, x| top.max(x.abs()));
        for r in 0..PROBES {
            let tangent: Vec<f64> = y.iter().map(|y| y.d[r]).collect();
            near(&format!("tangent {r}"), &jvp[r * s.t * D..][..s.t * D], &tangent);
            // Of a unit direction the product with the cotangent is one of its coordinates.
            let (want, got) = (dot(&cotangent, &tangent), dot(&vjp[r * s.t * D..][..s.t * D], &directions[r]));
            let scale = if r == 0 { top * (s.t as f64).sqrt() } else { top };
            assert!((got - want).abs() <= bar * scale, "cotangent {r} in {}: {got} for {want}, {s:?}", dtype.name());
        }
    }
}

const PLAIN: Variant = Variant { t: 0, window: None, softcap: None, encoder: false };

#[test]
fn causal_attention_over_2048_tokens_equals_plain_loops() {
    let dir = tempfile::tempdir().unwrap();
    check(Variant { t: 2048, ..PLAIN }, dir.path());
    check(Variant { t: 600, softcap: Some(1.5), ..PLAIN }, dir.path());
}

#[test]
fn windows_in_1100_tokens_equal_plain_loops() {
    let dir = tempfile::tempdir().unwrap();
    for (window, softcap) in [(1, None), (100, None), (150, Some(0.8)), (4096, None)] {
        check(Variant { t: 1100, window: Some(window), softcap, ..PLAIN }, dir.path());
    }
}

#[test]
fn encoders_with_hidden_tokens_equal_plain_loops() {
    let dir = tempfile::tempdir().unwrap();
    for t in [600, 1100] {
        check(Variant { t, encoder: true, ..PLAIN }, dir.path());
    }
}

/// Bytes that passes over one sequence of `t` tokens plan for: capture, products, eval.
fn plans(t: usize, dir: &Path) -> [u64; 3] {
    let s = Variant { t, softcap: Some(2.0), ..PLAIN };
    let lm = Weights::new(t, 1).lm(DType::F32, s);
    let (model, set) = (Model::Lm(lm.clone()), tokens(VOCABULARY, 1, t, 2));
    let (file, out) = (dir.join("directions"), dir.join("out"));
    let direction = || reals(&[1, t, D], |i| (i as f64).sin());
    let ids = ints(&[1, t], |i| (i % VOCABULARY) as i64);
    write(
        &file,
        &Tensors::from([("tokens", ids), ("tangent.0", direction()), ("cotangent.0", direction())].map(|(n, x)| (n.into(), x))),
    );
    let places = model.places("--sites", &["mlp_act", "z", "logits"].map(String::from), &[0]).unwrap();
    let none = BTreeMap::new();
    [
        with_runner(1, None, |runner| capture(&model, &set, &places, None, runner, &out, &none).unwrap()),
        with_runner(1, None, |runner| products(&lm, &set, &Checkpoint::open(&file).unwrap(), runner, &out, &none).unwrap()),
        with_runner(1, None, |runner| drop(evaluate(&model, set.clone(), runner).unwrap())),
    ]
}

#[test]
fn planned_memory_grows_with_the_length_alone() {
    let dir = tempfile::tempdir().unwrap();
    let [short, middle, long] = [1024, 2048, 4096].map(|t| plans(t, dir.path()));
    for (i, what) in ["capture", "jvp", "eval"].into_iter().enumerate() {
        let (first, second) = (middle[i] - short[i], long[i] - middle[i]);
        let ratio = second as f64 / first as f64;
        assert!((ratio - 2.0).abs() < 0.02, "{what}: {} bytes, {} and {}", short[i], middle[i], long[i]);
        // The scores of one head alone would be 64 MiB.
        assert!(long[i] < 16 << 20, "{what}: {} bytes", long[i]);
    }
}
