//! The programs of a LIB run's passes over the data, and the check that all of them fit into memory.

use faer::Mat;

use super::closed;
use super::edges::{self, Ends};
use super::host;
use super::jvp;
use super::plan::{self, Node, Section};
use super::rotation::Basis;
use super::{EdgeKind, Plan, Problem, Takes, start, values};
use crate::data::stream::{self, Pass, Read, Runner};
use crate::device::{Builder, Tensor};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::chain::Chain;
use crate::model::forward::{Batch, Taps};
use crate::ops::{Launch, gram};

/// What a sum of the first pass belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    Layer(usize),
    Section(usize),
}

/// Refuses node layers whose dense f64 matrices do not fit, before any of them is made. A rotated
/// layer keeps nine (the Gram matrix twice, C, W and their inverses, V, the edges) and passes by as
/// many at the widest; an unrotated last layer passes by three.
pub(super) fn check_matrices(problem: Problem, memory: u64) -> Result<()> {
    let (o, net) = (problem.options, problem.model.network(true)?);
    let nodes = plan::nodes(&net, &o.node_layers, matches!(problem.model, Model::Mlp(_)))?;
    let square = |n: &Node| (n.width() as u64).saturating_mul(n.width() as u64);
    let (rotated, unrotated) = nodes.split_at(nodes.len() - usize::from(!o.rotate_final));
    let kept = rotated.iter().chain(rotated.iter().max_by_key(|n| n.width())).map(square).fold(0, u64::saturating_add);
    let elements = unrotated.iter().map(|n| square(n).saturating_mul(3)).fold(kept.saturating_mul(9), u64::saturating_add);
    let asked = elements.saturating_mul(size_of::<f64>() as u64);
    match nodes.iter().rev().max_by_key(|n| n.width()) {
        Some(widest) if asked > memory => {
            let found = format!("{}, the widest, has {} coordinates", widest.name, widest.width());
            let hint = format!(" for the matrices of the node layers ({found}; fewer or narrower ones need less)");
            Err(Error::Memory { asked, free: memory, hint })
        }
        _ => Ok(()),
    }
}

