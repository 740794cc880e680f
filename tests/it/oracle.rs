//! An oracle that shares nothing with the crate but the weights: the forward pass of a network whose
//! biases are literally folded into its matrices (`lib.md` 1.3), Jacobians by central differences, and
//! M', the older formulas and the edges by their definitions (1.6 and 1.10).

use faer::Mat;
use mechgraph::basis::closed::Nodes;
use mechgraph::basis::quadrature::{Rule, points};
use mechgraph::basis::rotation::Basis;
use mechgraph::basis::{BasisKind, EdgeKind, Method};
use mechgraph::device::{DType, Tensor};
use mechgraph::model::{ActFn, Affine, Mlp, Model, Norm, Transformer, TransformerConfig};

use super::common::{Case, Worst, gradient, options, random, random_basis, relative, transformer_config};

/// The activations of a sequence: a row of coordinates for each position.
type Rows = Vec<Vec<f64>>;
type Module = (String, Box<dyn Fn(&Rows) -> Rows>);

/// A folded network as a list of modules; a node layer sits in front of each.
struct Folded {
    modules: Vec<Module>,
    /// The input of the first module, for each sample.
    inputs: Vec<Rows>,
}

/// A dense matrix in rows.
type Matrix = Vec<Vec<f64>>;

fn matrix(t: &Tensor) -> Matrix {
    t.to_f64().chunks(t.cols).map(<[f64]>::to_vec).collect()
}

/// [W, 0; b, corner]: the bias as last row, and a last column that is `corner` at the constant.
fn fold(w: &Matrix, b: &[f64], corner: Option<f64>) -> Matrix {
    let rows = w.iter().cloned().chain([b.to_vec()]);
    let last = |i: usize| corner.map(|c| if i == w.len() { c } else { 0.0 });
    rows.enumerate().map(|(i, row)| row.into_iter().chain(last(i)).collect()).collect()
}

fn times(x: &[f64], w: &Matrix) -> Vec<f64> {
    let mut y = vec![0.0; w[0].len()];
    for (x, row) in x.iter().zip(w) {
        y.iter_mut().zip(row).for_each(|(y, w)| *y += x * w);
    }
    y
}

fn act(kind: ActFn, x: f64) -> f64 {
    match kind {
        ActFn::Relu => x.max(0.0),
        ActFn::Gelu => 0.5 * x * libm::erfc(-x / 2f64.sqrt()),
        ActFn::GeluNew => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh()),
        ActFn::Silu => x / (1.0 + (-x).exp()),
        ActFn::Tanh => x.tanh(),
        ActFn::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        ActFn::Identity | ActFn::SoluLn => x,
    }
}

/// The r in [0, 4] with act(r) = 1, by bisection.
fn unit(kind: ActFn) -> f64 {
    let (mut low, mut high) = (0.0, 4.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        *if act(kind, middle) < 1.0 { &mut low } else { &mut high } = middle;
    }
    0.5 * (low + high)
}

fn variance(x: &[f64]) -> f64 {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / x.len() as f64
}

/// The values of `x` divided by their deviation, its last coordinate passed through, then gain and bias.
fn normalise(v: f64, x: &[f64], eps: f64, affine: &Option<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let (constant, x) = x.split_last().unwrap();
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let y = x.iter().map(|x| (x - mean) / (v.max(0.0) + eps).sqrt());
    let y: Vec<f64> = match affine {
        Some((w, b)) => y.zip(w).zip(b).map(|((y, w), b)| y * w + constant * b).collect(),
        None => y.collect(),
    };
    [y, vec![*constant]].concat()
}

fn affine(a: &Option<Affine>) -> Option<(Vec<f64>, Vec<f64>)> {
    a.as_ref().map(|a| (a.w.to_f64(), a.b.to_f64()))
}

