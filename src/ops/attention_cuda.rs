//! The CUDA launchers of [`super::sdpa`] and [`super::attention`], f32 and f64: packed sequences, and
//! sequences of one length, whose packing is arithmetic.

use super::extents::{MOST, MOST_PLANES};
use super::offload::Place;
use super::packing::Heads;
use super::{attention, sdpa};
use crate::device::cuda::Call;
use crate::device::{DType, IntBuffer, View};
use crate::error::Result;
use crate::kernel::attention::{
    FORWARD, ForwardParams, KEYS, KeysParams, PATTERN, PatternParams, QUERIES, QueriesParams, TANGENT, TILE, TangentParams,
    choose,
};
use crate::kernel::tuning::Limits;
use crate::kernel::{Configuration, Kernel};

/// Lines of the statistics of a head's queries.
const STATISTICS: u64 = 3;

/// What the three passes of both operations have in common.
#[derive(Clone, Copy)]
struct Layer {
    heads: usize,
    kv_heads: usize,
    d_head: usize,
    d_v: usize,
    scale: f64,
    cap: f64,
    causal: bool,
    /// 0 where there is none.
    window: usize,
    /// Queries.
    m: usize,
    /// Rows of keys.
    n: usize,
    /// First and end of sequences, and what is hidden, of packed sequences.
    packing: Option<(IntBuffer, IntBuffer)>,
    seen: Option<IntBuffer>,
    asking: Option<IntBuffer>,
    /// Rows of every sequence, or 0.
    seq: usize,
    /// Query i is row `i step + first`.
    step: usize,
    first: usize,
    q: Heads,
    k: Heads,
    v: Heads,
}

impl Layer {
    fn packed(a: &sdpa::Primal) -> Self {
        let s = &a.shape;
        Self {
            heads: s.heads,
            kv_heads: s.kv_heads,
            d_head: s.d_head,
            d_v: s.d_v,
            scale: s.scale,
            cap: s.softcap.unwrap_or(0.0),
            causal: s.causal,
            window: s.window.map_or(0, |w| w.min(MOST)),
            m: a.queries.map_or(a.packing.rows(), |q| q.len),
            n: a.packing.rows(),
            packing: Some((a.packing.first, a.packing.end)),
            seen: a.packing.seen,
            asking: a.queries,
            seq: 0,
            step: 1,
            first: 0,
            q: a.q,
            k: a.k,
            v: a.v,
        }
    }
    fn uniform(s: &attention::Shape, q: &View, k: &View, v: &View) -> Self {
        let (step, first) = if s.last_only { (s.seq, s.seq - 1) } else { (1, 0) };
        Self {
            heads: s.heads,
            kv_heads: s.heads,
            d_head: s.d_head,
            d_v: s.d_v,
            scale: s.scale,
            cap: 0.0,
            causal: s.causal,
            window: 0,
            m: s.batch * s.queries(),
            n: s.batch * s.seq,
            packing: None,
            seen: None,
            asking: None,
            seq: s.seq,
            step,
            first,
            q: Heads::dense(asking(s, q), s.d_head),
            k: Heads::dense(*k, s.d_head),
            v: Heads::dense(*v, s.d_v),
        }
    }
    /// The configuration of a kernel, where it serves this layer with that many probes and these further
    /// views.
    fn choose<const N: usize>(
        &self,
        kernel: &Kernel,
        dtype: DType,
        limits: &Limits,
        probes: usize,
        views: [&View; N],
    ) -> Option<Configuration> {
        let strides = [&self.q.view, &self.k.view, &self.v.view].into_iter().chain(views).map(|v| v.stride);
        let rows = [self.n, self.m, self.m.saturating_mul(self.heads)].map(|n| n.saturating_mul(probes));
        let fits = rows.into_iter().chain(strides).all(|n| n < MOST)
            && rows.iter().all(|n| *n > 0)
            && self.heads.max(probes) <= MOST_PLANES
            && limits.capability >= (8, 0);
        fits.then(|| choose(kernel, dtype, self.d_head, self.d_v, limits.shared_per_block))?
    }
    fn statistics_bytes(&self, dtype: DType, probes: usize) -> u64 {
        (probes * self.heads * self.m * dtype.bytes()) as u64 * STATISTICS
    }
    /// CTAs over the queries of each head and probe.
    fn queries_grid(&self, probes: usize) -> [u32; 3] {
        [self.m.div_ceil(TILE as usize) as u32, self.heads as u32, probes as u32]
    }
    /// CTAs over the keys of each head and probe.
    fn keys_grid(&self, probes: usize) -> [u32; 3] {
        [self.n.div_ceil(TILE as usize) as u32, self.kv_heads as u32, probes as u32]
    }
}

