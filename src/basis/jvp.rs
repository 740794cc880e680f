//! M' through any section, with batched Jacobian products (`lib.md` 1.6).
//!
//! Probes are extra rows. Cotangents are pushed back through the section in chunks, and each chunk
//! is folded into M' += g'g at once: no Jacobian is kept. Where positions do not mix, one probe
//! serves all of them; where the next layer has more features than this one has coordinates, the
//! coordinates are pushed forward instead.

use super::closed::Nodes;
use crate::data::stream::Read;
use crate::device::{Builder, IntBuffer, Tensor, View};
use crate::model::chain::{Chain, Tape};
use crate::model::forward::Batch;
use crate::ops::linear::Matrix;
use crate::ops::probes::{self, Kind};
use crate::ops::{Launch, copy, gram, linear};

/// Rows that the stacked probes of a chunk may have.
const CHUNK_ROWS: usize = 4096;

/// What the section before a node layer is asked for.
#[derive(Clone, Debug)]
pub enum Formula {
    /// The paper's LIB: second moment of the stacked Jacobian.
    Jacobian { sources_pos: Option<usize>, sources_hidden: Option<usize>, seed: u64 },
    /// g of the `(1-0)*alpha` formula, given A = C C' of the next layer.
    OneMinusZero { a: Tensor },
    /// g of the `(1-alpha)^2` formula.
    OneMinusAlphaSquared { a: Tensor },
}

/// A chunk size for `count` probes of `rows` rows each.
pub fn chunk(count: usize, rows: usize) -> usize {
    count.min((CHUNK_ROWS / rows.max(1)).max(1))
}

/// A section and how its Jacobian is read.
#[derive(Clone, Copy, Debug)]
pub struct Road<'a> {
    pub chain: &'a Chain,
    pub formula: &'a Formula,
    pub nodes: &'a Nodes,
    /// C' `[k_out, d_out]` of the next node layer, absent where it is not rotated.
    pub c_t: Option<&'a Tensor>,
    /// Whether output positions depend on other input positions.
    pub mixes: bool,
}

/// Emits the sums of M' (and of L' for the older formulas) over a block, from the rows `f`
/// `[n, d]` of a node layer; `first` holds the index of the block's first sample.
pub fn emit(b: &mut Builder<Launch>, road: Road, f: View, batch: Batch, first: IntBuffer) -> Vec<Read> {
    let Road { chain, formula, nodes, c_t, mixes } = road;
    let d = f.cols;
    let m = b.accumulator(d, d);
    let k_out = c_t.map_or(chain.d_out(), |c| c.rows);
    match formula {
        Formula::Jacobian { sources_pos, sources_hidden, seed } => {
            if !mixes && sources_hidden.is_none() && k_out > d {
                forward_mode(b, chain, nodes, f, c_t, m);
                return vec![Read::Add(m)];
            }
            let positions = if chain.last_only { 1 } else { batch.positions };
            let kind = probe_kind(*sources_pos, *sources_hidden, mixes);
            let tapes = tapes(b, chain, nodes, f, batch);
            let rows = batch.samples * positions;
            let count = kind.count(k_out, positions);
            let probes = chunk(count, rows.max(f.rows));
            repeat(b, count.div_ceil(probes), |b, index| {
                let y = b.matrix(probes * rows, chain.d_out());
                b.push(Launch::Probes(probes::Args { kind, seed: *seed, c_t: c_t.cloned(), positions, first, index, probes, y }));
                let g = mean_cotangent(b, chain, nodes, &tapes, &vec![y; nodes.len()], probes);
                b.push(Launch::GramAdd(gram::AddArgs { x: g, out: m, transpose: false }));
            });
            vec![Read::Add(m)]
        }
        Formula::OneMinusZero { a } | Formula::OneMinusAlphaSquared { a } => {
            let at_one = chain.primal(b, f, batch).output();
            let tapes = tapes(b, chain, nodes, f, batch);
            let cotangents: Vec<View> = tapes
                .iter()
                .map(|tape| {
                    let y = b.matrix(at_one.rows, at_one.cols);
                    let difference = b.matrix(at_one.rows, at_one.cols);
                    b.push(Launch::Copy(copy::Args::new(at_one, difference)));
                    if matches!(formula, Formula::OneMinusAlphaSquared { .. }) {
                        // -d/d(alpha f) |(F(f) - F(alpha f)) C|^2 = 2 (F(f) - F(alpha f)) A dF.
                        b.push(Launch::Copy(copy::Args { scale: -1.0, ..copy::Args::add(tape.output(), difference) }));
                        b.push(Launch::Linear(linear::Args::new(difference, Matrix::whole(a), y)));
                        let doubled = b.matrix(at_one.rows, at_one.cols);
                        b.push(Launch::Copy(copy::Args { scale: 2.0, ..copy::Args::new(y, doubled) }));
                        return doubled;
                    }
                    b.push(Launch::Linear(linear::Args::new(difference, Matrix::whole(a), y)));
                    y
                })
                .collect();
            let g = mean_cotangent(b, chain, nodes, &tapes, &cotangents, 1);
            b.push(Launch::GramAdd(gram::AddArgs { x: g, out: m, transpose: false }));
            let l = b.accumulator(d, d);
            b.push(Launch::Cross(gram::CrossArgs { a: g, b: f, out: l }));
            vec![Read::Add(m), Read::Add(l)]
        }
    }
}

