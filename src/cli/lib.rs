//! `mechgraph lib`: the flags of a LIB run, the combinations of them that make sense, and the run.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;

use super::common::{Common, DataFlags, check_unique, parse_count, parse_non_negative, typed};
use super::run_dir::RunDir;
use crate::basis::quadrature::{Rule, points};
use crate::basis::rotation::Threshold;
use crate::basis::{self, BasisKind, EdgeKind, Options, Problem, store};
use crate::data::stream::Runner;
use crate::data::{self, DataSet};
use crate::device::{DType, Device};
use crate::error::{Error, Result};
use crate::manifest::{DeviceInfo, Fingerprint, Manifest, Source};
use crate::model::{Loaded, Model};

/// The default of `--threshold-rel`.
const DEFAULT_RELATIVE_THRESHOLD: f64 = 1e-10;
/// The most intervals of a quadrature; beyond it, rounding outweighs what they add.
const MAX_INTERVALS: usize = 10_000;
/// The most random sources; the exact sum has fewer terms than that.
const MAX_SOURCES: usize = 1 << 16;

/// Compute the Local Interaction Basis of a model and its interaction graph
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder of the model, demo:modadd or demo:lm
    #[arg(value_name = "MODEL")]
    pub model: String,
    #[command(flatten)]
    pub data: DataFlags,
    /// Folder to write the run into
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Node layers in model order [default: the model's own]
    #[arg(long, value_name = "A,B,..", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub node_layers: Vec<String>,
    /// jacobian (default), pca, svd, neuron, (1-0)*alpha, (1-alpha)^2
    #[arg(long, value_name = "NAME", default_value = "jacobian", hide_possible_values = true, hide_default_value = true)]
    pub basis: Basis,
    /// squared, functional or none
    #[arg(long, value_name = "FORMULA", default_value = "squared", hide_possible_values = true)]
    pub edges: EdgeFormula,
    /// Random sources over output positions [default: exact]
    #[arg(long, value_name = "R", value_parser = parse_sources)]
    pub sources_pos: Option<NonZeroUsize>,
    /// Random sources over output features [default: exact]
    #[arg(long, value_name = "R", value_parser = parse_sources)]
    pub sources_hidden: Option<NonZeroUsize>,
    /// Random sources of the edges [default: exact]
    #[arg(long, value_name = "R", value_parser = parse_sources)]
    pub sources_edges: Option<NonZeroUsize>,
    /// gradient, trapezoidal or gauss-legendre
    #[arg(long, value_name = "RULE", default_value = "gradient", hide_possible_values = true)]
    pub integration: Integration,
    /// Intervals of the rule, which has N + 1 points [default: 0]
    #[arg(long, value_name = "N", value_parser = parse_intervals)]
    pub intervals: Option<usize>,
    /// Another rule for a node layer, or all of a kind; repeatable
    #[arg(long, value_name = "LAYER=RULE:N")]
    pub quadrature: Vec<LayerQuadrature>,
    /// Keep eigenvalues above T
    #[arg(long, value_name = "T", value_parser = parse_non_negative)]
    pub threshold: Option<f64>,
    /// Keep those above R times the largest [default: 1e-10]
    #[arg(long, value_name = "R", value_parser = parse_non_negative)]
    pub threshold_rel: Option<f64>,
    /// Other data for means and Gram matrices
    #[arg(long, value_name = "DATA")]
    pub gram_data: Option<String>,
    /// Rotate the last node layer [default: unless it is output]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub rotate_final: Option<bool>,
    /// Do not centre activations
    #[arg(long)]
    pub no_center: bool,
    /// Do not isolate the variance of LayerNorms
    #[arg(long)]
    pub no_isolate_ln_var: bool,
    /// Naive gradient flow: Jacobians to the last node layer
    #[arg(long)]
    pub ngf: bool,
    /// auto, moments or jvp: the road of each section
    #[arg(long, value_name = "ROAD", default_value = "auto", hide_possible_values = true)]
    pub method: Method,
    #[command(flatten)]
    pub common: Common,
}

/// The basis of each node layer (spec/lib.md, 1.5 and 1.6).
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    Jacobian,
    // The paper's artefacts say svd, the field says PCA: one basis.
    #[value(alias = "svd")]
    Pca,
    Neuron,
    #[value(name = "(1-0)*alpha")]
    OneMinusZeroTimesAlpha,
    #[value(name = "(1-alpha)^2")]
    OneMinusAlphaSquared,
}

