//! The closed forms against batched Jacobian products, section by section and for whole graphs, on
//! random networks with ragged sizes.

use std::collections::BTreeMap;

use faer::Mat;
use mechgraph::basis::closed::{self, Nodes};
use mechgraph::basis::plan::{self, Section};
use mechgraph::basis::rotation::{Basis, Threshold};
use mechgraph::basis::{EdgeKind, Graph, Method, Options, edges, host, jvp};
use mechgraph::data::Samples;
use mechgraph::data::blocks::{BLOCK_TOKENS, Blocks};
use mechgraph::device::{Builder, DType, Tensor};
use mechgraph::model::chain::Chain;
use mechgraph::model::forward::{Batch, Value, emit_linear};
use mechgraph::model::sections::{Member, Network, Out, Stage, Term, coords};
use mechgraph::model::{ActFn, Model, Norm, TransformerConfig};
use mechgraph::ops::activation::Activation;

use super::common::{
    Case, Worst, data, gradient, numbers, of_samples, options, random, random_basis, relative, rules, run, transformer_config,
};

/// The errors of each kind of core.
type ByCore = BTreeMap<String, Worst>;

/// Every norm, block layout and activation, two blocks of ragged sizes; several seeds.
fn transformers(dtype: DType) -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, norm) in [Norm::None, Norm::LnPre, Norm::Ln].into_iter().enumerate() {
        for (j, act) in [ActFn::Relu, ActFn::Gelu, ActFn::GeluNew, ActFn::Silu, ActFn::SoluLn].into_iter().enumerate() {
            let at = 5 * i + j;
            let config = TransformerConfig {
                n_layers: 1 + at % 2,
                parallel: (i + j) % 2 == 1,
                read_last: at % 4 < 2,
                attn_scale: at % 5 != 0,
                ..transformer_config(norm, act)
            };
            cases.push(Case::transformer(config, dtype, 5, 100 + at as u64));
        }
    }
    // Other odd sizes: one wide head, more logits than coordinates, a single position.
    let odd = TransformerConfig {
        d_model: 7,
        n_heads: 1,
        d_head: 9,
        d_mlp: 3,
        d_vocab_out: 31,
        n_ctx: 5,
        ..transformer_config(Norm::Ln, ActFn::Gelu)
    };
    cases.push(Case::transformer(odd.clone(), dtype, 3, 120));
    cases.push(Case::transformer(TransformerConfig { n_ctx: 1, parallel: true, ..odd }, dtype, 8, 121));
    cases
}

/// MLPs with every activation that can be folded.
fn mlps(dtype: DType) -> Vec<Case> {
    let foldable = [ActFn::Relu, ActFn::Gelu, ActFn::GeluNew, ActFn::Silu, ActFn::Identity];
    let make = |(i, act): (usize, ActFn)| Case::mlp(&[9, 17, 5, 12, 4], act, i != 1, dtype, 23, 130 + i as u64);
    foldable.into_iter().enumerate().map(make).collect()
}

/// All sections of a model that have a closed form.
fn closed_sections(case: &Case) -> Vec<Section> {
    let (net, names) = (case.net(), case.node_layers());
    let mlp = matches!(case.model, Model::Mlp(_));
    let mut found = Vec::new();
    for from in 0..names.len() - 1 {
        for to in from + 1..if mlp { from + 2 } else { names.len() } {
            let nodes = plan::nodes(&net, &[names[from].clone(), names[to].clone()], mlp).unwrap();
            let section = Section::new(&net, &nodes[0], &nodes[1], case.model.dtype());
            if section.closed.is_ok() {
                found.push(section);
            }
        }
    }
    found
}

fn core(section: &Section) -> String {
    let name = format!("{:?}", section.closed.as_ref().unwrap().core);
    name.split(|c: char| !c.is_alphanumeric()).next().unwrap().into()
}

