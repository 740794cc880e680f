//! What a model must hold to on a device, on a few samples: the numbers of the CPU in f64, and what is true of any numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use faer::{Mat, MatRef};

use super::report::Row;
use super::{Args, Part};
use crate::basis::quadrature::{Rule, points};
use crate::basis::rotation::{Basis, Moments, Threshold};
use crate::basis::{self, BasisKind, EdgeKind, Method, Options, Problem};
use crate::cli::common::{metadata, typed};
use crate::data::stream::Runner;
use crate::data::tensor_file::{Entry, TensorFile};
use crate::data::{DataSet, Samples};
use crate::device::{Cpu, DType, Device};
use crate::error::{Error, Result};
use crate::model::block_jvp::products;
use crate::model::capture::capture;
use crate::model::{Checkpoint, Loaded, Model};
use crate::ops::probes::splitmix;
use crate::progress::Progress;

/// Positions that are looked at unless `--samples` says how many: enough for ragged blocks, and soon done.
const POSITIONS: usize = 256;
/// Tokens of the pieces of text that bases are made of, and pieces in which Jacobians are taken: products with all directions
/// of a piece take time with the square of its length.
const PIECE: usize = 5;
const PIECES: usize = 3;

/// A model in the dtype that is checked and in f64, and a few samples.
pub struct Subject {
    loaded: Loaded,
    exact: Loaded,
    data: DataSet,
}

impl Subject {
    /// Loads model and data; refuses checks that were asked for by name and that the model has not.
    pub fn load(args: &Args, dtype: DType) -> Result<Self> {
        let loaded = Model::load(&args.model, dtype)?;
        let refused = |part, expected: &str| {
            if args.checks.contains(&part) { Err(Error::flag("--checks", typed(part), expected)) } else { Ok(()) }
        };
        match &loaded.model {
            Model::Mlp(_) => refused(Part::Jacobians, "other checks: an mlp has no blocks")?,
            Model::Lm(_) => refused(Part::Lib, "other checks: the basis of Hugging Face models is not in this build")?,
            Model::Transformer(_) => {}
        }
        let data = args.data.load(&args.data.or_split(&args.model, "train"), &loaded)?;
        let few = (POSITIONS / data.samples.positions().max(1)).clamp(1, data.samples.count().max(1));
        let data = if args.data.samples.is_some() { data } else { data.first(few) };
        Ok(Self { exact: Model::load(&args.model, DType::F64)?, loaded, data })
    }
    /// The rows of all checks that the model has. One that cannot be carried out has failed.
    pub fn rows(&self, args: &Args, device: &Device, progress: &Progress) -> Result<Vec<Row>> {
        let Self { loaded, exact, data } = self;
        let host = Device::Cpu(Cpu::new(device.host().threads())?);
        let folder = tempfile::tempdir().map_err(|e| Error::io(&std::env::temp_dir(), "creating a folder", e))?;
        let checked = Patient { loaded, runner: args.common.runner(device, progress)? };
        let reference = Patient { loaded: exact, runner: args.common.runner(&host, progress)? };
        let case = Case { data, checked, reference, folder: folder.path(), seed: args.common.seed };
        let mut rows = Vec::new();
        for part in [Part::Forward, Part::Jacobians, Part::Lib].into_iter().filter(|part| args.has(*part)) {
            let (name, found) = match (part, &loaded.model) {
                (Part::Jacobians, Model::Mlp(_)) | (Part::Lib, Model::Lm(_)) | (Part::Operations, _) => continue,
                (Part::Forward, _) => ("forward", case.forward()),
                (Part::Jacobians, _) => ("jacobian", case.jacobians()),
                (Part::Lib, _) => ("lib", case.lib()),
            };
            match found {
                Ok(found) => rows.extend(found),
                Err(e) => rows.push(Row::failed(name, &loaded.name, case.dtype(), case.bound(), &e)),
            }
        }
        Ok(rows)
    }
}

/// A model on a device.
struct Patient<'a> {
    loaded: &'a Loaded,
    runner: Runner<'a>,
}

/// The model on the device that is checked, and on the CPU in f64.
struct Case<'a> {
    data: &'a DataSet,
    checked: Patient<'a>,
    reference: Patient<'a>,
    /// For what is written and read back.
    folder: &'a Path,
    seed: u64,
}

/// The most that activations and Jacobian products may be off, of the largest value.
fn bound(model: &Model, dtype: DType) -> f64 {
    match (dtype, model) {
        (DType::F64, _) => 1e-9,
        (DType::F32, Model::Lm(_)) => 5e-6,
        (DType::F32, Model::Transformer(_) | Model::Mlp(_)) => 1e-4,
    }
}

