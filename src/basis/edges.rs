//! Edges between two rotated node layers (`lib.md` 1.10; closed forms, section 8).
//!
//! Everything is evaluated at the projected input f_hat C+. Sections with a closed form share work
//! between the k_in tangents of a token and square on the spot; any other section is walked by
//! tangents (squared, exact) or cotangents (stochastic sources, functional).

use faer::Mat;

use super::closed::Nodes;
use super::host::{product, tensor};
use super::jvp::{chunk, mean_cotangent, repeat, tapes, weighted_sum};
use super::plan::{Closed, Core};
use super::rotation::Basis;
use crate::device::{Builder, IntBuffer, Tensor, View};
use crate::model::chain::Chain;
use crate::model::forward::{Batch, Value};
use crate::model::sections::{AttentionShape, coordinate_map, coords};
use crate::ops::edge_squares::{self, Side};
use crate::ops::linear::Matrix;
use crate::ops::norm_moments::{self, Half};
use crate::ops::probes::{self, Kind};
use crate::ops::{Attention, Launch, attention_edges, copy, linear};

/// A section between two bases.
#[derive(Debug)]
pub struct Ends<'a> {
    pub from: &'a Basis,
    /// Absent where the next layer is not rotated.
    pub to: Option<&'a Basis>,
    /// Coordinates of the next layer.
    pub d_out: usize,
    pub nodes: &'a Nodes,
}

impl Ends<'_> {
    pub fn k_out(&self) -> usize {
        self.to.map_or(self.d_out, Basis::k)
    }
    /// C of the next layer.
    pub fn c_out(&self) -> Mat<f64> {
        self.to.map_or_else(|| Mat::identity(self.d_out, self.d_out), |b| b.c.clone())
    }
}

/// f_hat = f C from the values of a node layer's members, the constants as a bias row: `[n, k]`.
pub fn features(b: &mut Builder<Launch>, tuple: &[Value], basis: &Basis) -> View {
    let (dtype, k, n) = (b.dtype(), basis.k(), tuple[0].view.rows);
    let members: Vec<_> = tuple.iter().map(|v| v.member).collect();
    let map = coordinate_map(&members);
    let mut bias = vec![0.0; k];
    for (i, c) in map.iter().enumerate() {
        if let Err(value) = c {
            bias.iter_mut().enumerate().for_each(|(j, b)| *b += value * basis.c[(i, j)]);
        }
    }
    let rows: Vec<usize> = (0..map.len()).filter(|&i| map[i].is_ok()).collect();
    let (y, mut at) = (b.matrix(n, k), 0);
    for (i, value) in tuple.iter().enumerate() {
        let count = value.view.cols;
        let c = Mat::from_fn(count, k, |r, j| basis.c[(rows[at + r], j)]);
        at += count;
        let mut args = linear::Args::new(value.view, Matrix::whole(&tensor(dtype, c.as_ref())), y);
        args.accumulate = i > 0;
        args.bias = (i == 0).then(|| Matrix::whole(&Tensor::row(dtype, bias.clone())));
        b.push(Launch::Linear(args));
    }
    y
}

/// The rows of a node layer with all coordinates, constants included: `[n, d]`.
pub fn whole_rows(b: &mut Builder<Launch>, tuple: &[Value]) -> View {
    let members: Vec<_> = tuple.iter().map(|v| v.member).collect();
    let y = b.matrix(tuple[0].view.rows, coords(&members));
    let mut at = 0;
    for v in tuple {
        for g in 0..v.member.groups {
            b.push(Launch::Copy(copy::Args::new(
                v.view.columns(g * v.member.width, v.member.width),
                y.columns(at, v.member.width),
            )));
            if let Some(value) = v.member.constant {
                b.push(Launch::Fill(copy::FillArgs { y: y.columns(at + v.member.width, 1), value }));
            }
            at += v.member.pitch();
        }
    }
    y
}