/// A module that works on each position by itself.
fn local(name: String, f: impl Fn(&[f64]) -> Vec<f64> + 'static) -> Module {
    (name, Box::new(move |rows| rows.iter().map(|x| f(x)).collect()))
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

impl Folded {
    fn new(case: &Case) -> Self {
        use mechgraph::data::Samples;
        match (&case.model, &case.data.samples) {
            (Model::Mlp(m), Samples::Inputs { x, width, .. }) => {
                let inputs = x.chunks(*width).map(|x| vec![[x, &[1.0]].concat()]).collect();
                Self { modules: mlp(m), inputs }
            }
            (Model::Transformer(m), Samples::Tokens { ids, t, .. }) => {
                let (w_e, w_pos) = (matrix(&m.w_e), matrix(&m.w_pos));
                let row = |(s, &id): (usize, &u32)| [&w_e[id as usize][..], &[0.0], &w_pos[s][..], &[1.0]].concat();
                let inputs = ids.chunks(*t).map(|ids| ids.iter().enumerate().map(row).collect()).collect();
                Self { modules: transformer(m), inputs }
            }
            _ => panic!("samples of another kind than the model's input"),
        }
    }
    fn forward(&self, rows: &Rows, modules: std::ops::Range<usize>) -> Rows {
        self.modules[modules].iter().fold(rows.clone(), |x, (_, f)| f(&x))
    }
    /// The activations of each sample at node layer `i`.
    fn at(&self, i: usize) -> Vec<Rows> {
        self.inputs.iter().map(|x| self.forward(x, 0..i)).collect()
    }
}

fn mlp(m: &Mlp) -> Vec<Module> {
    let (kind, last) = (m.config.act, m.layers.len() - 1);
    let module = |(i, (w, b)): (usize, &(Tensor, Tensor))| {
        let w = fold(&matrix(w), &b.to_f64(), (i < last).then(|| unit(kind)));
        let activate = move |x: f64| if i < last { act(kind, x) } else { x };
        local(format!("layers.{i}"), move |x| times(x, &w).into_iter().map(activate).collect())
    };
    m.layers.iter().enumerate().map(module).collect()
}

fn transformer(t: &Transformer) -> Vec<Module> {
    let c = t.config.clone();
    let (d, m, normed) = (c.d_model, c.d_mlp, c.norm != Norm::None);
    let (dr, eps, parallel) = (d + 1, c.eps, c.parallel);
    let add = move |x: &[f64]| sum(&x[..dr], &x[dr..]);
    let mut modules = vec![local("add_embed".into(), add)];
    for (l, b) in t.blocks.iter().enumerate() {
        let id = |name: &str| format!("{name}.{l}");
        modules.push(local(id("ln1"), move |x| if normed { [&[variance(&x[..d])], x].concat() } else { x.to_vec() }));
        let gain = affine(&b.ln1);
        modules.push(local(id("ln1_out"), move |x| match normed {
            true => [normalise(x[0], &x[1..], eps, &gain), x[1..].to_vec()].concat(),
            false => [x, x].concat(),
        }));
        modules.push(attention_in(t, l));
        modules.push(attention_out(t, l));
        modules.push(local(id("add_resid1"), move |x| match parallel {
            true => [add(x), x[dr..].to_vec()].concat(),
            false => add(x),
        }));
        // In a parallel block (attn + resid, resid) becomes (v, resid, attn + resid).
        modules.push(local(id("ln2"), move |x| match (normed, parallel) {
            (true, true) => [&[variance(&x[dr..][..d])], &x[dr..], &x[..dr]].concat(),
            (true, false) => [&[variance(&x[..d])], x].concat(),
            (false, _) => x.to_vec(),
        }));
        let gain = affine(&b.ln2);
        modules.push(local(id("ln2_out"), move |x| match (normed, parallel) {
            (true, true) => [normalise(x[0], &x[1..][..dr], eps, &gain), x[1 + dr..].to_vec()].concat(),
            (true, false) => [normalise(x[0], &x[1..], eps, &gain), x[1..].to_vec()].concat(),
            (false, true) => [&x[dr..], &x[..dr]].concat(),
            (false, false) => [x, x].concat(),
        }));
        let solu = c.act == ActFn::SoluLn;
        let r1 = if solu { 1.0 } else { unit(c.act) };
        let w_in = fold(&matrix(&b.w_in), &b.b_in.to_f64(), Some(r1));
        modules.push(local(id("mlp_in"), move |x| [times(&x[..dr], &w_in), x[dr..].to_vec()].concat()));
        let (kind, gain) = (c.act, affine(&b.mid_ln));
        modules.push(local(id("mlp_act"), move |x| {
            let (hidden, rest) = x.split_at(m + 1);
            let hidden = match solu {
                true => {
                    let total: f64 = hidden[..m].iter().map(|x| x.exp()).sum();
                    let y: Vec<f64> = hidden[..m].iter().map(|x| x * x.exp() / total).collect();
                    normalise(variance(&y), &[&y[..], &hidden[m..]].concat(), eps, &gain)
                }
                false => hidden.iter().map(|x| act(kind, *x)).collect(),
            };
            [hidden, rest.to_vec()].concat()
        }));
        let w_out = fold(&matrix(&b.w_out), &b.b_out.to_f64(), Some(0.0));
        modules.push(local(id("mlp_out"), move |x| [times(&x[..m + 1], &w_out), x[m + 1..].to_vec()].concat()));
        modules.push(local(id("add_resid2"), add));
    }
    modules.push(local("ln_final".into(), move |x| if normed { [&[variance(&x[..d])], x].concat() } else { x.to_vec() }));
    let gain = affine(&t.ln_final);
    modules.push(local("ln_final_out".into(), move |x| if normed { normalise(x[0], &x[1..], eps, &gain) } else { x.to_vec() }));
    let w_u = fold(&matrix(&t.w_u), &t.b_u.to_f64(), None);
    modules.push(local("unembed".into(), move |x| times(x, &w_u)));
    modules
}

/// The columns of one head.
fn head(w: &Tensor, h: usize, width: usize) -> Matrix {
    matrix(w).iter().map(|row| row[h * width..][..width].to_vec()).collect()
}

fn attention_in(t: &Transformer, l: usize) -> Module {
    let (heads, dh, dr) = (t.config.n_heads, t.config.d_head, t.config.d_model + 1);
    let b = &t.blocks[l];
    let part = |w: &Tensor, bias: &Tensor, h: usize, corner| fold(&head(w, h, dh), &bias.to_f64()[h * dh..][..dh], corner);
    let q = (0..heads).map(|h| part(&b.w_q, &b.b_q, h, None));
    let k = (0..heads).map(|h| part(&b.w_k, &b.b_k, h, None));
    // The values of each head end in a constant 1.
    let v = (0..heads).map(|h| part(&b.w_v, &b.b_v, h, Some(1.0)));
    let parts: Vec<Matrix> = q.chain(k).chain(v).collect();
    local(format!("attn_in.{l}"), move |x| {
        let projected = parts.iter().flat_map(|w| times(&x[..dr], w));
        projected.chain(x[dr..].iter().copied()).collect()
    })
}

fn attention_out(t: &Transformer, l: usize) -> Module {
    let (heads, dh, d) = (t.config.n_heads, t.config.d_head, t.config.d_model);
    let last_only = t.config.read_last && l + 1 == t.blocks.len();
    let scale = if t.config.attn_scale { (dh as f64).powf(-0.5) } else { 1.0 };
    let b = &t.blocks[l];
    // The bias is spread over the constants of all heads.
    let share: Vec<f64> = b.b_o.to_f64().iter().map(|x| x / heads as f64).collect();
    let w_o = matrix(&b.w_o);
    let outs: Vec<Matrix> = (0..heads).map(|h| fold(&w_o[h * dh..][..dh].to_vec(), &share, Some(0.0))).collect();
    let run = move |rows: &Rows| {
        let v0 = 2 * heads * dh;
        let rest = v0 + heads * (dh + 1);
        let from = if last_only { rows.len() - 1 } else { 0 };
        let query = |s: usize| {
            let mut y = vec![0.0; d + 1];
            for (h, w) in outs.iter().enumerate() {
                let q = &rows[s][h * dh..][..dh];
                let score = |r: &Vec<f64>| scale * q.iter().zip(&r[(heads + h) * dh..]).map(|(q, k)| q * k).sum::<f64>();
                let scores: Vec<f64> = rows[..=s].iter().map(score).collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|x| (x - largest).exp()).collect();
                let total: f64 = weights.iter().sum();
                let mut z = vec![0.0; dh + 1];
                for (w, r) in weights.iter().zip(rows) {
                    z.iter_mut().zip(&r[v0 + h * (dh + 1)..]).for_each(|(z, v)| *z += w / total * v);
                }
                y = sum(&y, &times(&z, w));
            }
            [y, rows[s][rest..].to_vec()].concat()
        };
        (from..rows.len()).map(query).collect()
    };
    (format!("attn_out.{l}"), Box::new(run))
}

