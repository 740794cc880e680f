//! The launcher of `gram` on a wgpu device: mean and centred Gram matrix of the rows of a view.
//!
//! The device sums slabs of rows, as pairs of f32 where its arithmetic allows; here the host adds the slabs
//! in their order in f64, in [`super::gram_fold_wgpu`] the device does. How rows are cut into slabs follows from the shape alone.

use std::ops::Range;

use super::gram;
use crate::device::wgpu::{Launch, Recorded, View, Wgpu, WgpuBuffer};
use crate::error::{Error, Result};
use crate::kernel::Params;
use crate::kernel::wgsl::gram::{
    Arithmetic, CENTRE, CENTRE_COLUMNS, CENTRE_FOLD, CENTRE_SLAB, CentreFoldParams, CentreParams, FOLD_THREADS, GRAM, GramParams,
    GramShape, Plan, Product, centre, centre_fold, choose,
};

/// Most rows of a call: the sums of its slabs stay small.
const MOST_ROWS: usize = 1 << 18;

/// Most bytes of partial tiles that lie on the device at a time.
pub(super) const MOST_PARTIALS: usize = 128 << 20;

/// Mean and Gram matrix of the rows of a block, in f64.
#[derive(Clone, Debug)]
pub struct Gram {
    /// `[d]`
    pub mean: Vec<f64>,
    /// `[d, d]`: `(x - mean)'(x - mean)` on and below the diagonal, 0 above
    pub m2: Vec<f64>,
}

/// Slabs and tiles that one launch of `gram_f32` sums.
#[derive(Clone, Debug)]
struct Round {
    tiles: Range<usize>,
    slabs: Range<usize>,
    launch: Recorded,
}

/// A Gram matrix, recorded: submit [`GramPending::recorded`], then call [`GramPending::finish`]; x must
/// not change in between. Both may be done again, for new numbers in x.
#[derive(Debug)]
pub struct GramPending {
    recorded: Vec<Recorded>,
    /// The first is among `recorded`; all of them write the same partial tiles.
    rounds: Vec<Round>,
    mean: WgpuBuffer,
    partials: WgpuBuffer,
    cols: usize,
    tile: usize,
    arithmetic: Arithmetic,
}

/// Whether the kernels serve an operation.
pub(super) fn fits(a: &gram::Args) -> bool {
    (1..=MOST_ROWS).contains(&a.x.rows) && a.x.cols > 0
}

pub(super) fn size(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::shape("gram", format!("{n} columns or elements of a stride"), "fewer than 2^32"))
}

/// Records the launches for x `[n, d]` in f32, with the arithmetic that the device keeps exact.
pub fn gram(device: &Wgpu, x: View) -> Result<GramPending> {
    gram_with(device, x, device.exactness().arithmetic(), None)
}

/// [`gram`] with a given arithmetic and, where there is one, a given tile.
pub fn gram_with(device: &Wgpu, x: View, arithmetic: Arithmetic, tile: Option<u32>) -> Result<GramPending> {
    x.check("gram", "x")?;
    if x.rows == 0 || x.rows > MOST_ROWS || x.cols == 0 {
        let expected = format!("1 to {MOST_ROWS} rows and at least one column");
        return Err(Error::shape("gram", format!("x [{}, {}]", x.rows, x.cols), expected));
    }
    let mean = device.buffer(8 * x.cols as u64)?;
    let mut recorded = record_centre(device, &x, &mean, arithmetic)?;
    let shape = GramShape { rows: size(x.rows)?, cols: size(x.cols)?, aligned: x.has_quads(), arithmetic };
    let plan = choose(&shape, &device.kernel_limits(), tile)?;
    let (rounds, partials) = record_rounds(device, &x, &mean, &plan)?;
    recorded.push(rounds[0].launch.clone());
    Ok(GramPending { recorded, rounds, mean, partials, cols: x.cols, tile: plan.tile as usize, arithmetic })
}

/// Rows of x that one launch can bind, a multiple of `unit`; all of them where they fit.
pub(super) fn rows_bound(device: &Wgpu, x: &View, unit: usize) -> Result<usize> {
    let most = x.rows_within(device.binding_elements());
    match most {
        _ if most >= x.rows => Ok(x.rows.next_multiple_of(unit)),
        _ if most >= unit => Ok(most / unit * unit),
        _ => {
            let found = format!("rows of {} elements of which {most} fit into a binding", x.stride);
            let expected = format!("{unit} of them within the {} elements of a binding", device.binding_elements());
            Err(Error::shape("gram", found, expected))
        }
    }
}