/// The rows of positions that ask, of rows of all positions.
fn asking(s: &attention::Shape, rows: &View) -> View {
    if s.last_only { rows.every(s.seq - 1, s.seq) } else { *rows }
}

/// A parameter block: the fields that all have, and its own.
macro_rules! block {
    ($layer:expr, $at:expr, $name:ident { $($own:tt)* }) => {{
        let (l, at): (&Layer, &Place) = ($layer, $at);
        let ints = |b: Option<IntBuffer>| b.map_or(0, |b| at.ints(b));
        $name {
            q: at.view(&l.q.view),
            k: at.view(&l.k.view),
            first: ints(l.packing.map(|p| p.0)),
            end: ints(l.packing.map(|p| p.1)),
            seen: ints(l.seen),
            asking: ints(l.asking),
            scale: l.scale,
            cap: l.cap,
            uncap: if l.cap > 0.0 { 1.0 / l.cap } else { 0.0 },
            m: l.m as u32,
            seq: l.seq as u32,
            row_step: l.step as u32,
            row_first: l.first as u32,
            group: (l.heads / l.kv_heads) as u32,
            d_head: l.d_head as u32,
            causal: l.causal.into(),
            window: l.window as u32,
            q_row: l.q.view.stride as u32,
            q_head: l.q.pitch as u32,
            k_row: l.k.view.stride as u32,
            k_head: l.k.pitch as u32,
            $($own)*
        }
    }};
}

/// `z` and, where asked, the pattern.
struct Forward {
    layer: Layer,
    z: View,
    pattern: Option<View>,
}

impl Forward {
    fn packed(a: &sdpa::Args) -> Self {
        Self { layer: Layer::packed(&a.primal), z: a.z, pattern: a.pattern }
    }
    fn uniform(a: &attention::Args) -> Self {
        Self { layer: Layer::uniform(&a.shape, &a.q, &a.k, &a.v), z: a.z, pattern: Some(a.p) }
    }
    fn scratch(&self, dtype: DType, limits: &Limits) -> Option<u64> {
        self.layer.choose(&FORWARD, dtype, limits, 1, [&self.z])?;
        let Some(p) = &self.pattern else { return Some(0) };
        self.layer.choose(&PATTERN, dtype, limits, 1, [p])?;
        (p.cols < MOST).then(|| self.layer.statistics_bytes(dtype, 1))
    }
    fn bind(&self, at: &mut Place) -> Result<Vec<Call>> {
        let (l, dtype, limits) = (&self.layer, at.dtype(), at.limits());
        let mut calls = Vec::new();
        if let Some(configuration) = l.choose(&FORWARD, dtype, &limits, 1, [&self.z]) {
            let params = block!(
                l,
                at,
                ForwardParams {
                    v: at.view(&l.v.view),
                    z: at.view(&self.z),
                    statistics: if self.pattern.is_some() { at.scratch() } else { 0 },
                    heads: l.heads as u32,
                    d_v: l.d_v as u32,
                    v_row: l.v.view.stride as u32,
                    v_head: l.v.pitch as u32,
                    z_row: self.z.stride as u32,
                    z_head: l.d_v as u32,
                }
            );
            calls.push(at.call(&FORWARD, &configuration, l.queries_grid(1), &params)?);
        }
        let Some(p) = &self.pattern else { return Ok(calls) };
        if let Some(configuration) = l.choose(&PATTERN, dtype, &limits, 1, [p]) {
            let params = block!(
                l,
                at,
                PatternParams { statistics: at.scratch(), p: at.view(p), p_row: p.stride as u32, longest: p.cols as u32 }
            );
            calls.push(at.call(&PATTERN, &configuration, l.queries_grid(1), &params)?);
        }
        Ok(calls)
    }
}

