//! The models in plain loops over f64, written from the definitions alone, and what the tests that
//! compare with them share: random models and data, files, error measures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mechgraph::data::stream::Runner;
use mechgraph::data::{DataSet, Samples};
use mechgraph::device::{Cpu, DType, Device, Tensor};
use mechgraph::model::{ActFn, Affine, Checkpoint, Mlp, Norm, Transformer, TransformerConfig, random_transformer};
use mechgraph::progress::{Mode, Progress};

/// Every activation a transformer may have.
pub const ACTS: [ActFn; 8] =
    [ActFn::Relu, ActFn::Gelu, ActFn::GeluNew, ActFn::Silu, ActFn::SoluLn, ActFn::Tanh, ActFn::Sigmoid, ActFn::Identity];
pub const NORMS: [Norm; 3] = [Norm::None, Norm::LnPre, Norm::Ln];

/// Activations of one sequence by our site names, `[T, ..]`; patterns `[heads, T, T]`.
pub type Trace = BTreeMap<String, Vec<f64>>;

/// Uniform numbers in [-1, 1).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn next(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
    pub fn many(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.next()).collect()
    }
}

/// Every norm, activation and order of the half blocks, with odd sizes that change from one to the next.
pub fn configs() -> Vec<TransformerConfig> {
    let mut configs = Vec::new();
    for norm in NORMS {
        for act in ACTS {
            for parallel in [false, true] {
                let i = configs.len();
                configs.push(TransformerConfig {
                    n_layers: 1 + i % 3,
                    d_model: 5 + i % 4,
                    n_ctx: 7,
                    d_head: 2 + i % 3,
                    n_heads: 1 + i % 4,
                    d_mlp: 3 + 2 * (i % 5),
                    d_vocab: 11,
                    d_vocab_out: 6 + i % 7,
                    act,
                    norm,
                    eps: [1e-5, 1e-2][i % 2],
                    parallel,
                    attn_scale: i % 5 != 2,
                    read_last: i % 4 >= 2,
                });
            }
        }
    }
    configs
}

pub fn random(config: &TransformerConfig, dtype: DType, seed: u64) -> Transformer {
    random_transformer(config.clone(), dtype, seed).unwrap()
}

/// `n` sequences of `t` random tokens.
pub fn tokens(vocabulary: usize, n: usize, t: usize, seed: u64) -> DataSet {
    let mut numbers = Numbers::new(seed);
    let ids = (0..n * t).map(|_| (numbers.bits() % vocabulary as u64) as u32).collect();
    DataSet {
        samples: Samples::Tokens { ids, n, t },
        labels: None,
        mask: None,
        text: None,
        name: "random".into(),
        sha256: String::new(),
    }
}

/// The sequences of a data set of tokens.
pub fn sequences(data: &DataSet) -> Vec<&[u32]> {
    let Samples::Tokens { ids, t, .. } = &data.samples else { panic!("no tokens") };
    ids.chunks_exact(*t).collect()
}

/// Calls `f` with a runner on `threads` CPU threads; returns the bytes the passes planned for.
pub fn with_runner(threads: usize, batch: Option<usize>, f: impl FnOnce(&Runner)) -> u64 {
    let (device, progress) = (Device::Cpu(Cpu::new(threads).unwrap()), Progress::new(Mode::Quiet));
    f(&Runner { device: &device, progress: &progress, batch, memory: u64::MAX, checkpoints: None });
    progress.plan_bytes()
}

/// The shape and elements of a tensor in a file.
pub fn read(file: &Checkpoint, name: &str) -> (Vec<usize>, Vec<f64>) {
    let shape = file.shape(name).unwrap_or_else(|| panic!("no tensor {name} among {}", file.contents())).to_vec();
    let values = file.tensor_f64(name, &shape).unwrap();
    (shape, values)
}

/// Largest absolute difference over the largest absolute value of `want`; infinite if `got` has NaN.
pub fn max_error(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    if got.iter().any(|x| x.is_nan()) {
        return f64::INFINITY;
    }
    let worst = got.iter().zip(want).fold(0.0, |a: f64, (g, w)| a.max((g - w).abs()));
    worst / want.iter().fold(f64::MIN_POSITIVE, |a, w| a.max(w.abs()))
}

/// The folder of shared fixtures; where it is absent, says so.
pub fn shared() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    if !dir.is_dir() {
        println!("skipped: ../shared is absent");
        return None;
    }
    Some(dir)
}

/// x W + b, row by row.
fn affine(x: &[f64], w: &Tensor, b: &Tensor) -> Vec<f64> {
    let (weights, bias) = (w.to_f64(), b.to_f64());
    let mut y = Vec::new();
    for row in x.chunks(w.rows) {
        for j in 0..w.cols {
            y.push(bias[j] + (0..w.rows).map(|i| row[i] * weights[i * w.cols + j]).sum::<f64>());
        }
    }
    y
}

fn layer_norm(x: &[f64], width: usize, eps: f64, weights: Option<&Affine>) -> Vec<f64> {
    let mut y = Vec::new();
    for row in x.chunks(width) {
        let mean = row.iter().sum::<f64>() / width as f64;
        let var = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / width as f64;
        for (j, v) in row.iter().enumerate() {
            let unit = (v - mean) / (var + eps).sqrt();
            y.push(weights.map_or(unit, |a| unit * a.w.to_f64()[j] + a.b.to_f64()[j]));
        }
    }
    y
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = x.iter().map(|v| (v - top).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|v| v / sum).collect()
}

