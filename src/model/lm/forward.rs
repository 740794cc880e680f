//! The forward pass over packed sequences: embedding, blocks up to the deepest site that is wanted,
//! head. What no site asks for is not computed, and buffers are used again from block to block.

use std::collections::BTreeMap;

use super::scratch::Scratch;
use super::{Attention, Block, Linear, Lm, Norm, Order, Projections};
use crate::device::{Builder, IntBuffer, Tensor, View};
use crate::error::{Error, Result};
use crate::model::site::{Place, Site};
use crate::ops::packing::{Heads, Packing};
use crate::ops::{Launch, activation, copy, gated, gather, linear, norm, rope, sdpa, softcap, token_embed};

/// What the host fills in for each batch of packed sequences.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// `[n]` token ids.
    pub tokens: IntBuffer,
    /// `[n]`: the position of each row in its sequence.
    pub positions: IntBuffer,
    /// Of the `n` rows, or of the keys where `shared` is set.
    pub packing: Packing,
    /// Where sequences go on behind the rows of others, only in causal models.
    pub shared: Option<Shared>,
    /// The rows that are read out, where not all are.
    pub queries: Option<Queries>,
    /// Positions of the longest sequence that a batch may hold.
    pub longest: usize,
}

/// Keys of sequences that begin with rows of others: those rows are computed once, and attention reads
/// their keys and values wherever they belong. A row is computed in one sequence and asks in that one.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// `[k]`: the row of each key.
    pub rows: IntBuffer,
    /// `[n]`: among the keys, the place of each row in its own sequence, ascending.
    pub asking: IntBuffer,
}

/// The rows that are read out, in ascending order: behind the attention of `layer` there are no others.
#[derive(Clone, Copy, Debug)]
pub struct Queries {
    pub layer: usize,
    /// `[m]`: the row of each.
    pub rows: IntBuffer,
    /// `[m]`: its position in its sequence.
    pub positions: IntBuffer,
    /// `[m]`: its place among the keys; `rows` itself unless keys are shared.
    pub asking: IntBuffer,
}

impl Inputs {
    /// Buffers for `n` rows of sequences of at most `longest` positions. With `masked`, rows can be
    /// hidden from attention; with `queries` (layer, m), only m rows are read out behind its attention.
    pub fn new(b: &mut Builder<Launch>, n: usize, longest: usize, masked: bool, queries: Option<(usize, usize)>) -> Self {
        let mut ints = |len| b.ints(len);
        Self {
            tokens: ints(n),
            positions: ints(n),
            packing: Packing { first: ints(n), end: ints(n), seen: masked.then(|| ints(n)) },
            shared: None,
            queries: queries.map(|(layer, m)| {
                let rows = ints(m);
                Queries { layer, rows, positions: ints(m), asking: rows }
            }),
            longest,
        }
    }
    /// As [`Inputs::new`], for `n` rows whose sequences have `keys` keys in all, as some of them share rows.
    pub fn sharing(b: &mut Builder<Launch>, n: usize, keys: usize, longest: usize, queries: Option<(usize, usize)>) -> Self {
        let inputs = Self::new(b, n, longest, false, queries);
        Self {
            packing: Packing { first: b.ints(keys), end: b.ints(keys), seen: None },
            shared: Some(Shared { rows: b.ints(keys), asking: b.ints(n) }),
            queries: inputs.queries.map(|q| Queries { asking: b.ints(q.rows.len), ..q }),
            ..inputs
        }
    }
}

/// How the columns of a captured value are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axes {
    /// A row a position: `[positions, width]`.
    Rows,
    /// `[positions, heads, width / heads]`
    Heads(usize),
    /// A row a head and query: `[heads, queries, keys]`.
    Pattern(usize),
}

/// A captured value: the rows of a sample follow each other.
#[derive(Clone, Copy, Debug)]
pub struct Tap {
    pub view: View,
    pub axes: Axes,
}

/// What the derivatives of an attention layer need of its forward pass.
#[derive(Clone, Copy, Debug)]
pub struct AttentionTrace {
    /// Projected queries and keys in front of their norms, where there are any.
    pub raw: Option<(View, View)>,
    pub primal: sdpa::Primal,
    pub z: View,
}

/// What the derivatives of an MLP need of its forward pass.
#[derive(Clone, Copy, Debug)]
pub struct MlpTrace {
    /// Input of the activation function.
    pub pre: View,
    /// The factor beside the gate.
    pub up: Option<View>,
    /// Behind the activation function, in front of a norm.
    pub post: View,
    /// Input of the last projection.
    pub hidden: View,
}

