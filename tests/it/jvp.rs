//! `mechgraph jvp`: products agree with central differences of a plain block, and tangents with
//! cotangents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mechgraph::data::{DataSet, Samples};
use mechgraph::device::DType;
use mechgraph::model::block_jvp::products;
use mechgraph::model::{ActFn, Checkpoint, Norm, Transformer};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};

use crate::naive::{Numbers, Trace, block, configs, forward, max_error, random, read, sequences, tokens, with_runner};

/// Writes tensors as f64, or those whose name ends with `!` as f32 without it.
fn write(path: &Path, tensors: &[(String, Vec<usize>, Vec<f64>)]) {
    let encoded = tensors.iter().map(|(name, shape, x)| match name.strip_suffix('!') {
        Some(name) => (name, Dtype::F32, shape, x.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect::<Vec<u8>>()),
        None => (name.as_str(), Dtype::F64, shape, x.iter().flat_map(|x| x.to_le_bytes()).collect()),
    });
    let encoded: Vec<_> = encoded.collect();
    let views = encoded.iter().map(|(name, dtype, shape, raw)| (*name, TensorView::new(*dtype, shape.to_vec(), raw).unwrap()));
    serialize_to_file(views, None, path).unwrap();
}

struct Case {
    model: Transformer,
    data: DataSet,
    file: PathBuf,
    out: PathBuf,
}

