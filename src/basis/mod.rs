//! LIB, the Local Interaction Basis: bases of node layers and the interaction graph between them
//! (`lib.md` 1.1).
//!
//! One pass gathers means, Gram matrices and the data-only moments of all sections. The bases
//! follow from the last node layer to the first: dense algebra, and one more pass for a section
//! whose moments need the next basis. A last pass sums the edges.

pub mod ablation;
pub mod closed;
pub mod curves;
pub mod edge_mask;
pub mod edges;
pub mod host;
pub mod jvp;
mod passes;
pub mod plan;
pub mod quadrature;
pub mod rotation;
pub mod schedule;
pub mod store;

use faer::Mat;
use rayon::prelude::*;

use self::closed::Nodes;
use self::passes::Slot;
use self::plan::{Node, Section};
use self::rotation::{Basis, Moments, Pca, PcaOptions, Threshold};
use crate::data::DataSet;
use crate::data::stream::{self, Runner, Sum};
use crate::device::{Builder, DType, Tensor};
use crate::error::{Error, Result};
use crate::manifest::Road;
use crate::model::Model;
use crate::model::forward::{Batch, Taps, Value, forward};
use crate::model::sections::Network;
use crate::ops::{Launch, copy};

/// Which basis (`lib.md` 1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasisKind {
    /// The paper's LIB.
    Jacobian,
    /// Eigenvectors of the Gram matrix: PCA, or the raw SVD without centring.
    Pca,
    /// The coordinates themselves.
    Neuron,
    OneMinusZero,
    OneMinusAlphaSquared,
}

/// Which edges (`lib.md` 1.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeKind {
    Squared,
    Functional,
    None,
}

/// Which road to M' and the edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The closed form wherever it is exact.
    Auto,
    /// The closed form, or an error where there is none.
    Moments,
    /// Batched Jacobian products everywhere.
    Jvp,
}

/// Everything that decides the numbers of a graph, beside model and data.
#[derive(Clone, Debug)]
pub struct Options {
    pub node_layers: Vec<String>,
    pub basis: BasisKind,
    pub edges: EdgeKind,
    pub sources_pos: Option<usize>,
    pub sources_hidden: Option<usize>,
    pub sources_edges: Option<usize>,
    /// Quadrature points of each node layer.
    pub quadrature: Vec<Nodes>,
    pub threshold: Threshold,
    pub rotate_final: bool,
    pub centre: bool,
    pub isolate_variance: bool,
    /// Naive gradient flow: Jacobians to the last node layer.
    pub ngf: bool,
    pub method: Method,
    pub seed: u64,
}

/// A node layer of the graph.
#[derive(Clone, Debug)]
pub struct Layer {
    pub node: Node,
    /// Absent for an unrotated last layer.
    pub moments: Option<Moments>,
    pub basis: Option<Basis>,
}

impl Layer {
    /// Number of features.
    pub fn k(&self) -> usize {
        self.basis.as_ref().map_or(self.node.width(), Basis::k)
    }
}

/// The interaction graph.
#[derive(Clone, Debug)]
pub struct Graph {
    pub layers: Vec<Layer>,
    /// Between layer i and i + 1: `[k_out, k_in]`.
    pub edges: Vec<Mat<f64>>,
    /// Whether Gram matrices are centred.
    pub centred: bool,
    pub roads: Vec<Road>,
}

/// Model, data and options of a run.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    pub model: &'a Model,
    pub data: &'a DataSet,
    /// Other data for means and Gram matrices.
    pub gram_data: Option<&'a DataSet>,
    pub options: &'a Options,
}

/// The plan of a run, made before any data is touched.
#[derive(Debug)]
struct Plan<'a> {
    problem: Problem<'a>,
    net: Network,
    nodes: Vec<Node>,
    sections: Vec<Section>,
    dtype: DType,
    /// Whether features are centred; the neuron basis never is.
    centre: bool,
}

/// What of a section takes the closed form.
#[derive(Clone, Copy, Debug, Default)]
struct Takes {
    basis: bool,
    edges: bool,
}

