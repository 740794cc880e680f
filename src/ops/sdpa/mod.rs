//! Scaled dot-product attention of packed sequences, with tangents and cotangents, for language
//! models: grouped queries, ragged sequences, causal and windowed masks, capped scores.
//!
//! For one sequence and head, with queries `q [nq, d_head]`, keys `k [keys, d_head]` and values
//! `v [keys, d_v]`: `s = scale q k'`, capped to `c tanh(s / c)` where asked, `P = softmax(s)` row by
//! row over the keys that a query sees, and `z = P v` (Vaswani et al. 2017; grouped queries: Ainslie
//! et al. 2023). A query that sees no key has `P = 0` and `z = 0`. No matrix of scores is kept: all
//! three passes work on tiles of [`TILE`] queries against the keys that those see.

mod cotangent;
mod forward;
mod tangent;
#[cfg(test)]
mod tests;
mod tile;

pub use cotangent::cpu_cotangent;
pub use forward::cpu;
pub use tangent::cpu_tangent;

use super::check;
use super::packing::{Heads, Packing};
use crate::device::{IntBuffer, View};
use crate::error::{Error, Result};

/// Queries of one tile.
pub const TILE: usize = 64;

/// The sizes and the mask of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Heads of the queries and of `z`.
    pub heads: usize,
    /// Heads of the keys and values, a divisor of `heads`: head `h` reads head
    /// `h / (heads / kv_heads)` of them.
    pub kv_heads: usize,
    /// Width of a head's queries and keys.
    pub d_head: usize,
    /// Width of a head's values.
    pub d_v: usize,
    /// Factor of the scores, commonly `1 / sqrt(d_head)`.
    pub scale: f64,
    /// `c`: scores `s` become `c tanh(s / c)` after the scale and before the mask.
    pub softcap: Option<f64>,
    /// A query sees its own position and those before it, instead of the whole sequence.
    pub causal: bool,
    /// `w`, only with `causal`: the query at position `i` of its sequence sees the keys `j > i - w`.
    pub window: Option<usize>,
}

impl Shape {
    /// The head of keys and values that head `h` reads.
    fn group(&self, h: usize) -> usize {
        h / (self.heads / self.kv_heads)
    }
    fn check(&self, op: &'static str) -> Result<()> {
        if [self.heads, self.kv_heads, self.d_head, self.d_v].contains(&0) || !self.heads.is_multiple_of(self.kv_heads) {
            let expected = "heads a multiple of kv_heads, d_head and d_v, each at least 1";
            return Err(Error::shape(op, format!("{self:?}"), expected));
        }
        if self.window.is_some_and(|w| w == 0 || !self.causal) {
            return Err(Error::shape(op, format!("{self:?}"), "a window of at least 1 position, with causal"));
        }
        if self.softcap.is_some_and(|c| !(c > 0.0 && c.is_finite())) {
            return Err(Error::shape(op, format!("{self:?}"), "a finite softcap above 0"));
        }
        Ok(())
    }
}

/// The inputs that all three passes have in common.
#[derive(Clone, Copy, Debug)]
pub struct Primal {
    pub shape: Shape,
    /// Of `n` rows.
    pub packing: Packing,
    /// `[m]`: the packed row of each query, ascending. Every row is a query if absent, and `m = n`.
    pub queries: Option<IntBuffer>,
    /// `[m]` rows of `heads` heads of `d_head` columns.
    pub q: Heads,
    /// `[n]` rows of `kv_heads` heads of `d_head` columns.
    pub k: Heads,
    /// `[n]` rows of `kv_heads` heads of `d_v` columns.
    pub v: Heads,
}

