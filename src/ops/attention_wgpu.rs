//! The wgpu launchers of [`super::sdpa`] and [`super::attention`]: first a table of what each query sees, then the passes
//! over it. Probes go together as far as bindings hold them; what no binding holds is left to the host.

use super::attention_layer::{Cotangent, Forward, Layer, STATISTICS, Tangent};
use super::copy::FillArgs;
use super::extents::MOST;
use super::offload::{Scratch, Storage, WgpuPlace, together};
use super::packing::Heads;
use super::{attention, copy_wgpu, sdpa};
use crate::device::View;
use crate::device::wgpu::Recorded;
use crate::error::Result;
use crate::kernel::wgsl::attention::{
    AttentionParams, HAS_ASKING, HAS_SEEN, OF_KEY, OF_QUERY, Pass, SPANS, SPANS_TABLE, SpansParams, choose, spans_configuration,
};
use crate::kernel::wgsl::attention_shape::{ROWS, chunks_at_most};
use crate::kernel::wgsl::{Limits, flags};

/// The scratch buffer of the table, and that of the statistics.
const TABLE: usize = 0;
const NOTES: usize = 1;

/// Elements from the first to the last of views.
fn span<'a>(views: impl IntoIterator<Item = &'a View>) -> usize {
    let ends = views.into_iter().filter(|v| v.rows > 0).map(|v| (v.offset, v.range(v.rows - 1).end));
    ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).map_or(0, |(start, end)| end - start)
}

/// Rows of the probes `from .. from + count` of a stack with `rows` rows a probe.
fn probes_of(v: &View, rows: usize, (from, count): (usize, usize)) -> View {
    v.slice_rows(from * rows, count * rows)
}

/// The numbers of the table and of the statistics that a launch binds.
struct Notes {
    table: usize,
    statistics: usize,
}

impl Notes {
    fn read_table(&self, storage: &mut Storage, at: &WgpuPlace) -> Result<u32> {
        storage.read_buffer(at.scratch(TABLE), 0..self.table)
    }
    fn read(&self, storage: &mut Storage, at: &WgpuPlace) -> Result<u32> {
        storage.read_buffer(at.scratch(NOTES), 0..self.statistics)
    }
    fn write(&self, storage: &mut Storage, at: &WgpuPlace) -> Result<u32> {
        storage.write_buffer(at.scratch(NOTES), 0..self.statistics)
    }
}