/// The road of each section: for people, and for the run.
#[derive(Debug)]
struct Roads {
    report: Vec<Road>,
    closed: Vec<Takes>,
}

/// Sums of one pass over the graph data.
struct Gathered {
    moments: Vec<Option<Moments>>,
    /// By section: sums of the data-only closed forms.
    sections: Vec<Vec<Vec<f64>>>,
}

/// Refuses options that the model cannot follow and plans that do not fit into memory, before any
/// work.
pub fn check(problem: Problem, runner: &Runner) -> Result<()> {
    passes::check_matrices(problem, runner.memory)?;
    let plan = Plan::new(problem)?;
    plan.check_memory(&plan.roads()?.closed, runner)
}

/// Computes bases and edges.
pub fn build(problem: Problem, runner: &Runner) -> Result<Graph> {
    let cpu = runner.device.host();
    let plan = Plan::new(problem)?;
    let Roads { report, closed } = plan.roads()?;
    let gathered = plan.gather(runner, problem.data, &closed, "moments")?;
    let gram = match problem.gram_data {
        Some(data) => plan.gather(runner, data, &[], "grams")?.moments,
        None => gathered.moments.clone(),
    };
    let stage = runner.progress.stage("bases", plan.nodes.len() as u64, "layers");
    let pcas: Vec<Option<Pca>> = cpu.install(|| {
        let one = |(node, m): (&Node, &Option<Moments>)| m.as_ref().map(|m| plan.pca(node, m)).transpose();
        plan.nodes.par_iter().zip(&gram).map(one).collect::<Result<_>>()
    })?;
    let mut bases: Vec<Option<Basis>> = vec![None; plan.nodes.len()];
    for l in (0..plan.nodes.len()).rev() {
        bases[l] = plan.basis(l, &pcas, &gram, &bases, &gathered, &closed, runner)?;
        bases[l].iter().try_for_each(|b| plan.check_basis(l, b))?;
        stage.add(1);
    }
    stage.finish();
    let edges = plan.edges(&bases, &gathered, &closed, runner)?;
    let layers =
        plan.nodes.iter().zip(gram).zip(bases).map(|((node, moments), basis)| Layer { node: node.clone(), moments, basis });
    Ok(Graph { layers: layers.collect(), edges, centred: plan.centre, roads: report })
}

/// M' `[d, d]` of the section that the basis of node layer `l` looks through (`lib.md` 1.6), by the
/// road that the options ask for, and L' `[d, d]` of the older formulas. `c` is C `[d_out, k]` of the
/// node layer at the section's end; without it, the section ends in raw coordinates.
///
/// Fails where [`build`] does, and on a layer without a section or a C of other height.
pub fn section_m_dash(problem: Problem, l: usize, c: Option<&Mat<f64>>, runner: &Runner) -> Result<(Mat<f64>, Option<Mat<f64>>)> {
    let plan = Plan::new(problem)?;
    let closed = plan.roads()?.closed;
    if l + 1 >= plan.nodes.len() {
        return Err(Error::shape("M'", format!("node layer {l}"), format!("one of the first {}", plan.nodes.len() - 1)));
    }
    let d_out = plan.sections[plan.basis_section(l)].to.width();
    if let Some(c) = c.filter(|c| c.nrows() != d_out) {
        return Err(Error::shape("M'", format!("C of {} rows", c.nrows()), format!("{d_out} rows")));
    }
    let gathered = plan.gather(runner, problem.data, &closed, "moments")?;
    plan.m_dash(l, c, &gathered, &closed, runner)
}

/// Edges `[k_out, k_in]` of all sections between given bases, one a node layer; only the last may be
/// absent. Fails where [`build`] does, and on bases that do not fit the node layers.
pub fn edges_between(problem: Problem, bases: &[Option<Basis>], runner: &Runner) -> Result<Vec<Mat<f64>>> {
    let plan = Plan::new(problem)?;
    let closed = plan.roads()?.closed;
    let (last, nodes) = (plan.nodes.len() - 1, &plan.nodes);
    let fits = |(l, b): (usize, &Option<Basis>)| {
        b.as_ref().map_or(l == last, |b| {
            b.c.nrows() == nodes[l].width() && b.c_pinv.ncols() == b.c.nrows() && b.c_pinv.nrows() == b.k()
        })
    };
    if bases.len() != nodes.len() || !bases.iter().enumerate().all(fits) {
        let widths: Vec<usize> = nodes.iter().map(Node::width).collect();
        return Err(Error::shape(
            "edges",
            format!("{} bases of other shapes", bases.len()),
            format!("bases of node layers of widths {widths:?}"),
        ));
    }
    let gathered = plan.gather(runner, problem.data, &closed, "moments")?;
    plan.edges(bases, &gathered, &closed, runner)
}

