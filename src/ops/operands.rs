//! What every launch touches: the views, the numbers and the weights, for whatever moves or counts them.

use super::edge_squares::Side;
use super::linear::Matrix;
use super::norm_moments::{Half, Kind};
use super::packing::Packing;
use super::sdpa::Primal;
use super::{Attention, Launch};
use crate::device::{IntBuffer, Tensor, View};

/// The operands of a launch. What is added to is both read and written; so is what is written in part.
#[derive(Clone, Debug, Default)]
pub struct Operands {
    pub reads: Vec<View>,
    pub writes: Vec<View>,
    pub int_reads: Vec<IntBuffer>,
    pub int_writes: Vec<IntBuffer>,
    pub tensors: Vec<Tensor>,
}

impl Operands {
    fn new<const R: usize, const W: usize>(reads: [View; R], writes: [View; W]) -> Self {
        Self { reads: reads.into(), writes: writes.into(), ..Self::default() }
    }
    fn read(mut self, views: impl IntoIterator<Item = View>) -> Self {
        self.reads.extend(views);
        self
    }
    fn write(mut self, views: impl IntoIterator<Item = View>) -> Self {
        self.writes.extend(views);
        self
    }
    fn update(self, views: impl IntoIterator<Item = View> + Clone) -> Self {
        self.read(views.clone()).write(views)
    }
    /// Overwritten, or added to.
    fn write_or(self, adds: bool, view: View) -> Self {
        self.read(adds.then_some(view)).write([view])
    }
    fn ints(mut self, buffers: impl IntoIterator<Item = IntBuffer>) -> Self {
        self.int_reads.extend(buffers);
        self
    }
    fn weights<'a>(mut self, tensors: impl IntoIterator<Item = &'a Tensor>) -> Self {
        self.tensors.extend(tensors.into_iter().cloned());
        self
    }
    fn packing(self, p: &Packing) -> Self {
        self.ints([p.first, p.end]).ints(p.seen)
    }
    /// Queries, keys and values of packed sequences.
    fn primal(self, p: &Primal) -> Self {
        self.read([p.q.view, p.k.view, p.v.view]).packing(&p.packing).ints(p.queries)
    }
    fn attention(self, a: &Attention) -> Self {
        self.read([a.q, a.k, a.v])
    }
    fn side(self, side: &Side) -> Self {
        match side {
            Side::Rows(v) => self.read([*v]),
            Side::Constant(t) => self.weights([t]),
        }
    }
}