/// `dz` along `dq`, `dk` and `dv`.
struct Tangent {
    layer: Layer,
    probes: usize,
    dq: Heads,
    dk: Heads,
    dv: Heads,
    dz: View,
}

impl Tangent {
    fn packed(a: &sdpa::Tangent) -> Self {
        let layer = Layer::packed(&a.primal);
        Self { probes: a.dz.rows / layer.m.max(1), layer, dq: a.dq, dk: a.dk, dv: a.dv, dz: a.dz }
    }
    fn uniform(a: &attention::Tangent) -> Self {
        let (s, layer) = (&a.shape, Layer::uniform(&a.shape, &a.q, &a.k, &a.v));
        Self {
            probes: a.dz.rows / layer.m.max(1),
            layer,
            dq: Heads::dense(asking(s, &a.dq), s.d_head),
            dk: Heads::dense(a.dk, s.d_head),
            dv: Heads::dense(a.dv, s.d_v),
            dz: a.dz,
        }
    }
    fn configuration(&self, dtype: DType, limits: &Limits) -> Option<Configuration> {
        let views = [&self.dq.view, &self.dk.view, &self.dv.view, &self.dz];
        self.layer.choose(&TANGENT, dtype, limits, self.probes, views)
    }
    fn scratch(&self, dtype: DType, limits: &Limits) -> Option<u64> {
        self.configuration(dtype, limits).map(|_| 0)
    }
    fn bind(&self, at: &mut Place) -> Result<Vec<Call>> {
        let l = &self.layer;
        let Some(configuration) = self.configuration(at.dtype(), &at.limits()) else { return Ok(Vec::new()) };
        let params = block!(
            l,
            at,
            TangentParams {
                v: at.view(&l.v.view),
                dq: at.view(&self.dq.view),
                dk: at.view(&self.dk.view),
                dv: at.view(&self.dv.view),
                dz: at.view(&self.dz),
                n: l.n as u32,
                d_v: l.d_v as u32,
                v_row: l.v.view.stride as u32,
                v_head: l.v.pitch as u32,
                dq_row: self.dq.view.stride as u32,
                dq_head: self.dq.pitch as u32,
                dk_row: self.dk.view.stride as u32,
                dk_head: self.dk.pitch as u32,
                dv_row: self.dv.view.stride as u32,
                dv_head: self.dv.pitch as u32,
                dz_row: self.dz.stride as u32,
                dz_head: l.d_v as u32,
            }
        );
        Ok(vec![at.call(&TANGENT, &configuration, l.queries_grid(self.probes), &params)?])
    }
}

/// `dq`, `dk` and `dv` from `dz`.
struct Cotangent {
    layer: Layer,
    probes: usize,
    dz: View,
    dq: Heads,
    dk: Heads,
    dv: Heads,
    /// Rows before each of `dq` that become 0, and their distance.
    blank: (usize, usize),
}

