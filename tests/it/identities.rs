//! Identities of bases and edges (`lib.md` 5.1) on random networks, each test named after its number.

use faer::{Mat, MatRef};
use mechgraph::basis::closed::Nodes;
use mechgraph::basis::quadrature::{Rule, points};
use mechgraph::basis::rotation::{Basis, Threshold};
use mechgraph::basis::{BasisKind, EdgeKind, Graph, Layer, Method, Options};
use mechgraph::device::DType;
use mechgraph::model::sections::coordinate_map;
use mechgraph::model::{ActFn, Model, Norm, TransformerConfig};

use super::common::{Case, Worst, data, gradient, max_abs, options, relative, rules, transformer_config, triple};

/// A run: model, data, options and the graph they give.
struct Run {
    case: Case,
    options: Options,
    graph: Graph,
}

/// Node layers of every kind, those of a language model's run among them.
fn layers(case: &Case) -> Vec<String> {
    let kinds = [
        "ln1",
        "ln1_out",
        "attn_in",
        "attn_out",
        "ln2",
        "ln2_out",
        "mlp_in",
        "mlp_act",
        "mlp_out",
        "ln_final",
        "ln_final_out",
        "unembed",
    ];
    let names = case.node_layers();
    if matches!(case.model, Model::Mlp(_)) {
        return names;
    }
    names.into_iter().filter(|n| kinds.contains(&n.split('.').next().unwrap())).collect()
}

fn cases() -> Vec<Case> {
    let config =
        |norm, act, parallel, read_last| TransformerConfig { parallel, read_last, d_vocab: 50, ..transformer_config(norm, act) };
    vec![
        Case::transformer(config(Norm::None, ActFn::GeluNew, false, true), DType::F64, 80, 200),
        Case::transformer(config(Norm::LnPre, ActFn::Silu, false, false), DType::F64, 80, 201),
        Case::transformer(config(Norm::Ln, ActFn::Gelu, true, false), DType::F64, 80, 202),
        Case::transformer(config(Norm::Ln, ActFn::SoluLn, false, true), DType::F64, 80, 203),
        Case::mlp(&[9, 17, 5, 12, 4], ActFn::GeluNew, true, DType::F64, 300, 204),
        Case::mlp(&[6, 14, 8, 5], ActFn::Relu, true, DType::F64, 300, 205),
    ]
}

/// All cases under plain gradients, and one under another quadrature, with changes to the options.
fn runs(change: impl Fn(&mut Options)) -> Vec<Run> {
    let one = |(i, case): (usize, Case)| {
        let mut o = options(&layers(&case), &gradient(), if i % 2 == 0 { Method::Auto } else { Method::Jvp });
        // Directions far above rounding only, so that the identities hold to many digits.
        o.threshold = Threshold::Relative(1e-6);
        change(&mut o);
        let graph = case.build(&o);
        Run { case, options: o, graph }
    };
    cases().into_iter().enumerate().map(one).collect()
}

impl Run {
    /// Layers with a basis made from Jacobians, with their index.
    fn rotated(&self) -> impl Iterator<Item = (usize, &Layer, &Basis)> {
        let layers = self.graph.layers.iter().enumerate();
        layers.filter_map(|(i, l)| l.basis.as_ref().filter(|b| b.v.is_some()).map(|b| (i, l, b)))
    }
    fn place(&self, layer: &Layer) -> String {
        format!("{} at {}", self.case.name, layer.node.name)
    }
    /// C+ M' C+', the second moment of the Jacobian in the basis of layer `l`.
    fn jacobian_moment(&self, l: usize) -> Mat<f64> {
        let next = self.graph.layers[l + 1].basis.as_ref().map(|b| &b.c);
        let m = self.case.m_dash(&self.options, l, next).0;
        let c_pinv = &self.graph.layers[l].basis.as_ref().unwrap().c_pinv;
        triple(c_pinv.as_ref(), m.as_ref(), c_pinv.transpose())
    }
    /// Whether the section behind layer `l` is linear, and whether it mixes positions.
    fn section(&self, l: usize) -> (bool, bool) {
        let net = self.case.net();
        let stages = net.stages(self.graph.layers[l].node.module, self.graph.layers[l + 1].node.module);
        let linear = |s: &mechgraph::model::sections::Stage| matches!(s, mechgraph::model::sections::Stage::Linear(_));
        (stages.iter().all(linear), stages.iter().any(|s| s.mixes_positions()))
    }
}