fn scaled(rows: &Rows, by: f64) -> Rows {
    rows.iter().map(|r| r.iter().map(|x| by * x).collect()).collect()
}

fn through(rows: &Rows, w: &Mat<f64>) -> Rows {
    let row = |r: &Vec<f64>| (0..w.ncols()).map(|j| r.iter().enumerate().map(|(i, x)| x * w[(i, j)]).sum()).collect();
    rows.iter().map(row).collect()
}

/// d f / d x[s][j] for all s, j in turn, flattened over the outputs: `jacobian[s][j][output]`. Four
/// points a derivative: the error is of order step^4.
fn jacobian(f: &dyn Fn(&Rows) -> Vec<f64>, x: &Rows) -> Vec<Vec<Vec<f64>>> {
    const STEP: f64 = 1e-4;
    let derivative = |s: usize, j: usize| -> Vec<f64> {
        let difference = |step: f64| -> Vec<f64> {
            let moved = |by: f64| {
                let mut x = x.clone();
                x[s][j] += by;
                f(&x)
            };
            moved(step).iter().zip(moved(-step)).map(|(a, b)| (a - b) / (2.0 * step)).collect()
        };
        difference(STEP).iter().zip(difference(2.0 * STEP)).map(|(near, far)| (4.0 * near - far) / 3.0).collect()
    };
    (0..x.len()).map(|s| (0..x[s].len()).map(|j| derivative(s, j)).collect()).collect()
}