/// The probes that a choice of stochastic sources stands for. Where positions do not mix, sources
/// over position change nothing: the exact probes are as cheap.
pub fn probe_kind(pos: Option<usize>, hidden: Option<usize>, mixes: bool) -> Kind {
    match (pos, hidden) {
        (None, None) if mixes => Kind::FeatureAt,
        (Some(sources), None) if mixes => Kind::PositionSigns { sources },
        (_, None) => Kind::Feature,
        (None, Some(sources)) => Kind::FeatureSigns { sources, all: !mixes },
        (Some(p), Some(h)) => Kind::Signs { sources: p * h },
    }
}

/// What the sum over probes counts too often.
pub fn overcount(pos: Option<usize>, hidden: Option<usize>, mixes: bool) -> f64 {
    match probe_kind(pos, hidden, mixes) {
        Kind::Feature | Kind::FeatureAt => 1.0,
        Kind::PositionSigns { sources } | Kind::FeatureSigns { sources, .. } | Kind::Signs { sources } => sources as f64,
    }
}

/// Emits `count` rounds of `body`, whose buffers are shared by all rounds.
pub fn repeat(b: &mut Builder<Launch>, count: usize, body: impl FnOnce(&mut Builder<Launch>, IntBuffer)) {
    let index = b.ints(1);
    let start = b.len();
    body(b, index);
    let launches = b.split_off(start);
    b.push(Launch::Repeat { count, index, launches });
}

/// One primal run for each quadrature point, on the scaled rows.
pub fn tapes(b: &mut Builder<Launch>, chain: &Chain, nodes: &Nodes, f: View, batch: Batch) -> Vec<Tape> {
    let run = |&(_, alpha): &(f64, f64)| {
        let mut x = f;
        if alpha != 1.0 {
            x = b.matrix(f.rows, f.cols);
            b.push(Launch::Copy(copy::Args { scale: alpha, ..copy::Args::new(f, x) }));
        }
        chain.primal(b, x, batch)
    };
    nodes.iter().map(run).collect()
}

/// sum_a w_a J_a' y_a.
pub fn mean_cotangent(
    b: &mut Builder<Launch>,
    chain: &Chain,
    nodes: &Nodes,
    tapes: &[Tape],
    cotangents: &[View],
    probes: usize,
) -> View {
    let parts: Vec<View> = tapes.iter().zip(cotangents).map(|(tape, y)| chain.vjp(b, tape, *y, probes)).collect();
    weighted_sum(b, nodes, &parts)
}

/// sum_a w_a x_a.
pub fn weighted_sum(b: &mut Builder<Launch>, nodes: &Nodes, parts: &[View]) -> View {
    if let ([(w, _)], [part]) = (&nodes[..], parts)
        && *w == 1.0
    {
        return *part;
    }
    let sum = b.matrix(parts[0].rows, parts[0].cols);
    for (i, ((w, _), part)) in nodes.iter().zip(parts).enumerate() {
        b.push(Launch::Copy(copy::Args { x: *part, y: sum, scale: *w, accumulate: i > 0 }));
    }
    sum
}

/// M' += J C C' J' with every input direction as a tangent, a chunk of rows at a time.
fn forward_mode(b: &mut Builder<Launch>, chain: &Chain, nodes: &Nodes, f: View, c_t: Option<&Tensor>, m: View) {
    let d = f.cols;
    let rows = (CHUNK_ROWS / d).clamp(1, f.rows);
    repeat(b, f.rows.div_ceil(rows), |b, index| {
        let x = b.matrix(rows, d);
        b.push(Launch::Chunk(probes::ChunkArgs { x: f, index, y: x }));
        let dx = b.matrix(d * rows, d);
        b.push(Launch::Basis(probes::BasisArgs { rows: f.rows, index, y: dx }));
        let batch = Batch { samples: rows, positions: 1 };
        let tapes = tapes(b, chain, nodes, x, batch);
        let parts: Vec<View> = tapes.iter().map(|t| chain.jvp(b, t, dx, d)).collect();
        let mut j = weighted_sum(b, nodes, &parts);
        if let Some(c_t) = c_t {
            let y = b.matrix(j.rows, c_t.rows);
            b.push(Launch::Linear(linear::Args { transpose: true, ..linear::Args::new(j, Matrix::whole(c_t), y) }));
            j = y;
        }
        b.push(Launch::GramAdd(gram::AddArgs { x: j.reshape(d, rows * j.cols), out: m, transpose: true }));
    });
}
