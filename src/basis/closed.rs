//! Closed forms of M' (`lib-closed-forms.md` sections 1 to 6) for the cores of
//! [`super::plan::Core`]: which sums they need, and what they make of them.
//!
//! phi maps A = C C' of the next node layer to M' = 1/(N S_in) sum_x sum_t sum_s G_ts A G_ts'. The
//! linear maps around a core are congruences; a core sees its own tuple only.

use faer::Mat;

use super::host::{add_product, congruence, from_lower, from_rows, product, sym, tensor};
use super::plan::{Closed, Core};
use crate::data::stream::Read;
use crate::device::{Builder, View};
use crate::error::Result;
use crate::model::forward::{Batch, Value};
use crate::model::sections::{AttentionShape, coords};
use crate::ops::{Attention, Launch, attention_moments, moments, norm_moments};

/// Quadrature points (weight, alpha), `lib.md` 1.9.
pub type Nodes = Vec<(f64, f64)>;

/// Emits the launches that gather a core's sums from its input `taps`; `a` is A in front of the
/// right maps, needed by the cores that are not data-only.
pub fn emit(
    b: &mut Builder<Launch>,
    closed: &Closed,
    nodes: &Nodes,
    taps: &[Value],
    batch: Batch,
    a: Option<&Mat<f64>>,
) -> Result<Vec<Read>> {
    let dtype = b.dtype();
    let mut acc = |rows: usize, cols: usize| b.accumulator(rows, cols);
    let launch;
    let views: Vec<View> = match closed.core {
        Core::Linear => return Ok(Vec::new()),
        Core::Act(act) => {
            let m = taps[0].view.cols;
            let (h, s) = (acc(1, m), acc(m, m));
            launch = Launch::Moments(moments::Args { act, nodes: nodes.clone(), pre: taps[0].view, up: None, h, s });
            vec![h, s]
        }
        Core::Gated(act) => {
            let m = taps[0].view.cols;
            let (h, s) = (acc(1, 2 * m), acc(2 * m, 2 * m));
            let (pre, up) = (taps[0].view, Some(taps[1].view));
            launch = Launch::Moments(moments::Args { act, nodes: nodes.clone(), pre, up, h, s });
            vec![h, s]
        }
        Core::NormFirst | Core::NormSecond { .. } | Core::Norm { .. } => {
            let x = if matches!(closed.core, Core::NormSecond { .. }) { taps[1].view } else { taps[0].view };
            let d = x.cols;
            let (kind, grams) = match closed.core {
                Core::NormSecond { eps } => (norm_moments::Kind::Second { v: taps[0].view, eps }, 1),
                Core::Norm { eps } => {
                    let a_y = a.map(|a| centred(&closed.right_a(a).submatrix(0, 0, d, d).to_owned()));
                    let a_y = a_y.unwrap_or_else(|| Mat::zeros(d, d));
                    (norm_moments::Kind::One { a_y: tensor(dtype, a_y.as_ref()), eps }, 3)
                }
                _ => (norm_moments::Kind::First, 1),
            };
            let (scalars, vectors) = (acc(1, 2), acc(2, d));
            let grams: Vec<View> = (0..grams).map(|_| acc(d, d)).collect();
            let views = [vec![scalars, vectors], grams.clone()].concat();
            launch = Launch::NormMoments(norm_moments::Args { kind, nodes: nodes.clone(), x, scalars, vectors, grams });
            views
        }
        Core::Attention(AttentionShape { heads, d_head, d_v, scale, last_only }) => {
            let z = closed.input[2];
            let a = a.map_or_else(|| Mat::zeros(z.coords(), z.coords()), |a| closed.right_a(a));
            let at = |i: usize| (i / d_v) * z.pitch() + i % d_v;
            let p = Mat::from_fn(heads * d_v, heads * d_v, |i, j| a[(at(i), at(j))]);
            let (hq, hv) = (heads * d_head, heads * d_v);
            let sizes = [(hq, hq), (hq, hq), (hq, hq), (hq, hv), (hq, hv), (heads, heads), (hq, d_v), (hq, d_v), (1, heads)];
            let v: Vec<View> = sizes.iter().map(|&(r, c)| acc(r, c)).collect();
            let attention = Attention {
                batch: batch.samples,
                seq: batch.positions,
                heads,
                d_head,
                d_v,
                scale,
                last_only,
                nodes: nodes.clone(),
                q: taps[0].view,
                k: taps[1].view,
                v: taps[2].view,
            };
            launch = Launch::AttentionMoments(attention_moments::Args {
                attention,
                p_mat: tensor(dtype, p.as_ref()),
                qq: v[0],
                kk: v[1],
                qk: v[2],
                qv: v[3],
                kv: v[4],
                vv: v[5],
                lq: v[6],
                lk: v[7],
                lv: v[8],
            });
            v
        }
    };
    b.push(launch);
    Ok(views.into_iter().map(Read::Add).collect())
}