/// sum_a w_a of the Jacobian of `f`, which may depend on alpha, at alpha x.
fn mean_jacobian(f: &dyn Fn(&Rows) -> Vec<f64>, x: &Rows, nodes: &Nodes) -> Vec<Vec<Vec<f64>>> {
    let mut sum: Option<Vec<Vec<Vec<f64>>>> = None;
    for &(w, alpha) in nodes {
        let j = jacobian(f, &scaled(x, alpha));
        let flat = j.into_iter().map(|j| j.into_iter().map(|o| o.into_iter().map(|x| w * x).collect()).collect()).collect();
        sum = Some(match sum {
            None => flat,
            Some(mut total) => {
                let pairs = total.iter_mut().flatten().flatten().zip(flat.iter().flatten().flatten());
                pairs.for_each(|(a, b): (&mut f64, &f64)| *a += b);
                total
            }
        });
    }
    sum.unwrap()
}

/// A section of a folded network, from node layer `from` to `to`.
struct Section<'a> {
    net: &'a Folded,
    from: usize,
    to: usize,
}

impl Section<'_> {
    /// F(f) C, position by position.
    fn rotated(&self, f: &Rows, c: &Mat<f64>) -> Rows {
        through(&self.net.forward(f, self.from..self.to), c)
    }
    fn each(&self, mut visit: impl FnMut(&Rows)) -> f64 {
        let samples = self.net.at(self.from);
        samples.iter().for_each(&mut visit);
        (samples.len() * samples[0].len()) as f64
    }
    /// M' of the Jacobian basis.
    fn m_dash(&self, c: &Mat<f64>, nodes: &Nodes) -> Mat<f64> {
        let d = self.net.at(self.from)[0][0].len();
        let mut m = Mat::<f64>::zeros(d, d);
        let tokens = self.each(|f| {
            for at_s in mean_jacobian(&|x| self.rotated(x, c).concat(), f, nodes) {
                for i in 0..d {
                    for j in 0..d {
                        m[(i, j)] += at_s[i].iter().zip(&at_s[j]).map(|(a, b)| a * b).sum::<f64>();
                    }
                }
            }
        });
        Mat::from_fn(d, d, |i, j| m[(i, j)] / tokens)
    }
    /// M' and L' of an older formula.
    fn older(&self, kind: BasisKind, c: &Mat<f64>, nodes: &Nodes) -> (Mat<f64>, Mat<f64>) {
        let d = self.net.at(self.from)[0][0].len();
        let (mut m, mut l) = (Mat::<f64>::zeros(d, d), Mat::<f64>::zeros(d, d));
        let tokens = self.each(|f| {
            let whole = self.rotated(f, c).concat();
            let scalar = |x: &Rows| {
                let pairs = || self.rotated(x, c).concat().into_iter().zip(&whole).collect::<Vec<_>>();
                vec![match kind {
                    BasisKind::OneMinusZero => pairs().iter().map(|(part, whole)| part * *whole).sum::<f64>(),
                    _ => -pairs().iter().map(|(part, whole)| (*whole - part) * (*whole - part)).sum::<f64>(),
                }]
            };
            for (g, f) in mean_jacobian(&scalar, f, nodes).iter().zip(f) {
                for i in 0..d {
                    for j in 0..d {
                        m[(i, j)] += g[i][0] * g[j][0];
                        l[(i, j)] += g[i][0] * f[j];
                    }
                }
            }
        });
        let mean = |a: Mat<f64>| Mat::from_fn(d, d, |i, j| a[(i, j)] / tokens);
        (mean(m), mean(l))
    }
    /// Edges between two bases, `[k_out, k_in]`.
    fn edges(&self, kind: EdgeKind, from: &Basis, c_out: &Mat<f64>, nodes: &Nodes) -> Mat<f64> {
        let (k_in, k_out) = (from.k(), c_out.ncols());
        let mut e = Mat::<f64>::zeros(k_out, k_in);
        let f_hat = |x: &Rows| self.rotated(&through(x, &from.c_pinv), c_out);
        let tokens = self.each(|f| {
            let x = through(f, &from.c);
            match kind {
                EdgeKind::Functional => {
                    let whole = f_hat(&x);
                    let squares = |x: &Rows| {
                        let mut sums = vec![0.0; k_out];
                        for (part, whole) in f_hat(x).iter().zip(&whole) {
                            sums.iter_mut().zip(part.iter().zip(whole)).for_each(|(s, (p, w))| *s -= (w - p) * (w - p));
                        }
                        sums
                    };
                    for (g, x) in mean_jacobian(&squares, &x, nodes).iter().zip(&x) {
                        for j in 0..k_in {
                            (0..k_out).for_each(|i| e[(i, j)] += x[j] * g[j][i]);
                        }
                    }
                }
                _ => {
                    let parts = mean_jacobian(&|x| f_hat(x).concat(), &x, nodes);
                    for j in 0..k_in {
                        // Input positions are summed before squaring.
                        let mut sum = vec![0.0; parts[0][j].len()];
                        for (part, x) in parts.iter().zip(&x) {
                            sum.iter_mut().zip(&part[j]).for_each(|(s, p)| *s += x[j] * p);
                        }
                        sum.iter().enumerate().for_each(|(o, s)| e[(o % k_out, j)] += s * s);
                    }
                }
            }
        });
        Mat::from_fn(k_out, k_in, |i, j| e[(i, j)] / tokens)
    }
}