/// Emits the model's input for a block and what the first modules make of it.
pub fn start(b: &mut Builder<Launch>, model: &Model, net: &Network, batch: Batch, until: usize) -> Result<(stream::Input, Taps)> {
    let (input, first) = model.input(b, net, batch)?;
    let taps = forward(b, net, first, batch, until)?;
    Ok((input, taps))
}

/// The values of a tuple side by side, `[n, values]`.
fn values(b: &mut Builder<Launch>, tuple: &[Value]) -> crate::device::View {
    if let [one] = tuple {
        return one.view;
    }
    let y = b.matrix(tuple[0].view.rows, tuple.iter().map(|v| v.view.cols).sum());
    let mut at = 0;
    for v in tuple {
        b.push(Launch::Copy(copy::Args::new(v.view, y.columns(at, v.view.cols))));
        at += v.view.cols;
    }
    y
}

impl<'a> Plan<'a> {
    fn new(problem: Problem<'a>) -> Result<Self> {
        let (o, model) = (problem.options, problem.model);
        let net = model.network(true)?;
        let dtype = model.dtype();
        let nodes = plan::nodes(&net, &o.node_layers, matches!(model, Model::Mlp(_)))?;
        if o.quadrature.len() != nodes.len() {
            let (found, expected) =
                (format!("{} quadratures", o.quadrature.len()), format!("one for each of {} node layers", nodes.len()));
            return Err(Error::shape("lib", found, expected));
        }
        let next = |l: usize| if o.ngf { nodes.len() - 1 } else { l + 1 };
        let mut sections: Vec<Section> =
            (0..nodes.len() - 1).map(|l| Section::new(&net, &nodes[l], &nodes[l + 1], dtype)).collect();
        if o.ngf {
            // The bases look at the last node layer, the edges at the next one.
            sections.extend((0..nodes.len() - 1).map(|l| Section::new(&net, &nodes[l], &nodes[next(l)], dtype)));
        }
        let centre = match o.basis {
            BasisKind::Neuron => false,
            _ => o.centre,
        };
        Ok(Self { problem, net, nodes, sections, dtype, centre })
    }

    fn options(&self) -> &Options {
        self.problem.options
    }

    /// The section that the basis of layer `l` looks through.
    fn basis_section(&self, l: usize) -> usize {
        if self.options().ngf { self.nodes.len() - 1 + l } else { l }
    }

    fn uses_jacobians(&self) -> bool {
        !matches!(self.options().basis, BasisKind::Pca | BasisKind::Neuron)
    }

    /// Which sections take the closed form to M', which to the edges, and why.
    fn roads(&self) -> Result<Roads> {
        let o = self.options();
        let (mut roads, mut closed) = (Vec::new(), vec![Takes::default(); self.sections.len()]);
        let layers = self.nodes.len() - 1;
        for (i, section) in self.sections.iter().enumerate() {
            let wants_basis = self.uses_jacobians() && (!o.ngf || i >= layers);
            let wants_edges = o.edges != EdgeKind::None && i < layers;
            let general = |what: &str| -> Option<String> {
                if o.method == Method::Jvp {
                    return Some("--method jvp".into());
                }
                match (what, &section.closed) {
                    (_, Err(why)) => Some(why.clone()),
                    ("basis", _) if o.basis != BasisKind::Jacobian => Some("the older formulas have no closed form".into()),
                    ("basis", _) if o.sources_pos.or(o.sources_hidden).is_some() => Some("stochastic sources".into()),
                    ("edges", _) if o.edges == EdgeKind::Functional => Some("functional edges have no closed form".into()),
                    ("edges", _) if o.sources_edges.is_some() => Some("stochastic sources".into()),
                    _ => None,
                }
            };
            for (what, wanted) in [("basis", wants_basis), ("edges", wants_edges)] {
                if !wanted {
                    continue;
                }
                let why = general(what);
                if let (Method::Moments, Some(why)) = (o.method, &why) {
                    let found = format!("moments, but section {} has no closed form ({why})", section.name());
                    return Err(Error::flag("--method", found, "auto or jvp"));
                }
                let flag = if what == "basis" { &mut closed[i].basis } else { &mut closed[i].edges };
                *flag = why.is_none();
                let (road, why) = match why {
                    Some(why) => ("jvp", why),
                    None => ("closed form", self.closed_reason(section)),
                };
                roads.push(Road { section: format!("{} ({what})", section.name()), road: road.into(), why });
            }
        }
        Ok(Roads { report: roads, closed })
    }