/// M' of every closed section of `cases` on both roads.
fn compare_m_dash(cases: Vec<Case>) -> ByCore {
    let mut by_core = ByCore::new();
    for case in cases {
        for (n, section) in closed_sections(&case).into_iter().enumerate() {
            let (rule, nodes) = &rules()[n % 3];
            let layers = [&section.from.name, &section.to.name];
            let (d_in, d_out) = (section.from.width(), section.to.width());
            // Fewer and more features than coordinates; the latter push tangents forward.
            let k = [1, 7, d_out, d_in + 2][n / 3 % 4];
            let c = (n % 11 != 5).then(|| random(d_out, k, n as u64));
            let m = |method| case.m_dash(&options(&layers, nodes, method), 0, c.as_ref()).0;
            let error = relative(m(Method::Moments).as_ref(), m(Method::Jvp).as_ref());
            let place = format!("{}: {}, {rule}, k {k}", case.name, section.name());
            by_core.entry(core(&section)).or_default().see(error, place);
        }
    }
    by_core
}

/// Squared edges of every closed section of `cases` between random bases on both roads.
fn compare_edges(cases: Vec<Case>) -> ByCore {
    let mut by_core = ByCore::new();
    for case in cases {
        for (n, section) in closed_sections(&case).into_iter().enumerate() {
            let (rule, nodes) = &rules()[(n + 1) % 3];
            let layers = [&section.from.name, &section.to.name];
            let from = random_basis(section.from.width(), 3 + n % 9, 2 * n as u64);
            let to = (n % 11 != 5).then(|| random_basis(section.to.width(), 1 + n % 8, 2 * n as u64 + 1));
            let bases = [Some(from), to];
            let e = |method| case.edges(&options(&layers, nodes, method), &bases).remove(0);
            let error = relative(e(Method::Moments).as_ref(), e(Method::Jvp).as_ref());
            by_core.entry(core(&section)).or_default().see(error, format!("{}: {}, {rule}", case.name, section.name()));
        }
    }
    by_core
}

/// Fails if one of `cores` was compared fewer than `least` times or an error is over `bound`.
#[track_caller]
fn check(what: &str, by_core: &ByCore, cores: &[&str], bound: f64, least: usize) {
    for core in cores {
        let worst = by_core.get(*core).unwrap_or_else(|| panic!("{what}: no section with core {core}"));
        worst.check(&format!("{what}, {core}"), bound, least);
    }
    assert_eq!(by_core.len(), cores.len(), "{what}: {:?}", by_core.keys());
}

const CORES: [&str; 6] = ["Act", "Attention", "Linear", "Norm", "NormFirst", "NormSecond"];

#[test]
fn m_dash_of_transformers() {
    check("M' in f64", &compare_m_dash(transformers(DType::F64)), &CORES, 1e-10, 30);
}

#[test]
fn m_dash_of_transformers_in_f32() {
    check("M' in f32", &compare_m_dash(transformers(DType::F32)), &CORES, 1e-4, 30);
}

#[test]
fn edges_of_transformers() {
    check("edges in f64", &compare_edges(transformers(DType::F64)), &CORES, 1e-10, 30);
}

#[test]
fn edges_of_transformers_in_f32() {
    check("edges in f32", &compare_edges(transformers(DType::F32)), &CORES, 1e-4, 30);
}

#[test]
fn mlps_of_every_foldable_activation() {
    check("M' of MLPs", &compare_m_dash(mlps(DType::F64)), &["Act", "Linear"], 1e-10, 5);
    check("M' of MLPs in f32", &compare_m_dash(mlps(DType::F32)), &["Act", "Linear"], 1e-4, 5);
    check("edges of MLPs", &compare_edges(mlps(DType::F64)), &["Act", "Linear"], 1e-10, 5);
    check("edges of MLPs in f32", &compare_edges(mlps(DType::F32)), &["Act", "Linear"], 1e-4, 5);
}

/// Many blocks of data, the last one ragged.
#[test]
fn sums_over_several_blocks() {
    let config = TransformerConfig { n_layers: 1, ..transformer_config(Norm::Ln, ActFn::GeluNew) };
    let transformer = Case::transformer(config, DType::F64, 203, 140);
    let mlp = Case::mlp(&[6, 11, 3], ActFn::Silu, true, DType::F64, 1201, 141);
    let by_core = compare_m_dash(vec![transformer, mlp]);
    check("M' over blocks", &by_core, &CORES, 1e-10, 3);
}