impl Primal {
    /// Packed rows: `n`.
    fn rows(&self) -> usize {
        self.packing.rows()
    }
    /// Queries: `m`.
    fn queries(&self) -> usize {
        self.queries.map_or(self.rows(), |q| q.len)
    }
    fn check(&self, op: &'static str) -> Result<()> {
        self.shape.check(op)?;
        self.packing.check(op)?;
        self.check_heads(op, ["q", "k", "v"], [&self.q, &self.k, &self.v], 1)
    }
    /// Checks queries, keys and values of `probes` probes.
    fn check_heads(&self, op: &'static str, names: [&str; 3], [q, k, v]: [&Heads; 3], probes: usize) -> Result<()> {
        let (s, n, m) = (&self.shape, self.rows(), self.queries());
        q.check(op, names[0], probes * m, s.heads, s.d_head)?;
        k.check(op, names[1], probes * n, s.kv_heads, s.d_head)?;
        v.check(op, names[2], probes * n, s.kv_heads, s.d_v)
    }
    /// Checks tangents or cotangents; `dz` says how many probes there are.
    fn check_probes(&self, op: &'static str, dz: &View, d: [&Heads; 3]) -> Result<()> {
        let probes = check::probes(op, "dz", dz, self.queries(), self.shape.heads * self.shape.d_v)?;
        self.check_heads(op, ["dq", "dk", "dv"], d, probes)
    }
    /// Probes stacked in `dz`.
    fn probes(&self, dz: &View) -> usize {
        dz.rows / self.queries().max(1)
    }
    fn views(&self) -> [&View; 3] {
        [&self.q.view, &self.k.view, &self.v.view]
    }
}

/// Writes `z` from `q`, `k` and `v`.
#[derive(Clone, Debug)]
pub struct Args {
    pub primal: Primal,
    /// Output `[m, heads * d_v]`.
    pub z: View,
    /// Output `[m * heads, longest sequence]`, where asked. Row `heads * before + h * nq + t` is the
    /// pattern of head `h` for query `t` of the `nq` of a sequence, with `before` queries in earlier
    /// sequences; column `j` is key `j` of the sequence. 0 on keys that are not seen and beyond the
    /// sequence.
    pub pattern: Option<View>,
}

impl Args {
    /// Whether the shapes agree and the outputs have buffers of their own.
    pub fn check(&self) -> Result<()> {
        let (op, primal) = ("sdpa", &self.primal);
        primal.check(op)?;
        check::view(op, "z", &self.z, primal.queries(), primal.shape.heads * primal.shape.d_v)?;
        check::apart(op, &[&self.z], &primal.views())?;
        let Some(pattern) = &self.pattern else { return Ok(()) };
        check::view(op, "pattern", pattern, primal.queries() * primal.shape.heads, pattern.cols)?;
        check::apart(op, &[pattern], &primal.views())?;
        check::apart(op, &[pattern], &[&self.z])
    }
}

/// Tangent of [`Args`]: `ds = scale (dq k' + q dk')`, times `1 - (s / c)^2` where scores are capped,
/// `dP = P (ds - rowsum(P ds))` element by element, `dz = dP v + P dv`.
#[derive(Clone, Debug)]
pub struct Tangent {
    pub primal: Primal,
    /// `[R * m]` rows.
    pub dq: Heads,
    /// `[R * n]` rows.
    pub dk: Heads,
    /// `[R * n]` rows.
    pub dv: Heads,
    /// Output `[R * m, heads * d_v]`.
    pub dz: View,
}

impl Tangent {
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        let (op, primal) = ("sdpa tangent", &self.primal);
        primal.check(op)?;
        primal.check_probes(op, &self.dz, [&self.dq, &self.dk, &self.dv])?;
        check::apart(op, &[&self.dz], &primal.views())?;
        check::apart(op, &[&self.dz], &[&self.dq.view, &self.dk.view, &self.dv.view])
    }
}

/// Cotangent of [`Args`]: `dP = dz v'`, `ds = P (dP - rowsum(P dP))`, times `1 - (s / c)^2` where
/// scores are capped, `dq = scale ds k`, `dk = scale ds' q`, `dv = P' dz`; `dk` and `dv` are sums over
/// the heads that read them.
#[derive(Clone, Debug)]
pub struct Cotangent {
    pub primal: Primal,
    /// `[R * m, heads * d_v]`.
    pub dz: View,
    /// Output, `[R * m]` rows. The three outputs may share a buffer but no column; only the columns
    /// of heads are written.
    pub dq: Heads,
    /// Output, `[R * n]` rows.
    pub dk: Heads,
    /// Output, `[R * n]` rows.
    pub dv: Heads,
}

impl Cotangent {
    /// Whether the shapes agree and the outputs have buffers apart from the inputs.
    pub fn check(&self) -> Result<()> {
        let (op, primal) = ("sdpa cotangent", &self.primal);
        primal.check(op)?;
        primal.check_probes(op, &self.dz, [&self.dq, &self.dk, &self.dv])?;
        let outputs = [&self.dq.view, &self.dk.view, &self.dv.view];
        check::apart(op, &outputs, &primal.views())?;
        check::apart(op, &outputs, &[&self.dz])
    }
}