impl Launch {
    /// What the launch touches; of [`Launch::Repeat`] nothing but its index, which it writes.
    pub fn operands(&self) -> Operands {
        let of = |m: &Matrix| m.tensor.clone();
        match self {
            Launch::Activation(a) => Operands::new([a.x], [a.y]),
            Launch::ActivationTangent(a) => Operands::new([a.x, a.dx], [a.dy]),
            Launch::Attention(a) => Operands::new([a.q, a.k, a.v], [a.p, a.z]),
            Launch::AttentionTangent(a) => Operands::new([a.q, a.k, a.v, a.p, a.dq, a.dk, a.dv], [a.dz]),
            Launch::AttentionCotangent(a) => Operands::new([a.q, a.k, a.v, a.p, a.dz], []).update([a.dq, a.dk, a.dv]),
            Launch::AttentionMoments(a) => {
                let sums = [a.qq, a.kk, a.qk, a.qv, a.kv, a.vv, a.lq, a.lk, a.lv];
                Operands::default().attention(&a.attention).weights([&a.p_mat]).update(sums)
            }
            Launch::AttentionEdges(a) => {
                let weights = [&a.q_e, &a.k_e, &a.v_e, &a.o_e, &a.b_e];
                Operands::new([a.f_hat], []).attention(&a.attention).weights(weights).update([a.out])
            }
            Launch::Basis(a) => Operands::new([], [a.y]).ints([a.index]),
            Launch::Chunk(a) => Operands::new([a.x], [a.y]).ints([a.index]),
            Launch::Copy(a) => Operands::new([a.x], []).write_or(a.accumulate, a.y),
            Launch::Cross(a) => Operands::new([a.a, a.b], []).update([a.out]),
            Launch::EdgeSquares(a) => {
                Operands::new([a.pre, a.f_hat], []).read(a.up).weights([&a.u_t, &a.v, &a.b]).update([a.out])
            }
            Launch::EdgeRankOne(a) => {
                Operands::new([a.f_hat, a.s, a.g], []).side(&a.l).side(&a.y).weights([&a.z1, &a.z0]).update([a.out])
            }
            Launch::EdgeCotangents(a) => Operands::new([a.g, a.f_hat], []).ints([a.index]).update([a.out]),
            Launch::EdgeTangents(a) => Operands::new([a.y], []).ints([a.index]).update([a.out]),
            Launch::Embed(a) => {
                Operands::new([], [a.y]).write(a.token_out).write(a.pos_out).ints([a.tokens]).weights([&a.w_e, &a.w_pos])
            }
            Launch::Features(a) => Operands::new([a.f_hat], [a.y]).ints([a.index]).weights([&a.c_pinv]),
            Launch::Fill(a) => Operands::new([], [a.y]),
            Launch::Gated(a) => Operands::new([a.g, a.u], [a.h]),
            Launch::GatedTangent(a) if a.transpose => Operands::new([a.g, a.u, a.dh], [a.dg, a.du]),
            Launch::GatedTangent(a) => Operands::new([a.g, a.u, a.dg, a.du], [a.dh]),
            Launch::Gather(a) => Operands::new([a.x], [a.y]).ints([a.rows]),
            Launch::Gram(a) => Operands::new([a.x], [a.mean, a.m2]),
            Launch::GramAdd(a) => Operands::new([a.x], []).update([a.out]),
            Launch::Linear(a) => {
                let weights = [Some(&a.w), a.bias.as_ref()].into_iter().flatten().map(of).collect();
                let all = Operands { tensors: weights, ..Operands::new([a.x], []) };
                all.write_or(a.accumulate, a.y).write(a.pre)
            }
            Launch::Loss(a) => Operands::new([a.logits], []).ints([a.labels]).update([a.out]),
            Launch::ProbeLoss(a) => Operands::new([a.logits], []).ints([a.labels, a.index]).update([a.out]),
            Launch::Mask(a) => Operands::new([a.f_hat], [a.y]).ints([a.index]).weights([&a.masks]),
            Launch::Moments(a) => Operands::new([a.pre], []).read(a.up).update([a.h, a.s]),
            Launch::Norm(a) => Operands::new([a.x], [a.y]).weights(&a.w).weights(&a.b),
            Launch::NormTangent(a) => Operands::new([a.x, a.dx], [a.dy]).weights(&a.w),
            Launch::NormCotangent(a) => Operands::new([a.x, a.dy], []).weights(&a.w).write_or(a.accumulate, a.dx),
            Launch::NormMoments(a) => {
                let all = match &a.kind {
                    Kind::First => Operands::new([a.x], []),
                    Kind::Second { v, .. } => Operands::new([a.x, *v], []),
                    Kind::One { a_y, .. } => Operands::new([a.x], []).weights([a_y]),
                };
                all.update([a.scalars, a.vectors]).update(a.grams.iter().copied())
            }
            Launch::NormRows(a) => {
                let v = if let Half::Second { v, .. } = a.half { Some(v) } else { None };
                Operands::new([a.x], [a.c, a.s, a.g]).read(v)
            }
            Launch::Normalise(a) => Operands::new([a.x, a.v], [a.y]),
            Launch::NormaliseTangent(a) => Operands::new([a.x, a.v, a.dx, a.dv], [a.dy]),
            Launch::NormaliseCotangent(a) => Operands::new([a.x, a.v, a.dy], [a.dx, a.dv]),
            Launch::Peaks(a) => {
                let (counts, passed) = (a.counts, a.passed);
                let all = Operands::new([a.x, a.bars.least], [a.max, a.at, a.picked, passed.values]);
                Operands { int_writes: vec![counts, passed.cells], ..all.ints([a.first, a.bars.most, counts]) }
            }
            Launch::Probes(a) => Operands::new([], [a.y]).ints([a.first, a.index]).weights(&a.c_t),
            Launch::Readout(a) => Operands::new([a.x], []).ints([a.index]).weights([&a.w_t]).update([a.y]),
            // What lies between the heads of `y` stays.
            Launch::Rope(a) => Operands::new([a.x.view], []).ints([a.positions]).weights([&a.cos, &a.sin]).update([a.y.view]),
            Launch::Scale(a) => Operands::new([a.x], []).weights([&a.w]).weights(&a.bias).write_or(a.accumulate, a.y),
            Launch::Scatter(a) => Operands::new([a.x], [a.y]).ints([a.rows]),
            Launch::Sdpa(a) => Operands::new([], [a.z]).write(a.pattern).primal(&a.primal),
            Launch::SdpaTangent(a) => Operands::new([a.dq.view, a.dk.view, a.dv.view], [a.dz]).primal(&a.primal),
            Launch::SdpaCotangent(a) => {
                // What lies between the heads stays.
                Operands::new([a.dz], []).primal(&a.primal).update([a.dq.view, a.dk.view, a.dv.view])
            }
            Launch::Softcap(a) => Operands::new([a.x], [a.y]),
            Launch::TokenEmbed(a) => {
                let weights = [Some(&a.w_e), a.w_pos.as_ref(), a.row.as_ref()].into_iter().flatten();
                let positions = a.w_pos.is_some().then_some(a.positions);
                Operands::new([], [a.y]).ints([a.tokens]).ints(positions).weights(weights)
            }
            Launch::TrieMatch(a) => Operands::new([], [a.values]).ints([a.keys, a.first, a.slots]),
            Launch::Variance(a) => Operands::new([a.x], [a.v]),
            Launch::VarianceTangent(a) => Operands::new([a.x, a.dx], [a.dv]),
            Launch::VarianceCotangent(a) => Operands::new([a.x, a.dv], []).write_or(a.accumulate, a.dx),
            Launch::Repeat { index, .. } => Operands { int_writes: vec![*index], ..Operands::default() },
        }
    }
}
