//! Tangents and cotangents of a block at the values of its [`Trace`]. R probes are stacked probe-major:
//! row `r * n + i` belongs to row `i`.
//!
//! Where a block reads out some rows only, its output has those rows, and its input all of them.

use super::forward::{Forward, Trace, linear_args};
use super::{Linear, Norm, Order, Projections};
use crate::device::{Builder, View};
use crate::error::Result;
use crate::ops::packing::Heads;
use crate::ops::{Launch, activation, copy, gated, gather, linear, norm, sdpa};

impl Forward<'_> {
    /// Emits `dy = J dx`, `[R * n, d]` to `[R * m, d]`.
    pub fn jvp(&mut self, b: &mut Builder<Launch>, layer: usize, t: &Trace, dx: View) -> Result<View> {
        let block = self.block(layer);
        let is_post = block.order == Order::PostNorm;
        let normed = if is_post { dx } else { self.norm_tangent(b, t.x, dx, block.norm1.as_ref())? };
        let added = self.attention_tangent(b, layer, t, normed)?;
        let narrow = self.narrowed_tangent(b, layer, t, dx)?;
        let sum = self.sum(b, narrow, added);
        let mid = if is_post { self.norm_tangent(b, t.sum, sum, block.norm1.as_ref())? } else { sum };
        let input = match block.order {
            Order::Sequential => self.norm_tangent(b, t.mid, mid, block.norm2.as_ref())?,
            Order::Parallel => self.norm_tangent(b, t.narrow, narrow, block.norm2.as_ref())?,
            Order::SharedNorm => self.narrowed_tangent(b, layer, t, normed)?,
            Order::PostNorm => mid,
        };
        let added = self.mlp_tangent(b, layer, t, input)?;
        let last = self.sum(b, mid, added);
        if is_post { self.norm_tangent(b, t.last, last, block.norm2.as_ref()) } else { Ok(last) }
    }
    /// Emits `dx = J' dy`, `[R * m, d]` to `[R * n, d]`.
    pub fn vjp(&mut self, b: &mut Builder<Launch>, layer: usize, t: &Trace, dy: View) -> Result<View> {
        let block = self.block(layer);
        let is_post = block.order == Order::PostNorm;
        let last = if is_post { self.norm_cotangent(b, t.last, dy, block.norm2.as_ref())? } else { dy };
        let input = self.mlp_cotangent(b, layer, t, last)?;
        // The stream between the halves, or of a parallel block the one in front of both.
        let mid = self.copied(b, last);
        match block.order {
            Order::Sequential => self.add_norm_cotangent(b, t.mid, input, block.norm2.as_ref(), mid)?,
            Order::Parallel => self.add_norm_cotangent(b, t.narrow, input, block.norm2.as_ref(), mid)?,
            Order::PostNorm => b.push(Launch::Copy(copy::Args::add(input, mid))),
            Order::SharedNorm => {}
        }
        let sum = if is_post { self.norm_cotangent(b, t.sum, mid, block.norm1.as_ref())? } else { mid };
        // In a parallel block attention adds to what is behind the block, not to the MLP's input.
        let added = if matches!(block.order, Order::Parallel | Order::SharedNorm) { last } else { sum };
        let normed = self.attention_cotangent(b, layer, t, added)?;
        if block.order == Order::SharedNorm {
            let input = self.spread(b, layer, t, input)?;
            b.push(Launch::Copy(copy::Args::add(input, normed)));
        }
        let spread = self.spread(b, layer, t, sum)?;
        let dx = self.copied(b, spread);
        let norm1 = if is_post { None } else { block.norm1.as_ref() };
        self.add_norm_cotangent(b, t.x, normed, norm1, dx)?;
        Ok(dx)
    }

    /// What attention adds to the stream.
    fn attention_tangent(&mut self, b: &mut Builder<Launch>, layer: usize, t: &Trace, dn: View) -> Result<View> {
        let block = self.block(layer);
        let (a, at) = (&block.attention, &t.attention);
        let queries = self.queries(layer);
        let probes = dn.rows / t.x.rows.max(1);
        let (dq, dk, dv) = match &a.projections {
            Projections::Separate { q, k, v, norms } => {
                let asking = self.narrowed_tangent(b, layer, t, dn)?;
                let mut dq = self.direction(b, asking, q)?;
                let (mut dk, dv) = (self.direction(b, dn, k)?, self.direction(b, dn, v)?);
                if let (Some((q_norm, k_norm)), Some((q0, k0))) = (norms, at.raw) {
                    dq = self.head_tangent(b, q0, dq, a.heads, q_norm)?;
                    dk = self.head_tangent(b, k0, dk, a.kv_heads, k_norm)?;
                }
                let dense = |view| Heads::dense(view, a.d_head);
                let positions = queries.map_or(self.inputs.positions, |q| q.positions);
                self.rotate(b, a, dense(dq), a.heads, positions, false)?;
                self.rotate(b, a, dense(dk), a.kv_heads, self.inputs.positions, false)?;
                (dense(dq), dense(dk), dense(dv))
            }
            Projections::Fused { linear, k, v, pitch } => {
                let all = self.direction(b, dn, linear)?;
                let part = |from| Heads::within(all, from, *pitch);
                let (mut dq, dk, dv) = (part(0), part(*k), part(*v));
                self.rotate(b, a, dq, a.heads, self.inputs.positions, false)?;
                self.rotate(b, a, dk, a.kv_heads, self.inputs.positions, false)?;
                dq.view = self.narrowed_tangent(b, layer, t, dq.view)?;
                (dq, dk, dv)
            }
        };
        let dz = self.matrix(b, probes * at.z.rows, at.z.cols);
        let args = sdpa::Tangent { primal: at.primal, dq, dk, dv, dz };
        args.check()?;
        b.push(Launch::SdpaTangent(args));
        let out = self.direction(b, dz, &a.o)?;
        self.norm_tangent(b, t.attention_out, out, block.attention_norm.as_ref())
    }
    /// The cotangent of attention's input `[R * n, d]`, of the cotangent of what it adds.
    fn attention_cotangent(&mut self, b: &mut Builder<Launch>, layer: usize, t: &Trace, d: View) -> Result<View> {
        let block = self.block(layer);
        let (a, at) = (&block.attention, &t.attention);
        let queries = self.queries(layer);
        let probes = d.rows / at.z.rows.max(1);
        let (n, m) = (probes * t.x.rows, d.rows);
        let out = self.norm_cotangent(b, t.attention_out, d, block.attention_norm.as_ref())?;
        let dz = self.reverse(b, out, &a.o)?;
        let (dq, dk, dv, fused) = match &a.projections {
            Projections::Separate { .. } => {
                let mut dense = |rows, heads: usize| Heads::dense(self.matrix(b, rows, heads * a.d_head), a.d_head);
                (dense(m, a.heads), dense(n, a.kv_heads), dense(n, a.kv_heads), None)
            }
            Projections::Fused { linear, k, v, pitch } => {
                let all = self.matrix(b, n, linear.d_out());
                // Queries of some rows have a matrix of their own, with zeros for keys and values.
                let asking = match queries {
                    None => all,
                    Some(_) => {
                        let own = self.matrix(b, m, linear.d_out());
                        b.push(Launch::Fill(copy::FillArgs { y: all, value: 0.0 }));
                        b.push(Launch::Fill(copy::FillArgs { y: own, value: 0.0 }));
                        own
                    }
                };
                let part = |x, from| Heads::within(x, from, *pitch);
                (part(asking, 0), part(all, *k), part(all, *v), Some((asking, all)))
            }
        };
        let args = sdpa::Cotangent { primal: at.primal, dz, dq, dk, dv };
        args.check()?;
        b.push(Launch::SdpaCotangent(args));
        let positions = queries.map_or(self.inputs.positions, |q| q.positions);
        self.rotate(b, a, dq, a.heads, positions, true)?;
        self.rotate(b, a, dk, a.kv_heads, self.inputs.positions, true)?;
        match (&a.projections, fused) {
            (Projections::Fused { linear, .. }, Some((asking, all))) => {
                let dn = self.reverse(b, all, linear)?;
                if queries.is_some() {
                    let narrow = self.reverse(b, asking, linear)?;
                    let spread = self.spread(b, layer, t, narrow)?;
                    b.push(Launch::Copy(copy::Args::add(spread, dn)));
                }
                Ok(dn)
            }
            (Projections::Separate { q, k, v, norms }, _) => {
                let (mut dq, mut dk) = (dq.view, dk.view);
                if let (Some((q_norm, k_norm)), Some((q0, k0))) = (norms, at.raw) {
                    dq = self.head_cotangent(b, q0, dq, a.heads, q_norm)?;
                    dk = self.head_cotangent(b, k0, dk, a.kv_heads, k_norm)?;
                }
                let narrow = self.reverse(b, dq, q)?;
                let spread = self.spread(b, layer, t, narrow)?;
                let dn = self.copied(b, spread);
                self.add_reverse(b, dk, k, dn)?;
                self.add_reverse(b, dv.view, v, dn)?;
                Ok(dn)
            }
            (Projections::Fused { .. }, None) => unreachable!("a fused projection has its buffers"),
        }
    }
    /// What the MLP adds to the stream.
    fn mlp_tangent(&mut self, b: &mut Builder<Launch>, layer: usize, t: &Trace, d: View) -> Result<View> {
        let block = self.block(layer);
        let (mlp, m) = (&block.mlp, &t.mlp);
        let dy = self.matrix(b, d.rows, mlp.neurons());
        match (&mlp.gate, m.up) {
            (Some(gate), Some(u)) => {
                let (dg, du) = (self.direction(b, d, gate)?, self.direction(b, d, &mlp.up)?);
                let args = gated::TangentArgs { act: mlp.act, g: m.pre, u, dg, du, dh: dy, transpose: false };
                b.push(Launch::GatedTangent(args));
            }
            _ => {
                let dx = self.direction(b, d, &mlp.up)?;
                let args = activation::TangentArgs { act: mlp.act, x: m.pre, dx, dy, transpose: false };
                b.push(Launch::ActivationTangent(args));
            }
        }
        let hidden = self.norm_tangent(b, m.post, dy, mlp.norm.as_ref())?;
        let out = self.direction(b, hidden, &mlp.down)?;
        self.norm_tangent(b, t.mlp_out, out, block.mlp_norm.as_ref())
    }
    /// The cotangent of the MLP's input, of the cotangent of what it adds.
    fn mlp_cotangent(&mut self, b: &mut Builder<Launch>, layer: usize, t: &Trace, d: View) -> Result<View> {
        let block = self.block(layer);
        let (mlp, m) = (&block.mlp, &t.mlp);
        let out = self.norm_cotangent(b, t.mlp_out, d, block.mlp_norm.as_ref())?;
        let hidden = self.reverse(b, out, &mlp.down)?;
        let dh = self.norm_cotangent(b, m.post, hidden, mlp.norm.as_ref())?;
        let dg = self.matrix(b, d.rows, mlp.neurons());
        match (&mlp.gate, m.up) {
            (Some(gate), Some(u)) => {
                let du = self.matrix(b, d.rows, mlp.neurons());
                b.push(Launch::GatedTangent(gated::TangentArgs { act: mlp.act, g: m.pre, u, dg, du, dh, transpose: true }));
                let dx = self.reverse(b, dg, gate)?;
                self.add_reverse(b, du, &mlp.up, dx)?;
                Ok(dx)
            }
            _ => {
                let args = activation::TangentArgs { act: mlp.act, x: m.pre, dx: dh, dy: dg, transpose: true };
                b.push(Launch::ActivationTangent(args));
                self.reverse(b, dg, &mlp.up)
            }
        }
    }

    /// `dx W`
    fn direction(&mut self, b: &mut Builder<Launch>, dx: View, l: &Linear) -> Result<View> {
        let y = self.matrix(b, dx.rows, l.d_out());
        push_linear(b, linear::Args { bias: None, ..linear_args(dx, l, y) })?;
        Ok(y)
    }
    /// `dy W'`
    fn reverse(&mut self, b: &mut Builder<Launch>, dy: View, l: &Linear) -> Result<View> {
        let x = self.matrix(b, dy.rows, l.d_in());
        push_linear(b, reversed(dy, l, x))?;
        Ok(x)
    }
    /// `dx += dy W'`
    fn add_reverse(&mut self, b: &mut Builder<Launch>, dy: View, l: &Linear, dx: View) -> Result<()> {
        push_linear(b, linear::Args { accumulate: true, ..reversed(dy, l, dx) })
    }
    fn norm_tangent(&mut self, b: &mut Builder<Launch>, x: View, dx: View, n: Option<&Norm>) -> Result<View> {
        let Some(n) = n else { return Ok(dx) };
        let dy = self.matrix(b, dx.rows, dx.cols);
        let args = norm::Tangent { kind: n.kind, x, dx, dy, eps: n.eps, w: n.w.clone() };
        args.check()?;
        b.push(Launch::NormTangent(args));
        Ok(dy)
    }
    fn norm_cotangent(&mut self, b: &mut Builder<Launch>, x: View, dy: View, n: Option<&Norm>) -> Result<View> {
        let Some(n) = n else { return Ok(dy) };
        let dx = self.matrix(b, dy.rows, dy.cols);
        push_norm(b, n, x, dy, dx, false)?;
        Ok(dx)
    }
    fn add_norm_cotangent(&mut self, b: &mut Builder<Launch>, x: View, dy: View, n: Option<&Norm>, dx: View) -> Result<()> {
        match n {
            Some(n) => push_norm(b, n, x, dy, dx, true),
            None => {
                b.push(Launch::Copy(copy::Args::add(dy, dx)));
                Ok(())
            }
        }
    }
    fn head_tangent(&mut self, b: &mut Builder<Launch>, x: View, dx: View, heads: usize, n: &Norm) -> Result<View> {
        let each = |v: View| v.reshape(v.rows * heads, v.cols / heads);
        Ok(self.norm_tangent(b, each(x), each(dx), Some(n))?.reshape(dx.rows, dx.cols))
    }
    fn head_cotangent(&mut self, b: &mut Builder<Launch>, x: View, dy: View, heads: usize, n: &Norm) -> Result<View> {
        let each = |v: View| v.reshape(v.rows * heads, v.cols / heads);
        Ok(self.norm_cotangent(b, each(x), each(dy), Some(n))?.reshape(dy.rows, dy.cols))
    }
    /// The rows of every probe that are read out.
    fn narrowed_tangent(&mut self, b: &mut Builder<Launch>, layer: usize, t: &Trace, dx: View) -> Result<View> {
        let Some(q) = self.queries(layer) else { return Ok(dx) };
        let y = self.matrix(b, dx.rows / t.x.rows * q.rows.len, dx.cols);
        let args = gather::Args { x: dx, rows: q.rows, y };
        args.check()?;
        b.push(Launch::Gather(args));
        Ok(y)
    }
    /// The transpose of [`Forward::narrowed_tangent`].
    fn spread(&mut self, b: &mut Builder<Launch>, layer: usize, t: &Trace, dy: View) -> Result<View> {
        let Some(q) = self.queries(layer) else { return Ok(dy) };
        let y = self.matrix(b, dy.rows / q.rows.len * t.x.rows, dy.cols);
        let args = gather::ScatterArgs { x: dy, rows: q.rows, y };
        args.check()?;
        b.push(Launch::Scatter(args));
        Ok(y)
    }
}

fn reversed(dy: View, l: &Linear, dx: View) -> linear::Args {
    linear::Args { transpose: !l.transpose, ..linear::Args::new(dy, l.w.clone(), dx) }
}

fn push_linear(b: &mut Builder<Launch>, args: linear::Args) -> Result<()> {
    args.check()?;
    b.push(Launch::Linear(args));
    Ok(())
}

fn push_norm(b: &mut Builder<Launch>, n: &Norm, x: View, dy: View, dx: View, accumulate: bool) -> Result<()> {
    let args = norm::Cotangent { kind: n.kind, x, dy, dx, eps: n.eps, w: n.w.clone(), accumulate };
    args.check()?;
    b.push(Launch::NormCotangent(args));
    Ok(())
}