/// Two blocks small enough for differences of every coordinate at every position, under norms that are
/// not too curved for them.
fn tiny(norm: Norm, act: ActFn) -> TransformerConfig {
    TransformerConfig {
        d_model: 4,
        n_ctx: 3,
        d_head: 3,
        n_heads: 2,
        d_mlp: 5,
        d_vocab: 11,
        d_vocab_out: 6,
        eps: 0.02,
        ..transformer_config(norm, act)
    }
}

fn cases() -> Vec<Case> {
    let make = |config, seed| Case::transformer(config, DType::F64, 2, seed);
    vec![
        Case::mlp(&[4, 5, 6, 3], ActFn::GeluNew, true, DType::F64, 4, 40),
        Case::mlp(&[3, 7, 5], ActFn::Relu, true, DType::F64, 4, 41),
        make(TransformerConfig { n_layers: 1, ..tiny(Norm::None, ActFn::Relu) }, 42),
        make(TransformerConfig { n_layers: 1, parallel: true, read_last: true, ..tiny(Norm::None, ActFn::Silu) }, 43),
        make(TransformerConfig { n_layers: 1, attn_scale: false, ..tiny(Norm::LnPre, ActFn::SoluLn) }, 44),
        make(TransformerConfig { n_layers: 1, parallel: true, ..tiny(Norm::Ln, ActFn::SoluLn) }, 45),
        make(TransformerConfig { read_last: true, ..tiny(Norm::Ln, ActFn::Gelu) }, 46),
    ]
}