/// Emits the closed form of the squared edges; `None` for linear sections, which need no data.
pub fn emit_closed(b: &mut Builder<Launch>, closed: &Closed, ends: &Ends, f_hat: View, batch: Batch) -> Option<View> {
    let (dtype, n, k_in, k_out) = (b.dtype(), f_hat.rows, f_hat.cols, ends.k_out());
    // C+ L over the core's input coordinates, and R C over its output coordinates.
    let l = closed.through_left(&ends.from.c_pinv);
    let r = closed.through_right(&ends.c_out());
    let host = |m: &Mat<f64>| tensor(dtype, m.as_ref());
    let cols = |m: &Mat<f64>, at: usize, count: usize| m.subcols(at, count).to_owned();
    let rows = |m: &Mat<f64>, at: usize, count: usize| m.subrows(at, count).to_owned();
    let mut project = |m: &Mat<f64>| {
        let y = b.matrix(n, m.ncols());
        b.push(Launch::Linear(linear::Args::new(f_hat, Matrix::whole(&host(m)), y)));
        y
    };
    let (nodes, width, first) = (ends.nodes.clone(), coords(&closed.input), closed.input[0].coords());
    let launch;
    let out;
    match closed.core {
        Core::Linear => return None,
        Core::Act(act) => {
            let pre = project(&cols(&l, 0, first));
            let linear = product(l.subcols(first, width - first), r.subrows(first, width - first));
            out = b.accumulator(k_out, k_in);
            let u_t = host(&cols(&l, 0, first).transpose().to_owned());
            let (v, linear) = (host(&rows(&r, 0, first)), host(&linear));
            launch = Launch::EdgeSquares(edge_squares::Args { act, nodes, pre, up: None, f_hat, u_t, v, b: linear, out });
        }
        Core::Gated(act) => {
            let (pre, up) = (project(&cols(&l, 0, first)), project(&cols(&l, first, first)));
            let linear = product(l.subcols(2 * first, width - 2 * first), r.subrows(first, width - 2 * first));
            out = b.accumulator(k_out, k_in);
            let u_t = host(&cols(&l, 0, 2 * first).transpose().to_owned());
            let (v, linear) = (host(&rows(&r, 0, first)), host(&linear));
            launch = Launch::EdgeSquares(edge_squares::Args { act, nodes, pre, up: Some(up), f_hat, u_t, v, b: linear, out });
        }
        Core::NormFirst | Core::NormSecond { .. } | Core::Norm { .. } => {
            let second = matches!(closed.core, Core::NormSecond { .. });
            let at = usize::from(second);
            let d = closed.input[at].width;
            let x_l = cols(&l, at, d);
            let x = project(&x_l);
            let v = second.then(|| project(&cols(&l, 0, 1)));
            let (c, s, g) = (b.matrix(n, d), b.matrix(n, 1), b.matrix(n, 1));
            let half = match (closed.core, v) {
                (Core::NormSecond { eps }, Some(v)) => Half::Second { v, eps },
                (Core::Norm { eps }, _) => Half::Both { eps },
                _ => Half::First,
            };
            b.push(Launch::NormRows(norm_moments::RowArgs { half, nodes, x, c, s, g }));
            // c times the input side, c times the output side.
            let mut times_c = |m: Mat<f64>| {
                let y = b.matrix(n, m.ncols());
                b.push(Launch::Linear(linear::Args::new(c, Matrix::whole(&host(&m)), y)));
                Side::Rows(y)
            };
            let y_r = rows(&r, 0, d);
            let centred = {
                let means: Vec<f64> = (0..k_in).map(|j| (0..d).map(|i| x_l[(j, i)]).sum::<f64>() / d as f64).collect();
                Mat::from_fn(k_in, d, |j, i| x_l[(j, i)] - means[j])
            };
            let (l_side, y_side, z1, z0) = match closed.core {
                Core::NormFirst => {
                    let v_row = Tensor::row(dtype, (0..k_out).map(|i| r[(0, i)]).collect());
                    let z0 = product(l.as_ref(), r.subrows(1, width));
                    (times_c(x_l.transpose().to_owned()), Side::Constant(v_row), Mat::zeros(k_in, k_out), z0)
                }
                Core::NormSecond { .. } => {
                    let v_col = Tensor::row(dtype, (0..k_in).map(|j| l[(j, 0)]).collect());
                    // The constant of x and everything behind it pass on.
                    let z0 = product(l.subcols(1 + d, width - 1 - d), r.subrows(d, width - 1 - d));
                    (Side::Constant(v_col), times_c(y_r.clone()), product(centred.as_ref(), y_r.as_ref()), z0)
                }
                _ => {
                    let mut z0 = product(l.as_ref(), r.subrows(first, width));
                    for c in d..first {
                        for j in 0..k_in {
                            for i in 0..k_out {
                                z0[(j, i)] += l[(j, c)] * r[(c, i)];
                            }
                        }
                    }
                    (times_c(x_l.transpose().to_owned()), times_c(y_r.clone()), product(centred.as_ref(), y_r.as_ref()), z0)
                }
            };
            out = b.accumulator(k_out, k_in);
            let (z1, z0) = (host(&z1), host(&z0));
            launch = Launch::EdgeRankOne(edge_squares::RankOneArgs { f_hat, s, g, l: l_side, y: y_side, z1, z0, out });
        }
        Core::Attention(AttentionShape { heads, d_head, scale, last_only, .. }) => {
            // At a projected input the constants behind the values are coordinates like any other.
            let (hq, hv) = (heads * d_head, closed.input[2].coords());
            let (q, k, v) = (project(&cols(&l, 0, hq)), project(&cols(&l, hq, hq)), project(&cols(&l, 2 * hq, hv)));
            let at = 2 * hq + hv;
            let linear = product(l.subcols(at, width - at), r.subrows(hv, width - at));
            out = b.accumulator(k_out, k_in);
            let d_v = closed.input[2].pitch();
            let (batch, seq) = (batch.samples, batch.positions);
            launch = Launch::AttentionEdges(attention_edges::Args {
                attention: Attention { batch, seq, heads, d_head, d_v, scale, last_only, nodes, q, k, v },
                f_hat,
                q_e: host(&cols(&l, 0, hq)),
                k_e: host(&cols(&l, hq, hq)),
                v_e: host(&cols(&l, 2 * hq, hv)),
                o_e: host(&rows(&r, 0, hv)),
                b_e: host(&linear),
                out,
            });
        }
    }
    b.push(launch);
    Some(out)
}