impl Layer {
    /// Numbers of the table.
    fn table(&self) -> u64 {
        (self.m as u64).saturating_mul(OF_QUERY).saturating_add((self.n as u64).saturating_mul(OF_KEY))
    }
    /// Statistics of that many probes.
    fn statistics(&self, probes: usize) -> u64 {
        STATISTICS.saturating_mul((probes as u64).saturating_mul((self.m.saturating_mul(self.heads)) as u64))
    }
    fn notes(&self, probes: usize) -> Notes {
        Notes { table: self.table() as usize, statistics: self.statistics(probes) as usize }
    }
    /// Scratch memory with the statistics of that many probes.
    fn scratch_for(&self, probes: usize) -> Scratch {
        vec![4 * self.table(), 4 * self.statistics(probes)]
    }
    /// Whether kernels count the rows of that many probes, and bindings hold the operands and the table.
    fn holds(&self, probes: usize, views: &[&View], limits: &Limits) -> bool {
        let rows = [self.n, self.m, self.m.saturating_mul(self.heads)].map(|n| n.saturating_mul(probes));
        let primal = [&self.q.view, &self.k.view, &self.v.view];
        let all = primal.into_iter().chain(views.iter().copied());
        rows.into_iter().all(|n| n > 0 && n < MOST)
            && all.into_iter().all(|v| v.stride < MOST && span([v]) <= limits.binding)
            && self.table() <= limits.binding as u64
    }
    /// How many probes a launch takes, whose operands have `m` rows of queries or `n` of keys each; `joint` lie in
    /// one binding where they lie in one buffer.
    fn at_once(&self, probes: usize, of_m: &[&View], of_n: &[&View], joint: &[&View], limits: &Limits) -> Option<usize> {
        if !self.holds(probes, &[], limits) {
            return None;
        }
        let within = |count: usize| {
            let slices = |views: &[&View], rows| views.iter().map(|v| probes_of(v, rows, (0, count))).collect::<Vec<_>>();
            let (of_m, of_n, joint) = (slices(of_m, self.m), slices(of_n, self.n), slices(joint, self.n));
            of_m.iter().chain(&of_n).all(|v| v.stride < MOST && span([v]) <= limits.binding)
                && (joint.iter().any(|v| v.buffer != joint[0].buffer) || span(&joint) <= limits.binding)
                && self.statistics(count) <= limits.binding as u64
                && self.counted(count)
        };
        let halves = std::iter::successors(Some(probes), |n| (*n > 1).then(|| n.div_ceil(2)));
        halves.into_iter().find(|count| within(*count))
    }
    /// The launch that writes the table.
    fn record_table(&self, at: &WgpuPlace) -> Result<Recorded> {
        let mut storage = at.storage();
        let flags = flags([(self.seen.is_some(), HAS_SEEN), (self.asking.is_some(), HAS_ASKING)]);
        let params = SpansParams {
            m: self.m as u32,
            n: self.n as u32,
            seq: self.seq as u32,
            row_step: self.step as u32,
            row_first: self.first as u32,
            causal: self.causal.into(),
            window: self.window as u32,
            flags,
            first_offset: storage.ints_if(self.packing.map(|p| p.0))?,
            end_offset: storage.ints_if(self.packing.map(|p| p.1))?,
            seen_offset: storage.ints_if(self.seen)?,
            asking_offset: storage.ints_if(self.asking)?,
            table_offset: storage.write_buffer(at.scratch(TABLE), 0..self.table() as usize)?,
        };
        let groups = self.m.max(self.n).div_ceil(SPANS as usize) as u64;
        at.record(&SPANS_TABLE, &spans_configuration(), storage, &params, groups)
    }
    /// What all passes are told.
    fn block(&self) -> AttentionParams {
        let steps = |x: &Heads| (x.view.stride as u32, x.pitch as u32);
        let ((q_row, q_head), (k_row, k_head), (v_row, v_head)) = (steps(&self.q), steps(&self.k), steps(&self.v));
        AttentionParams {
            m: self.m as u32,
            n: self.n as u32,
            heads: self.heads as u32,
            group: (self.heads / self.kv_heads) as u32,
            d_head: self.d_head as u32,
            d_v: self.d_v as u32,
            scale: self.scale as f32,
            cap: self.cap as f32,
            uncap: if self.cap > 0.0 { (1.0 / self.cap) as f32 } else { 0.0 },
            q_row,
            q_head,
            k_row,
            k_head,
            v_row,
            v_head,
            ..AttentionParams::default()
        }
    }
    /// Records a pass of `probes` probes over `rows` rows of `heads` heads, whose results are `width` columns wide.
    fn record(
        &self,
        at: &WgpuPlace,
        pass: Pass,
        [rows, heads, width, probes]: [usize; 4],
        storage: Storage,
        params: AttentionParams,
    ) -> Result<Recorded> {
        let (kernel, configuration, chunks) = choose(pass, width as u32, &params, &at.limits());
        let tiles = rows.div_ceil(ROWS as usize) as u64;
        let units = tiles * u64::from(chunks) * (heads * probes) as u64;
        let params = AttentionParams { units: units as u32, tiles: tiles as u32, chunks, ..params };
        at.record(kernel, &configuration, storage, &params, units)
    }
    /// Whether all workgroups of a pass over that many probes can be numbered.
    fn counted(&self, probes: usize) -> bool {
        let tiles = self.m.max(self.n).div_ceil(ROWS as usize);
        let sizes = [self.heads, probes, chunks_at_most(self.d_head.max(self.d_v))];
        sizes.into_iter().fold(tiles, usize::saturating_mul) <= u32::MAX as usize
    }
}

