//! `mechgraph ablate`: the flags of an ablation and the schedule that they spell.

use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;

use super::common::{Common, DataFlags, check_unique, parse_non_negative, print, typed};
use super::page;
use super::run_dir::{RunDir, check_free};
use crate::basis::ablation::{Bench, Masked, Score};
use crate::basis::curves::{self, Ablation, FILES};
use crate::basis::edge_mask::EdgeMask;
use crate::basis::plan::{Node, nodes};
use crate::basis::schedule::{self, Curve, Protocol, Schedule};
use crate::basis::store::{self, Stored};
use crate::data::DataSet;
use crate::device::DType;
use crate::error::{Error, Result};
use crate::manifest::{Fingerprint, Manifest, Source};
use crate::model::{Loaded, Model};

/// The most points of a curve that are printed; the file has them all.
const SHOWN: usize = 12;
/// Directions measured at a time where a curve may stop early.
const WAVE: usize = 8;

/// Ablate directions or edges of a LIB run and measure the model
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder of a finished `lib` run
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    #[command(flatten)]
    pub data: DataFlags,
    /// node or edge: what is ablated
    #[arg(long, value_name = "KIND", hide_possible_values = true)]
    pub kind: Kind,
    /// exponential, linear or bisect [default: node exponential, edge bisect]
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    pub schedule: Option<ScheduleName>,
    /// Base of the exponential schedule [default: 1.05]
    #[arg(long, value_name = "B", value_parser = parse_non_negative)]
    pub base: Option<f64>,
    /// Single steps before the exponential ones [default: 10]
    #[arg(long, value_name = "N")]
    pub cutoff: Option<usize>,
    /// Points of the linear schedule
    #[arg(long, value_name = "N")]
    pub points: Option<usize>,
    /// Bisect: change of the metric that is tolerated [default: 0.001]
    #[arg(long, value_name = "X", value_parser = parse_non_negative)]
    pub target: Option<f64>,
    /// Bisect: linear or logarithmic midpoint [default: linear]
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    pub midpoint: Option<Midpoint>,
    /// Bisect: stop when the bounds are this close [default: 1]
    #[arg(long, value_name = "N")]
    pub tolerance: Option<NonZeroUsize>,
    /// Also measure with these numbers kept
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub at: Vec<usize>,
    /// Stop a layer when the metric has changed by more than X
    #[arg(long, value_name = "X", value_parser = parse_non_negative)]
    pub stop_at: Option<f64>,
    /// lib or pca: the directions that are ablated
    #[arg(long, value_name = "NAME", default_value = "lib", hide_possible_values = true)]
    pub basis: AblationBasis,
    /// accuracy or loss
    #[arg(long, value_name = "NAME", default_value = "accuracy", hide_possible_values = true)]
    pub metric: Metric,
    /// Node layers of the run to ablate [default: all]
    #[arg(long, value_name = "A,B,..", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub layers: Vec<String>,
    #[command(flatten)]
    pub common: Common,
}

/// What is ablated.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Node,
    Edge,
}

/// `--schedule`
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleName {
    Exponential,
    Linear,
    Bisect,
}

/// The point between two bounds that a bisection tries next.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Midpoint {
    Linear,
    Logarithmic,
}

/// Whose directions are ablated: those of C, or the principal components W of the same run.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AblationBasis {
    Lib,
    Pca,
}

/// What is measured.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    Accuracy,
    Loss,
}