/// P X P with P = I - 11'/d on both sides.
fn centred(a: &Mat<f64>) -> Mat<f64> {
    let d = a.nrows();
    let p = Mat::from_fn(d, d, |i, j| f64::from(u8::from(i == j)) - 1.0 / d as f64);
    congruence(p.as_ref(), a.as_ref())
}

impl Closed {
    /// A in front of the right maps: R A R'.
    pub fn right_a(&self, a: &Mat<f64>) -> Mat<f64> {
        self.right.iter().rev().fold(a.clone(), |a, map| map.congruence(a.as_ref()))
    }
    /// M' from A of the next layer and the core's sums. `tokens_in` = N S_in normalises,
    /// `tokens_out` counts output positions.
    pub fn phi(&self, a: &Mat<f64>, sums: &[Vec<f64>], nodes: &Nodes, tokens_in: f64, tokens_out: f64) -> Mat<f64> {
        let a = self.right_a(a);
        let means: Vec<Vec<f64>> = sums.iter().map(|s| s.iter().map(|x| x / tokens_in).collect()).collect();
        let m = self.core_phi(&a, &means, nodes, tokens_out / tokens_in);
        self.left.iter().rev().fold(m, |m, map| map.congruence(m.as_ref()))
    }

    fn core_phi(&self, a: &Mat<f64>, means: &[Vec<f64>], nodes: &Nodes, nu: f64) -> Mat<f64> {
        let n = coords(&self.input);
        let first = self.input[0];
        match self.core {
            Core::Linear => Mat::from_fn(n, n, |i, j| nu * a[(i, j)]),
            Core::Act(act) => {
                let (m, hidden) = (first.width, first.coords());
                // The constant neuron has the same derivative at every token.
                let unit = first.constant.map(|r| nodes.iter().map(|(w, alpha)| w * act.derivative(alpha * r)).sum::<f64>());
                let h: Vec<f64> = means[0].iter().copied().chain(unit.map(|u| u * nu)).collect();
                let s = |i: usize, j: usize| match (i < m, j < m) {
                    (true, true) => means[1][i.max(j) * m + i.min(j)],
                    (true, false) => h[i] * unit.unwrap_or(0.0),
                    (false, true) => h[j] * unit.unwrap_or(0.0),
                    (false, false) => nu * unit.unwrap_or(0.0) * unit.unwrap_or(0.0),
                };
                Mat::from_fn(n, n, |i, j| {
                    a[(i, j)]
                        * match (i < hidden, j < hidden) {
                            (true, true) => s(i, j),
                            (true, false) => h[i],
                            (false, true) => h[j],
                            (false, false) => nu,
                        }
                })
            }
            Core::Gated(_) => {
                let m = first.width;
                // Coordinates (g, u, rest); g and u meet the same output h.
                let out = |i: usize| if i < m { i } else { i - m };
                Mat::from_fn(n, n, |i, j| {
                    a[(out(i), out(j))]
                        * match (i < 2 * m, j < 2 * m) {
                            (true, true) => means[1][i.max(j) * 2 * m + i.min(j)],
                            (true, false) => means[0][i],
                            (false, true) => means[0][j],
                            (false, false) => nu,
                        }
                })
            }
            Core::NormFirst => {
                let d = first.width;
                let m1: f64 = nodes.iter().map(|(w, alpha)| w * alpha).sum();
                let gain = 2.0 * m1 / d as f64;
                let omega = from_lower(d, &means[2]);
                let c = |i: usize| if i < d { means[1][i] } else { 0.0 };
                Mat::from_fn(n, n, |i, j| {
                    let square = if i < d && j < d { gain * gain * a[(0, 0)] * omega[(i, j)] } else { 0.0 };
                    nu * a[(1 + i, 1 + j)] + gain * (c(i) * a[(0, 1 + j)] + c(j) * a[(0, 1 + i)]) + square
                })
            }
            Core::NormSecond { .. } => self.second_phi(a, means, nu),
            Core::Norm { .. } => self.norm_phi(a, means, nu),
            Core::Attention(AttentionShape { heads, d_head, d_v, .. }) => self.attention_phi(a, means, nu, heads, d_head, d_v),
        }
    }