impl Forward {
    fn fits(&self, limits: &Limits) -> Option<Scratch> {
        let (l, pattern) = (&self.layer, self.pattern.as_ref());
        let views: Vec<&View> = [Some(&self.z), pattern].into_iter().flatten().collect();
        let served = l.holds(1, &views, limits) && l.statistics(1) <= limits.binding as u64 && l.counted(1);
        (served && pattern.is_none_or(|p| p.cols < MOST)).then(|| l.scratch_for(usize::from(pattern.is_some())))
    }
    fn launches(&self, at: &WgpuPlace) -> Result<Vec<Recorded>> {
        let (l, pattern) = (&self.layer, self.pattern.as_ref());
        let notes = l.notes(1);
        let mut steps = vec![l.record_table(at)?];
        let mut storage = at.storage();
        let params = AttentionParams {
            q_offset: storage.read(&l.q.view)?,
            k_offset: storage.read(&l.k.view)?,
            v_offset: storage.read(&l.v.view)?,
            table_offset: notes.read_table(&mut storage, at)?,
            z_offset: storage.write(&self.z)?,
            z_row: self.z.stride as u32,
            z_head: l.d_v as u32,
            notes: pattern.is_some().into(),
            statistics_offset: match pattern {
                Some(_) => notes.write(&mut storage, at)?,
                None => storage.write_if(None)?,
            },
            ..l.block()
        };
        steps.push(l.record(at, Pass::Forward, [l.m, l.heads, l.d_v, 1], storage, params)?);
        let Some(p) = pattern else { return Ok(steps) };
        let mut storage = at.storage();
        let params = AttentionParams {
            q_offset: storage.read(&l.q.view)?,
            k_offset: storage.read(&l.k.view)?,
            table_offset: notes.read_table(&mut storage, at)?,
            statistics_offset: notes.read(&mut storage, at)?,
            p_offset: storage.write(p)?,
            p_row: p.stride as u32,
            longest: p.cols as u32,
            ..l.block()
        };
        steps.push(l.record(at, Pass::Pattern, [l.m, l.heads, 1, 1], storage, params)?);
        Ok(steps)
    }
}

impl Tangent {
    fn at_once(&self, limits: &Limits) -> Option<usize> {
        let (of_m, of_n) = ([&self.dq.view, &self.dz], [&self.dk.view, &self.dv.view]);
        self.layer.at_once(self.probes, &of_m, &of_n, &[], limits)
    }
    fn fits(&self, limits: &Limits) -> Option<Scratch> {
        self.at_once(limits).map(|_| self.layer.scratch_for(0))
    }
    fn launches(&self, at: &WgpuPlace) -> Result<Vec<Recorded>> {
        let l = &self.layer;
        let (notes, each) = (l.notes(0), self.at_once(&at.limits()).unwrap_or(1));
        let mut steps = vec![l.record_table(at)?];
        for from in (0..self.probes).step_by(each) {
            let probes = (from, each.min(self.probes - from));
            let mut storage = at.storage();
            let params = AttentionParams {
                q_offset: storage.read(&l.q.view)?,
                k_offset: storage.read(&l.k.view)?,
                v_offset: storage.read(&l.v.view)?,
                dq_offset: storage.read(&probes_of(&self.dq.view, l.m, probes))?,
                dq_row: self.dq.view.stride as u32,
                dq_head: self.dq.pitch as u32,
                dk_offset: storage.read(&probes_of(&self.dk.view, l.n, probes))?,
                dk_row: self.dk.view.stride as u32,
                dk_head: self.dk.pitch as u32,
                dv_offset: storage.read(&probes_of(&self.dv.view, l.n, probes))?,
                dv_row: self.dv.view.stride as u32,
                dv_head: self.dv.pitch as u32,
                table_offset: notes.read_table(&mut storage, at)?,
                z_offset: storage.write(&probes_of(&self.dz, l.m, probes))?,
                z_row: self.dz.stride as u32,
                z_head: l.d_v as u32,
                ..l.block()
            };
            steps.push(l.record(at, Pass::Tangent, [l.m, l.heads, l.d_v, probes.1], storage, params)?);
        }
        Ok(steps)
    }
}