/// All pairs of node layers for which a model allows a section of its own.
fn pairs(case: &Case) -> Vec<(usize, usize)> {
    let last = case.node_layers().len() - 1;
    let reach = |from: usize| if matches!(case.model, Model::Mlp(_)) { from + 1 } else { last };
    (0..last).flat_map(|from| (from + 1..=reach(from)).map(move |to| (from, to))).collect()
}

/// Reference check B12: folding leaves the activations of every node layer as they are.
#[test]
fn b12_node_layers_hold_what_the_folded_network_computes() {
    let mut worst = Worst::default();
    for case in cases() {
        let net = Folded::new(&case);
        let names = case.node_layers();
        assert_eq!(names[..names.len() - 1], net.modules.iter().map(|m| m.0.clone()).collect::<Vec<_>>());
        for (i, name) in names.iter().enumerate() {
            let want = net.at(i).concat();
            let want = Mat::from_fn(want.len(), want[0].len(), |r, j| want[r][j]);
            worst.see(relative(case.rows(name).as_ref(), want.as_ref()), format!("{} at {name}", case.name));
        }
    }
    worst.check("activations against the folded network", 1e-13, 80);
}

/// The Jacobian road and the closed forms against the definition of M', constants included.
#[test]
fn m_dash_agrees_with_differences() {
    let (mut worst, mut closed) = (Worst::default(), Worst::default());
    for case in cases() {
        let net = Folded::new(&case);
        let names = case.node_layers();
        for (n, (from, to)) in pairs(&case).into_iter().enumerate() {
            let nodes = if n % 3 == 0 { points(Rule::GaussLegendre, 1) } else { gradient() };
            let section = Section { net: &net, from, to };
            let layers = [&names[from], &names[to]];
            let d_out = case.width(layers[1]);
            let c = random(d_out, 1 + n % (d_out + 3), n as u64);
            let want = section.m_dash(&c, &nodes);
            let place = format!("{}: {} -> {}, {} points, k {}", case.name, layers[0], layers[1], nodes.len(), c.ncols());
            let found = case.m_dash(&options(&layers, &nodes, Method::Jvp), 0, Some(&c)).0;
            worst.see(relative(found.as_ref(), want.as_ref()), &place);
            let found = case.m_dash(&options(&layers, &nodes, Method::Auto), 0, Some(&c)).0;
            closed.see(relative(found.as_ref(), want.as_ref()), &place);
        }
    }
    worst.check("M' by Jacobian products against differences", 1e-7, 400);
    closed.check("M' by the default road against differences", 1e-7, 400);
}