/// The most that sums over data and adjoint products may be off, relative to their norm.
fn sums_bound(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-10,
        DType::F32 => 1e-4,
    }
}

impl Case<'_> {
    fn dtype(&self) -> DType {
        self.checked.loaded.model.dtype()
    }
    fn bound(&self) -> f64 {
        bound(&self.checked.loaded.model, self.dtype())
    }
    /// Who computed what is compared.
    fn by(&self) -> String {
        self.checked.runner.device.backend().into()
    }
    /// A file of the folder.
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Activations at some sites, and all of them again sample by sample.
    fn forward(&self) -> Result<Vec<Row>> {
        let model = &self.checked.loaded.model;
        let sites: &[&str] = match model {
            Model::Mlp(_) => &["act", "pre", "logits"],
            _ if model.classes() == 0 => &["resid_mid", "mlp_act", "resid_post"],
            _ => &["resid_mid", "mlp_act", "resid_post", "logits"],
        };
        let (exact, found, again) = (self.file("forward"), self.file("forward-checked"), self.file("forward-again"));
        self.captured(&self.reference, sites, None, &exact)?;
        self.captured(&self.checked, sites, None, &found)?;
        let mut rows = self.compared("forward", &found, &exact)?;
        self.captured(&self.checked, sites, Some(1), &again)?;
        let is_equal = Checkpoint::open(&found)?.bytes() == Checkpoint::open(&again)?.bytes();
        rows.push(Row::equal("same bits", "forward, sample by sample", self.dtype(), is_equal, self.by()));
        Ok(rows)
    }
    fn captured(&self, of: &Patient, sites: &[&str], batch: Option<usize>, path: &Path) -> Result<()> {
        let Patient { loaded, runner } = of;
        let layers: Vec<usize> = (0..loaded.model.layers()).collect();
        let names: Vec<String> = sites.iter().map(|s| s.to_string()).collect();
        let places = loaded.model.places("--checks", &names, &layers)?;
        let runner = Runner { batch: batch.or(runner.batch), checkpoints: None, ..*runner };
        capture(&loaded.model, self.data, &places, None, &runner, path, &metadata("doctor", loaded, self.data)?)
    }
    /// The largest error of the tensors of each name without its layer, of the largest value.
    fn compared(&self, check: &'static str, found: &Path, exact: &Path) -> Result<Vec<Row>> {
        let (found, exact) = (Checkpoint::open(found)?, Checkpoint::open(exact)?);
        let mut errors = BTreeMap::<String, f64>::new();
        for name in exact.names().filter(|name| *name != "tokens") {
            let shape = exact.shape(name).unwrap_or_default();
            let (a, b) = (found.tensor_f64(name, shape)?, exact.tensor_f64(name, shape)?);
            let worst = errors.entry(name.split('.').next().unwrap_or(name).into()).or_default();
            *worst = worst.max(max_error(&a, &b));
        }
        let row = |(of, error)| Row::judged(check, of, self.dtype(), (error, self.bound()), self.by());
        Ok(errors.into_iter().map(row).collect())
    }

    /// J v and w J of every block for random v and w, and that both are of one J.
    fn jacobians(&self) -> Result<Vec<Row>> {
        let (Some(lm), Some(exact_lm)) = (self.checked.loaded.model.lm(), self.reference.loaded.model.lm()) else {
            return Ok(Vec::new());
        };
        let (n, t, d) = (self.data.samples.count(), self.data.samples.positions(), lm.d_model);
        let names: Vec<String> = (0..lm.blocks.len()).flat_map(|l| [format!("tangent.{l}"), format!("cotangent.{l}")]).collect();
        let given = self.file("directions");
        let entries: Vec<Entry> = names.iter().map(|name| Entry::real(name, vec![n, t, d])).collect();
        let file = TensorFile::create(&given, self.dtype(), &BTreeMap::new(), &entries)?;
        for i in 0..entries.len() {
            let key = splitmix(self.seed ^ i as u64);
            let uniform = |j: usize| (splitmix(key ^ j as u64) >> 40) as f64 / (1u64 << 23) as f64 - 1.0;
            file.write_real(i, 0, &(0..n * t * d).map(uniform).collect::<Vec<f64>>())?;
        }
        file.finish()?;
        let given = Checkpoint::open(&given)?;
        let (exact, found) = (self.file("products"), self.file("products-checked"));
        for (patient, lm, path) in [(&self.reference, &exact_lm, &exact), (&self.checked, &lm, &found)] {
            products(lm, self.data, &given, &patient.runner, path, &metadata("doctor", patient.loaded, self.data)?)?;
        }
        let mut rows = self.compared("jacobian", &found, &exact)?;
        let found = Checkpoint::open(&found)?;
        let mut worst = 0.0;
        for l in 0..lm.blocks.len() {
            worst = f64::max(worst, adjoint(&given, &found, l)?);
        }
        rows.push(Row::judged("adjoint", "<Jv, w> = <v, wJ>", self.dtype(), (worst, sums_bound(self.dtype())), self.by()));
        Ok(rows)
    }

    /// Gram matrices; M' and edges of a few samples in the bases of the reference; M' by both roads.
    fn lib(&self) -> Result<Vec<Row>> {
        let (checked, reference) = (&self.checked, &self.reference);
        let (all, few) = (pieces(self.data, usize::MAX), pieces(self.data, PIECES));
        let options = options(&checked.loaded.model, self.seed);
        let alone = Options { edges: EdgeKind::None, ..options.clone() };
        let principal = Options { basis: BasisKind::Pca, ..alone.clone() };
        let exact = basis::build(problem(reference, &all, &alone), &reference.runner)?;
        let found = basis::build(problem(checked, &all, &principal), &checked.runner)?;
        let bound = sums_bound(self.dtype());
        let row = |check, of: &str, error| Row::judged(check, of, self.dtype(), (error, bound), self.by());
        let mut rows = Vec::new();
        for (a, b) in found.layers.iter().zip(&exact.layers) {
            if let (Some(moments), Some(wanted)) = (&a.moments, &b.moments) {
                rows.push(row("gram", &b.node.name, relative(gram(moments).as_ref(), gram(wanted).as_ref())));
            }
        }
        let bases: Vec<Option<Basis>> = exact.layers.iter().map(|l| l.basis.clone()).collect();
        let m_dash = |of: &Patient, method, l: usize| {
            let options = Options { method, ..options.clone() };
            let c = bases[l + 1].as_ref().map(|b| &b.c);
            basis::section_m_dash(problem(of, &few, &options), l, c, &of.runner).map(|(m, _)| m)
        };
        let names: Vec<String> = exact.layers.windows(2).map(|l| format!("{}->{}", l[0].node.name, l[1].node.name)).collect();
        for (l, name) in names.iter().enumerate() {
            let (a, b) = (m_dash(checked, Method::Auto, l)?, m_dash(reference, Method::Auto, l)?);
            rows.push(row("M'", name, relative(a.as_ref(), b.as_ref())));
            if exact.roads.iter().any(|r| r.section == format!("{name} (basis)") && r.road != "jvp") {
                let products = m_dash(checked, Method::Jvp, l)?;
                rows.push(row("M' by products", name, relative(products.as_ref(), a.as_ref())));
            }
        }
        let edges = |of: &Patient| basis::edges_between(problem(of, &few, &options), &bases, &of.runner);
        for ((a, b), name) in edges(checked)?.iter().zip(&edges(reference)?).zip(&names) {
            rows.push(row("edges", name, relative(a.as_ref(), b.as_ref())));
        }
        Ok(rows)
    }
}

