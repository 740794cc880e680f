//! What the launchers of [`super::sdpa`] and [`super::attention`] have in common: the passes of both as one description,
//! of packed sequences, and of sequences of one length, whose packing is arithmetic. It launches nothing.

use super::extents::MOST;
use super::packing::Heads;
use super::{attention, sdpa};
use crate::device::{IntBuffer, View};

/// Lines of the statistics of a head's queries.
pub(super) const STATISTICS: u64 = 3;

/// What the three passes of both operations have in common.
#[derive(Clone, Copy)]
pub(super) struct Layer {
    pub heads: usize,
    pub kv_heads: usize,
    pub d_head: usize,
    pub d_v: usize,
    pub scale: f64,
    pub cap: f64,
    pub causal: bool,
    /// 0 where there is none.
    pub window: usize,
    /// Queries.
    pub m: usize,
    /// Rows of keys.
    pub n: usize,
    /// First and end of sequences, and what is hidden, of packed sequences.
    pub packing: Option<(IntBuffer, IntBuffer)>,
    pub seen: Option<IntBuffer>,
    pub asking: Option<IntBuffer>,
    /// Rows of every sequence, or 0.
    pub seq: usize,
    /// Query i is row `i step + first`.
    pub step: usize,
    pub first: usize,
    pub q: Heads,
    pub k: Heads,
    pub v: Heads,
}

impl Layer {
    pub fn packed(a: &sdpa::Primal) -> Self {
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
    pub fn uniform(s: &attention::Shape, q: &View, k: &View, v: &View) -> Self {
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
}

/// The rows of positions that ask, of rows of all positions.
fn asking(s: &attention::Shape, rows: &View) -> View {
    if s.last_only { rows.every(s.seq - 1, s.seq) } else { *rows }
}

/// `z` and, where asked, the pattern.
pub(super) struct Forward {
    pub layer: Layer,
    pub z: View,
    pub pattern: Option<View>,
}

impl Forward {
    pub fn packed(a: &sdpa::Args) -> Self {
        Self { layer: Layer::packed(&a.primal), z: a.z, pattern: a.pattern }
    }
    pub fn uniform(a: &attention::Args) -> Self {
        Self { layer: Layer::uniform(&a.shape, &a.q, &a.k, &a.v), z: a.z, pattern: Some(a.p) }
    }
}

/// `dz` along `dq`, `dk` and `dv`.
pub(super) struct Tangent {
    pub layer: Layer,
    pub probes: usize,
    pub dq: Heads,
    pub dk: Heads,
    pub dv: Heads,
    pub dz: View,
}

impl Tangent {
    pub fn packed(a: &sdpa::Tangent) -> Self {
        let layer = Layer::packed(&a.primal);
        Self { probes: a.dz.rows / layer.m.max(1), layer, dq: a.dq, dk: a.dk, dv: a.dv, dz: a.dz }
    }
    pub fn uniform(a: &attention::Tangent) -> Self {
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
}

/// `dq`, `dk` and `dv` from `dz`.
pub(super) struct Cotangent {
    pub layer: Layer,
    pub probes: usize,
    pub dz: View,
    pub dq: Heads,
    pub dk: Heads,
    pub dv: Heads,
    /// Rows before each of `dq` that become 0, and their distance.
    pub blank: (usize, usize),
}

impl Cotangent {
    pub fn packed(a: &sdpa::Cotangent) -> Self {
        let layer = Layer::packed(&a.primal);
        Self { probes: a.dz.rows / layer.m.max(1), layer, dz: a.dz, dq: a.dq, dk: a.dk, dv: a.dv, blank: (0, 0) }
    }
    pub fn uniform(a: &attention::Cotangent) -> Self {
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
}
