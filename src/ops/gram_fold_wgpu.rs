//! Mean and Gram matrix of a block with nothing for the host to do: the device adds the slabs of [`super::gram_wgpu`] as
//! pairs of f32, where it keeps error-free transformations exact.

use super::gram;
use super::gram_wgpu::{MOST_PARTIALS, record_centre, record_tiles, rows_bound, size};
use super::offload::WgpuPlace;
use super::pieces::spans;
use crate::device::wgpu::{Recorded, Wgpu};
use crate::error::Result;
use crate::kernel::wgsl::gram::{Arithmetic, GramShape, LARGEST_TILE, choose, slab_rows};
use crate::kernel::wgsl::gram_fold::{GRAM_FOLD, GramFoldParams, THREADS, configuration};

/// Partial tiles that lie on the device at a time.
fn room(device: &Wgpu, tile: u32, arithmetic: Arithmetic) -> usize {
    device.binding_elements().min(MOST_PARTIALS / 4) / (tile * tile * arithmetic.planes()) as usize
}

/// Whether the device adds the slabs of an operation that there are kernels for: as pairs, all slabs of a tile at a time,
/// into a matrix that a binding holds.
pub(super) fn serves(a: &gram::Args, device: &Wgpu) -> bool {
    let arithmetic = device.exactness().arithmetic();
    let (Ok(rows), Ok(cols)) = (u32::try_from(a.x.rows), u32::try_from(a.x.cols)) else { return false };
    let slabs = rows.div_ceil(slab_rows(rows, cols, arithmetic)) as usize;
    let shapes = (a.m2.rows, a.m2.cols) == (a.x.cols, a.x.cols) && (a.mean.rows, a.mean.cols) == (1, a.x.cols);
    let pairs = matches!(arithmetic, Arithmetic::Compensated(_));
    shapes && pairs && slabs <= room(device, LARGEST_TILE, arithmetic) && spans(&a.m2, device.binding_elements())
}

/// The launches of an operation that [`serves`] has let pass.
pub(super) fn bind(a: &gram::Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let device = at.device();
    let (x, arithmetic) = (at.view(&a.x), device.exactness().arithmetic());
    x.check("gram", "x")?;
    let mean = device.buffer(8 * x.cols as u64)?;
    let mut recorded = record_centre(device, &x, &mean, arithmetic)?;
    let out = at.view(&a.mean);
    recorded.push(Recorded::copy(&mean, 0, out.buffer, 4 * out.offset as u64, 4 * x.cols as u64));

    let shape = GramShape { rows: size(x.rows)?, cols: size(x.cols)?, aligned: x.has_quads(), arithmetic };
    let plan = choose(&shape, &device.kernel_limits(), None)?;
    let (tiles, slabs) = (plan.tiles as usize, plan.slabs as usize);
    let tiles_each = (room(device, plan.tile, arithmetic) / slabs).clamp(1, tiles);
    let slabs_each = rows_bound(device, &x, plan.slab_rows as usize)? / plan.slab_rows as usize;
    let held = (plan.tile * plan.tile * arithmetic.planes()) as usize;
    let partials = device.buffer(4 * (held * tiles_each * slabs) as u64)?;
    for first in (0..tiles).step_by(tiles_each) {
        let tiles = first..tiles.min(first + tiles_each);
        for slab in (0..slabs).step_by(slabs_each) {
            let some = slab..slabs.min(slab + slabs_each);
            recorded.push(record_tiles(device, &x, &mean, &plan, tiles.clone(), some, (&partials, slab * tiles.len()))?);
        }
        let mut storage = at.storage();
        storage.read_buffer(&partials, 0..held * tiles.len() * slabs)?;
        let params = GramFoldParams {
            cols: shape.cols,
            tile: plan.tile,
            first_tile: size(first)?,
            tiles: size(tiles.len())?,
            slabs: plan.slabs,
            m2_offset: storage.write(&a.m2)?,
            m2_stride: size(a.m2.stride)?,
            one: 1.0,
        };
        let groups = tiles.len() as u64 * u64::from(plan.tile * plan.tile / THREADS);
        recorded.push(at.record(&GRAM_FOLD, &configuration(), storage, &params, groups)?);
    }
    Ok(recorded)
}