/// Directions that keep to themselves: the constant, the isolated variance.
fn masked(layer: &Layer) -> usize {
    1 + usize::from(layer.node.variance)
}

fn eye(n: usize) -> Mat<f64> {
    Mat::identity(n, n)
}

fn column_sums(e: MatRef<'_, f64>) -> Vec<f64> {
    (0..e.ncols()).map(|j| (0..e.nrows()).map(|i| e[(i, j)]).sum()).collect()
}

#[test]
fn a01_c_pinv_is_a_left_inverse() {
    let mut worst = Worst::default();
    for run in runs(|_| ()) {
        for layer in &run.graph.layers {
            let Some(b) = &layer.basis else { continue };
            worst.see(max_abs((&b.c_pinv * &b.c - eye(b.k())).as_ref()), run.place(layer));
        }
    }
    worst.check("C+ C - I", 1e-11, 70);
}

/// The Gram matrix in the basis is diag(Lambda). An isolated variance keeps its correlations, so its
/// row is left out; its mean square is not.
#[test]
fn a02_the_gram_matrix_in_the_basis_is_lambda() {
    let (mut diagonal, mut rest) = (Worst::default(), Worst::default());
    for other_gram in [false, true] {
        for run in runs(|_| ()) {
            let graph = match other_gram {
                // The identity holds on the data of the Gram matrix, whatever data M' comes from.
                true => {
                    let gram = data(&run.case.model, 90, 999);
                    run.case.build_with_gram(&run.options, &gram)
                }
                false => run.graph.clone(),
            };
            for (layer, b) in graph.layers.iter().filter_map(|l| l.basis.as_ref().filter(|b| b.v.is_some()).map(|b| (l, b))) {
                let gram = layer.moments.as_ref().unwrap().gram(&layer.node, false);
                let g = triple(b.c.transpose(), gram.as_ref(), b.c.as_ref());
                for i in 0..b.k() {
                    diagonal.see((g[(i, i)] / b.lambda[i] - 1.0).abs(), run.place(layer));
                    let skip = |i: usize| layer.node.variance && i == 1;
                    for j in (0..i).filter(|j| !skip(i) && !skip(*j)) {
                        rest.see(g[(i, j)].abs() / (b.lambda[i] * b.lambda[j]).sqrt(), run.place(layer));
                    }
                }
            }
        }
    }
    diagonal.check("mean squares over Lambda", 1e-10, 1500);
    rest.check("correlations of features", 1e-10, 10_000);
}

#[test]
fn a03_edges_of_linear_sections_sum_to_lambda() {
    let mut worst = Worst::default();
    for method in [Method::Auto, Method::Jvp] {
        for run in runs(|o| o.method = method) {
            for (l, layer, b) in run.rotated().filter(|(l, ..)| run.section(*l).0) {
                for (sum, lambda) in column_sums(run.graph.edges[l].as_ref()).iter().zip(&b.lambda) {
                    worst.see((sum / lambda - 1.0).abs(), run.place(layer));
                }
            }
        }
    }
    worst.check("column sums of linear edges over Lambda", 1e-9, 200);
}

/// The constant moves all positions alike, so positions must not mix; the projection on the features
/// must lose nothing, so the cut-off is low.
#[test]
fn a04_the_constants_edges_sum_to_its_lambda() {
    let mut worst = Worst::default();
    for run in runs(|o| o.threshold = Threshold::Relative(1e-13)) {
        for (l, layer, b) in run.rotated().filter(|(l, ..)| !run.section(*l).1) {
            let sum = column_sums(run.graph.edges[l].as_ref())[0];
            worst.see((sum / b.lambda[0] - 1.0).abs(), run.place(layer));
        }
    }
    worst.check("column sum of the constant over its Lambda", 1e-11, 40);
}