impl Cotangent {
    fn at_once(&self, limits: &Limits) -> Option<usize> {
        let (of_m, of_n) = ([&self.dq.view, &self.dz], [&self.dk.view, &self.dv.view]);
        self.layer.at_once(self.probes, &of_m, &of_n, &of_n, limits)
    }
    /// The launch that zeroes the rows of all positions, where only some ask.
    fn blank(&self) -> Option<FillArgs> {
        let ((before, distance), v) = (self.blank, self.dq.view);
        let y = View { offset: v.offset - before * distance, rows: v.rows * (before + 1), stride: distance, ..v };
        (before > 0).then_some(FillArgs { y, value: 0.0 })
    }
    fn fits(&self, limits: &Limits) -> Option<Scratch> {
        if let Some(blank) = self.blank() {
            copy_wgpu::fill_fits(&blank, limits)?;
        }
        self.at_once(limits).map(|each| self.layer.scratch_for(each))
    }
    fn launches(&self, at: &WgpuPlace) -> Result<Vec<Recorded>> {
        let l = &self.layer;
        let each = self.at_once(&at.limits()).unwrap_or(1);
        let mut steps = self.blank().map_or(Ok(Vec::new()), |blank| copy_wgpu::fill_bind(&blank, at))?;
        steps.push(l.record_table(at)?);
        for from in (0..self.probes).step_by(each) {
            let probes = (from, each.min(self.probes - from));
            let (notes, of_n) = (l.notes(probes.1), |x: &Heads| probes_of(&x.view, l.n, probes));
            let dz = probes_of(&self.dz, l.m, probes);
            let primal = |storage: &mut Storage| -> Result<AttentionParams> {
                Ok(AttentionParams {
                    q_offset: storage.read(&l.q.view)?,
                    k_offset: storage.read(&l.k.view)?,
                    v_offset: storage.read(&l.v.view)?,
                    z_offset: storage.read(&dz)?,
                    z_row: dz.stride as u32,
                    z_head: l.d_v as u32,
                    table_offset: notes.read_table(storage, at)?,
                    ..l.block()
                })
            };
            let mut storage = at.storage();
            let params =
                AttentionParams { dq_row: self.dq.view.stride as u32, dq_head: self.dq.pitch as u32, ..primal(&mut storage)? };
            let params = AttentionParams {
                dq_offset: storage.write(&probes_of(&self.dq.view, l.m, probes))?,
                statistics_offset: notes.write(&mut storage, at)?,
                ..params
            };
            steps.push(l.record(at, Pass::Queries, [l.m, l.heads, l.d_head, probes.1], storage, params)?);
            let mut storage = at.storage();
            let params = primal(&mut storage)?;
            let params = AttentionParams { statistics_offset: notes.read(&mut storage, at)?, ..params };
            let (dk, dv) = (of_n(&self.dk), of_n(&self.dv));
            let [dk_offset, dv_offset] = storage.write_all([&dk, &dv])?;
            let params = AttentionParams {
                dk_offset,
                dk_row: dk.stride as u32,
                dk_head: self.dk.pitch as u32,
                dv_offset,
                dv_row: dv.stride as u32,
                dv_head: self.dv.pitch as u32,
                ..params
            };
            let pass = Pass::Keys { joint: together([&dk, &dv]) == [0, 0] };
            steps.push(l.record(at, pass, [l.n, l.kv_heads, l.d_head.max(l.d_v), probes.1], storage, params)?);
        }
        Ok(steps)
    }
}

macro_rules! launchers {
    ($($args:ty: $fits:ident, $bind:ident => $pass:expr;)*) => {
        $(
            /// Scratch memory; `None` where there is no kernel.
            pub(super) fn $fits(a: &$args, limits: &Limits) -> Option<Scratch> {
                $pass(a).fits(limits)
            }

            /// The launches of an operation for which there are kernels.
            pub(super) fn $bind(a: &$args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
                $pass(a).launches(at)
            }
        )*
    };
}

launchers! {
    sdpa::Args: sdpa_fits, sdpa_bind => Forward::packed;
    sdpa::Tangent: sdpa_tangent_fits, sdpa_tangent_bind => Tangent::packed;
    sdpa::Cotangent: sdpa_cotangent_fits, sdpa_cotangent_bind => Cotangent::packed;
    attention::Args: fits, bind => Forward::uniform;
    attention::Tangent: tangent_fits, tangent_bind => Tangent::uniform;
    attention::Cotangent: cotangent_fits, cotangent_bind => Cotangent::uniform;
}