impl Plan<'_> {
    /// Means, Gram matrices and data-only moments of all layers.
    pub(super) fn moments_pass(&self, closed: &[Takes], batch: Batch) -> Result<(Vec<Slot>, Pass)> {
        let rotated = |l: usize| self.is_rotated(l);
        let until = self.nodes.iter().enumerate().filter(|(l, _)| rotated(*l)).map(|(_, n)| n.module).max().unwrap_or(0);
        // A section's moments are read inside it: the pass runs to the end of the last one.
        let reach = |(i, c): (usize, &Takes)| if c.basis { self.sections[i].to.module } else { 0 };
        let until = closed.iter().enumerate().map(reach).fold(until, usize::max);
        let wanted =
            |i: usize| closed.get(i).is_some_and(|c| c.basis) && self.sections[i].closed.as_ref().is_ok_and(|c| c.is_data_only());
        let mut b = Builder::new(self.dtype);
        let (input, taps) = start(&mut b, self.problem.model, &self.net, batch, until)?;
        let (mut slots, mut reads) = (Vec::new(), Vec::new());
        for (l, node) in self.nodes.iter().enumerate().filter(|(l, _)| rotated(*l)) {
            let x = values(&mut b, &taps.tuples[node.module]);
            let (mean, m2) = (b.matrix(1, x.cols), b.matrix(x.cols, x.cols));
            b.push(Launch::Gram(gram::Args { x, mean, m2 }));
            slots.push(Slot::Layer(l));
            reads.push(Read::Centred { rows: x.rows, mean, m2 });
        }
        for (i, section) in self.sections.iter().enumerate().filter(|(i, _)| wanted(*i)) {
            let found = self.emit_closed(&mut b, section, &taps, batch, None)?;
            slots.extend(found.iter().map(|_| Slot::Section(i)));
            reads.extend(found);
        }
        Ok((slots, Pass { program: b.finish(), input, reads, first: None, labels: None }))
    }

    /// The moments of a section that need A = C C' of the next layer.
    pub(super) fn late_moments_pass(&self, section: &Section, a: &Mat<f64>, batch: Batch) -> Result<Pass> {
        let at = section.closed.as_ref().ok().and_then(|c| c.at).unwrap_or(0);
        let mut b = Builder::new(self.dtype);
        let (input, taps) = start(&mut b, self.problem.model, &self.net, batch, section.places[at].0 + 1)?;
        let reads = self.emit_closed(&mut b, section, &taps, batch, Some(a))?;
        Ok(Pass { program: b.finish(), input, reads, first: None, labels: None })
    }

    fn emit_closed(
        &self,
        b: &mut Builder<Launch>,
        section: &Section,
        taps: &Taps,
        batch: Batch,
        a: Option<&Mat<f64>>,
    ) -> Result<Vec<Read>> {
        let closed = section.closed.as_ref().map_err(|why| Error::shape("moments", why.clone(), "a closed form"))?;
        let Some(at) = closed.at else { return Ok(Vec::new()) };
        closed::emit(b, closed, self.quadrature(&section.from), &taps.atoms[&section.places[at]], batch, a)
    }

    /// M' of a section by batched Jacobian products.
    pub(super) fn jacobian_pass(
        &self,
        section: &Section,
        formula: &jvp::Formula,
        c_t: Option<&Tensor>,
        batch: Batch,
    ) -> Result<Pass> {
        let chain = Chain::new(&section.stages, &section.from.members, self.dtype);
        let mut b = Builder::new(self.dtype);
        let (input, taps) = start(&mut b, self.problem.model, &self.net, batch, section.from.module)?;
        let f = edges::whole_rows(&mut b, &taps.tuples[section.from.module]);
        let first = b.ints(1);
        let batch = Batch { samples: batch.samples, positions: f.rows / batch.samples };
        let (nodes, mixes) = (self.quadrature(&section.from), section.mixes_positions());
        let reads = jvp::emit(&mut b, jvp::Road { chain: &chain, formula, nodes, c_t, mixes }, f, batch, first);
        Ok(Pass { program: b.finish(), input, reads, first: Some(first), labels: None })
    }

    /// The edges of the sections in `streamed`, in their order.
    pub(super) fn edge_pass(&self, bases: &[Option<Basis>], closed: &[Takes], streamed: &[usize], batch: Batch) -> Result<Pass> {
        let until = streamed.iter().map(|&i| self.nodes[i].module).max().unwrap_or(0);
        let mut b = Builder::new(self.dtype);
        let (input, taps) = start(&mut b, self.problem.model, &self.net, batch, until)?;
        let first = b.ints(1);
        let mut reads = Vec::new();
        for &i in streamed {
            let (section, ends) = (&self.sections[i], self.ends(bases, i)?);
            let f_hat = edges::features(&mut b, &taps.tuples[section.from.module], ends.from);
            let batch = Batch { samples: batch.samples, positions: f_hat.rows / batch.samples };
            let out = match &section.closed {
                Ok(c) if closed[i].edges => edges::emit_closed(&mut b, c, &ends, f_hat, batch),
                _ => None,
            };
            let out = out.unwrap_or_else(|| {
                let chain = Chain::new(&section.stages, &section.from.members, self.dtype);
                edges::emit_general(&mut b, &chain, self.edge_formula(i), &ends, f_hat, batch, first)
            });
            reads.push(Read::Add(out));
        }
        Ok(Pass { program: b.finish(), input, reads, first: Some(first), labels: None })
    }

    pub(super) fn ends<'b>(&'b self, bases: &'b [Option<Basis>], i: usize) -> Result<Ends<'b>> {
        let from = bases[i].as_ref().ok_or_else(|| Error::shape("edges", "an unrotated node layer", "a basis"))?;
        let nodes = self.quadrature(&self.nodes[i]);
        Ok(Ends { from, to: bases[i + 1].as_ref(), d_out: self.nodes[i + 1].width(), nodes })
    }

    pub(super) fn edge_formula(&self, i: usize) -> edges::Formula {
        match (self.options().edges, self.options().sources_edges) {
            (EdgeKind::Functional, _) => edges::Formula::Functional,
            (_, Some(sources)) => edges::Formula::Stochastic { sources, seed: self.seed(&self.sections[i], 1) },
            _ => edges::Formula::Squared,
        }
    }

    /// Whether the edges of section `i` need a pass over the data.
    pub(super) fn is_streamed(&self, closed: &[Takes], i: usize) -> bool {
        !(closed[i].edges && self.sections[i].closed.as_ref().is_ok_and(|c| c.at.is_none()))
    }

    fn is_rotated(&self, l: usize) -> bool {
        l + 1 < self.nodes.len() || self.options().rotate_final
    }

    /// Refuses a run of which some pass cannot fit into memory, before any work: each pass is built
    /// for bases that keep every coordinate, the most that there can be.
    pub(super) fn check_memory(&self, closed: &[Takes], runner: &Runner) -> Result<()> {
        let (data, o) = (self.problem.data, self.options());
        stream::check(runner, "moments", data, |batch| Ok(self.moments_pass(closed, batch)?.1))?;
        if let Some(data) = self.problem.gram_data {
            stream::check(runner, "grams", data, |batch| Ok(self.moments_pass(&[], batch)?.1))?;
        }
        let layers = self.nodes.len() - 1;
        for l in (0..layers).filter(|_| self.uses_jacobians()) {
            let i = self.basis_section(l);
            let section = &self.sections[i];
            let eye = || Mat::identity(section.to.width(), section.to.width());
            match &section.closed {
                Ok(c) if closed[i].basis && c.is_data_only() => {}
                Ok(_) if closed[i].basis => {
                    let (name, eye) = (format!("moments {}", section.from.name), eye());
                    stream::check(runner, &name, data, |batch| self.late_moments_pass(section, &eye, batch))?;
                }
                _ => {
                    let (name, eye) = (format!("jacobians {}", section.from.name), eye());
                    let c_t = host::tensor(self.dtype, eye.as_ref());
                    let formula = self.jacobian_formula(section, &eye);
                    stream::check(runner, &name, data, |batch| self.jacobian_pass(section, &formula, Some(&c_t), batch))?;
                }
            }
        }
        let streamed: Vec<usize> = (0..layers).filter(|&i| o.edges != EdgeKind::None && self.is_streamed(closed, i)).collect();
        if streamed.is_empty() {
            return Ok(());
        }
        let bases: Vec<Option<Basis>> =
            self.nodes.iter().enumerate().map(|(l, n)| self.is_rotated(l).then(|| Basis::identity(n.width()))).collect();
        stream::check(runner, "edges", data, |batch| self.edge_pass(&bases, closed, &streamed, batch))
    }
}