    fn closed_reason(&self, section: &Section) -> String {
        section.closed.as_ref().map_or_else(Clone::clone, |c| {
            let name = format!("{:?}", c.core);
            let name = name.split(|ch: char| !ch.is_alphanumeric()).next().unwrap_or_default().to_lowercase();
            let data =
                if c.is_data_only() { "exact, from moments of one pass" } else { "exact, one pass once the next basis is known" };
            format!("{name}: {data}")
        })
    }

    /// Means, Gram matrices and data-only moments of all layers, in one pass.
    fn gather(&self, runner: &Runner, data: &DataSet, closed: &[Takes], name: &str) -> Result<Gathered> {
        let (slots, _) = self.moments_pass(closed, Batch { samples: 1, positions: data.samples.positions() })?;
        let sums = stream::run(runner, name, data, |batch| Ok(self.moments_pass(closed, batch)?.1))?;
        let mut out = Gathered { moments: vec![None; self.nodes.len()], sections: vec![Vec::new(); self.sections.len()] };
        for (slot, sum) in slots.into_iter().zip(sums) {
            match (slot, sum) {
                (Slot::Layer(l), Sum::Centred { n, mean, m2 }) => {
                    self.finite(&m2, || format!("the Gram matrix of node layer {}", self.nodes[l].name))?;
                    out.moments[l] = Some(Moments { n, mean, m2 });
                }
                (Slot::Section(i), Sum::Add(x)) => {
                    self.finite(&x, || format!("the moments of section {}", self.sections[i].name()))?;
                    out.sections[i].push(x);
                }
                _ => unreachable!("layers have centred sums, sections plain ones"),
            }
        }
        Ok(out)
    }

    fn quadrature(&self, node: &Node) -> &Nodes {
        let l = self.nodes.iter().position(|n| n.name == node.name).unwrap_or(0);
        &self.options().quadrature[l]
    }

    fn pca(&self, node: &Node, m: &Moments) -> Result<Pca> {
        let o = self.options();
        rotation::pca(node, m, PcaOptions { centre: self.centre, isolate_variance: o.isolate_variance, threshold: o.threshold })
    }

    /// Refuses sums that have overflowed.
    fn finite(&self, x: &[f64], place: impl Fn() -> String) -> Result<()> {
        let Some(bad) = x.iter().find(|x| !x.is_finite()) else { return Ok(()) };
        let found = format!("the value {bad}: activations or their products exceed the range of {}", self.dtype.name());
        let expected = match self.dtype {
            DType::F32 => "finite numbers, as --dtype f64 or smaller weights and inputs may give",
            DType::F64 => "finite numbers, as smaller weights and inputs give",
        };
        Err(Error::numeric(place(), found, expected))
    }

    /// Refuses a basis that nothing can be computed with.
    fn check_basis(&self, l: usize, basis: &Basis) -> Result<()> {
        let place = || format!("node layer {}", self.nodes[l].name);
        [&basis.c, &basis.c_pinv]
            .iter()
            .try_for_each(|c| self.finite(&host::to_rows(c.as_ref()), || format!("the basis of {}", place())))
    }