/// A sequence with heads so wide that the attention kernels take it in pieces.
#[test]
fn sequences_in_pieces() {
    let config = TransformerConfig {
        n_layers: 1,
        d_model: 5,
        n_heads: 4,
        d_head: 30,
        d_mlp: 4,
        n_ctx: 150,
        ..transformer_config(Norm::None, ActFn::Relu)
    };
    let case = Case::transformer(config, DType::F64, 1, 144);
    for layers in [["ln1.0", "ln2.0"], ["attn_out.0", "add_resid1.0"]] {
        let c = random(case.width(layers[1]), 1, 145);
        let m = |method| case.m_dash(&options(&layers, &gradient(), method), 0, Some(&c)).0;
        let error = relative(m(Method::Moments).as_ref(), m(Method::Jvp).as_ref());
        assert!(error <= 1e-10, "M' of {layers:?} differs by {error:e} on its two roads; expected at most 1e-10");
        let bases = [0, 1].map(|i| Some(random_basis(case.width(layers[i]), 4, 146 + i as u64)));
        let e = |method| case.edges(&options(&layers, &gradient(), method), &bases).remove(0);
        let error = relative(e(Method::Moments).as_ref(), e(Method::Jvp).as_ref());
        assert!(error <= 1e-10, "edges of {layers:?} differ by {error:e} on their two roads; expected at most 1e-10");
    }
}

/// Sections that the decision rule gives no closed form say so, and the general road takes them.
#[test]
fn sections_without_a_closed_form_are_named() {
    let case = Case::transformer(transformer_config(Norm::LnPre, ActFn::Gelu), DType::F64, 5, 142);
    for layers in [["ln2_out.0", "ln1.1"], ["ln1.0", "ln2.0"], ["mlp_in.0", "ln1_out.1"], ["ln1.0", "ln1.1"]] {
        let o = options(&layers, &gradient(), Method::Moments);
        let error = case.try_build(&o).unwrap_err().to_string();
        assert!(error.starts_with("--method: found moments, but section") && error.contains("nonlinear stages"), "{error}");
        assert_eq!(case.build(&options(&layers, &gradient(), Method::Auto)).roads[0].road, "jvp");
    }
    let solu = Case::transformer(transformer_config(Norm::None, ActFn::SoluLn), DType::F64, 5, 143);
    let error = solu.try_build(&options(&["mlp_act.0", "mlp_out.0"], &gradient(), Method::Moments)).unwrap_err();
    assert!(error.to_string().contains("nonlinear stages"), "{error}");
}

/// Node layers around every module that a language model's run looks at.
fn language_model_layers(case: &Case) -> Vec<String> {
    let kinds = ["ln1", "ln1_out", "attn_in", "ln2", "ln2_out", "mlp_in", "ln_final", "ln_final_out", "unembed"];
    case.node_layers().into_iter().filter(|n| kinds.contains(&n.split('.').next().unwrap())).collect()
}

/// Whether all neighbours in `values` (falling) are a part of 1e-4 of each other apart.
fn are_separated(values: &[f64]) -> bool {
    values.windows(2).all(|v| v[0] - v[1] > 1e-4 * v[0])
}

/// Lambda, C C' and the edges of two graphs of one run.
fn compare_graphs(a: &Graph, b: &Graph, name: &str, worst: &mut [Worst; 3]) {
    for (i, (x, y)) in a.layers.iter().zip(&b.layers).enumerate() {
        let place = format!("{name} at {}", x.node.name);
        let (Some(p), Some(q)) = (&x.basis, &y.basis) else {
            assert_eq!((x.basis.is_none(), y.basis.is_none()), (true, true), "{place}");
            continue;
        };
        assert_eq!(p.k(), q.k(), "k of {place}");
        let row = |l: &[f64], k: usize| Mat::from_fn(1, k, |_, j| l[j]);
        worst[0].see(relative(row(&p.lambda, p.k()).as_ref(), row(&q.lambda, q.k()).as_ref()), &place);
        worst[1].see(relative((&p.c * p.c.transpose()).as_ref(), (&q.c * q.c.transpose()).as_ref()), &place);
        // Edges depend on the eigenvectors themselves: both ends must be determined.
        let masked = 1 + usize::from(x.node.variance);
        let settled = |g: &Graph, i: usize| match &g.layers[i].basis {
            Some(basis) => are_separated(&basis.lambda[masked.min(basis.k())..basis.k()]),
            None => true,
        };
        if i + 1 < a.layers.len() && settled(a, i) && settled(a, i + 1) {
            worst[2].see(relative(a.edges[i].as_ref(), b.edges[i].as_ref()), &place);
        }
    }
}