impl Basis {
    /// Whether the basis is made from the matrix M' of the section that follows.
    pub fn uses_jacobians(self) -> bool {
        !matches!(self, Basis::Pca | Basis::Neuron)
    }
}

/// The formula of the edges (spec/lib.md, 1.10).
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeFormula {
    Squared,
    Functional,
    None,
}

/// The rule of integration over alpha (spec/lib.md, 1.9).
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integration {
    Gradient,
    Trapezoidal,
    GaussLegendre,
}

/// The road to M' and the edges.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Auto,
    Moments,
    Jvp,
}

/// A rule with its number of intervals (0 for [`Integration::Gradient`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quadrature {
    pub rule: Integration,
    pub intervals: usize,
}

impl Quadrature {
    /// The points of the rule.
    fn points(self) -> basis::closed::Nodes {
        let rule = match self.rule {
            Integration::Gradient => Rule::Gradient,
            Integration::Trapezoidal => Rule::Trapezoidal,
            Integration::GaussLegendre => Rule::GaussLegendre,
        };
        points(rule, self.intervals)
    }
}

/// The quadrature of one node layer (`ln1.0`) or of all layers of a kind (`ln1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerQuadrature {
    pub layer: String,
    pub quadrature: Quadrature,
}

impl FromStr for LayerQuadrature {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parse = || {
            let (layer, quadrature) = text.split_once('=').filter(|(layer, _)| !layer.is_empty())?;
            let (rule, intervals) = quadrature.split_once(':').unwrap_or((quadrature, "0"));
            let quadrature =
                Quadrature { rule: Integration::from_str(rule, false).ok()?, intervals: parse_intervals(intervals).ok()? };
            let is_legal = quadrature.rule != Integration::Gradient || quadrature.intervals == 0;
            is_legal.then(|| Self { layer: layer.into(), quadrature })
        };
        parse().ok_or_else(|| {
            "expected LAYER=trapezoidal:N, LAYER=gauss-legendre:N or LAYER=gradient, as in ln1.0=gauss-legendre:5".into()
        })
    }
}