    /// Tokens at a node layer.
    fn tokens(&self, node: &Node) -> f64 {
        let s = &self.problem.data.samples;
        (s.count() * if node.last_only { 1 } else { s.positions() }) as f64
    }

    /// The basis of layer `l`, those behind it being known.
    #[allow(clippy::too_many_arguments)]
    fn basis(
        &self,
        l: usize,
        pcas: &[Option<Pca>],
        gram: &[Option<Moments>],
        bases: &[Option<Basis>],
        gathered: &Gathered,
        closed: &[Takes],
        runner: &Runner,
    ) -> Result<Option<Basis>> {
        let o = self.options();
        let (Some(pca), Some(moments)) = (&pcas[l], &gram[l]) else { return Ok(None) };
        let last = self.nodes.len() - 1;
        if o.basis == BasisKind::Neuron {
            return Ok(Some(Basis::neuron(&self.nodes[l], moments)));
        }
        if l == last || !self.uses_jacobians() {
            return Ok(Some(Basis::from_pca(pca)));
        }
        let next = if o.ngf { last } else { l + 1 };
        let (m, lambda) = self.m_dash(l, bases[next].as_ref().map(|b| &b.c), gathered, closed, runner)?;
        rotation::jacobian(&self.nodes[l], pca, &m, lambda.as_ref(), o.threshold).map(Some)
    }

    /// M' (and L' of the older formulas) behind node layer `l`, given C where its section ends.
    fn m_dash(
        &self,
        l: usize,
        c: Option<&Mat<f64>>,
        gathered: &Gathered,
        closed: &[Takes],
        runner: &Runner,
    ) -> Result<(Mat<f64>, Option<Mat<f64>>)> {
        let i = self.basis_section(l);
        let section = &self.sections[i];
        let (d_in, d_out) = (section.from.width(), section.to.width());
        if c.is_some_and(|c| c.ncols() == 0) {
            // Nothing is looked at: a dead layer leaves the ones before it without importance.
            let lambda = (self.options().basis != BasisKind::Jacobian).then(|| Mat::zeros(d_in, d_in));
            return Ok((Mat::zeros(d_in, d_in), lambda));
        }
        let a = c.map_or_else(|| Mat::identity(d_out, d_out), |c| host::product(c.as_ref(), c.transpose()));
        let (m, lambda) = match closed[i].basis {
            true => (self.closed_m(i, &a, gathered, runner)?, None),
            false => self.jvp_m(section, c, &a, runner)?,
        };
        self.finite(&host::to_rows(m.as_ref()), || format!("the matrix M' of section {}", section.name()))?;
        Ok((host::symmetrise(&m), lambda))
    }

    /// M' by the closed form; one more pass where A had to be known first.
    fn closed_m(&self, i: usize, a: &Mat<f64>, gathered: &Gathered, runner: &Runner) -> Result<Mat<f64>> {
        let section = &self.sections[i];
        let closed = section.closed.as_ref().map_err(|why| Error::shape("moments", why.clone(), "a closed form"))?;
        let nodes = self.quadrature(&section.from);
        let mut sums = gathered.sections[i].clone();
        if !closed.is_data_only() {
            let name = format!("moments {}", section.from.name);
            let build = |batch| self.late_moments_pass(section, a, batch);
            sums = plain(stream::run(runner, &name, self.problem.data, build)?);
        }
        Ok(closed.phi(a, &sums, nodes, self.tokens(&section.from), self.tokens(&section.to)))
    }

    /// M' (and L' of the older formulas) by batched Jacobian products.
    fn jvp_m(
        &self,
        section: &Section,
        c: Option<&Mat<f64>>,
        a: &Mat<f64>,
        runner: &Runner,
    ) -> Result<(Mat<f64>, Option<Mat<f64>>)> {
        let c_t: Option<Tensor> = c.map(|c| host::tensor(self.dtype, c.transpose()));
        let (formula, mixes) = (self.jacobian_formula(section, a), section.mixes_positions());
        let name = format!("jacobians {}", section.from.name);
        let build = |batch| self.jacobian_pass(section, &formula, c_t.as_ref(), batch);
        let sums = plain(stream::run(runner, &name, self.problem.data, build)?);
        let overcount = match formula {
            jvp::Formula::Jacobian { sources_pos, sources_hidden, .. } => jvp::overcount(sources_pos, sources_hidden, mixes),
            _ => 1.0,
        };
        let (d, scale) = (section.from.width(), 1.0 / (self.tokens(&section.from) * overcount));
        let scaled = |m: Mat<f64>| Mat::from_fn(d, d, |i, j| scale * m[(i, j)]);
        Ok((scaled(host::from_lower(d, &sums[0])), sums.get(1).map(|l| scaled(host::from_rows(d, d, l)))))
    }