/// Whole graphs on both roads.
#[test]
fn graphs_agree_on_both_roads() {
    let mut worst: [Worst; 3] = Default::default();
    for (i, norm) in [Norm::None, Norm::LnPre, Norm::Ln].into_iter().enumerate() {
        for parallel in [false, true] {
            let config = TransformerConfig { parallel, d_vocab: 40, ..transformer_config(norm, ActFn::GeluNew) };
            let case = Case::transformer(config, DType::F64, 60, 150 + i as u64);
            let layers = language_model_layers(&case);
            let (rule, nodes) = &rules()[i];
            let gram = data(&case.model, 70, 900);
            // Other data for the Gram matrices; neither centred nor with variances isolated.
            for (other_gram, plain) in [(false, false), (true, false), (false, true)] {
                let graph = |method| {
                    let mut o = options(&layers, nodes, method);
                    (o.threshold, o.centre, o.isolate_variance) = (Threshold::Relative(1e-8), !plain, !plain);
                    if other_gram { case.build_with_gram(&o, &gram) } else { case.build(&o) }
                };
                let name = format!("{} {rule} other Gram {other_gram} plain {plain}", case.name);
                compare_graphs(&graph(Method::Moments), &graph(Method::Jvp), &name, &mut worst);
            }
        }
    }
    for case in mlps(DType::F64) {
        let graph = |method| {
            let mut o = options(&case.node_layers(), &gradient(), method);
            o.threshold = Threshold::Relative(1e-8);
            case.build(&o)
        };
        compare_graphs(&graph(Method::Moments), &graph(Method::Jvp), &case.name, &mut worst);
    }
    worst[0].check("Lambda on both roads", 1e-8, 60);
    worst[1].check("C C' on both roads", 1e-8, 60);
    worst[2].check("edges on both roads", 1e-6, 20);
}

/// A gated MLP with a residual: no model has one yet, so its network is made by hand.
struct GatedSection {
    stages: Vec<Stage>,
    input: Vec<Member>,
    linear: Vec<Out>,
    x: Vec<f64>,
    batch: Batch,
}