impl Args {
    /// Refuses combinations of flags that contradict each other.
    pub fn check(&self) -> Result<()> {
        self.common.check()?;
        self.data.check(&self.model)?;
        check_unique("--node-layers", &self.node_layers)?;
        self.check_integration()?;
        self.check_sources()?;
        if let (Some(absolute), Some(relative)) = (self.threshold, self.threshold_rel) {
            return Err(Error::flag("--threshold", format!("{absolute} and --threshold-rel {relative}"), "one of the two"));
        }
        if let Some(r) = self.threshold_rel.filter(|r| *r >= 1.0) {
            return Err(Error::flag("--threshold-rel", r.to_string(), "a part of the largest eigenvalue, below 1"));
        }
        // Of the path from 0 to the activations the gradient sees the end alone, where 1 - alpha is 0.
        let sees_path =
            self.quadrature.iter().map(|q| q.quadrature.rule).chain([self.integration]).any(|r| r != Integration::Gradient);
        if self.basis == Basis::OneMinusAlphaSquared && !sees_path {
            return Err(Error::flag(
                "--basis",
                "(1-alpha)^2 with --integration gradient, where it is 0",
                "--integration trapezoidal or gauss-legendre beside it",
            ));
        }
        if self.ngf && !self.basis.uses_jacobians() {
            return Err(Error::flag("--ngf", format!("--basis {}", typed(self.basis)), "a basis that uses Jacobians"));
        }
        self.node_layers.last().map_or(Ok(()), |last| self.rotate_final(last).map(drop))
    }
    fn check_integration(&self) -> Result<()> {
        if let (Integration::Gradient, Some(n @ 1..)) = (self.integration, self.intervals) {
            return Err(Error::flag(
                "--intervals",
                format!("{n} with --integration gradient"),
                "--integration trapezoidal or gauss-legendre",
            ));
        }
        let layers: Vec<String> = self.quadrature.iter().map(|q| q.layer.clone()).collect();
        check_unique("--quadrature", &layers)?;
        let matches = |q: &&LayerQuadrature| self.node_layers.iter().any(|l| *l == q.layer || kind(l) == q.layer);
        match self.quadrature.iter().find(|q| !self.node_layers.is_empty() && !matches(q)) {
            Some(q) => Err(Error::flag(
                "--quadrature",
                &q.layer,
                format!("one of {}, or its name before the dot", self.node_layers.join(", ")),
            )),
            None => Ok(()),
        }
    }
    fn check_sources(&self) -> Result<()> {
        let sources = [
            ("--sources-pos", self.sources_pos),
            ("--sources-hidden", self.sources_hidden),
            ("--sources-edges", self.sources_edges),
        ];
        let Some((flag, _)) = sources.into_iter().find(|(_, r)| r.is_some()) else { return Ok(()) };
        if self.method == Method::Moments {
            return Err(Error::flag(flag, "--method moments, which is exact", "--method jvp or auto"));
        }
        let basis_source = sources[..2].iter().find(|(_, r)| r.is_some() && self.basis != Basis::Jacobian);
        if let Some((flag, _)) = basis_source {
            return Err(Error::flag(flag, format!("--basis {}", typed(self.basis)), "--basis jacobian"));
        }
        if self.sources_edges.is_some() && self.edges != EdgeFormula::Squared {
            return Err(Error::flag("--sources-edges", format!("--edges {}", typed(self.edges)), "--edges squared"));
        }
        Ok(())
    }
    /// The quadrature of a node layer: `--quadrature` by its name, else by its kind, else
    /// `--integration` and `--intervals`.
    pub fn quadrature_of(&self, layer: &str) -> Quadrature {
        let named = |name: &str| self.quadrature.iter().find(|q| q.layer == name).map(|q| q.quadrature);
        let general = Quadrature { rule: self.integration, intervals: self.intervals.unwrap_or(0) };
        named(layer).or_else(|| named(kind(layer))).unwrap_or(general)
    }
    /// The threshold for PCA eigenvalues and Lambda alike.
    pub fn threshold(&self) -> Threshold {
        let relative = Threshold::Relative(self.threshold_rel.unwrap_or(DEFAULT_RELATIVE_THRESHOLD));
        self.threshold.map_or(relative, Threshold::Absolute)
    }
    /// The options of the run, those left open filled in for `model`.
    fn options(&self, model: &Model) -> Result<Options> {
        let node_layers = match self.node_layers.is_empty() {
            false => self.node_layers.clone(),
            true => model.default_node_layers(),
        };
        let last = node_layers.last().map(String::as_str).unwrap_or_default();
        let sources = |r: Option<NonZeroUsize>| r.map(NonZeroUsize::get);
        Ok(Options {
            basis: match self.basis {
                Basis::Jacobian => BasisKind::Jacobian,
                Basis::Pca => BasisKind::Pca,
                Basis::Neuron => BasisKind::Neuron,
                Basis::OneMinusZeroTimesAlpha => BasisKind::OneMinusZero,
                Basis::OneMinusAlphaSquared => BasisKind::OneMinusAlphaSquared,
            },
            edges: match self.edges {
                EdgeFormula::Squared => EdgeKind::Squared,
                EdgeFormula::Functional => EdgeKind::Functional,
                EdgeFormula::None => EdgeKind::None,
            },
            sources_pos: sources(self.sources_pos),
            sources_hidden: sources(self.sources_hidden),
            sources_edges: sources(self.sources_edges),
            quadrature: node_layers.iter().map(|l| self.quadrature_of(l).points()).collect(),
            threshold: self.threshold(),
            rotate_final: self.rotate_final(last)?,
            centre: !self.no_center,
            isolate_variance: !self.no_isolate_ln_var,
            ngf: self.ngf,
            method: match self.method {
                Method::Auto => basis::Method::Auto,
                Method::Moments => basis::Method::Moments,
                Method::Jvp => basis::Method::Jvp,
            },
            seed: self.common.seed,
            node_layers,
        })
    }
    fn manifest(
        &self,
        model: &Loaded,
        data: (&str, &DataSet),
        gram: Option<&DataSet>,
        dtype: DType,
        device: &Device,
    ) -> Manifest {
        let source = |(spec, set): (&str, &DataSet)| Source::of_data(set, spec);
        let fingerprint = Fingerprint {
            command: "lib".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            config: self.common.flags.clone(),
            model: Source::new(model.name.clone(), &self.model, model.sha256.clone()),
            data: Some(source(data)),
            gram_data: self.gram_data.as_deref().zip(gram).map(source),
            held_out: None,
            augment: None,
            seed: self.common.seed,
            dtype,
            backend: device.backend().into(),
        };
        Manifest::new(fingerprint, DeviceInfo::of(device))
    }
    /// Whether to rotate the last node layer, which is `last`.
    pub fn rotate_final(&self, last: &str) -> Result<bool> {
        match self.rotate_final {
            // The output holds no constant coordinate that could carry its mean.
            Some(true) if last == "output" && !self.no_center => Err(Error::flag(
                "--rotate-final",
                "output as the last node layer",
                "--no-center beside it, or another last node layer",
            )),
            choice => Ok(choice.unwrap_or(last != "output")),
        }
    }
}

