//! The CUDA launchers of [`super::sdpa`] and [`super::attention`], f32 and f64.

use super::attention_layer::{Cotangent, Forward, Layer, STATISTICS, Tangent};
use super::extents::{MOST, MOST_PLANES};
use super::offload::Place;
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

impl Layer {
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

impl Forward {
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

impl Tangent {
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

impl Cotangent {
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