/// What the derivatives of a block need of its forward pass.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The residual stream in front of the block: all rows, and those that are read out.
    pub x: View,
    pub narrow: View,
    pub attention: AttentionTrace,
    /// Output of attention in front of its own norm.
    pub attention_out: View,
    /// The sum of residual stream and attention: the rows that are read out.
    pub sum: View,
    /// The residual stream between the halves: input of norm2, or of the MLP behind a norm.
    pub mid: View,
    pub mlp: MlpTrace,
    pub mlp_out: View,
    /// Behind the MLP, in front of the norm of [`Order::PostNorm`].
    pub last: View,
    /// The residual stream behind the block.
    pub y: View,
}

/// A forward pass in the making.
#[derive(Debug)]
pub struct Forward<'a> {
    lm: &'a Lm,
    pub inputs: Inputs,
    places: &'a [Place],
    scratch: Scratch,
    rotation: Option<(Tensor, Tensor)>,
    taps: BTreeMap<Place, Tap>,
    /// The residual stream, which outlives a block.
    stream: Option<View>,
}

/// Emits the forward pass as far as `places` need it, and says where they are.
///
/// Fails on logits of a model without a head, on places behind the layer whose rows are read out in part
/// (`inputs.queries`; of the last layer the logits are not), and on shapes that do not fit, which is a bug of the model.
pub fn forward(b: &mut Builder<Launch>, lm: &Lm, inputs: Inputs, places: &[Place]) -> Result<BTreeMap<Place, Tap>> {
    let mut f = Forward::new(lm, inputs, places);
    let logits = places.iter().any(|p| p.site == Site::Logits);
    let deepest = if logits { lm.blocks.len() } else { places.iter().map(|p| p.layer + 1).max().unwrap_or(0) };
    if let Some(q) = inputs.queries.filter(|q| q.layer + 1 < deepest) {
        let expected = format!("no site behind layer {}: the layers there need all rows", q.layer);
        return Err(Error::shape("forward", format!("rows read out at layer {} and sites behind it", q.layer), expected));
    }
    let mut x = f.embed(b)?;
    for layer in 0..deepest {
        let is_last = !logits && layer + 1 == deepest;
        match f.step(b, layer, x, is_last)? {
            Some(y) => x = y,
            None => break,
        }
    }
    if logits {
        let x = f.read_out(b, x)?;
        let view = f.logits(b, x)?;
        f.tap(Place { layer: 0, site: Site::Logits }, view, Axes::Rows);
    }
    Ok(f.taps)
}