#[test]
fn a05_nothing_but_the_constant_moves_the_constant() {
    let mut worst = Worst::default();
    for run in runs(|_| ()) {
        for (l, pair) in run.graph.layers.windows(2).enumerate() {
            if pair[1].basis.is_some() {
                let e = &run.graph.edges[l];
                let row = e.submatrix(0, 1, 1, e.ncols() - 1);
                worst.see(max_abs(row) / max_abs(e.as_ref()), run.place(&pair[0]));
            }
        }
    }
    worst.check("edges into the constant", 1e-21, 60);
}

#[test]
fn a06_linear_edges_sum_to_the_outputs_mean_squares_in_every_basis() {
    let mut worst = Worst::default();
    let (lib, pca) = (runs(|_| ()), runs(|o| o.basis = BasisKind::Pca));
    for (lib, pca) in lib.iter().zip(&pca) {
        let l = lib.graph.edges.len() - 1;
        let last = [lib, pca].map(|run| match run.case.model {
            Model::Mlp(_) => run.graph.edges[l].sum(),
            // The last node layer is `unembed`: go one section on, to unrotated logits.
            Model::Transformer(_) | Model::Lm(_) => {
                let mut o = options(&["unembed", "output"], &gradient(), Method::Auto);
                (o.basis, o.threshold) = (run.options.basis, run.options.threshold);
                run.case.build(&o).edges[0].sum()
            }
        });
        let out = lib.case.rows("output");
        let want = out.squared_norm_l2() / out.nrows() as f64;
        for (found, basis) in last.into_iter().zip(["lib", "pca"]) {
            worst.see((found / want - 1.0).abs(), format!("{} {basis}", lib.case.name));
        }
    }
    worst.check("sum of linear edges over mean squares of the output", 1e-12, 12);
}

#[test]
fn a07_features_are_orthonormal_for_the_jacobian() {
    let (mut diagonal, mut rest) = (Worst::default(), Worst::default());
    for (rule, nodes) in rules() {
        for run in runs(|o| o.quadrature = vec![nodes.clone(); o.node_layers.len()]) {
            for (l, layer, b) in run.rotated() {
                let (g, n) = (run.jacobian_moment(l), masked(layer));
                for i in 0..b.k() {
                    diagonal.see((g[(i, i)] - 1.0).abs(), format!("{} {rule}", run.place(layer)));
                    for j in n..i.max(n) {
                        rest.see(g[(i, j)].abs(), format!("{} {rule}", run.place(layer)));
                    }
                }
            }
        }
    }
    diagonal.check("mean squares of Jacobian columns", 1e-10, 2000);
    rest.check("inner products of Jacobian columns", 1e-10, 10_000);
}

#[test]
fn a08_rotations_are_orthogonal() {
    let (mut worst, mut constant) = (Worst::default(), Worst::default());
    for run in runs(|_| ()) {
        for (_, layer, b) in run.rotated() {
            let v = b.v.as_ref().unwrap();
            worst.see(max_abs((v.transpose() * v - eye(v.ncols())).as_ref()), run.place(layer));
            constant.see((v[(0, 0)] - 1.0).abs(), run.place(layer));
        }
    }
    worst.check("V'V - I", 1e-13, 60);
    constant.check("V[0, 0] - 1", 0.0, 60);
}

/// Two quadratures under which the older formulas are not zero.
fn integrals() -> [Nodes; 2] {
    [points(Rule::GaussLegendre, 2), points(Rule::Trapezoidal, 4)]
}