impl GatedSection {
    fn new(act: Activation, seed: u64) -> Self {
        let (d, m, out, batch) = (7, 11, 5, Batch { samples: 5, positions: 6 });
        let tensor =
            |rows: usize, cols: usize, salt: u64| Tensor::from_f64(DType::F64, rows, cols, numbers(rows * cols, seed ^ salt));
        let dense = |member, w: Tensor, b: Tensor| Out {
            member,
            terms: vec![Term::Dense { from: 0, w, bias: Some((0, b)), constant: 0.0 }],
        };
        let pass = |member, from| Out { member, terms: vec![Term::Pass { from }] };
        let (resid, hidden) = (Member::new(d, Some(1.0)), Member::new(m, None));
        let linear = vec![
            dense(hidden, tensor(d, m, 1), tensor(1, m, 2)),
            dense(hidden, tensor(d, m, 3), tensor(1, m, 4)),
            pass(resid, 0),
        ];
        let read = Term::Dense { from: 0, w: tensor(m, out, 5), bias: Some((1, tensor(1, out, 6))), constant: 0.0 };
        let behind = vec![Out { member: Member::new(out, None), terms: vec![read] }, pass(resid, 1)];
        let stages = vec![Stage::Linear(linear.clone()), Stage::Gated(act), Stage::Linear(behind)];
        Self { stages, input: vec![resid], linear, x: numbers(batch.rows() * d, seed ^ 7), batch }
    }
    fn net(&self) -> Network {
        Network::new(self.input.clone(), vec![("gated".into(), self.stages.clone())])
    }
    /// Runs what `emit` makes of the program with the section's input and returns the sums.
    fn sums(
        &self,
        emit: impl FnOnce(&mut Builder<mechgraph::ops::Launch>, &[Value]) -> Vec<mechgraph::device::View>,
    ) -> Vec<Mat<f64>> {
        let mut b = Builder::new(DType::F64);
        let view = b.matrix(self.batch.rows(), self.input[0].width);
        let views = emit(&mut b, &[Value { view, member: self.input[0] }]);
        run::<f64>(b, &views, |m| m.real_mut(view.buffer).copy_from_slice(&self.x))
    }
    fn m_dash_closed(&self, nodes: &Nodes, c: &Mat<f64>) -> Mat<f64> {
        let closed = plan::classify(&self.stages, &self.input, DType::F64).unwrap();
        assert!(closed.is_data_only());
        let sums = self.sums(|b, x| {
            let taps = emit_linear(b, x, &self.linear, None).unwrap().0;
            let reads = closed::emit(b, &closed, nodes, &taps, self.batch, None).unwrap();
            reads
                .into_iter()
                .map(|r| if let mechgraph::data::stream::Read::Add(v) = r { v } else { panic!("a centred sum") })
                .collect()
        });
        let sums: Vec<Vec<f64>> = sums.iter().map(|m| host::to_rows(m.as_ref())).collect();
        let tokens = self.batch.rows() as f64;
        closed.phi(&(c * c.transpose()), &sums, nodes, tokens, tokens)
    }
    fn m_dash_jvp(&self, nodes: &Nodes, c: &Mat<f64>) -> Mat<f64> {
        let chain = Chain::new(&self.stages, &self.input, DType::F64);
        let c_t = host::tensor(DType::F64, c.transpose());
        let formula = jvp::Formula::Jacobian { sources_pos: None, sources_hidden: None, seed: 0 };
        let sums = self.sums(|b, x| {
            let (f, first) = (edges::whole_rows(b, x), b.ints(1));
            let road = jvp::Road { chain: &chain, formula: &formula, nodes, c_t: Some(&c_t), mixes: false };
            let reads = jvp::emit(b, road, f, self.batch, first);
            reads
                .into_iter()
                .map(|r| if let mechgraph::data::stream::Read::Add(v) = r { v } else { panic!("a centred sum") })
                .collect()
        });
        let d = sums[0].nrows();
        let m = host::from_lower(d, &host::to_rows(sums[0].as_ref()));
        Mat::from_fn(d, d, |i, j| m[(i, j)] / self.batch.rows() as f64)
    }
    fn edges(&self, nodes: &Nodes, from: &Basis, to: &Basis, by_closed_form: bool) -> Mat<f64> {
        let closed = plan::classify(&self.stages, &self.input, DType::F64).unwrap();
        let ends = edges::Ends { from, to: Some(to), d_out: to.c.nrows(), nodes };
        let chain = Chain::new(&self.stages, &self.input, DType::F64);
        let sums = self.sums(|b, x| {
            let (f_hat, first) = (edges::features(b, x, from), b.ints(1));
            vec![match by_closed_form {
                true => edges::emit_closed(b, &closed, &ends, f_hat, self.batch).unwrap(),
                false => edges::emit_general(b, &chain, edges::Formula::Squared, &ends, f_hat, self.batch, first),
            }]
        });
        sums.into_iter().next().unwrap()
    }
}

#[test]
fn gated_mlps() {
    let (mut m, mut e) = (Worst::default(), Worst::default());
    for (i, act) in
        [Activation::Silu, Activation::Gelu, Activation::GeluNew, Activation::Relu, Activation::Sigmoid].into_iter().enumerate()
    {
        for (rule, nodes) in rules() {
            let section = GatedSection::new(act, 160 + i as u64);
            let net = section.net();
            let (d_in, d_out) = (coords(net.tuple(0).0), coords(net.tuple(1).0));
            assert_eq!((d_in, d_out), (8, 13));
            for k in [3, 8, 20] {
                let c = random(d_out, k, 161);
                let error = relative(section.m_dash_closed(&nodes, &c).as_ref(), section.m_dash_jvp(&nodes, &c).as_ref());
                m.see(error, format!("{act:?} {rule} k {k}"));
            }
            let (from, to) = (random_basis(d_in, 6, 162), random_basis(d_out, 4, 163));
            let [closed, general] = [true, false].map(|road| section.edges(&nodes, &from, &to, road));
            e.see(relative(closed.as_ref(), general.as_ref()), format!("{act:?} {rule}"));
        }
    }
    m.check("M' of gated MLPs", 1e-10, 45);
    e.check("edges of gated MLPs", 1e-10, 15);
}