impl Args {
    /// Refuses combinations of flags that contradict each other.
    pub fn check(&self) -> Result<()> {
        self.common.check()?;
        check_unique("--layers", &self.layers)?;
        if (self.kind, self.basis) == (Kind::Edge, AblationBasis::Pca) {
            return Err(Error::flag("--basis", "pca with --kind edge", "lib: edges run between directions of the LIB"));
        }
        self.schedule().map(drop)
    }
    fn schedule_name(&self) -> ScheduleName {
        self.schedule.unwrap_or(match self.kind {
            Kind::Node => ScheduleName::Exponential,
            Kind::Edge => ScheduleName::Bisect,
        })
    }
    /// The schedule that the flags spell.
    pub fn schedule(&self) -> Result<Schedule> {
        use ScheduleName::{Bisect, Exponential, Linear};
        let name = self.schedule_name();
        let owners: [(&str, bool, &[ScheduleName]); 8] = [
            ("--base", self.base.is_some(), &[Exponential]),
            ("--cutoff", self.cutoff.is_some(), &[Exponential]),
            ("--points", self.points.is_some(), &[Linear]),
            ("--target", self.target.is_some(), &[Bisect]),
            ("--midpoint", self.midpoint.is_some(), &[Bisect]),
            ("--tolerance", self.tolerance.is_some(), &[Bisect]),
            ("--at", !self.at.is_empty(), &[Exponential, Linear]),
            ("--stop-at", self.stop_at.is_some(), &[Exponential, Linear]),
        ];
        if let Some((flag, _, owners)) = owners.iter().find(|(_, given, owners)| *given && !owners.contains(&name)) {
            let owners: Vec<String> = owners.iter().map(|o| format!("--schedule {}", typed(*o))).collect();
            return Err(Error::flag(flag, format!("the {} schedule", typed(name)), owners.join(" or ")));
        }
        match name {
            Exponential => match self.base.unwrap_or(1.05) {
                base if base >= 1.0 => Ok(Schedule::Exponential { base, cutoff: self.cutoff.unwrap_or(10) }),
                base => Err(Error::flag("--base", base.to_string(), "a number from 1 up")),
            },
            Linear => match self.points {
                Some(points @ 2..) => Ok(Schedule::Linear { points }),
                Some(points) => Err(Error::flag("--points", points.to_string(), "at least 2, for the two ends")),
                None => Err(Error::flag("--points", "nothing", "the number of points of the linear schedule")),
            },
            Bisect => Ok(Schedule::Bisect {
                target: self.target.unwrap_or(0.001),
                midpoint: match self.midpoint {
                    None | Some(Midpoint::Linear) => schedule::Midpoint::Linear,
                    Some(Midpoint::Logarithmic) => schedule::Midpoint::Logarithmic,
                },
                tolerance: self.tolerance.map_or(1, NonZeroUsize::get),
            }),
        }
    }
    /// The name of the result file inside RUN.
    pub fn file_name(&self) -> &'static str {
        match (self.kind, self.basis) {
            (Kind::Node, AblationBasis::Lib) => FILES[0],
            (Kind::Node, AblationBasis::Pca) => FILES[1],
            (Kind::Edge, _) => FILES[2],
        }
    }
    fn protocol(&self) -> Result<Protocol> {
        let metric = match self.metric {
            Metric::Accuracy => schedule::Metric::Accuracy,
            Metric::Loss => schedule::Metric::Loss,
        };
        Ok(Protocol { schedule: self.schedule()?, at: self.at.clone(), stop_at: self.stop_at, metric })
    }
    /// Which of the RUN's layers are ablated: of `possible` ones those of `--layers`.
    fn chosen(&self, stored: &Stored, possible: impl Fn(usize) -> bool) -> Result<Vec<usize>> {
        let possible: Vec<usize> = (0..stored.layers.len()).filter(|&l| possible(l)).collect();
        let names: Vec<&str> = possible.iter().map(|&l| stored.layers[l].name.as_str()).collect();
        if let Some(unknown) = self.layers.iter().find(|l| !names.contains(&l.as_str())) {
            return Err(Error::flag("--layers", unknown, format!("one of {}", names.join(", "))));
        }
        let is_chosen = |l: &usize| self.layers.is_empty() || self.layers.contains(&stored.layers[*l].name);
        Ok(possible.into_iter().filter(is_chosen).collect())
    }
    fn check_at(&self, layer: &str, n: usize, what: &str) -> Result<()> {
        match self.at.iter().find(|&&count| count > n) {
            None => Ok(()),
            Some(count) => Err(Error::flag("--at", count.to_string(), format!("at most {n}, the {what} of {layer}"))),
        }
    }
}

