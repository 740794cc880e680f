//! The same bytes for any number of threads and any batch size.

use mechgraph::basis::{BasisKind, EdgeKind, Method, Options};
use mechgraph::data::{DataSet, Samples, load};
use mechgraph::device::DType;
use mechgraph::model::{ActFn, Model, Norm, TransformerConfig};

use super::common::{Case, gradient, of_samples, options, rules, shared, transformer_config};

/// Builds the graph with one and two threads and three batch sizes, and compares the files.
fn check(mut case: Case, o: &Options) {
    let mut bytes = |threads: usize, batch: Option<usize>| {
        (case.threads, case.batch) = (threads, batch);
        case.build(o).to_safetensors().unwrap()
    };
    let one = bytes(1, None);
    assert!(one.len() > 10_000);
    for (threads, batch) in [(1, Some(1)), (2, None), (2, Some(1)), (2, Some(90)), (1, Some(100_000))] {
        let other = bytes(threads, batch);
        let differs = one.iter().zip(&other).filter(|(a, b)| a != b).count();
        assert!(
            one == other,
            "{}: {differs} of {} bytes differ with {threads} threads and batch {batch:?}",
            case.name,
            one.len()
        );
    }
}

/// A transformer with norms on enough data for several blocks, the last of them ragged.
fn transformer(dtype: DType, seed: u64) -> Case {
    let config = TransformerConfig { n_layers: 1, d_vocab: 50, ..transformer_config(Norm::Ln, ActFn::GeluNew) };
    Case::transformer(config, dtype, 470, seed)
}

const LAYERS: [&str; 8] = ["ln1.0", "ln1_out.0", "attn_in.0", "ln2.0", "ln2_out.0", "mlp_in.0", "ln_final", "unembed"];

#[test]
fn closed_forms() {
    for dtype in [DType::F64, DType::F32] {
        check(transformer(dtype, 300), &options(&LAYERS, &gradient(), Method::Auto));
    }
}

#[test]
fn jacobian_products_under_a_quadrature() {
    for dtype in [DType::F64, DType::F32] {
        check(transformer(dtype, 301), &options(&["ln1.0", "ln2.0", "ln_final", "output"], &rules()[1].1, Method::Jvp));
    }
}

#[test]
fn stochastic_sources() {
    for dtype in [DType::F64, DType::F32] {
        let mut o = options(&["ln1.0", "ln2.0", "unembed"], &gradient(), Method::Auto);
        (o.sources_pos, o.sources_hidden, o.sources_edges, o.seed) = (Some(2), Some(3), Some(2), 17);
        check(transformer(dtype, 302), &o);
    }
}

#[test]
fn older_formulas_and_functional_edges() {
    let mut o = options(&["ln1.0", "ln2.0", "unembed"], &rules()[2].1, Method::Auto);
    (o.basis, o.edges) = (BasisKind::OneMinusAlphaSquared, EdgeKind::Functional);
    check(transformer(DType::F64, 303), &o);
}

#[test]
fn mlps() {
    for dtype in [DType::F64, DType::F32] {
        let case = Case::mlp(&[9, 30, 21, 4], ActFn::Relu, true, dtype, 2600, 304);
        let layers = case.node_layers();
        check(case, &options(&layers, &gradient(), Method::Auto));
    }
}

/// The published modular-addition model on a part of its data.
#[test]
fn the_papers_model() {
    let Some(shared) = shared() else { return };
    let dir = shared.join("fixtures/lib-paper/seed0");
    for dtype in [DType::F64, DType::F32] {
        let model = Model::load(dir.to_str().unwrap(), dtype).unwrap().model;
        let whole = load(&format!("{}#train", dir.join("dataset.safetensors").display()), &model).unwrap();
        let case = Case::new(format!("seed 0 in {}", dtype.name()), model, first(&whole, 400));
        check(case, &options(&["ln1.0", "ln2.0", "unembed", "output"], &gradient(), Method::Auto));
    }
}

/// The first `n` samples of a data set of tokens.
fn first(data: &DataSet, n: usize) -> DataSet {
    let Samples::Tokens { ids, t, .. } = &data.samples else { panic!("no tokens") };
    of_samples(Samples::Tokens { ids: ids[..n * t].to_vec(), n, t: *t })
}