/// The kind of a node layer: its name before the dot.
fn kind(layer: &str) -> &str {
    layer.split('.').next().unwrap_or(layer)
}

/// Runs `mechgraph lib`.
pub fn run(args: Args) -> Result<()> {
    args.check()?;
    let progress = args.common.progress();
    let device = args.common.device(DType::F64, &progress)?;
    let dtype = args.common.dtype(&device, DType::F64)?;
    let loaded = Model::load(&args.model, dtype)?;
    let spec = args.data.or_split(&args.model, "train");
    let set = args.data.load(&spec, &loaded)?;
    let gram_set = args.gram_data.as_ref().map(|g| data::load_or_cut(g, &loaded, args.data.cut())).transpose()?;
    let options = args.options(&loaded.model)?;
    let manifest = args.manifest(&loaded, (&spec, &set), gram_set.as_ref(), dtype, &device);
    let problem = Problem { model: &loaded.model, data: &set, gram_data: gram_set.as_ref(), options: &options };
    let runner = args.common.runner(&device, &progress)?;
    basis::check(problem, &runner)?;
    let dir = RunDir::create(&args.out, args.common.force, &manifest)?;
    let runner = Runner { checkpoints: Some(dir.checkpoints()), ..runner };
    compute(problem, &runner, &dir, manifest).inspect_err(|_| dir.abandon())
}

/// Computes the graph and writes the files of the run.
fn compute(problem: Problem, runner: &Runner, dir: &RunDir, mut manifest: Manifest) -> Result<()> {
    let (graph, progress) = (basis::build(problem, runner)?, runner.progress);
    // A graph without nodes is of no use to a reader, whatever it says of the model.
    if let Some(empty) = graph.layers.iter().rev().find(|l| l.k() == 0) {
        let expected = "at least one: data that varies, weights that carry it to the next node layer, or a lower threshold";
        return Err(Error::numeric(format!("node layer {}", empty.node.name), "no direction above the threshold", expected));
    }
    dir.write(store::FILE, &graph.to_safetensors()?)?;
    manifest.roads.clone_from(&graph.roads);
    manifest.node_layers = graph.node_layers();
    manifest.plan_bytes = Some(progress.plan_bytes());
    manifest.operations = runner.device.placed();
    // The page shows the times.
    manifest.finish(progress.times());
    super::page::write(dir, &manifest)?;
    dir.finish(manifest, Vec::new())
}

fn parse_sources(text: &str) -> std::result::Result<NonZeroUsize, String> {
    parse_count(text, MAX_SOURCES)
}