pub(super) fn record_centre(device: &Wgpu, x: &View, mean: &WgpuBuffer, arithmetic: Arithmetic) -> Result<Vec<Recorded>> {
    let unit = CENTRE_SLAB as usize;
    let slabs = x.rows.div_ceil(unit);
    let sums = device.buffer(8 * (slabs * x.cols) as u64)?;
    let (first, first_offset) = device.bind(x.buffer, x.slice_rows(0, 1).elements())?;
    let rows = rows_bound(device, x, unit)?;
    let cols = size(x.cols)?;
    let column_groups = cols.div_ceil(CENTRE_COLUMNS);
    let mut recorded = Vec::new();

    let transport = device.kernel_limits().transport(size_of::<CentreParams>());
    let pipeline = device.pipeline(&CENTRE, &centre(transport))?;
    for from in (0..x.rows).step_by(rows) {
        let part = x.slice_rows(from, rows.min(x.rows - from));
        let (bound, x_offset) = device.bind(x.buffer, part.elements())?;
        let (slab, count) = (from / unit, part.rows.div_ceil(unit));
        let (out, sums_offset) = device.bind(&sums, 2 * x.cols * slab..2 * x.cols * (slab + count))?;
        let units = count as u64 * u64::from(column_groups);
        let params = CentreParams {
            units: size(units as usize)?,
            column_groups,
            rows: size(part.rows)?,
            cols,
            x_offset,
            x_stride: size(x.stride)?,
            first_offset,
            sums_offset,
            one: 1.0,
        };
        let (params, grid) = (&params.bytes(), device.grid(units)?);
        recorded.push(device.record(&Launch {
            pipeline: &pipeline,
            params,
            transport,
            bindings: &[bound, first.clone(), out],
            grid,
        })?);
    }

    // Where products are not exact either, splitting does no harm.
    let product = if let Arithmetic::Compensated(product) = arithmetic { product } else { Product::Split };
    let transport = device.kernel_limits().transport(size_of::<CentreFoldParams>());
    let pipeline = device.pipeline(&CENTRE_FOLD, &centre_fold(product, transport))?;
    let inverse = 1.0 / x.rows as f64;
    let inverse_high = inverse as f32;
    let params = CentreFoldParams {
        cols,
        slabs: slabs as u32,
        first_offset,
        inverse_high,
        inverse_low: (inverse - f64::from(inverse_high)) as f32,
        one: 1.0,
        zero: 0.0,
    };
    let (sums, _) = device.bind(&sums, 0..2 * x.cols * slabs)?;
    let (out, _) = device.bind(mean, 0..2 * x.cols)?;
    let (params, grid) = (&params.bytes(), device.grid(u64::from(cols.div_ceil(FOLD_THREADS)))?);
    recorded.push(device.record(&Launch { pipeline: &pipeline, params, transport, bindings: &[first, sums, out], grid })?);
    Ok(recorded)
}

fn record_rounds(device: &Wgpu, x: &View, mean: &WgpuBuffer, plan: &Plan) -> Result<(Vec<Round>, WgpuBuffer)> {
    let (tiles, slabs, unit) = (plan.tiles as usize, plan.slabs as usize, plan.slab_rows as usize);
    let held = (plan.tile * plan.tile * plan.arithmetic.planes()) as usize;
    let units = device.binding_elements().min(MOST_PARTIALS / 4) / held;
    if units == 0 {
        let found = format!("a binding of {} elements", device.binding_elements());
        return Err(Error::shape("gram", found, format!("room for the {held} elements of a partial tile")));
    }
    let tiles_each = tiles.min(units);
    let slabs_each = (units / tiles_each).min(rows_bound(device, x, unit)? / unit).min(slabs);
    let partials = device.buffer((4 * held * tiles_each * slabs_each) as u64)?;
    let mut rounds = Vec::new();
    for first_tile in (0..tiles).step_by(tiles_each) {
        let tiles = first_tile..tiles.min(first_tile + tiles_each);
        for slab in (0..slabs).step_by(slabs_each) {
            let slabs = slab..slabs.min(slab + slabs_each);
            let launch = record_tiles(device, x, mean, plan, tiles.clone(), slabs.clone(), (&partials, 0))?;
            rounds.push(Round { tiles: tiles.clone(), slabs, launch });
        }
    }
    Ok((rounds, partials))
}