/// erf(x) = 2 / sqrt(pi) exp(-x^2) sum_n 2^n x^(2n+1) / (2n+1)!!, whose terms have one sign.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

/// The activation function on rows of `width`, without the LayerNorm of SoLU.
fn act(f: ActFn, x: &[f64], width: usize) -> Vec<f64> {
    let each = |f: &dyn Fn(f64) -> f64| x.iter().map(|&v| f(v)).collect();
    match f {
        ActFn::Relu => each(&|v| if v > 0.0 { v } else { 0.0 }),
        ActFn::Gelu => each(&|v| v * (1.0 + erf(v / 2f64.sqrt())) / 2.0),
        ActFn::GeluNew => each(&|v| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v * v * v);
            0.5 * v * (1.0 + inner.tanh())
        }),
        ActFn::Silu => each(&|v| v / (1.0 + (-v).exp())),
        ActFn::Tanh => each(&f64::tanh),
        ActFn::Sigmoid => each(&|v| 1.0 / (1.0 + (-v).exp())),
        ActFn::Identity => each(&|v| v),
        ActFn::SoluLn => {
            let rows = x.chunks(width).map(|row| row.iter().zip(softmax(row)).map(|(v, p)| v * p).collect::<Vec<_>>());
            rows.flatten().collect()
        }
    }
}

fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Block `l` on one sequence `x` `[T, d]`, at every position: the residual stream behind it.
pub fn block(m: &Transformer, l: usize, x: &[f64], trace: &mut Trace) -> Vec<f64> {
    let (c, w) = (&m.config, &m.blocks[l]);
    let (h, dh, d) = (c.n_heads, c.d_head, c.d_model);
    let t = x.len() / d;
    let norm = |x: &[f64], weights: &Option<Affine>| match c.norm {
        Norm::None => x.to_vec(),
        Norm::LnPre | Norm::Ln => layer_norm(x, d, c.eps, weights.as_ref()),
    };
    let normed = norm(x, &w.ln1);
    let (q, k, v) = (affine(&normed, &w.w_q, &w.b_q), affine(&normed, &w.w_k, &w.b_k), affine(&normed, &w.w_v, &w.b_v));
    let scale = if c.attn_scale { 1.0 / (dh as f64).sqrt() } else { 1.0 };
    let (mut z, mut pattern) = (vec![0.0; t * h * dh], vec![0.0; h * t * t]);
    for head in 0..h {
        for query in 0..t {
            let at = |x: &[f64], position: usize, i: usize| x[(position * h + head) * dh + i];
            let score = |key: usize| scale * (0..dh).map(|i| at(&q, query, i) * at(&k, key, i)).sum::<f64>();
            let p = softmax(&(0..=query).map(score).collect::<Vec<_>>());
            for (key, p) in p.iter().enumerate() {
                pattern[(head * t + query) * t + key] = *p;
                (0..dh).for_each(|i| z[(query * h + head) * dh + i] += p * at(&v, key, i));
            }
        }
    }
    let attn_out = affine(&z, &w.w_o, &w.b_o);
    let mid = add(x, &attn_out);
    let pre = affine(&norm(if c.parallel { x } else { &mid }, &w.ln2), &w.w_in, &w.b_in);
    let activated = act(c.act, &pre, c.d_mlp);
    let post = match c.act {
        ActFn::SoluLn => layer_norm(&activated, c.d_mlp, c.eps, w.mid_ln.as_ref()),
        _ => activated.clone(),
    };
    let mlp_out = affine(&post, &w.w_out, &w.b_out);
    let after = add(&mid, &mlp_out);
    let sites = [
        ("resid_pre", x.to_vec()),
        ("q", q),
        ("k", k),
        ("v", v),
        ("pattern", pattern),
        ("z", z),
        ("attn_out", attn_out),
        ("resid_mid", mid),
        ("mlp_pre", pre),
        ("mlp_mid", activated),
        ("mlp_act", post),
        ("mlp_out", mlp_out),
        ("resid_post", after.clone()),
    ];
    trace.extend(sites.map(|(site, x)| (format!("{site}.{l}"), x)));
    after
}

/// The whole model on one sequence, at every position.
pub fn forward(m: &Transformer, ids: &[u32]) -> Trace {
    let d = m.config.d_model;
    let (w_e, w_pos) = (m.w_e.to_f64(), m.w_pos.to_f64());
    let mut x = Vec::new();
    for (position, &id) in ids.iter().enumerate() {
        x.extend((0..d).map(|i| w_e[id as usize * d + i] + w_pos[position * d + i]));
    }
    let mut trace = Trace::new();
    for l in 0..m.config.n_layers {
        x = block(m, l, &x, &mut trace);
    }
    if m.config.norm != Norm::None {
        x = layer_norm(&x, d, m.config.eps, m.ln_final.as_ref());
    }
    trace.insert("logits".into(), affine(&x, &m.w_u, &m.b_u));
    trace
}

/// An MLP on one input: `act.i` and `pre.i` of each layer, and the logits.
pub fn forward_mlp(m: &Mlp, x: &[f64]) -> Trace {
    let (mut x, mut trace) = (x.to_vec(), Trace::new());
    for (i, (w, b)) in m.layers.iter().enumerate() {
        trace.insert(format!("act.{i}"), x.clone());
        let pre = affine(&x, w, b);
        trace.insert(format!("pre.{i}"), pre.clone());
        x = if i + 1 < m.layers.len() { act(m.config.act, &pre, w.cols) } else { pre };
    }
    trace.insert("logits".into(), x);
    trace
}