/// Lambda of the older formulas is |<g_j f_j>| in the basis, which the functional edges sum up, as far as
/// the projection on the features loses nothing.
#[test]
fn a09_functional_edges_sum_to_lambda() {
    let mut worst = Worst::default();
    for nodes in integrals() {
        for run in runs(|o| {
            (o.basis, o.edges, o.threshold) = (BasisKind::OneMinusAlphaSquared, EdgeKind::Functional, Threshold::Relative(1e-12));
            o.quadrature = vec![nodes.clone(); o.node_layers.len()];
        }) {
            for (l, layer, b) in run.rotated() {
                let largest = b.lambda[1..].iter().fold(0.0f64, |m, x| m.max(*x));
                for (sum, lambda) in column_sums(run.graph.edges[l].as_ref()).iter().zip(&b.lambda) {
                    worst.see((sum.abs() - lambda).abs() / largest.max(*lambda), run.place(layer));
                }
            }
        }
    }
    worst.check("column sums of functional edges over Lambda", 1e-10, 800);
}

#[test]
fn a10_mean_squares_of_the_older_formulas_are_lambda_in_falling_order() {
    let mut worst = Worst::default();
    for (basis, nodes) in [BasisKind::OneMinusZero, BasisKind::OneMinusAlphaSquared].into_iter().zip(integrals()) {
        for run in runs(|o| {
            (o.basis, o.edges) = (basis, EdgeKind::None);
            o.quadrature = vec![nodes.clone(); o.node_layers.len()];
        }) {
            for (_, layer, b) in run.rotated() {
                let gram = layer.moments.as_ref().unwrap().gram(&layer.node, false);
                let g = triple(b.c.transpose(), gram.as_ref(), b.c.as_ref());
                (0..b.k()).for_each(|i| worst.see((g[(i, i)] / b.lambda[i] - 1.0).abs(), run.place(layer)));
                assert!(b.lambda[masked(layer)..b.k()].is_sorted_by(|a, b| a >= b), "{}", run.place(layer));
            }
        }
    }
    worst.check("mean squares over Lambda of the older formulas", 1e-10, 1000);
}

#[test]
fn a11_squared_edges_are_not_negative_and_not_all_zero() {
    for run in runs(|_| ()) {
        assert_eq!(run.graph.edges.len(), run.graph.layers.len() - 1);
        for (layer, e) in run.graph.layers.iter().zip(&run.graph.edges) {
            let all: Vec<f64> = (0..e.ncols()).flat_map(|j| (0..e.nrows()).map(move |i| e[(i, j)])).collect();
            assert!(all.iter().all(|x| *x >= 0.0) && all.iter().any(|x| *x > 0.0), "{}", run.place(layer));
        }
    }
}

/// Both halves of the run, joined through A = C C' (closed forms, 10.1): the basis without eigenvectors
/// of M, where nothing is cut.
#[test]
fn c_c_follows_from_m_dash_without_its_eigenvectors() {
    let mut worst = Worst::default();
    for run in runs(|o| o.threshold = Threshold::Relative(1e-13)) {
        for (l, layer, b) in run.rotated() {
            let next = run.graph.layers[l + 1].basis.as_ref().map(|b| &b.c);
            let m = run.case.m_dash(&run.options, l, next).0;
            let mut inner = triple(b.w_pinv.as_ref(), m.as_ref(), b.w_pinv.transpose());
            let n = masked(layer);
            for i in 0..n {
                for j in (0..inner.ncols()).filter(|j| *j != i) {
                    (inner[(i, j)], inner[(j, i)]) = (0.0, 0.0);
                }
            }
            let want = triple(b.w.as_ref(), inner.as_ref(), b.w.transpose());
            worst.see(relative((&b.c * b.c.transpose()).as_ref(), want.as_ref()), run.place(layer));
        }
    }
    worst.check("C C' without eigenvectors", 1e-12, 60);
}

/// The coordinates that are constant: no feature but the constant reads them, beside the last.
#[test]
fn duplicate_constants_carry_no_feature() {
    let mut worst = Worst::default();
    for run in runs(|_| ()) {
        for (_, layer, b) in run.rotated() {
            let map = coordinate_map(&layer.node.members);
            for (i, _) in map.iter().enumerate().take(map.len() - 1).filter(|(_, c)| c.is_err()) {
                worst.see(max_abs(b.c.subrows(i, 1)), run.place(layer));
            }
        }
    }
    worst.check("rows of C at duplicate constants", 0.0, 20);
}