impl Cotangent {
    fn packed(a: &sdpa::Cotangent) -> Self {
        let layer = Layer::packed(&a.primal);
        Self { probes: a.dz.rows / layer.m.max(1), layer, dz: a.dz, dq: a.dq, dk: a.dk, dv: a.dv, blank: (0, 0) }
    }
    fn uniform(a: &attention::Cotangent) -> Self {
        let (s, layer) = (&a.shape, Layer::uniform(&a.shape, &a.q, &a.k, &a.v));
        Self {
            probes: a.dz.rows / layer.m.max(1),
            layer,
            dz: a.dz,
            dq: Heads::dense(asking(s, &a.dq), s.d_head),
            dk: Heads::dense(a.dk, s.d_head),
            dv: Heads::dense(a.dv, s.d_v),
            blank: (s.seq - s.queries(), a.dq.stride),
        }
    }
    /// Of the kernels for queries and for keys.
    fn configurations(&self, dtype: DType, limits: &Limits) -> Option<[Configuration; 2]> {
        let views = [&self.dq.view, &self.dk.view, &self.dv.view, &self.dz];
        let of = |kernel| self.layer.choose(kernel, dtype, limits, self.probes, views);
        Some([of(&QUERIES)?, of(&KEYS)?])
    }
    fn scratch(&self, dtype: DType, limits: &Limits) -> Option<u64> {
        self.configurations(dtype, limits).map(|_| self.layer.statistics_bytes(dtype, self.probes))
    }
    fn bind(&self, at: &mut Place) -> Result<Vec<Call>> {
        let l = &self.layer;
        let Some([queries, keys]) = self.configurations(at.dtype(), &at.limits()) else { return Ok(Vec::new()) };
        let params = block!(
            l,
            at,
            QueriesParams {
                v: at.view(&l.v.view),
                dz: at.view(&self.dz),
                dq: at.view(&self.dq.view),
                statistics: at.scratch(),
                heads: l.heads as u32,
                d_v: l.d_v as u32,
                v_row: l.v.view.stride as u32,
                v_head: l.v.pitch as u32,
                dz_row: self.dz.stride as u32,
                dz_head: l.d_v as u32,
                dq_row: self.dq.view.stride as u32,
                dq_head: self.dq.pitch as u32,
                blank: self.blank.0 as u32,
                blank_row: self.blank.1 as u32,
            }
        );
        let first = at.call(&QUERIES, &queries, l.queries_grid(self.probes), &params)?;
        let params = block!(
            l,
            at,
            KeysParams {
                v: at.view(&l.v.view),
                dz: at.view(&self.dz),
                dk: at.view(&self.dk.view),
                dv: at.view(&self.dv.view),
                statistics: at.scratch(),
                n: l.n as u32,
                d_v: l.d_v as u32,
                v_row: l.v.view.stride as u32,
                v_head: l.v.pitch as u32,
                dz_row: self.dz.stride as u32,
                dz_head: l.d_v as u32,
                dk_row: self.dk.view.stride as u32,
                dk_head: self.dk.pitch as u32,
                dv_row: self.dv.view.stride as u32,
                dv_head: self.dv.pitch as u32,
            }
        );
        Ok(vec![first, at.call(&KEYS, &keys, l.keys_grid(self.probes), &params)?])
    }
}

macro_rules! launchers {
    ($($args:ty: $scratch:ident, $bind:ident => $pass:expr, $bytes:expr;)*) => {
        $(
            /// Bytes of scratch memory; `None` where there is no kernel.
            pub(super) fn $scratch(a: &$args, dtype: DType, limits: &Limits) -> Option<u64> {
                $bytes(&$pass(a), dtype, limits)
            }

            /// The calls of a launch for which there are kernels.
            pub(super) fn $bind(a: &$args, at: &mut Place) -> Result<Vec<Call>> {
                $pass(a).bind(at)
            }
        )*
    };
}

launchers! {
    sdpa::Args: sdpa_scratch, sdpa_bind => Forward::packed, Forward::scratch;
    sdpa::Tangent: sdpa_tangent_scratch, sdpa_tangent_bind => Tangent::packed, Tangent::scratch;
    sdpa::Cotangent: sdpa_cotangent_scratch, sdpa_cotangent_bind => Cotangent::packed, Cotangent::scratch;
    attention::Args: scratch, bind => Forward::uniform, Forward::scratch;
    attention::Tangent: tangent_scratch, tangent_bind => Tangent::uniform, Tangent::scratch;
    attention::Cotangent: cotangent_scratch, cotangent_bind => Cotangent::uniform, Cotangent::scratch;
}