impl Case {
    fn run(&self, threads: usize) -> Result<Checkpoint, String> {
        let file = Checkpoint::open(&self.file).unwrap();
        let mut done = Ok(());
        with_runner(threads, None, |runner| {
            done = products(&(&self.model).into(), &self.data, &file, runner, &self.out, &BTreeMap::new());
        });
        done.map(|()| Checkpoint::open(&self.out).unwrap()).map_err(|e| e.to_string())
    }
    fn sizes(&self) -> (usize, usize, usize) {
        let Samples::Tokens { n, t, .. } = self.data.samples else { panic!("no tokens") };
        (n, t, self.model.config.d_model)
    }
    /// Positions behind a block.
    fn behind(&self, layer: usize) -> usize {
        let c = &self.model.config;
        if c.read_last && layer + 1 == c.n_layers { 1 } else { self.sizes().1 }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A case with a tangent and a cotangent for every layer.
fn case(dir: &Path, i: usize, dtype: DType, n: usize, t: usize) -> (Case, Trace) {
    let config = &configs()[i];
    let data = tokens(config.d_vocab, n, t, i as u64);
    let case = Case { model: random(config, dtype, 100 + i as u64), data, file: dir.join("f"), out: dir.join("g") };
    let (mut numbers, mut directions) = (Numbers::new(i as u64), Vec::new());
    for l in 0..config.n_layers {
        let d = config.d_model;
        directions.push((format!("tangent.{l}"), vec![n, t, d], numbers.many(n * t * d)));
        let behind = case.behind(l);
        directions.push((format!("cotangent.{l}"), vec![n, behind, d], numbers.many(n * behind * d)));
    }
    write(&case.file, &directions);
    (case, directions.into_iter().map(|(name, _, x)| (name, x)).collect())
}

/// <J v, w> = <v, J' w> for every layer, relative to |J v| |w|.
fn check_adjoint(case: &Case, file: &Checkpoint, given: &Trace, bar: f64) {
    assert_eq!(file.names().count(), given.len());
    let (n, t, d) = case.sizes();
    for l in 0..case.model.config.n_layers {
        let ((jv_shape, jv), (jw_shape, jw)) = (read(file, &format!("jvp.{l}")), read(file, &format!("vjp.{l}")));
        assert_eq!((jv_shape, jw_shape), (vec![n, case.behind(l), d], vec![n, t, d]));
        let (v, w) = (&given[&format!("tangent.{l}")], &given[&format!("cotangent.{l}")]);
        let (a, b) = (dot(&jv, w), dot(v, &jw));
        let size = dot(&jv, &jv).sqrt() * dot(w, w).sqrt();
        assert!((a - b).abs() <= bar * size, "{a} and {b} of {size}, {:?}", case.model.config);
    }
}

#[test]
fn tangents_and_cotangents_are_adjoint() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..configs().len() {
        for (dtype, bar) in [(DType::F64, 1e-10), (DType::F32, 1e-4)] {
            let (case, given) = case(dir.path(), i, dtype, 4, 5);
            check_adjoint(&case, &case.run(1).unwrap(), &given, bar);
        }
    }
}

#[test]
fn tangents_equal_central_differences() {
    let dir = tempfile::tempdir().unwrap();
    let step = 1e-6;
    for i in 0..configs().len() {
        let (case, given) = case(dir.path(), i, DType::F64, 3, 6);
        let file = case.run(1).unwrap();
        let (_, t, d) = case.sizes();
        let traces: Vec<Trace> = sequences(&case.data).into_iter().map(|s| forward(&case.model, s)).collect();
        for l in 0..case.model.config.n_layers {
            let tangent = given[&format!("tangent.{l}")].chunks(t * d);
            let difference = traces.iter().zip(tangent).flat_map(|(trace, v)| {
                let x = &trace[&format!("resid_pre.{l}")];
                let moved = |h: f64| {
                    block(&case.model, l, &x.iter().zip(v).map(|(x, v)| x + h * v).collect::<Vec<_>>(), &mut Trace::new())
                };
                let y: Vec<f64> = moved(step).iter().zip(moved(-step)).map(|(a, b)| (a - b) / (2.0 * step)).collect();
                y[(t - case.behind(l)) * d..].to_vec()
            });
            let error = max_error(&read(&file, &format!("jvp.{l}")).1, &difference.collect::<Vec<_>>());
            assert!(error <= 1e-6, "block {l}: {error:e} in {:?}", case.model.config);
        }
    }
}

#[test]
fn cotangents_of_a_whole_sequence_count_at_the_last_position() {
    let dir = tempfile::tempdir().unwrap();
    let i = configs().iter().position(|c| c.read_last && c.n_layers > 1).unwrap();
    let (case, given) = case(dir.path(), i, DType::F64, 3, 4);
    let (n, t, d) = case.sizes();
    let last = case.model.config.n_layers - 1;
    let want = read(&case.run(1).unwrap(), &format!("vjp.{last}")).1;
    let w = given[&format!("cotangent.{last}")].chunks(d);
    let whole = w.flat_map(|w| [&vec![7.0; (t - 1) * d], w].concat()).collect();
    write(&case.file, &[(format!("cotangent.{last}"), vec![n, t, d], whole)]);
    assert_eq!(read(&case.run(1).unwrap(), &format!("vjp.{last}")).1, want);
}

#[test]
fn many_blocks_and_single_precision_directions() {
    let dir = tempfile::tempdir().unwrap();
    let i = configs().iter().position(|c| c.norm == Norm::Ln && c.act == ActFn::SoluLn).unwrap();
    let (case, given) = case(dir.path(), i, DType::F64, 330, 5);
    let (n, t, d) = case.sizes();
    let all: Vec<u8> = case.run(1).unwrap().bytes().to_vec();
    check_adjoint(&case, &case.run(2).unwrap(), &given, 1e-10);
    assert_eq!(case.run(3).unwrap().bytes(), all);
    let whole = read(&case.run(1).unwrap(), "jvp.0").1;
    write(&case.file, &[("tangent.0!".into(), vec![n, t, d], given["tangent.0"].clone())]);
    let error = max_error(&read(&case.run(2).unwrap(), "jvp.0").1, &whole);
    assert!(error > 1e-12 && error < 1e-5, "{error:e}");
}

#[test]
fn bad_directions_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (case, _) = case(dir.path(), 0, DType::F32, 3, 4);
    let (n, t, d) = case.sizes();
    let message = |name: &str, shape: Vec<usize>, x: Vec<f64>| {
        write(&case.file, &[(name.into(), shape, x)]);
        let e = case.run(1).unwrap_err();
        assert!(e.contains("; expected ") && !e.contains('\n') && !case.out.exists(), "{e}");
        e
    };
    let zeros = |n: usize| vec![0.0; n];
    let good = vec![n, t, d];
    assert!(message("tangents", good.clone(), zeros(n * t * d)).contains("no tangent.L or cotangent.L among tangents"));
    for bad in ["1", "x", "00", "-1", ""] {
        let e = message(&format!("tangent.{bad}"), good.clone(), zeros(n * t * d));
        assert!(e.contains(&format!("tensor tangent.{bad}: layer {bad}; expected a layer below 1")), "{e}");
    }
    let e = message("cotangent.0", vec![n, t, d + 1], zeros(n * t * (d + 1)));
    assert!(e.contains(&format!("tensor cotangent.0: shape [{n}, {t}, {}]; expected shape [{n}, {t}, {d}]", d + 1)), "{e}");
    assert!(message("tangent.0", vec![n * t, d], zeros(n * t * d)).contains("tangent.0: shape"));
    assert!(message("tangent.0", vec![n, 1, d], zeros(n * d)).contains("tangent.0: shape"));
    let mut x = zeros(n * t * d);
    x[2 * t * d + d + 1] = f64::NAN;
    assert!(message("tangent.0", good.clone(), x.clone()).contains("tensor tangent.0: NaN at index [2, 1, 1]"));
    x[2 * t * d + d + 1] = 1e300;
    assert!(message("tangent.0", good, x).contains("at index [2, 1, 1]; expected values within the range of f32"));
}