    /// How the basis formula reads the Jacobian of a section, given A = C C' of the next layer.
    fn jacobian_formula(&self, section: &Section, a: &Mat<f64>) -> jvp::Formula {
        let (o, a) = (self.options(), host::tensor(self.dtype, a.as_ref()));
        match o.basis {
            BasisKind::OneMinusZero => jvp::Formula::OneMinusZero { a },
            BasisKind::OneMinusAlphaSquared => jvp::Formula::OneMinusAlphaSquared { a },
            _ => {
                let seed = self.seed(section, 0);
                jvp::Formula::Jacobian { sources_pos: o.sources_pos, sources_hidden: o.sources_hidden, seed }
            }
        }
    }

    /// A seed of its own for each section and use.
    fn seed(&self, section: &Section, salt: u64) -> u64 {
        crate::ops::probes::splitmix(self.options().seed ^ (section.from.module as u64) << 32 ^ salt)
    }

    /// Edges of all sections, in one pass for those that need data.
    fn edges(&self, bases: &[Option<Basis>], gathered: &Gathered, closed: &[Takes], runner: &Runner) -> Result<Vec<Mat<f64>>> {
        let o = self.options();
        if o.edges == EdgeKind::None {
            return Ok(Vec::new());
        }
        let layers = self.nodes.len() - 1;
        let is_empty = |i: usize| [i, i + 1].iter().any(|&l| bases[l].as_ref().is_some_and(|b| b.k() == 0));
        let streamed: Vec<usize> = (0..layers).filter(|&i| self.is_streamed(closed, i) && !is_empty(i)).collect();
        let mut sums = Vec::new();
        if !streamed.is_empty() {
            let build = |batch| self.edge_pass(bases, closed, &streamed, batch);
            sums = plain(stream::run(runner, "edges", self.problem.data, build)?);
        }
        let mut result = Vec::new();
        for (i, takes) in closed.iter().enumerate().take(layers) {
            let ends = self.ends(bases, i)?;
            if is_empty(i) {
                result.push(Mat::zeros(ends.k_out(), ends.from.k()));
                continue;
            }
            let e = match (&self.sections[i].closed, streamed.iter().position(|&s| s == i)) {
                (Ok(c), None) => {
                    let raw = gathered.moments[i].as_ref().map(|m| m.gram(&self.nodes[i], false));
                    let raw = raw.ok_or_else(|| Error::shape("edges", "a node layer without moments", "its Gram matrix"))?;
                    edges::linear_edges(c, &ends, &raw)
                }
                (_, Some(at)) => {
                    let overcount = if takes.edges { 1.0 } else { edges::overcount(self.edge_formula(i)) };
                    let scale = 1.0 / (self.tokens(&self.nodes[i]) * overcount);
                    let sum = host::from_rows(ends.k_out(), ends.from.k(), &sums[at]);
                    Mat::from_fn(sum.nrows(), sum.ncols(), |r, c| scale * sum[(r, c)])
                }
                (Err(why), None) => return Err(Error::shape("edges", why.clone(), "a road")),
            };
            self.finite(&host::to_rows(e.as_ref()), || format!("the edges {}", self.sections[i].name()))?;
            result.push(e);
        }
        Ok(result)
    }
}

fn plain(sums: Vec<Sum>) -> Vec<Vec<f64>> {
    let one = |s| match s {
        Sum::Add(x) => x,
        Sum::Centred { m2, .. } => m2,
    };
    sums.into_iter().map(one).collect()
}