/// Without a basis behind it, a section ends in raw coordinates.
#[test]
fn m_dash_of_an_unrotated_layer_agrees_with_differences() {
    let mut worst = Worst::default();
    for case in cases() {
        let net = Folded::new(&case);
        let names = case.node_layers();
        for pair in names.windows(2) {
            let from = names.iter().position(|n| *n == pair[0]).unwrap();
            let d = case.width(&pair[1]);
            let want = Section { net: &net, from, to: from + 1 }.m_dash(&Mat::identity(d, d), &gradient());
            for method in [Method::Auto, Method::Jvp] {
                let found = case.m_dash(&options(pair, &gradient(), method), 0, None).0;
                worst.see(
                    relative(found.as_ref(), want.as_ref()),
                    format!("{}: {} -> {}, {method:?}", case.name, pair[0], pair[1]),
                );
            }
        }
    }
    worst.check("M' without a basis behind it", 1e-7, 160);
}

/// The formulas (1-0)*alpha and (1-alpha)^2, M' and L'.
#[test]
fn older_formulas_agree_with_differences() {
    let (mut m_worst, mut l_worst) = (Worst::default(), Worst::default());
    let nodes = points(Rule::GaussLegendre, 1);
    for case in cases() {
        let net = Folded::new(&case);
        let names = case.node_layers();
        for (n, (from, to)) in pairs(&case).into_iter().enumerate().step_by(3) {
            let layers = [&names[from], &names[to]];
            let c = random(case.width(layers[1]), 1 + n % 6, n as u64);
            for basis in [BasisKind::OneMinusZero, BasisKind::OneMinusAlphaSquared] {
                let want = Section { net: &net, from, to }.older(basis, &c, &nodes);
                let mut o = options(&layers, &nodes, Method::Auto);
                o.basis = basis;
                let (m, l) = case.m_dash(&o, 0, Some(&c));
                let place = format!("{}: {} -> {}, {basis:?}", case.name, layers[0], layers[1]);
                m_worst.see(relative(m.as_ref(), want.0.as_ref()), &place);
                l_worst.see(relative(l.unwrap().as_ref(), want.1.as_ref()), &place);
            }
        }
    }
    m_worst.check("M' of the older formulas", 1e-7, 250);
    l_worst.check("L' of the older formulas", 1e-7, 250);
}

/// Edges of both formulas between random bases, on every road.
#[test]
fn edges_agree_with_differences() {
    let (mut squared, mut functional) = (Worst::default(), Worst::default());
    for case in cases() {
        let net = Folded::new(&case);
        let names = case.node_layers();
        for (n, (from, to)) in pairs(&case).into_iter().enumerate() {
            let layers = [&names[from], &names[to]];
            let section = Section { net: &net, from, to };
            let nodes = if n % 3 == 0 { points(Rule::GaussLegendre, 1) } else { gradient() };
            let ends = [(0, 3 + n % 5), (1, 1 + n % 7)].map(|(i, k)| random_basis(case.width(layers[i]), k, (2 * n + i) as u64));
            let bases: Vec<_> = ends.iter().cloned().map(Some).collect();
            let place = format!("{}: {} -> {}, {} points", case.name, layers[0], layers[1], nodes.len());
            let check = |worst: &mut Worst, kind: EdgeKind, nodes: &Nodes, method: Method| {
                let want = section.edges(kind, &ends[0], &ends[1].c, nodes);
                let mut o = options(&layers, nodes, method);
                o.edges = kind;
                let found = case.edges(&o, &bases).remove(0);
                worst.see(relative(found.as_ref(), want.as_ref()), format!("{place}, {method:?}"));
            };
            check(&mut squared, EdgeKind::Squared, &nodes, Method::Auto);
            if n % 4 == 0 {
                check(&mut squared, EdgeKind::Squared, &nodes, Method::Jvp);
                check(&mut functional, EdgeKind::Functional, &points(Rule::GaussLegendre, 2), Method::Auto);
            }
        }
    }
    squared.check("squared edges", 1e-7, 500);
    functional.check("functional edges", 1e-7, 100);
}