/// M' is linear in C C': where there are more features than coordinates, tangents must give what the
/// cotangents of the features in two parts give.
#[test]
fn tangents_and_cotangents_give_one_m_dash() {
    let mut worst = Worst::default();
    for case in transformers(DType::F64).into_iter().chain(mlps(DType::F64)) {
        let names = case.node_layers();
        for (n, pair) in names.windows(2).enumerate() {
            let (d_in, d_out) = (case.width(&pair[0]), case.width(&pair[1]));
            let c = random(d_out, d_in + 1, n as u64);
            let o = options(pair, &rules()[n % 3].1, Method::Jvp);
            let whole = case.m_dash(&o, 0, Some(&c)).0;
            let part = |from: usize, count: usize| case.m_dash(&o, 0, Some(&c.subcols(from, count).to_owned())).0;
            let sum = part(0, d_in / 2) + part(d_in / 2, d_in + 1 - d_in / 2);
            worst.see(relative(whole.as_ref(), sum.as_ref()), format!("{}: {} -> {}", case.name, pair[0], pair[1]));
        }
    }
    worst.check("tangents against cotangents", 1e-12, 200);
}

/// The attention section into the last position alone, and one that keeps all positions.
fn attention_cases() -> [Case; 2] {
    [true, false].map(|read_last| {
        let config = TransformerConfig { n_layers: 1, read_last, ..transformer_config(Norm::None, ActFn::Relu) };
        Case::transformer(config, DType::F64, 7, 170)
    })
}

/// With one output position, signs over positions square away; with one feature, those over features.
#[test]
fn sources_are_exact_where_there_is_nothing_to_mix() {
    let mut worst = Worst::default();
    let [last, all] = attention_cases();
    for (case, layers, k, sources) in [
        (&last, ["ln1.0", "ln2.0"], 5, (Some(1), None)),
        (&last, ["ln1.0", "ln2.0"], 5, (Some(3), None)),
        (&last, ["ln1.0", "ln2.0"], 1, (Some(2), Some(2))),
        (&all, ["attn_in.0", "ln2.0"], 1, (None, Some(1))),
        // Positions do not mix: sources over positions change nothing.
        (&all, ["ln2.0", "unembed"], 5, (Some(1), None)),
        (&all, ["ln2.0", "unembed"], 1, (None, Some(3))),
    ] {
        let c = random(case.width(layers[1]), k, 171);
        let m_dash = |pos: Option<usize>, hidden: Option<usize>| {
            let mut o = options(&layers, &rules()[1].1, Method::Jvp);
            (o.sources_pos, o.sources_hidden, o.seed) = (pos, hidden, 5);
            case.m_dash(&o, 0, Some(&c)).0
        };
        worst.see(
            relative(m_dash(sources.0, sources.1).as_ref(), m_dash(None, None).as_ref()),
            format!("{layers:?} k {k} {sources:?}"),
        );
    }
    worst.check("sources with nothing to mix", 1e-12, 6);
}

