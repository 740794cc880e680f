//! The published modular-addition graphs (`fixtures/lib-paper`), against the bars of the design.
//!
//! The block-diagonal toy of `lib.md` 5.3 (C4) is not here: its data and weights are streams of another
//! library's generator, of which no file exists.

use std::path::Path;

use faer::Mat;
use mechgraph::basis::rotation::Threshold;
use mechgraph::basis::{BasisKind, Graph, Method};
use mechgraph::data::load;
use mechgraph::device::DType;
use mechgraph::model::{Checkpoint, Model};

use super::common::{Case, Worst, gradient, options, relative, shared};

const LAYERS: [&str; 4] = ["ln1.0", "ln2.0", "unembed", "output"];

/// The seeds' folders.
fn seeds() -> Vec<std::path::PathBuf> {
    let folder = |shared: std::path::PathBuf| [0, 1].map(|seed| shared.join(format!("fixtures/lib-paper/seed{seed}"))).to_vec();
    shared().map_or(Vec::new(), folder)
}

fn build(dir: &Path, basis: BasisKind) -> Graph {
    let model = Model::load(dir.to_str().unwrap(), DType::F64).unwrap().model;
    let data = load(&format!("{}#train", dir.join("dataset.safetensors").display()), &model).unwrap();
    let mut case = Case::new(dir.display().to_string(), model, data);
    case.threads = 2;
    // The published runs cut at this absolute value.
    let mut o = options(&LAYERS, &gradient(), Method::Auto);
    (o.threshold, o.basis) = (Threshold::Absolute(1e-15), basis);
    case.build(&o)
}

/// A published matrix or vector (of one row).
fn published(file: &Checkpoint, name: &str) -> Mat<f64> {
    let shape = file.shape(name).unwrap_or_else(|| panic!("no tensor {name}")).to_vec();
    let (rows, cols) = if let [n] = shape[..] { (1, n) } else { (shape[0], shape[1]) };
    let x = file.tensor_f64(name, &shape).unwrap();
    Mat::from_fn(rows, cols, |i, j| x[i * cols + j])
}

/// Means, Gram matrices, k and the sums of edges of a graph against a published file.
fn compare(graph: &Graph, file: &Checkpoint) {
    for layer in &graph.layers[..3] {
        let (name, moments) = (&layer.node.name, layer.moments.as_ref().unwrap());
        let mean = moments.full_mean(&layer.node);
        let mean = Mat::from_fn(1, mean.len(), |_, j| mean[j]);
        let errors = [
            relative(mean.as_ref(), published(file, &format!("mean.{name}")).as_ref()),
            relative(moments.gram(&layer.node, true).as_ref(), published(file, &format!("gram.{name}")).as_ref()),
        ];
        assert!(errors.iter().all(|e| *e <= 1e-10), "{name}: errors of mean and Gram matrix {errors:?}; expected at most 1e-10");
        let k = file.shape(&format!("{name}.C")).unwrap()[1];
        assert!(layer.k().abs_diff(k) <= 2, "{name}: {} features; published {k}", layer.k());
    }
    assert!(graph.layers[3].basis.is_none());
    for (l, bar) in [(0, 1e-3), (1, 1e-6), (2, 1e-6)] {
        let name = format!("edges.{}->{}", LAYERS[l], LAYERS[l + 1]);
        let error = (graph.edges[l].sum() / published(file, &name).sum() - 1.0).abs();
        println!("{name}: sum off by {error:e}");
        assert!(error <= bar, "{name}: the sum is off by {error:e}; expected at most {bar:e}");
    }
}

#[test]
fn lib_agrees_with_the_published_graphs() {
    for dir in seeds() {
        let file = Checkpoint::open(&dir.join("lib.safetensors")).unwrap();
        let graph = build(&dir, BasisKind::Jacobian);
        compare(&graph, &file);
        for (l, count, bar) in [(2, 20, 1e-9), (1, 20, 1e-7), (0, 10, 2e-3)] {
            let want = published(&file, &format!("{}.Lambda", LAYERS[l]));
            let found = &graph.layers[l].basis.as_ref().unwrap().lambda;
            let mut worst = Worst::default();
            (0..count).for_each(|i| worst.see((found[i] / want[(0, i)] - 1.0).abs(), format!("Lambda {i}")));
            worst.check(&format!("{}: top {count} Lambda at {}", dir.display(), LAYERS[l]), bar, count);
        }
        // Strong single edges, where signs and order of the features do not matter.
        for (l, bar) in [(1, 1e-5), (2, 1e-5)] {
            let want = published(&file, &format!("edges.{}->{}", LAYERS[l], LAYERS[l + 1]));
            let rows = if l == 2 { want.nrows() } else { 20 };
            let error = relative(graph.edges[l].submatrix(0, 0, rows, 20), want.submatrix(0, 0, rows, 20));
            println!("{}: strongest edges off by {error:e}", LAYERS[l]);
            assert!(error <= bar, "{}: strongest edges off by {error:e}; expected at most {bar:e}", LAYERS[l]);
        }
    }
}

#[test]
fn pca_agrees_with_the_published_graphs() {
    for dir in seeds() {
        let file = Checkpoint::open(&dir.join("pca.safetensors")).unwrap();
        compare(&build(&dir, BasisKind::Pca), &file);
    }
}