/// An eigenvalue equal to the cut-off is dropped; a relative cut-off leaves the constant out of account.
#[test]
fn cut_offs_are_strict() {
    for case in cases() {
        let layers = layers(&case);
        let pca = |threshold| {
            let mut o = options(&layers, &gradient(), Method::Auto);
            (o.basis, o.edges, o.threshold) = (BasisKind::Pca, EdgeKind::None, threshold);
            case.build(&o)
        };
        let whole = pca(Threshold::Relative(1e-9));
        for (l, layer) in whole.layers.iter().enumerate() {
            let Some(b) = &layer.basis else { continue };
            let values = &b.eigenvalues[masked(layer)..];
            let cut = values[values.len() / 2];
            let above = values.iter().filter(|v| **v > cut).count();
            let isolated = usize::from(layer.node.variance && b.eigenvalues[1] > cut);
            let place = format!("{} at {}", case.name, layer.node.name);
            assert_eq!(pca(Threshold::Absolute(cut)).layers[l].k(), 1 + isolated + above, "{place}");
            let largest = b.eigenvalues[1..].iter().fold(0.0f64, |m, v| m.max(*v));
            // A hair above the ratio, which division has rounded.
            let found = pca(Threshold::Relative(cut / largest * (1.0 + 1e-9))).layers[l].k();
            assert_eq!(found, 1 + isolated + above, "{place}, relative");
        }
    }
}

/// Importances too are measured against the largest but the constant's.
#[test]
fn the_constant_does_not_set_the_cut_off_of_lambda() {
    let (ratio, mut dropped, mut between) = (1e-3, 0, 0);
    for run in runs(|o| o.threshold = Threshold::Relative(1e-3)) {
        for (_, layer, b) in run.rotated() {
            let (kept, rest) = b.lambda.split_at(b.k());
            let largest = b.lambda[1..].iter().fold(0.0f64, |m, l| m.max(*l));
            assert!(kept[masked(layer).min(b.k())..].iter().all(|l| *l >= ratio * largest), "{}", run.place(layer));
            assert!(rest.iter().all(|l| *l < ratio * largest), "{}", run.place(layer));
            dropped += rest.len();
            // What a cut-off relative to the constant would have dropped beside.
            between += kept[1..].iter().filter(|l| **l < ratio * kept[0]).count();
        }
    }
    assert!(dropped > 20 && between > 20, "{dropped} dropped, {between} in doubt");
}

/// Each layer follows its own quadrature.
#[test]
fn quadratures_belong_to_their_layers() {
    let case = cases().remove(1);
    let layers = ["ln1.0", "ln1_out.0", "ln2.0", "mlp_in.0", "ln1.1"];
    let mut nodes: Vec<Nodes> = rules().into_iter().map(|r| r.1).collect();
    nodes.extend([points(Rule::GaussLegendre, 4), gradient()]);
    let mut mixed = options(&layers, &gradient(), Method::Auto);
    mixed.quadrature = nodes.clone();
    let mixed = case.build(&mixed);
    for l in (0..4).rev() {
        let alone = |nodes: &Nodes| {
            let mut o = options(&layers[l..l + 2], nodes, Method::Auto);
            o.quadrature = vec![nodes.clone(); 2];
            case.m_dash(&o, 0, mixed.layers[l + 1].basis.as_ref().map(|b| &b.c)).0
        };
        let c_pinv = &mixed.layers[l].basis.as_ref().unwrap().c_pinv;
        let diagonal = |m: &Mat<f64>| {
            let g = triple(c_pinv.as_ref(), m.as_ref(), c_pinv.transpose());
            (0..g.nrows()).map(|i| (g[(i, i)] - 1.0).abs()).fold(0.0, f64::max)
        };
        assert!(diagonal(&alone(&nodes[l])) < 1e-8, "{}", layers[l]);
        assert!(diagonal(&alone(&points(Rule::Trapezoidal, 0))) > 1e-4, "{}", layers[l]);
    }
}