fn problem<'a>(of: &'a Patient, data: &'a DataSet, options: &'a Options) -> Problem<'a> {
    Problem { model: &of.loaded.model, data, gram_data: None, options }
}

/// At most `most` samples, of sequences pieces of [`PIECE`] tokens.
fn pieces(data: &DataSet, most: usize) -> DataSet {
    let mut data = DataSet { labels: None, mask: None, ..data.clone() };
    if let Samples::Tokens { ids, n, t } = &mut data.samples
        && *t > PIECE
    {
        *ids = ids.chunks(*t).flat_map(|ids| ids.chunks_exact(PIECE)).flatten().copied().collect();
        (*n, *t) = (ids.len() / PIECE, PIECE);
    }
    let count = data.samples.count();
    data.first(most.min(count))
}

/// Those of `mechgraph lib` without a flag.
fn options(model: &Model, seed: u64) -> Options {
    let node_layers = model.default_node_layers();
    Options {
        basis: BasisKind::Jacobian,
        edges: EdgeKind::Squared,
        sources_pos: None,
        sources_hidden: None,
        sources_edges: None,
        quadrature: vec![points(Rule::Gradient, 0); node_layers.len()],
        threshold: Threshold::Relative(1e-10),
        // The last node layer is the output.
        rotate_final: false,
        centre: true,
        isolate_variance: true,
        ngf: false,
        method: Method::Auto,
        seed,
        node_layers,
    }
}