/// The launch for partial tiles of slabs, which go to a buffer from the given partial tile on.
pub(super) fn record_tiles(
    device: &Wgpu,
    x: &View,
    mean: &WgpuBuffer,
    plan: &Plan,
    tiles: Range<usize>,
    slabs: Range<usize>,
    (partials, first): (&WgpuBuffer, usize),
) -> Result<Recorded> {
    let unit = plan.slab_rows as usize;
    let part = x.slice_rows(slabs.start * unit, (slabs.len() * unit).min(x.rows - slabs.start * unit));
    let held = (plan.tile * plan.tile * plan.arithmetic.planes()) as usize;
    let units = tiles.len() * slabs.len();
    let (bound, x_offset) = device.bind(x.buffer, part.elements())?;
    let (centre, _) = device.bind(mean, 0..2 * x.cols)?;
    // Partial tiles are multiples of 256 bytes, so that bindings may begin at each.
    let (out, _) = device.bind(partials, held * first..held * (first + units))?;
    let params = GramParams {
        units: size(units)?,
        tiles: size(tiles.len())?,
        first_tile: size(tiles.start)?,
        rows: size(part.rows)?,
        cols: size(x.cols)?,
        x_offset,
        x_stride: size(x.stride)?,
        slab_rows: plan.slab_rows,
        one: 1.0,
        zero: 0.0,
    };
    device.record(&Launch {
        pipeline: &device.pipeline(&GRAM, plan.configuration())?,
        params: &params.bytes(),
        transport: plan.transport,
        bindings: &[bound, centre, out],
        grid: device.grid(units as u64)?,
    })
}

impl GramPending {
    /// What to submit before [`GramPending::finish`].
    pub fn recorded(&self) -> &[Recorded] {
        &self.recorded
    }
    /// The bound on the error of an element, relative to the sum of the magnitudes of its products.
    pub fn bound(&self) -> f64 {
        self.arithmetic.bound()
    }
    /// Runs what is left, reads the slabs back and adds them in f64.
    pub fn finish(&self, device: &Wgpu) -> Result<Gram> {
        let d = self.cols;
        let planes = self.arithmetic.planes() as usize;
        let mut m2 = vec![0.0; d * d];
        for (i, round) in self.rounds.iter().enumerate() {
            if i > 0 {
                device.submit(std::slice::from_ref(&round.launch))?;
            }
            let held = self.tile * self.tile;
            let units = round.tiles.len() * round.slabs.len();
            let found = device.download_f32(&self.partials, 0..planes * held * units)?;
            for (unit, partial) in found.chunks_exact(planes * held).enumerate() {
                let (ti, tj) = place(round.tiles.start + unit % round.tiles.len());
                self.add(partial, ti * self.tile, tj * self.tile, &mut m2);
            }
        }
        let mean = device.download_f32(&self.mean, 0..2 * d)?;
        let mean = (0..d).map(|c| f64::from(mean[c]) + f64::from(mean[d + c])).collect();
        Ok(Gram { mean, m2 })
    }
    /// Adds a partial tile whose first element is that of row `top` and column `left`.
    fn add(&self, partial: &[f32], top: usize, left: usize, m2: &mut [f64]) {
        for plane in partial.chunks_exact(self.tile * self.tile) {
            for (i, row) in (top..self.cols).zip(plane.chunks_exact(self.tile)) {
                let width = (i + 1).saturating_sub(left).min(self.tile);
                let out = &mut m2[i * self.cols + left..][..width];
                out.iter_mut().zip(row).for_each(|(out, &part)| *out += f64::from(part));
            }
        }
    }
}

/// Row and column of tile `t` of a lower triangle.
fn place(t: usize) -> (usize, usize) {
    let row = ((8 * t + 1).isqrt() - 1) / 2;
    (row, t - row * (row + 1) / 2)
}

#[cfg(test)]
mod tests {
    #[test]
    fn tiles_of_a_triangle_go_row_by_row() {
        let mut t = 0;
        for row in 0..100 {
            for column in 0..=row {
                assert_eq!(super::place(t), (row, column));
                t += 1;
            }
        }
    }
}