/// A RUN, and the model it was made from.
struct Opened {
    dir: RunDir,
    manifest: Manifest,
    model: Loaded,
    graph: Stored,
    nodes: Vec<Node>,
}

impl Opened {
    fn new(path: &Path, dtype: impl Fn(DType) -> Result<DType>) -> Result<Self> {
        let (dir, manifest) = RunDir::open_finished(path)?;
        let f = &manifest.fingerprint;
        if f.command != "lib" {
            return Err(Error::file(path, format!("a run of mechgraph {}", f.command), "a run of mechgraph lib"));
        }
        let model = Model::load(&f.model.path, dtype(f.dtype)?)?;
        if model.sha256 != f.model.sha256 {
            let found = format!("a run of another model, with sha256 {}", f.model.sha256);
            let expected = format!("a run of the model at {}, with sha256 {}", f.model.path, model.sha256);
            return Err(Error::file(path, found, expected));
        }
        let listed = dir.file("run.json");
        if manifest.node_layers.is_empty() {
            return Err(Error::file(&listed, "no node_layers", "those of a finished run of mechgraph lib"));
        }
        let graph = Stored::open(&dir.file(store::FILE), manifest.node_layers.clone())?;
        let names: Vec<String> = graph.layers.iter().map(|l| l.name.clone()).collect();
        let nodes = nodes(&model.model.network(true)?, &names, false).map_err(|e| {
            let found = format!("node layers {} ({e})", names.join(", "));
            Error::file(&dir.file("run.json"), found, "node layers of the run's model, as mechgraph lib writes them")
        })?;
        match graph.layers.iter().zip(&nodes).find(|(l, node)| l.width != node.width()) {
            None => Ok(Self { dir, manifest, model, graph, nodes }),
            Some((l, node)) => {
                let found = format!("node layer {} with {} coordinates", l.name, l.width);
                Err(Error::file(&listed, found, format!("{}, as in the model", node.width())))
            }
        }
    }
}

/// Runs `mechgraph ablate`.
pub fn run(args: Args) -> Result<()> {
    args.check()?;
    let progress = args.common.progress();
    let device = args.common.device(DType::F64, &progress)?;
    let run = Opened::new(&args.run, |default| args.common.dtype(&device, default))?;
    check_free(&run.dir.file(args.file_name()), args.common.force)?;
    let model = &run.model.model;
    let path = &run.manifest.fingerprint.model.path;
    if !path.starts_with("demo:") {
        args.data.required()?;
    }
    let spec = args.data.or_split(path, "test");
    let set = args.data.load(&spec, &run.model)?;
    let fingerprint = fingerprint(&args, &run, (&spec, &set), device.backend());
    let runner = args.common.runner(&device, &progress)?;
    let (bench, protocol) = (Bench::new(model, set, &runner)?, args.protocol()?);
    let (kind, (base, curves)) = match args.kind {
        Kind::Node => (curves::Kind::Node, ablate_nodes(&args, &run, &bench, &protocol)?),
        Kind::Edge => (curves::Kind::Edge, ablate_edges(&args, &run, &bench, &protocol)?),
    };
    let ablation = Ablation { fingerprint, kind, metric: protocol.metric, unablated: base.of(protocol.metric), curves };
    run.dir.write(args.file_name(), ablation.to_json()?.as_bytes())?;
    page::write(&run.dir, &run.manifest)?;
    print(&table(&ablation, args.file_name()))
}