/// The lower triangle of the centred second moment, 0 above it.
fn gram(moments: &Moments) -> Mat<f64> {
    let d = moments.mean.len();
    Mat::from_fn(d, d, |i, j| if j <= i { moments.m2[i * d + j] } else { 0.0 })
}

/// The largest error of a value, relative to the largest value.
fn max_error(found: &[f64], exact: &[f64]) -> f64 {
    let largest =
        |x: &mut dyn Iterator<Item = f64>| x.fold(0.0, |m: f64, x| if x.is_finite() { m.max(x.abs()) } else { f64::INFINITY });
    ratio(largest(&mut found.iter().zip(exact).map(|(a, b)| a - b)), largest(&mut exact.iter().copied()))
}

/// The relative Frobenius error; infinite for other shapes.
fn relative(found: MatRef<'_, f64>, exact: MatRef<'_, f64>) -> f64 {
    if (found.nrows(), found.ncols()) != (exact.nrows(), exact.ncols()) {
        return f64::INFINITY;
    }
    ratio((found - exact).norm_l2(), exact.norm_l2())
}

/// An error over the size of what it is an error of; infinite where a number is not finite.
fn ratio(error: f64, size: f64) -> f64 {
    let ratio = if error == 0.0 { 0.0 } else { error / size };
    if ratio.is_finite() && size.is_finite() { ratio } else { f64::INFINITY }
}

/// How far `<J v, w>` and `<v, w J>` of a block are apart, relative to |J v| |w|. Where only the last position is behind the
/// block, w counts there.
fn adjoint(given: &Checkpoint, found: &Checkpoint, layer: usize) -> Result<f64> {
    let read = |file: &Checkpoint, name: &str| -> Result<(Vec<usize>, Vec<f64>)> {
        let name = format!("{name}.{layer}");
        let shape = file.shape(&name).unwrap_or_default().to_vec();
        let x = file.tensor_f64(&name, &shape)?;
        Ok((shape, x))
    };
    let ((shape, v), (_, mut w)) = (read(given, "tangent")?, read(given, "cotangent")?);
    let ((behind, jv), (_, wj)) = (read(found, "jvp")?, read(found, "vjp")?);
    let (sample, d) = (shape[1] * shape[2], shape[2]);
    if behind[1] < shape[1] {
        w = w.chunks(sample).flat_map(|w| &w[sample - d..]).copied().collect();
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let size = dot(&jv, &jv).sqrt() * dot(&w, &w).sqrt();
    Ok(ratio((dot(&jv, &w) - dot(&v, &wj)).abs(), size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_or_of_another_shape_is_no_small_error() {
        assert_eq!(max_error(&[1.0, 2.5], &[1.0, 2.0]), 0.25);
        assert_eq!(max_error(&[0.0], &[0.0]), 0.0);
        assert_eq!(max_error(&[f64::NAN, 1.0], &[1.0, 1.0]), f64::INFINITY);
        assert_eq!(max_error(&[1.0], &[f64::INFINITY]), f64::INFINITY);
        let (one, two) = (Mat::<f64>::ones(2, 2), Mat::<f64>::from_fn(2, 2, |i, _| if i == 0 { 1.0 } else { f64::NAN }));
        assert_eq!(relative(two.as_ref(), one.as_ref()), f64::INFINITY);
        assert_eq!(relative(one.as_ref().subrows(0, 1), one.as_ref()), f64::INFINITY);
        assert_eq!(relative(one.as_ref(), one.as_ref()), 0.0);
    }

    #[test]
    fn sequences_are_cut_into_pieces_that_do_not_cross_their_ends() {
        let of = |n: usize, t: usize| DataSet {
            samples: Samples::Tokens { ids: (0..(n * t) as u32).collect(), n, t },
            labels: None,
            mask: None,
            text: None,
            name: String::new(),
            sha256: String::new(),
        };
        let cut = |data: &DataSet, most| match pieces(data, most).samples {
            Samples::Tokens { ids, n, t } => (ids, n, t),
            other => panic!("{other:?}"),
        };
        assert_eq!(cut(&of(2, 7), 9), (vec![0, 1, 2, 3, 4, 7, 8, 9, 10, 11], 2, 5));
        assert_eq!(cut(&of(2, 11), 3), ((0..10).chain(11..16).collect(), 3, 5));
        assert_eq!(cut(&of(3, 2), 2), (vec![0, 1, 2, 3], 2, 2));
    }
}
