//! Data and networks with nothing to find: runs end with finite numbers.

use mechgraph::basis::quadrature::{Rule, points};
use mechgraph::basis::rotation::Threshold;
use mechgraph::basis::{BasisKind, EdgeKind, Graph, Layer, Method};
use mechgraph::data::Samples;
use mechgraph::device::{DType, Tensor};
use mechgraph::model::{ActFn, Model, Norm, TransformerConfig};

use super::common::{Case, max_abs, of_samples, options, transformer_config};

/// Runs every basis with every edge formula on every road.
fn check(case: &Case, layers: &[&str]) {
    let bases =
        [BasisKind::Jacobian, BasisKind::Pca, BasisKind::Neuron, BasisKind::OneMinusZero, BasisKind::OneMinusAlphaSquared];
    for basis in bases {
        for (method, sources) in [(Method::Auto, None), (Method::Jvp, None), (Method::Jvp, Some(2))] {
            for (edges, centre) in [(EdgeKind::Squared, true), (EdgeKind::Functional, true), (EdgeKind::Squared, false)] {
                for threshold in [Threshold::Relative(1e-10), Threshold::Absolute(1e-15), Threshold::Absolute(1e9)] {
                    let mut o = options(layers, &points(Rule::GaussLegendre, 1), method);
                    (o.basis, o.edges, o.centre, o.threshold) = (basis, edges, centre, threshold);
                    if basis == BasisKind::Jacobian {
                        (o.sources_hidden, o.sources_edges) = (sources, sources.filter(|_| edges == EdgeKind::Squared));
                    }
                    let graph = case.build(&o);
                    let place = format!("{} {basis:?} {edges:?} {method:?} {sources:?} centre {centre} {threshold:?}", case.name);
                    for (layer, b) in graph.layers.iter().filter_map(|l| l.basis.as_ref().map(|b| (l, b))) {
                        let parts = [&b.c, &b.c_pinv, &b.w, &b.w_pinv].map(|m| max_abs(m.as_ref()));
                        assert!(parts.iter().all(|m| m.is_finite()), "{place}: {} {parts:?}", layer.node.name);
                        assert!(b.lambda.iter().all(|l| l.is_finite()), "{place}: {} {:?}", layer.node.name, b.lambda);
                    }
                    assert!(graph.edges.iter().all(|e| max_abs(e.as_ref()).is_finite()), "{place}");
                    graph.to_safetensors().unwrap();
                }
            }
        }
    }
}

fn tokens(norm: Norm, n: usize, t: usize) -> Case {
    let config = TransformerConfig { n_layers: 1, ..transformer_config(norm, ActFn::GeluNew) };
    let mut case = Case::transformer(config, DType::F64, 1, 500);
    case.data = of_samples(Samples::Tokens { ids: vec![3; n * t], n, t });
    case
}

const NODES: [&str; 5] = ["ln1.0", "ln1_out.0", "ln2.0", "mlp_in.0", "unembed"];

/// Features of each layer.
fn sizes(graph: &Graph) -> Vec<usize> {
    graph.layers.iter().map(Layer::k).collect()
}

/// Where nothing varies, the constant is the one feature, and rounding is none.
#[test]
fn one_token() {
    for norm in [Norm::None, Norm::Ln] {
        check(&tokens(norm, 1, 1), &NODES);
        for case in [tokens(norm, 1, 1), tokens(norm, 7, 1), tokens(norm, 600, 1)] {
            let o = options(&NODES, &points(Rule::Gradient, 0), Method::Auto);
            assert_eq!(sizes(&case.build(&o)), [1; 5], "{}", case.name);
        }
    }
}

/// A token at three positions is three rows: two directions beside the constant.
#[test]
fn one_sample_many_times() {
    for norm in [Norm::None, Norm::Ln] {
        let case = tokens(norm, 7, 3);
        check(&case, &NODES);
        let o = options(&NODES, &points(Rule::Gradient, 0), Method::Auto);
        let variances = [0, usize::from(norm != Norm::None), 0, 0, 0];
        assert_eq!(sizes(&case.build(&o)), variances.map(|v| 3 + v), "{}", case.name);
    }
}

/// Replaces weights and biases of an MLP's layer by one number each.
fn constant_layer(case: &mut Case, layer: usize, w: f64, b: f64) {
    let Model::Mlp(m) = &mut case.model else { panic!("no MLP") };
    let (rows, cols) = (m.layers[layer].0.rows, m.layers[layer].0.cols);
    m.layers[layer] = (Tensor::from_f64(DType::F64, rows, cols, vec![w; rows * cols]), Tensor::row(DType::F64, vec![b; cols]));
}

/// Features of an MLP's three layers under plain gradients, after every other run.
fn features(case: &Case) -> Vec<usize> {
    let layers = ["layers.0", "layers.1", "layers.2", "output"];
    check(case, &layers);
    let graph = case.build(&options(&layers, &points(Rule::Gradient, 0), Method::Auto));
    assert!(graph.edges.iter().zip(graph.layers.windows(2)).all(|(e, l)| (e.nrows(), e.ncols()) == (l[1].k(), l[0].k())));
    sizes(&graph)[..3].to_vec()
}

/// All neurons of a layer are off: nothing behind it moves, and nothing in front of it matters.
#[test]
fn dead_neurons() {
    let mut case = Case::mlp(&[4, 6, 5, 3], ActFn::Relu, true, DType::F64, 20, 501);
    constant_layer(&mut case, 0, 0.1, -100.0);
    assert_eq!(features(&case), [1, 1, 1]);
}

/// The last layer reads nothing, not even the constant: no feature matters anywhere.
#[test]
fn an_output_without_weights() {
    let mut case = Case::mlp(&[4, 6, 5, 3], ActFn::Relu, true, DType::F64, 20, 502);
    constant_layer(&mut case, 2, 0.0, 0.0);
    assert_eq!(features(&case), [0, 0, 0]);
}

/// Every neuron the same: one direction at each layer, beside the constant.
#[test]
fn equal_neurons() {
    let mut case = Case::mlp(&[4, 6, 5, 3], ActFn::Relu, true, DType::F64, 20, 503);
    (0..3).for_each(|l| constant_layer(&mut case, l, 0.3, 0.2));
    assert_eq!(features(&case), [2, 2, 2]);
}