fn fingerprint(args: &Args, run: &Opened, (spec, set): (&str, &DataSet), backend: &str) -> Fingerprint {
    Fingerprint {
        command: "ablate".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        config: args.common.flags.clone(),
        model: run.manifest.fingerprint.model.clone(),
        data: Some(Source::of_data(set, spec)),
        gram_data: None,
        held_out: None,
        augment: None,
        seed: args.common.seed,
        dtype: run.model.model.dtype(),
        backend: backend.into(),
    }
}

/// The score of the model as it is, and the curves by node layer.
type Curves = (Score, Vec<(String, Curve)>);

fn ablate_nodes(args: &Args, run: &Opened, bench: &Bench, protocol: &Protocol) -> Result<Curves> {
    let layers = &run.graph.layers;
    // Directions of the output are logits: nothing reads them.
    let chosen = args.chosen(&run.graph, |l| layers[l].rotated && layers[l].name != "output")?;
    chosen.iter().try_for_each(|&l| args.check_at(&layers[l].name, layers[l].width, "directions"))?;
    let (base, mut curves) = (bench.unablated()?, Vec::new());
    for l in chosen {
        let basis = match args.basis {
            AblationBasis::Lib => run.graph.basis(l)?,
            AblationBasis::Pca => run.graph.principal(l)?,
        };
        let Some(basis) = basis else { continue };
        let k = basis.0.ncols();
        let measure = |kept: &[usize]| {
            // Without directions that were truncated before, nothing is ablated.
            let some: Vec<usize> = kept.iter().copied().filter(|&n| n < k).collect();
            let mut found = bench.nodes(&run.nodes[l], &basis, &some)?.into_iter();
            Ok(kept.iter().map(|&n| if n < k { found.next().unwrap_or(base) } else { base }.of(protocol.metric)).collect())
        };
        let curve = protocol.run(layers[l].width, base.of(protocol.metric), WAVE, measure)?;
        curves.push((layers[l].name.clone(), curve));
    }
    Ok((base, curves))
}

fn ablate_edges(args: &Args, run: &Opened, bench: &Bench, protocol: &Protocol) -> Result<Curves> {
    let (layers, last) = (&run.graph.layers, run.graph.layers.len().saturating_sub(1));
    if run.graph.edges(0)?.is_none() {
        return Err(Error::file(&run.dir.file(store::FILE), "no edges", "a run with edges (mechgraph lib without --edges none)"));
    }
    let chosen = args.chosen(&run.graph, |l| l < last && layers[l].rotated)?;
    let total = |l: usize| layers[l].width * layers[l + 1].width;
    chosen.iter().try_for_each(|&l| args.check_at(&layers[l].name, total(l), "edges"))?;
    let (base, mut curves) = (bench.unablated()?, Vec::new());
    for l in chosen {
        let (Some(e), Some(basis)) = (run.graph.edges(l)?, run.graph.basis(l)?) else { continue };
        let section = Masked::new(bench, [&run.nodes[l], &run.nodes[l + 1]], basis, run.graph.basis(l + 1)?.as_ref());
        let one = |&kept: &usize| {
            let mask = EdgeMask::new(&e, kept, layers[l].constant);
            let name = format!("edges {}, {kept} kept", layers[l].name);
            Ok(bench.edges(&section, &mask, &name)?.of(protocol.metric))
        };
        let curve = protocol.run(total(l), base.of(protocol.metric), 1, |kept| kept.iter().map(one).collect())?;
        curves.push((layers[l].name.clone(), curve));
    }
    Ok((base, curves))
}