fn parse_intervals(text: &str) -> std::result::Result<usize, String> {
    let intervals = text.parse().ok().filter(|n| *n <= MAX_INTERVALS);
    intervals.ok_or_else(|| format!("expected a whole number from 0 to {MAX_INTERVALS}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::{lib_args, parsed};

    const MODEL: &str = "--data D --node-layers ln1.0,ln1.1,unembed";

    fn ok(flags: &str) -> Args {
        lib_args(&format!("{MODEL} {flags}")).unwrap()
    }

    fn refusal(flags: &str) -> String {
        lib_args(&format!("{MODEL} {flags}")).unwrap_err()
    }

    #[test]
    fn defaults_are_those_of_the_paper() {
        let args = ok("");
        assert_eq!((args.basis, args.edges, args.method), (Basis::Jacobian, EdgeFormula::Squared, Method::Auto));
        assert_eq!(args.quadrature_of("ln1.0"), Quadrature { rule: Integration::Gradient, intervals: 0 });
        assert_eq!(args.threshold(), Threshold::Relative(1e-10));
        assert!(!args.no_center && !args.no_isolate_ln_var && !args.ngf && args.common.seed == 0);
        assert_eq!((args.rotate_final("unembed").unwrap(), args.rotate_final("output").unwrap()), (true, false));
        assert!(parsed("mechgraph lib demo:modadd --out R").is_ok());
    }

    #[test]
    fn every_basis_has_its_name() {
        for (name, basis) in [
            ("jacobian", Basis::Jacobian),
            ("pca", Basis::Pca),
            ("svd", Basis::Pca),
            ("neuron", Basis::Neuron),
            ("(1-0)*alpha", Basis::OneMinusZeroTimesAlpha),
            ("(1-alpha)^2", Basis::OneMinusAlphaSquared),
        ] {
            assert_eq!(ok(&format!("--basis {name} --integration trapezoidal")).basis, basis);
        }
    }

    #[test]
    fn quadratures_are_found_by_name_then_kind() {
        let args = ok("--integration trapezoidal --intervals 7 --quadrature ln1=gauss-legendre:5 --quadrature ln1.0=gradient");
        let of = |layer: &str| (args.quadrature_of(layer).rule, args.quadrature_of(layer).intervals);
        assert_eq!(of("ln1.0"), (Integration::Gradient, 0));
        assert_eq!(of("ln1.1"), (Integration::GaussLegendre, 5));
        assert_eq!(of("unembed"), (Integration::Trapezoidal, 7));
        for bad in
            ["ln1.0", "=gradient", "ln1.0=simpson:3", "ln1.0=gradient:2", "ln1.0=trapezoidal:x", "ln1.0=trapezoidal:99999999"]
        {
            assert!(refusal(&format!("--quadrature {bad}")).starts_with("usage: "), "{bad}");
        }
        assert!(refusal("--quadrature ln2=gradient").contains("--quadrature: found ln2; expected one of ln1.0, ln1.1, unembed"));
        assert!(refusal("--quadrature ln1=gradient --quadrature ln1=gradient").contains("ln1 twice"));
    }

    #[test]
    fn contradictions_are_named() {
        let cases = [
            ("--intervals 3", "--intervals: found 3 with --integration gradient"),
            ("--integration gradient --intervals 1", "--intervals: found 1"),
            ("--threshold 1e-15 --threshold-rel 1e-8", "--threshold: found"),
            ("--threshold-rel 1", "--threshold-rel: found 1"),
            ("--ngf --basis pca", "--ngf: found --basis pca"),
            ("--sources-pos 3 --basis (1-alpha)^2", "--sources-pos: found --basis (1-alpha)^2"),
            ("--basis (1-alpha)^2", "--basis: found (1-alpha)^2 with --integration gradient"),
            ("--sources-hidden 3 --method moments", "--sources-hidden: found --method moments"),
            ("--sources-edges 3 --edges functional", "--sources-edges: found --edges functional"),
        ];
        for (flags, part) in cases {
            assert!(refusal(flags).starts_with(part), "{flags}: {}", refusal(flags));
        }
        for flags in
            ["--threshold -1", "--threshold nan", "--sources-pos 0", "--sources-edges 65537", "--edges both", "--basis ica"]
        {
            assert!(refusal(flags).starts_with("usage: "), "{flags}");
        }
        assert_eq!(ok("--integration gradient --intervals 0").quadrature_of("x").intervals, 0);
        assert_eq!(ok("--threshold 1e-15").threshold(), Threshold::Absolute(1e-15));
    }

    #[test]
    fn node_layers_and_data_are_checked() {
        assert!(lib_args("--node-layers ln1.0").unwrap_err().starts_with("--data: found nothing"));
        assert!(lib_args("--data D --node-layers a,,b").unwrap_err().starts_with("usage: "));
        assert!(lib_args("--data D --node-layers a,b,a").unwrap_err().contains("a twice"));
        let output = "--data D --node-layers ln1.0,output --rotate-final";
        assert!(lib_args(output).unwrap_err().starts_with("--rotate-final: found output as the last node layer"));
        assert!(lib_args(&format!("{output} --no-center")).unwrap().rotate_final("output").unwrap());
        assert!(!ok("--rotate-final=false").rotate_final("unembed").unwrap());
    }
}