/// The mean over seeds comes near the exact M', nearer with more sources, at the rate of a mean of
/// independent errors; another seed gives another M'.
#[test]
fn sources_are_unbiased_and_their_errors_shrink() {
    let [_, all] = attention_cases();
    for (layers, kinds) in [(["ln1.0", "ln2.0"], &["pos", "hidden", "both"][..]), (["ln2.0", "unembed"], &["hidden", "both"][..])]
    {
        let c = random(all.width(layers[1]), 6, 172);
        let m_dash = |pos: Option<usize>, hidden: Option<usize>, seed: u64| {
            let mut o = options(&layers, &gradient(), Method::Jvp);
            (o.sources_pos, o.sources_hidden, o.seed) = (pos, hidden, seed);
            all.m_dash(&o, 0, Some(&c)).0
        };
        let exact = m_dash(None, None, 0);
        for kind in kinds {
            let of = |sources: usize, seed: u64| match *kind {
                "pos" => m_dash(Some(sources), None, seed),
                "hidden" => m_dash(None, Some(sources), seed),
                _ => m_dash(Some(2), Some(sources.div_ceil(2)), seed),
            };
            let seeds = 40;
            // Root mean square error of one run, and the error of the mean of all of them.
            let errors = |sources: usize| {
                let (mut mean, mut square) = (Mat::<f64>::zeros(exact.nrows(), exact.ncols()), 0.0);
                for seed in 0..seeds {
                    let m = of(sources, seed);
                    square += relative(m.as_ref(), exact.as_ref()).powi(2) / seeds as f64;
                    mean += m;
                }
                let mean = Mat::from_fn(mean.nrows(), mean.ncols(), |i, j| mean[(i, j)] / seeds as f64);
                (square.sqrt(), relative(mean.as_ref(), exact.as_ref()))
            };
            let ((few, mean), (many, _)) = (errors(2), errors(32));
            let bias = mean / (few / (seeds as f64).sqrt());
            println!("{layers:?} {kind}: error {few:.3} with 2 sources, {many:.3} with 32, of the mean {mean:.3}");
            assert!((2.5..6.5).contains(&(few / many)), "{layers:?} {kind}: errors {few} and {many}; expected a ratio near 4");
            assert!(few > 0.01 && bias < 2.0, "{layers:?} {kind}: the mean is {mean} off with errors of {few}");
            assert!(relative(of(2, 0).as_ref(), of(2, 1).as_ref()) > 0.01, "{layers:?} {kind}: seeds make no difference");
            assert_eq!(relative(of(2, 3).as_ref(), of(2, 3).as_ref()), 0.0, "{layers:?} {kind}: one seed, two results");
        }
    }
}

/// Two blocks with the same tokens draw different signs: their mean is not that of the first alone.
#[test]
fn blocks_draw_signs_of_their_own() {
    let [_, mut case] = attention_cases();
    case.data = data(&case.model, Blocks::new(1000, 6, BLOCK_TOKENS).per_block, 175);
    let Samples::Tokens { ids, n, t } = case.data.samples.clone() else { panic!("no tokens") };
    let c = random(case.width("ln2.0"), 3, 176);
    let mut o = options(&["ln1.0", "ln2.0"], &gradient(), Method::Jvp);
    let m_dash = |case: &Case, o: &Options| case.m_dash(o, 0, Some(&c)).0;
    let twice = of_samples(Samples::Tokens { ids: [&ids[..], &ids].concat(), n: 2 * n, t });
    for (sources, is_equal) in [(None, true), (Some(2), false)] {
        o.sources_hidden = sources;
        let once = m_dash(&case, &o);
        let both = m_dash(&Case::new("twice", case.model.clone(), twice.clone()), &o);
        let error = relative(both.as_ref(), once.as_ref());
        assert_eq!(error < 1e-12, is_equal, "sources {sources:?}: two equal blocks differ from one by {error:e}");
    }
}

/// Edges with sources: exact with one output position, and nearer to the exact edges with more sources.
#[test]
fn edge_sources() {
    for (case, is_exact) in attention_cases().into_iter().zip([true, false]) {
        let layers = ["ln1.0", "ln2.0"];
        let bases = [("ln1.0", 5, 173), ("ln2.0", 4, 174)].map(|(l, k, seed)| Some(random_basis(case.width(l), k, seed)));
        let edges = |sources: Option<usize>, seed: u64| {
            let mut o = options(&layers, &gradient(), Method::Jvp);
            (o.sources_edges, o.seed, o.edges) = (sources, seed, EdgeKind::Squared);
            case.edges(&o, &bases).remove(0)
        };
        let exact = edges(None, 0);
        let error = |sources: usize| {
            let square = (0..20).map(|seed| relative(edges(Some(sources), seed).as_ref(), exact.as_ref()).powi(2)).sum::<f64>();
            (square / 20.0).sqrt()
        };
        let (few, many) = (error(2), error(32));
        if is_exact {
            assert!(few <= 1e-12 && many <= 1e-12, "errors {few} and {many} with one output position");
        } else {
            assert!((2.5..6.5).contains(&(few / many)) && few > 0.01, "errors {few} and {many}; expected a ratio near 4");
        }
    }
}