    /// Section 2.2; input (v, x, rest), output (y, rest), the constant of x goes to y.
    fn second_phi(&self, a: &Mat<f64>, means: &[Vec<f64>], nu: f64) -> Mat<f64> {
        let (n, d) = (coords(&self.input), self.input[1].width);
        // B: every coordinate but v and the values of x has a place among the outputs.
        let b = |i: usize| (i > d).then(|| i - 1);
        let a_b = |i: usize, j: usize| b(i).zip(b(j)).map_or(0.0, |(i, j)| a[(i, j)]);
        // X A B' over (D, n): rows of y, centred.
        let mut xab = Mat::from_fn(d, n, |i, j| b(j).map_or(0.0, |j| a[(i, j)]));
        centre_columns(&mut xab);
        let xax = centred(&a.submatrix(0, 0, d, d).to_owned());
        let (s1, s11) = (means[0][0], means[0][1]);
        let (u3, u4) = means[1].split_at(d);
        let omega = from_lower(d, &means[2]);
        let trace: f64 = (0..d).flat_map(|i| (0..d).map(move |j| (i, j))).map(|(i, j)| xax[(i, j)] * omega[(i, j)]).sum();
        let mut m = Mat::from_fn(n, n, |i, j| nu * a_b(i, j));
        let x_row = |i: usize| (1..=d).contains(&i).then(|| i - 1);
        let mut cross = Mat::<f64>::zeros(n, n);
        for i in 0..n {
            if let Some(x) = x_row(i) {
                for j in 0..n {
                    cross[(i, j)] += s1 * xab[(x, j)];
                    if let Some(y) = x_row(j) {
                        m[(i, j)] += s11 * xax[(x, y)];
                    }
                }
            }
        }
        for j in 0..n {
            cross[(0, j)] -= 0.5 * (0..d).map(|x| u3[x] * xab[(x, j)]).sum::<f64>();
            if let Some(y) = x_row(j) {
                cross[(0, j)] -= 0.5 * (0..d).map(|x| u4[x] * xax[(x, y)]).sum::<f64>();
            }
        }
        m[(0, 0)] += 0.25 * trace;
        m + sym(&cross)
    }

    /// Section 2.3; input (x, rest), output (y, x, rest).
    fn norm_phi(&self, a: &Mat<f64>, means: &[Vec<f64>], nu: f64) -> Mat<f64> {
        let (n, d, first) = (coords(&self.input), self.input[0].width, self.input[0].coords());
        // B: every input coordinate passes by; the constant of x goes to y as well.
        let mut b = Mat::<f64>::zeros(n, first + n);
        for i in 0..n {
            b[(i, first + i)] = 1.0;
        }
        for c in d..first {
            b[(c, c)] = 1.0;
        }
        let mut m = congruence(b.as_ref(), a.as_ref());
        m *= faer::Scale(nu);
        let mut xab = product(a.subrows(0, d), b.transpose());
        centre_columns(&mut xab);
        let xax = centred(&a.submatrix(0, 0, d, d).to_owned());
        let (s1, s11, width) = (means[0][0], means[0][1], d as f64);
        let [o3, o4, o5] = [2, 3, 4].map(|i| from_lower(d, &means[i]));
        let gain = Mat::from_fn(d, d, |i, j| f64::from(u8::from(i == j)) * s1 - o3[(i, j)] / width);
        let cross = product(gain.as_ref(), xab.as_ref());
        let inner = sym(&product(xax.as_ref(), o4.as_ref()));
        for i in 0..d {
            for j in 0..n {
                m[(i, j)] += cross[(i, j)];
                m[(j, i)] += cross[(i, j)];
            }
            for j in 0..d {
                m[(i, j)] += s11 * xax[(i, j)] - inner[(i, j)] / width + o5[(i, j)] / (width * width);
            }
        }
        m
    }