/// The curves as text: some points of each, and what the bisections found.
fn table(ablation: &Ablation, file: &str) -> String {
    let (kind, metric) = (ablation.kind.name(), ablation.metric.name());
    let width = ablation.curves.iter().map(|(layer, _)| layer.len()).max().unwrap_or(0).max("node layer".len());
    let mut out = format!("{:<width$}  {:>10}  {metric:>9}\n", "node layer", format!("{kind}s kept"));
    let mut row = |layer: &str, kept: &str, value: f64| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{layer:<width$}  {kept:>10}  {value:>9.5}");
    };
    row("", "all", ablation.unablated);
    for (layer, curve) in &ablation.curves {
        let points: Vec<(&usize, &f64)> = curve.points.iter().rev().collect();
        let step = points.len().saturating_sub(1).div_ceil(SHOWN - 1).max(1);
        let shown = |i: usize| (points.len() - 1 - i).is_multiple_of(step) || Some(*points[i].0) == curve.required;
        (0..points.len()).filter(|&i| shown(i)).for_each(|i| row(layer, &points[i].0.to_string(), *points[i].1));
    }
    for (layer, curve) in &ablation.curves {
        if let Some(required) = curve.required {
            let _ = writeln!(out, "{layer}: {required} {kind}s required");
        }
    }
    out + &format!("all points: {file}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::ablate_args;

    #[test]
    fn each_kind_has_its_schedule_and_file() {
        let node = ablate_args("--kind node").unwrap();
        assert_eq!(node.schedule().unwrap(), Schedule::Exponential { base: 1.05, cutoff: 10 });
        assert_eq!((node.file_name(), node.metric), ("ablation-node.json", Metric::Accuracy));
        let edge = ablate_args("--kind edge").unwrap();
        assert_eq!(
            edge.schedule().unwrap(),
            Schedule::Bisect { target: 0.001, midpoint: schedule::Midpoint::Linear, tolerance: 1 }
        );
        assert_eq!(edge.file_name(), "ablation-edge.json");
        assert_eq!(ablate_args("--kind node --basis pca").unwrap().file_name(), "ablation-node-pca.json");
    }

    #[test]
    fn flags_spell_the_schedule() {
        let schedule = |flags: &str| ablate_args(flags).unwrap().schedule().unwrap();
        assert_eq!(schedule("--kind edge --schedule linear --points 5"), Schedule::Linear { points: 5 });
        assert_eq!(schedule("--kind node --base 2 --cutoff 0"), Schedule::Exponential { base: 2.0, cutoff: 0 });
        let bisect = schedule("--kind node --schedule bisect --target 0.2 --midpoint logarithmic --tolerance 4");
        assert_eq!(bisect, Schedule::Bisect { target: 0.2, midpoint: schedule::Midpoint::Logarithmic, tolerance: 4 });
        let args = ablate_args("--kind node --at 3,1 --stop-at 0.5 --layers ln1.0,unembed --metric loss").unwrap();
        assert_eq!((args.at, args.stop_at, args.layers.len(), args.metric), (vec![3, 1], Some(0.5), 2, Metric::Loss));
    }

    #[test]
    fn flags_of_another_schedule_are_refused() {
        let cases = [
            ("--kind edge --base 2", "--base: found the bisect schedule; expected --schedule exponential"),
            ("--kind node --points 3", "--points: found the exponential schedule; expected --schedule linear"),
            ("--kind node --target 0.1", "--target: found the exponential schedule; expected --schedule bisect"),
            ("--kind edge --at 3", "--at: found the bisect schedule; expected --schedule exponential or --schedule linear"),
            ("--kind edge --stop-at 0.1", "--stop-at: found the bisect schedule"),
            ("--kind node --schedule linear", "--points: found nothing"),
            ("--kind node --schedule linear --points 1", "--points: found 1"),
            ("--kind node --base 0.5", "--base: found 0.5"),
            ("--kind edge --basis pca", "--basis: found pca with --kind edge"),
            ("--kind node --layers a,a", "--layers: found a twice"),
            ("--kind node --at 1,,2", "usage: "),
            ("--kind edge --tolerance 0", "usage: "),
            ("", "usage: "),
        ];
        for (flags, part) in cases {
            let error = ablate_args(flags).unwrap_err();
            assert!(error.starts_with(part), "{flags}: {error}");
        }
    }
}
