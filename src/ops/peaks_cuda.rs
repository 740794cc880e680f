//! The CUDA launcher of [`super::peaks`].

use super::extents::rows_fit;
use super::offload::Place;
use super::peaks::Args;
use crate::device::DType;
use crate::device::cuda::Call;
use crate::error::Result;
use crate::kernel::peaks::{NEURONS, PEAKS, PeaksParams, configuration};
use crate::kernel::tuning::Limits;

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, _: DType, _: &Limits) -> Option<u64> {
    rows_fit([&a.x, &a.max, &a.at, &a.picked, &a.passed.values]).then_some(0)
}

/// The call of a launch.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let params = PeaksParams {
        x: at.view(&a.x),
        max: at.view(&a.max),
        at: at.view(&a.at),
        picked: at.view(&a.picked),
        first: at.ints(a.first),
        counts: at.ints(a.counts),
        least: at.view(&a.bars.least),
        most: at.ints(a.bars.most),
        cells: at.ints(a.passed.cells),
        values: at.view(&a.passed.values),
        samples: a.max.rows as u32,
        positions: a.positions as u32,
        skip: a.skip as u32,
        width: a.x.cols as u32,
        x_stride: a.x.stride as u32,
        max_stride: a.max.stride as u32,
        at_stride: a.at.stride as u32,
        picked_stride: a.picked.stride as u32,
        values_stride: a.passed.values.stride as u32,
        capacity: a.passed.values.cols as u32,
        seed: a.seed,
    };
    Ok(vec![at.call(&PEAKS, &configuration(at.dtype()), [params.width.div_ceil(NEURONS), 1, 1], &params)?])
}