impl<'a> Forward<'a> {
    pub(super) fn block(&self, layer: usize) -> &'a Block {
        &self.lm.blocks[layer]
    }
    /// A pass that captures `places`.
    pub fn new(lm: &'a Lm, inputs: Inputs, places: &'a [Place]) -> Self {
        let rotation = lm.rotary.as_ref().map(|r| r.tables(lm.dtype, inputs.longest));
        Self { lm, inputs, places, scratch: Scratch::default(), rotation, taps: BTreeMap::new(), stream: None }
    }
    /// The residual stream in front of the first block.
    pub fn embed(&mut self, b: &mut Builder<Launch>) -> Result<View> {
        let e = &self.lm.embedding;
        let mut x = self.matrix(b, self.inputs.tokens.len, self.lm.d_model);
        let args = token_embed::Args {
            tokens: self.inputs.tokens,
            positions: self.inputs.positions,
            w_e: e.tokens.clone(),
            scale: e.scale,
            w_pos: e.positions.clone(),
            row: e.row.clone(),
            y: x,
        };
        args.check()?;
        b.push(Launch::TokenEmbed(args));
        if let Some(n) = &e.norm {
            x = self.norm(b, x, Some(n))?;
        }
        self.carry_on(x, &[]);
        Ok(x)
    }
    /// One block, in place where nothing else needs the stream; the residual stream behind it, or `None`
    /// where `is_last` and the sites in it end before.
    pub fn step(&mut self, b: &mut Builder<Launch>, layer: usize, x: View, is_last: bool) -> Result<Option<View>> {
        let block = self.block(layer);
        let wants = |sites: &[Site]| self.places.iter().any(|p| p.layer == layer && sites.contains(&p.site));
        let rest = !is_last || wants(&[Site::MlpOut, Site::ResidPost]);
        let mlp = rest || wants(&[Site::MlpPre, Site::MlpMid, Site::MlpAct]);
        let independent = matches!(block.order, Order::Parallel | Order::SharedNorm);
        // Attention adds to the stream, its scores are asked for, or no more than what they are made of.
        let adds = rest || wants(&[Site::AttnOut, Site::ResidMid]) || (mlp && !independent);
        let scores = adds || wants(&[Site::Pattern, Site::Z]);
        let projections = wants(&[Site::Q, Site::K, Site::V]);
        self.tap_stream(b, layer, Site::ResidPre, x);
        if !scores && !projections && !mlp {
            return Ok(None);
        }
        let normed = match block.order {
            Order::PostNorm => x,
            _ => self.norm(b, x, block.norm1.as_ref())?,
        };
        let mut stream = self.narrowed(b, layer, x)?;
        let mlp_input = |f: &mut Self, b: &mut Builder<Launch>, stream: View| match block.order {
            Order::Sequential | Order::Parallel => f.norm(b, stream, block.norm2.as_ref()),
            Order::SharedNorm => f.narrowed(b, layer, normed),
            Order::PostNorm => Ok(stream),
        };
        let attended = match (scores, projections) {
            (true, _) => Some(self.attention(b, layer, normed)?),
            (false, true) => self.projected(b, layer, normed).map(|_| None)?,
            (false, false) => None,
        };
        // The MLP of a parallel block reads the stream before attention is added to it.
        let mut hidden = None;
        if mlp && independent {
            let input = mlp_input(self, b, stream)?;
            hidden = Some(self.mlp(b, layer, input, false)?);
        }
        if !adds {
            return Ok(None);
        }
        if let Some(a) = attended {
            let at = self.wanted(layer, Site::AttnOut);
            self.add(b, stream, a.z, &block.attention.o, block.attention_norm.as_ref(), at)?;
        }
        if block.order == Order::PostNorm {
            stream = self.norm(b, stream, block.norm1.as_ref())?;
        }
        self.tap_stream(b, layer, Site::ResidMid, stream);
        if mlp && !independent {
            let input = mlp_input(self, b, stream)?;
            hidden = Some(self.mlp(b, layer, input, false)?);
        }
        let (true, Some(m)) = (rest, hidden) else { return Ok(None) };
        let at = self.wanted(layer, Site::MlpOut);
        self.add(b, stream, m.hidden, &block.mlp.down, block.mlp_norm.as_ref(), at)?;
        if block.order == Order::PostNorm {
            stream = self.norm(b, stream, block.norm2.as_ref())?;
        }
        self.tap_stream(b, layer, Site::ResidPost, stream);
        self.carry_on(stream, &[]);
        Ok(Some(stream))
    }
    /// One block with every value kept that its derivatives need.
    pub fn trace(&mut self, b: &mut Builder<Launch>, layer: usize, x: View) -> Result<Trace> {
        let block = self.block(layer);
        let is_post = block.order == Order::PostNorm;
        let normed = if is_post { x } else { self.norm(b, x, block.norm1.as_ref())? };
        let attention = self.attention(b, layer, normed)?;
        let attention_out = self.linear(b, attention.z, &block.attention.o)?;
        let added = self.norm(b, attention_out, block.attention_norm.as_ref())?;
        let narrow = self.narrowed(b, layer, x)?;
        let sum = self.sum(b, narrow, added);
        let mid = if is_post { self.norm(b, sum, block.norm1.as_ref())? } else { sum };
        let input = match block.order {
            Order::Sequential => self.norm(b, mid, block.norm2.as_ref())?,
            Order::Parallel => self.norm(b, narrow, block.norm2.as_ref())?,
            Order::SharedNorm => self.narrowed(b, layer, normed)?,
            Order::PostNorm => mid,
        };
        let mlp = self.mlp(b, layer, input, true)?;
        let mlp_out = self.linear(b, mlp.hidden, &block.mlp.down)?;
        let added = self.norm(b, mlp_out, block.mlp_norm.as_ref())?;
        let last = self.sum(b, mid, added);
        let y = if is_post { self.norm(b, last, block.norm2.as_ref())? } else { last };
        Ok(Trace { x, narrow, attention, attention_out, sum, mid, mlp, mlp_out, last, y })
    }
    /// The residual stream behind the last block as the head reads it: behind the final norm.
    pub fn read_out(&mut self, b: &mut Builder<Launch>, x: View) -> Result<View> {
        self.norm(b, x, self.lm.final_norm.as_ref())
    }
    /// Logits `[rows, d_vocab_out]` of rows that [`Forward::read_out`] gave.
    pub fn logits(&mut self, b: &mut Builder<Launch>, x: View) -> Result<View> {
        let head = self.lm.head.as_ref().ok_or_else(|| {
            let found = format!("a {} checkpoint without an output head", self.lm.family);
            Error::numeric("logits", found, "a checkpoint with one, or sites in front of it")
        })?;
        let mut x = x;
        if let Some((dense, act, norm)) = &head.dense {
            let (_, post) = self.activated(b, x, dense, *act, false)?;
            x = self.norm(b, post, Some(norm))?;
        }
        let y = self.linear(b, x, &head.unembed)?;
        if let Some(cap) = head.softcap {
            b.push(Launch::Softcap(softcap::Args { x: y, y, cap }));
        }
        Ok(y)
    }
    /// Makes `x` the residual stream; what was used besides is free, but for `kept` and the taps.
    pub fn carry_on(&mut self, x: View, kept: &[View]) {
        let old = self.stream.replace(x);
        if let Some(old) = old.filter(|old| old.buffer != x.buffer) {
            self.scratch.give(old);
        }
        self.release(kept);
    }
    /// Lets later launches use the buffers of those so far again, but for `kept`, the stream and the taps.
    pub fn release(&mut self, kept: &[View]) {
        let taps = self.taps.values().map(|t| t.view);
        let kept: Vec<View> = kept.iter().copied().chain(taps).chain(self.stream).collect();
        self.scratch.release(&kept);
    }

    /// The rows of `x` that are read out behind the attention of `layer`.
    fn narrowed(&mut self, b: &mut Builder<Launch>, layer: usize, x: View) -> Result<View> {
        match self.queries(layer) {
            None => Ok(x),
            Some(q) => self.gathered(b, x, q.rows),
        }
    }
    /// The rows that are read out, if others are dropped at the attention of this layer.
    pub(super) fn queries(&self, layer: usize) -> Option<Queries> {
        self.inputs.queries.filter(|q| q.layer == layer)
    }
    fn gathered(&mut self, b: &mut Builder<Launch>, x: View, rows: IntBuffer) -> Result<View> {
        let y = self.matrix(b, rows.len, x.cols);
        let args = gather::Args { x, rows, y };
        args.check()?;
        b.push(Launch::Gather(args));
        Ok(y)
    }
    /// Queries, keys and values in front of norms and rotation; the rows of the queries where those are
    /// not all, as others would not be read.
    fn projected(&mut self, b: &mut Builder<Launch>, layer: usize, input: View) -> Result<([Heads; 3], Option<Queries>)> {
        let a = &self.block(layer).attention;
        let queries = self.queries(layer);
        // Queries of rows that are not read out are made only where they are captured or come with the keys.
        let early = matches!(a.projections, Projections::Separate { .. }) && self.wanted(layer, Site::Q).is_none();
        let early = queries.filter(|_| early);
        let (q, k, v) = match &a.projections {
            Projections::Separate { q, k, v, .. } => {
                let asking = match early {
                    Some(rows) => self.gathered(b, input, rows.rows)?,
                    None => input,
                };
                let heads = |x| Heads::dense(x, a.d_head);
                (heads(self.linear(b, asking, q)?), heads(self.linear(b, input, k)?), heads(self.linear(b, input, v)?))
            }
            Projections::Fused { linear, k, v, pitch } => {
                let all = self.linear(b, input, linear)?;
                let part = |from| Heads::within(all, from, *pitch);
                (part(0), part(*k), part(*v))
            }
        };
        for (site, heads, count) in [(Site::Q, q, a.heads), (Site::K, k, a.kv_heads), (Site::V, v, a.kv_heads)] {
            if let Some(at) = self.wanted(layer, site) {
                let view = self.compact(b, heads, count, a.d_head);
                self.tap(at, view, Axes::Heads(count));
            }
        }
        Ok(([q, k, v], early))
    }
    fn attention(&mut self, b: &mut Builder<Launch>, layer: usize, input: View) -> Result<AttentionTrace> {
        let a = &self.block(layer).attention;
        let queries = self.queries(layer);
        let ([mut q, mut k, mut v], early) = self.projected(b, layer, input)?;
        let mut raw = None;
        if let Projections::Separate { norms: Some((q_norm, k_norm)), .. } = &a.projections {
            raw = Some((q.view, k.view));
            q.view = self.head_norm(b, q.view, a.heads, q_norm)?;
            k.view = self.head_norm(b, k.view, a.kv_heads, k_norm)?;
        }
        let positions = early.map_or(self.inputs.positions, |e| e.positions);
        self.rotate(b, a, q, a.heads, positions, false)?;
        self.rotate(b, a, k, a.kv_heads, self.inputs.positions, false)?;
        if let (Some(rows), None) = (queries, early) {
            q.view = self.gathered(b, q.view, rows.rows)?;
        }
        let z = self.matrix(b, q.view.rows, a.heads * a.d_head);
        let at = self.wanted(layer, Site::Pattern);
        let pattern = at.map(|_| self.matrix(b, q.view.rows * a.heads, self.inputs.longest));
        let (packing, mut asking) = (self.inputs.packing, queries.map(|q| q.asking));
        if let Some(shared) = self.inputs.shared {
            (k.view, v.view) = (self.gathered(b, k.view, shared.rows)?, self.gathered(b, v.view, shared.rows)?);
            asking = asking.or(Some(shared.asking));
        }
        let primal = sdpa::Primal { shape: self.shape(a), packing, queries: asking, q, k, v };
        let args = sdpa::Args { primal, z, pattern };
        args.check()?;
        b.push(Launch::Sdpa(args));
        if let (Some(at), Some(p)) = (at, pattern) {
            self.tap(at, p, Axes::Pattern(a.heads));
        }
        if let Some(at) = self.wanted(layer, Site::Z) {
            self.tap(at, z, Axes::Heads(a.heads));
        }
        Ok(AttentionTrace { raw, primal, z })
    }
    /// The attention operation of a layer.
    fn shape(&self, a: &Attention) -> sdpa::Shape {
        sdpa::Shape {
            heads: a.heads,
            kv_heads: a.kv_heads,
            d_head: a.d_head,
            d_v: a.d_head,
            scale: a.scale,
            softcap: a.softcap,
            causal: self.lm.is_causal,
            window: a.window,
        }
    }
    /// Rotates heads in place, or back with `inverse`.
    pub(super) fn rotate(
        &self,
        b: &mut Builder<Launch>,
        a: &Attention,
        x: Heads,
        heads: usize,
        positions: IntBuffer,
        inverse: bool,
    ) -> Result<()> {
        let Some((cos, sin)) = &self.rotation else { return Ok(()) };
        let args = rope::Args { x, y: x, heads, d_head: a.d_head, cos: cos.clone(), sin: sin.clone(), positions, inverse };
        args.check()?;
        b.push(Launch::Rope(args));
        Ok(())
    }
    /// The MLP up to the input of its last projection. The input of the activation function may be
    /// overwritten by its output unless `keep` is set.
    fn mlp(&mut self, b: &mut Builder<Launch>, layer: usize, input: View, keep: bool) -> Result<MlpTrace> {
        let mlp = &self.block(layer).mlp;
        let (pre, up, post) = match &mlp.gate {
            Some(gate) => {
                let (g, u) = (self.linear(b, input, gate)?, self.linear(b, input, &mlp.up)?);
                let h = self.matrix(b, g.rows, g.cols);
                b.push(Launch::Gated(gated::Args { act: mlp.act, g, u, h }));
                (g, Some(u), h)
            }
            None => {
                let keep = keep || self.wanted(layer, Site::MlpPre).is_some();
                let (pre, post) = self.activated(b, input, &mlp.up, mlp.act, keep)?;
                (pre, None, post)
            }
        };
        let hidden = self.norm(b, post, mlp.norm.as_ref())?;
        for (site, view) in [(Site::MlpPre, pre), (Site::MlpMid, post), (Site::MlpAct, hidden)] {
            if let Some(at) = self.wanted(layer, site) {
                self.tap(at, view, Axes::Rows);
            }
        }
        Ok(MlpTrace { pre, up, post, hidden })
    }
    /// `(x W + b, act(x W + b))`. The first is undefined unless `keep` is set or the activation needs rows.
    fn activated(
        &mut self,
        b: &mut Builder<Launch>,
        x: View,
        l: &Linear,
        act: activation::Activation,
        keep: bool,
    ) -> Result<(View, View)> {
        if !act.is_elementwise() {
            let pre = self.linear(b, x, l)?;
            let post = self.matrix(b, pre.rows, pre.cols);
            b.push(Launch::Activation(activation::Args { act, x: pre, y: post }));
            return Ok((pre, post));
        }
        let y = self.matrix(b, x.rows, l.d_out());
        let pre = if keep { Some(self.matrix(b, x.rows, l.d_out())) } else { None };
        let args = linear::Args { act: Some(act), pre, ..linear_args(x, l, y) };
        args.check()?;
        b.push(Launch::Linear(args));
        Ok((pre.unwrap_or(y), y))
    }
    /// Adds `norm(x W + b)` to `stream`, and captures it if `at` is given. The summand is rounded before it
    /// is added, captured or not: what else is asked for must not change a value.
    fn add(
        &mut self,
        b: &mut Builder<Launch>,
        stream: View,
        x: View,
        l: &Linear,
        norm: Option<&Norm>,
        at: Option<Place>,
    ) -> Result<()> {
        let out = self.linear(b, x, l)?;
        let out = self.norm(b, out, norm)?;
        if let Some(at) = at {
            self.tap(at, out, Axes::Rows);
        }
        b.push(Launch::Copy(copy::Args::add(out, stream)));
        Ok(())
    }
    pub(super) fn linear(&mut self, b: &mut Builder<Launch>, x: View, l: &Linear) -> Result<View> {
        let y = self.matrix(b, x.rows, l.d_out());
        let args = linear_args(x, l, y);
        args.check()?;
        b.push(Launch::Linear(args));
        Ok(y)
    }
    fn norm(&mut self, b: &mut Builder<Launch>, x: View, n: Option<&Norm>) -> Result<View> {
        let Some(n) = n else { return Ok(x) };
        let y = self.matrix(b, x.rows, x.cols);
        let args = norm::Args { kind: n.kind, x, y, eps: n.eps, w: n.w.clone(), b: n.b.clone() };
        args.check()?;
        b.push(Launch::Norm(args));
        Ok(y)
    }
    /// Each head of a dense `[rows, heads * d_head]` normed on its own.
    fn head_norm(&mut self, b: &mut Builder<Launch>, x: View, heads: usize, n: &Norm) -> Result<View> {
        let y = self.norm(b, x.reshape(x.rows * heads, x.cols / heads), Some(n))?;
        Ok(y.reshape(x.rows, x.cols))
    }
    /// Heads without gaps between them, in memory of their own.
    fn compact(&mut self, b: &mut Builder<Launch>, x: Heads, heads: usize, width: usize) -> View {
        let y = self.matrix(b, x.view.rows, heads * width);
        for h in 0..heads {
            b.push(Launch::Copy(copy::Args::new(x.head(h, width), y.columns(h * width, width))));
        }
        y
    }
    pub(super) fn copied(&mut self, b: &mut Builder<Launch>, x: View) -> View {
        let y = self.matrix(b, x.rows, x.cols);
        b.push(Launch::Copy(copy::Args::new(x, y)));
        y
    }
    pub(super) fn sum(&mut self, b: &mut Builder<Launch>, x: View, y: View) -> View {
        let s = self.copied(b, x);
        b.push(Launch::Copy(copy::Args::add(y, s)));
        s
    }
    pub(super) fn matrix(&mut self, b: &mut Builder<Launch>, rows: usize, cols: usize) -> View {
        self.scratch.matrix(b, rows, cols)
    }
    /// The place of a site of a layer, if it is to be captured.
    fn wanted(&self, layer: usize, site: Site) -> Option<Place> {
        self.places.iter().find(|p| p.layer == layer && p.site == site).copied()
    }
    /// Captures the residual stream, which changes later, if the site is wanted.
    fn tap_stream(&mut self, b: &mut Builder<Launch>, layer: usize, site: Site, stream: View) {
        if let Some(at) = self.wanted(layer, site) {
            let copy = self.copied(b, stream);
            self.tap(at, copy, Axes::Rows);
        }
    }
    fn tap(&mut self, at: Place, view: View, axes: Axes) {
        self.taps.insert(at, Tap { view, axes });
    }
}

/// The launch of a linear map.
pub(super) fn linear_args(x: View, l: &Linear, y: View) -> linear::Args {
    let bias = l.bias.as_ref().map(linear::Matrix::whole);
    linear::Args { transpose: l.transpose, bias, ..linear::Args::new(x, l.w.clone(), y) }
}