/// Squared edges of a linear section: (C+ B C)_ji^2 <f_j^2>, `[k_out, k_in]`. `raw` is the
/// uncentred Gram matrix of the graph data.
pub fn linear_edges(closed: &Closed, ends: &Ends, raw: &Mat<f64>) -> Mat<f64> {
    let j = product(ends.from.c_pinv.as_ref(), closed.through_right(&ends.c_out()).as_ref());
    let gc = product(raw.as_ref(), ends.from.c.as_ref());
    let squares: Vec<f64> = (0..gc.ncols()).map(|j| (0..gc.nrows()).map(|i| ends.from.c[(i, j)] * gc[(i, j)]).sum()).collect();
    Mat::from_fn(j.ncols(), j.nrows(), |i, f| j[(f, i)] * j[(f, i)] * squares[f])
}

/// What the general road computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Formula {
    Squared,
    /// Squared with R random signs over output positions.
    Stochastic {
        sources: usize,
        seed: u64,
    },
    Functional,
}

/// Emits edges through any section; divide by [`overcount`].
pub fn emit_general(
    b: &mut Builder<Launch>,
    chain: &Chain,
    formula: Formula,
    ends: &Ends,
    f_hat: View,
    batch: Batch,
    first: IntBuffer,
) -> View {
    let (dtype, k_in, k_out, n) = (b.dtype(), f_hat.cols, ends.k_out(), f_hat.rows);
    let out = b.accumulator(k_out, k_in);
    let c_pinv = tensor(dtype, ends.from.c_pinv.as_ref());
    let c_t = tensor(dtype, ends.c_out().transpose());
    let projected = b.matrix(n, c_pinv.cols);
    b.push(Launch::Linear(linear::Args::new(f_hat, Matrix::whole(&c_pinv), projected)));
    let tapes = tapes(b, chain, ends.nodes, projected, batch);
    let positions = if chain.last_only { 1 } else { batch.positions };
    let rows = batch.samples * positions;
    if formula == Formula::Squared {
        let probes = chunk(k_in, n);
        repeat(b, k_in.div_ceil(probes), |b, index| {
            let dx = b.matrix(probes * n, c_pinv.cols);
            b.push(Launch::Features(probes::FeatureArgs { f_hat, c_pinv: c_pinv.clone(), index, probes, y: dx }));
            let parts: Vec<View> = tapes.iter().map(|t| chain.jvp(b, t, dx, probes)).collect();
            let dy = weighted_sum(b, ends.nodes, &parts);
            let y = b.matrix(dy.rows, k_out);
            b.push(Launch::Linear(linear::Args { transpose: true, ..linear::Args::new(dy, Matrix::whole(&c_t), y) }));
            b.push(Launch::EdgeTangents(edge_squares::TangentArgs { y, index, probes, out }));
        });
        return out;
    }
    // F_hat at the projected input and at its scaled copies, for the functional formula.
    let mut outputs = |y: View| {
        let f = b.matrix(rows, k_out);
        b.push(Launch::Linear(linear::Args { transpose: true, ..linear::Args::new(y, Matrix::whole(&c_t), f) }));
        f
    };
    let differences: Vec<View> = if formula == Formula::Functional {
        let scaled: Vec<View> = tapes.iter().map(|t| outputs(t.output())).collect();
        let whole = chain.primal(b, projected, batch).output();
        scaled
            .into_iter()
            .map(|f| {
                // 2 (F(f) - F(alpha f)): minus the derivative of the square.
                let full = b.matrix(rows, k_out);
                b.push(Launch::Linear(linear::Args { transpose: true, ..linear::Args::new(whole, Matrix::whole(&c_t), full) }));
                let difference = b.matrix(rows, k_out);
                b.push(Launch::Copy(copy::Args { scale: 2.0, ..copy::Args::new(full, difference) }));
                b.push(Launch::Copy(copy::Args { scale: -2.0, ..copy::Args::add(f, difference) }));
                difference
            })
            .collect()
    } else {
        Vec::new()
    };
    let count = match formula {
        Formula::Stochastic { sources, .. } => sources * k_out,
        _ => k_out,
    };
    let probes = chunk(count, n);
    repeat(b, count.div_ceil(probes), |b, index| {
        let cotangents: Vec<View> = (0..tapes.len())
            .map(|i| {
                let y = b.matrix(probes * rows, chain.d_out());
                b.push(match formula {
                    Formula::Stochastic { sources, seed } => {
                        let kind = Kind::PositionSigns { sources };
                        Launch::Probes(probes::Args { kind, seed, c_t: Some(c_t.clone()), positions, first, index, probes, y })
                    }
                    _ => Launch::Features(probes::FeatureArgs { f_hat: differences[i], c_pinv: c_t.clone(), index, probes, y }),
                });
                y
            })
            .collect();
        let g = mean_cotangent(b, chain, ends.nodes, &tapes, &cotangents, probes);
        let gc = b.matrix(g.rows, k_in);
        b.push(Launch::Linear(linear::Args { transpose: true, ..linear::Args::new(g, Matrix::whole(&c_pinv), gc) }));
        let squared = formula != Formula::Functional;
        b.push(Launch::EdgeCotangents(edge_squares::CotangentArgs {
            g: gc,
            f_hat,
            positions: batch.positions,
            count,
            squared,
            index,
            probes,
            out,
        }));
    });
    out
}

/// How often the sum over probes counts each term.
pub fn overcount(formula: Formula) -> f64 {
    match formula {
        Formula::Stochastic { sources, .. } => sources as f64,
        _ => 1.0,
    }
}