    /// Section 6; input (q, k, v, rest), output (z, rest).
    fn attention_phi(&self, a: &Mat<f64>, means: &[Vec<f64>], nu: f64, heads: usize, d_head: usize, d_v: usize) -> Mat<f64> {
        let n = coords(&self.input);
        let (hq, pitch) = (heads * d_head, self.input[2].pitch());
        let (k0, v0, z_end) = (hq, 2 * hq, heads * pitch);
        let r0 = v0 + z_end;
        let mut m = Mat::<f64>::zeros(n, n);
        let [qq, kk, qk] = [0, 1, 2].map(|i| from_rows(hq, hq, &means[i]));
        for i in 0..hq {
            for j in 0..hq {
                m[(i, j)] = qq[(i, j)];
                m[(k0 + i, k0 + j)] = kk[(i, j)];
                m[(i, k0 + j)] = qk[(i, j)];
                m[(k0 + j, i)] = qk[(i, j)];
            }
        }
        let values = [from_rows(hq, heads * d_v, &means[3]), from_rows(hq, heads * d_v, &means[4])];
        let linear = [from_rows(hq, d_v, &means[6]), from_rows(hq, d_v, &means[7])];
        for h in 0..heads {
            // Rows of A at the values of head h: the constants behind them have no q or k derivative.
            let p_rows = a.subrows(h * pitch, d_v);
            for (which, row0) in [(0, 0), (1, k0)] {
                let row = row0 + h * d_head;
                for g in 0..heads {
                    let lhs = values[which].submatrix(h * d_head, g * d_v, d_head, d_v);
                    add_product(
                        m.as_mut().submatrix_mut(row, v0 + g * pitch, d_head, pitch),
                        1.0,
                        lhs,
                        p_rows.subcols(g * pitch, pitch),
                    );
                }
                let lhs = linear[which].subrows(h * d_head, d_head);
                add_product(m.as_mut().submatrix_mut(row, r0, d_head, n - r0), 1.0, lhs, p_rows.subcols(z_end, n - r0));
            }
            for i in 0..pitch {
                for j in 0..z_end {
                    m[(v0 + h * pitch + i, v0 + j)] = means[5][h * heads + j / pitch] * a[(h * pitch + i, j)];
                }
                for j in 0..n - r0 {
                    m[(v0 + h * pitch + i, r0 + j)] = means[8][h] * a[(h * pitch + i, z_end + j)];
                }
            }
        }
        for i in 0..n - r0 {
            for j in 0..n - r0 {
                m[(r0 + i, r0 + j)] = nu * a[(z_end + i, z_end + j)];
            }
        }
        // The blocks left of and below the diagonal ones.
        for i in 0..n {
            for j in 0..i {
                if (j < v0 && i >= v0) || (j < r0 && i >= r0) {
                    m[(i, j)] = m[(j, i)];
                }
            }
        }
        m
    }
}

/// Takes the mean of each column off: P X.
fn centre_columns(x: &mut Mat<f64>) {
    let d = x.nrows() as f64;
    for j in 0..x.ncols() {
        let mean = (0..x.nrows()).map(|i| x[(i, j)]).sum::<f64>() / d;
        for i in 0..x.nrows() {
            x[(i, j)] -= mean;
        }
    }
}
