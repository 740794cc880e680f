//! The PTX kernels of `ops::gram`: parameter blocks, how the rows are split, and the choice of a tile.
//! It launches nothing.
//!
//! A Gram matrix takes three launches: `centre_*` (mean and centred rows), `gram_*` (a lower
//! triangle of partial tiles for each slab of rows) and `gram_fold` (the slabs added in order).

mod tiles;

pub(super) use tiles::copies;
use tiles::{FOLD_ROWS, centre_configurations, configurations, fold_configurations, tile_of, triangle, work};

use super::params::{Params, params};
use super::registry::{Kernel, Language};
use super::tuning::{self, Choice, Launch, Limits};
use crate::device::DType;
use crate::error::{Error, Result};

params! {
    /// `centre_f64_sm80`, `centre_f32_sm80`: `mean[c] = x[0,c] + sum_i (x[i,c] - x[0,c]) / rows`, summed
    /// in f64 in a fixed order and rounded once; `centred[i,c] = x[i,c] - mean[c]`.
    pub struct CentreParams {
        /// Address of `[rows, cols]`, row stride `stride`.
        pub x: u64,
        /// Address of `[cols]`.
        pub mean: u64,
        /// Address of `[rows, cols]`, row stride `centred_stride`.
        pub centred: u64,
        /// At least 1.
        pub rows: u32,
        pub cols: u32,
        /// Elements.
        pub stride: u32,
        /// Elements.
        pub centred_stride: u32,
    }
}

params! {
    /// `gram_f64_sm80`, `gram_f32_sm80`: the lower-triangular tiles of `x'x`, one set for each slab.
    pub struct GramParams {
        /// Address of `[rows, cols]`, row stride `stride`.
        pub x: u64,
        /// Address of `[slabs][tiles][tile][tile]`, contiguous, 16-byte aligned, in the dtype of `x`.
        pub partials: u64,
        pub rows: u32,
        pub cols: u32,
        /// Elements.
        pub stride: u32,
        pub slab_rows: u32,
    }
}

params! {
    /// `gram_fold_sm80`: the lower triangle of `out`, or of what is added to it, is the sum of the
    /// partial tiles over the slabs, in slab order and in f64, rounded once to the dtype of `out`.
    pub struct FoldParams {
        /// Address of `[slabs][tiles][tile][tile]`, contiguous.
        pub partials: u64,
        /// Address of `[cols, cols]`, row stride `out_stride`; nothing above its diagonal is touched.
        pub out: u64,
        pub cols: u32,
        /// Elements.
        pub out_stride: u32,
        pub slabs: u32,
        pub tiles: u32,
        /// Rows and columns of a partial tile: a multiple of 32.
        pub tile: u32,
        /// 0 overwrites `out`, 1 adds to it.
        pub accumulate: u32,
    }
}

/// Rows between two promotions of the f32 accumulators.
pub const PROMOTE: u32 = 512;
/// Most rows of a slab: bounds what f32 promotions add up.
const SLAB_MOST: u32 = 16 * PROMOTE;
/// Fewest rows of a slab, unless there are no more: below it the pipeline never fills.
const SLAB_LEAST: u32 = 128;
/// CTAs that a Gram matrix aims for, counted in tiles of 64 x 64: about two waves of a large device.
const CTAS_AIMED: u64 = 256;
/// Most rows or columns: the edges of tiles and slabs stay within a signed 32-bit integer.
const MOST: u32 = (1 << 31) - (1 << 16);
/// How the rows of a Gram matrix are cut into slabs. It follows from the shape alone, so that sums
/// do not depend on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    pub slab_rows: u32,
    pub slabs: u32,
}

impl Split {
    /// Enough slabs to fill a device if `cols` is small, as few as promotion allows if it is large.
    pub fn of(rows: u32, cols: u32) -> Self {
        let wanted = CTAS_AIMED.div_ceil(triangle(cols.div_ceil(64)).max(1));
        let rows_each = u64::from(rows).div_ceil(wanted).max(1);
        let step = if rows_each < u64::from(PROMOTE) { SLAB_LEAST } else { PROMOTE };
        let slab_rows = rows_each.next_multiple_of(u64::from(step)).min(u64::from(SLAB_MOST)) as u32;
        Self { slab_rows, slabs: rows.div_ceil(slab_rows) }
    }
}

/// What [`choose`] has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GramShape {
    pub dtype: DType,
    pub rows: u32,
    pub cols: u32,
    /// Whether every row of `x` starts at a multiple of 16 bytes.
    pub aligned: bool,
}

/// A Gram matrix, ready to launch: `gram`, then [`Plan::fold`].
#[derive(Clone, Debug)]
pub struct Plan {
    pub shape: GramShape,
    pub split: Split,
    /// Rows and columns of a partial tile.
    pub tile: u32,
    /// Partial tiles of a slab.
    pub tiles: u32,
    pub gram: Launch,
    pub choice: Choice,
}

impl Plan {
    /// Elements of the partial tiles, in the dtype of `x`.
    pub fn partials(&self) -> u64 {
        u64::from(self.split.slabs) * u64::from(self.tiles) * u64::from(self.tile) * u64::from(self.tile)
    }
    /// The launch of `gram_fold_sm80` into a matrix of dtype `out`.
    pub fn fold(&self, out: DType) -> Result<Launch> {
        let name = format!("{}-{}", self.shape.dtype.name(), out.name());
        let configuration = FOLD.configuration(&name)?;
        Ok(Launch { kernel: &FOLD, configuration, grid: [self.tiles, self.tile / FOLD_ROWS, self.tile / 32] })
    }
    /// The parameter block of `gram`.
    pub fn gram_params(&self, x: u64, stride: u32, partials: u64) -> GramParams {
        let GramShape { rows, cols, .. } = self.shape;
        GramParams { x, partials, rows, cols, stride, slab_rows: self.split.slab_rows }
    }
    /// The parameter block of [`Plan::fold`].
    pub fn fold_params(&self, partials: u64, out: u64, out_stride: u32, accumulate: bool) -> FoldParams {
        let (cols, slabs) = (self.shape.cols, self.split.slabs);
        FoldParams { partials, out, cols, out_stride, slabs, tiles: self.tiles, tile: self.tile, accumulate: accumulate.into() }
    }
}

/// The kernels and tiles for a Gram matrix on a device.
///
/// Every tile gives the same bits: the split follows from the shape, and inside a slab an element's
/// products are added row by row.
pub fn choose(shape: &GramShape, limits: &Limits) -> Result<Plan> {
    let kernel = match shape.dtype {
        DType::F64 => &GRAM_F64,
        DType::F32 => &GRAM_F32,
    };
    let GramShape { dtype, rows, cols, aligned } = *shape;
    if rows == 0 || cols == 0 || rows.max(cols) > MOST {
        let (found, expected) = (format!("a matrix of {rows} rows and {cols} columns"), "from 1 to 2^31 - 2^16 of either");
        return Err(Error::Kernel { name: kernel.name.into(), found, expected: expected.into() });
    }
    let split = Split::of(rows, cols);
    let (r, c, size) = (f64::from(rows), f64::from(cols), dtype.bytes() as f64);
    let (flops, bytes) = (r * c * (c + 1.0), r * c * size + c * (c + 1.0) / 2.0 * size);
    let choice = tuning::choose(kernel, limits, flops, bytes, |configuration| {
        let tile = tile_of(dtype, configuration);
        work(&tile, configuration, dtype, &split, cols, aligned)
    })?;
    let tile = tile_of(dtype, choice.configuration()).side;
    let tiles = triangle(cols.div_ceil(tile)) as u32;
    let gram = Launch { kernel, configuration: choice.configuration().clone(), grid: [tiles, split.slabs, 1] };
    Ok(Plan { shape: *shape, split, tile, tiles, gram, choice })
}

/// The launch of `centre_f64_sm80` or `centre_f32_sm80`.
pub fn centre(dtype: DType, cols: u32) -> Launch {
    let kernel = match dtype {
        DType::F64 => &CENTRE_F64,
        DType::F32 => &CENTRE_F32,
    };
    let configuration = centre_configurations(dtype).remove(0);
    Launch { kernel, configuration, grid: [cols.div_ceil(32), 1, 1] }
}

pub(super) static CENTRE_F64: Kernel = Kernel {
    name: "centre_f64_sm80",
    operation: "gram",
    language: Language::SM80,
    source: include_str!("../../kernels/centre_f64_sm80.ptx"),
    params: CentreParams::FIELDS,
    configurations: || centre_configurations(DType::F64),
};
pub(super) static CENTRE_F32: Kernel = Kernel {
    name: "centre_f32_sm80",
    operation: "gram",
    language: Language::SM80,
    source: include_str!("../../kernels/centre_f32_sm80.ptx"),
    params: CentreParams::FIELDS,
    configurations: || centre_configurations(DType::F32),
};
pub(super) static GRAM_F64: Kernel = Kernel {
    name: "gram_f64_sm80",
    operation: "gram",
    language: Language::SM80,
    source: include_str!("../../kernels/gram_f64_sm80.ptx"),
    params: GramParams::FIELDS,
    configurations: || configurations(DType::F64),
};
pub(super) static GRAM_F32: Kernel = Kernel {
    name: "gram_f32_sm80",
    operation: "gram",
    language: Language::SM80,
    source: include_str!("../../kernels/gram_f32_sm80.ptx"),
    params: GramParams::FIELDS,
    configurations: || configurations(DType::F32),
};
pub(super) static FOLD: Kernel = Kernel {
    name: "gram_fold_sm80",
    operation: "gram",
    language: Language::SM80,
    source: include_str!("../../kernels/gram_fold_sm80.ptx"),
    params: FoldParams::FIELDS,
    configurations: fold_configurations,
};

#[cfg(test)]
mod tests {
    use super::super::tuning::Verdict;
    use super::tiles::TILES_MOST;
    use super::*;

    const H200: Limits = Limits { capability: (9, 0), multiprocessors: 132, shared_per_block: 232_448 };
    /// The least shared memory a CTA of all devices that run these kernels: compute capability 8.6 and 8.9.
    const LEAST_SHARED: u32 = 101_376;

    fn shape(dtype: DType, rows: u32, cols: u32) -> GramShape {
        GramShape { dtype, rows, cols, aligned: true }
    }

    /// `triangle.ptxh`, for a square root that may be off by `ulps`.
    fn tile_of_index(t: u32, ulps: i32) -> (u32, u32) {
        let root = ((2 * t) as f32).sqrt();
        let root = f32::from_bits((root.to_bits() as i32 + ulps).max(0) as u32);
        let mut i = root as u32;
        if i * i + i > 2 * t {
            i -= 1;
        }
        (i, t - (i * i + i) / 2)
    }

    #[test]
    fn the_tile_index_is_exact_up_to_its_bound_whatever_the_last_bits_of_the_root() {
        let (mut i, mut j) = (0, 0);
        for t in 0..TILES_MOST as u32 {
            // Far more than the 2 ulp that sqrt.approx may lose.
            for ulps in [-16, 0, 16] {
                assert_eq!(tile_of_index(t, if t == 0 { 0 } else { ulps }), (i, j), "tile {t}, {ulps} ulp");
            }
            (i, j) = if j == i { (i + 1, 0) } else { (i, j + 1) };
        }
    }

    #[test]
    fn slabs_cover_the_rows_and_end_where_promotions_do() {
        for cols in [1, 64, 65, 129, 769, 3073, 20_000] {
            for rows in [1, 2, 127, 128, 129, 512, 513, 4096, 65_536, 1_000_003] {
                let Split { slab_rows, slabs } = Split::of(rows, cols);
                assert!(u64::from(slab_rows) * u64::from(slabs) >= rows.into(), "{rows} x {cols}");
                assert!(u64::from(slab_rows) * u64::from(slabs - 1) < rows.into(), "{rows} x {cols}");
                assert!(slab_rows.is_multiple_of(if slab_rows > PROMOTE { PROMOTE } else { SLAB_LEAST }), "{rows} x {cols}");
                assert!(slab_rows <= SLAB_MOST);
            }
        }
    }

    #[test]
    fn blocks_of_fields_have_the_size_that_the_texts_are_told() {
        for (kernel, size) in
            [(&GRAM_F64, size_of::<GramParams>()), (&CENTRE_F32, size_of::<CentreParams>()), (&FOLD, size_of::<FoldParams>())]
        {
            let text = kernel.expand(&(kernel.configurations)()[0]).unwrap();
            assert!(text.contains(&format!("params[{size}]")), "{}", kernel.name);
        }
    }

    #[test]
    fn a_choice_has_a_reason_or_a_cost_for_every_configuration() {
        let plan = choose(&shape(DType::F64, 65_536, 769), &H200).unwrap();
        assert_eq!(plan.choice.candidates.len(), configurations(DType::F64).len());
        assert!(plan.choice.candidates.iter().all(|c| matches!(c.verdict, Verdict::Legal { .. })));
        assert_eq!(plan.choice.configuration(), &plan.gram.configuration);
        assert_eq!((plan.choice.flops, plan.gram.grid), (65_536.0 * 769.0 * 770.0, [plan.tiles, plan.split.slabs, 1]));

        let unaligned = choose(&GramShape { aligned: false, ..plan.shape }, &H200).unwrap();
        for candidate in &unaligned.choice.candidates {
            let by_sixteen = candidate.configuration.name.ends_with("cp16");
            match &candidate.verdict {
                Verdict::Rejected(why) => assert!(by_sixteen && why.contains("multiple of 16 bytes"), "{why}"),
                Verdict::Legal { .. } => assert!(!by_sixteen),
            }
        }
    }

    #[test]
    fn small_matrices_take_small_tiles_and_large_ones_large_tiles() {
        for dtype in [DType::F64, DType::F32] {
            let side = |rows, cols| choose(&shape(dtype, rows, cols), &H200).unwrap().tile;
            assert_eq!((side(512, 129), side(65_536, 3073)), (32, 128));
        }
    }

    #[test]
    fn the_split_does_not_depend_on_the_device() {
        let small = Limits { capability: (8, 6), multiprocessors: 20, shared_per_block: LEAST_SHARED };
        for dtype in [DType::F64, DType::F32] {
            for (rows, cols) in [(512, 129), (65_536, 769), (8192, 3073)] {
                let shape = shape(dtype, rows, cols);
                assert_eq!(choose(&shape, &H200).unwrap().split, choose(&shape, &small).unwrap().split);
            }
        }
    }

    #[test]
    fn what_cannot_run_is_refused_with_every_reason() {
        let message = |shape: GramShape, limits: Limits| choose(&shape, &limits).unwrap_err().to_string();
        let good = shape(DType::F64, 100, 100);
        let old = message(good, Limits { capability: (7, 5), ..H200 });
        assert!(old.contains("compute capability 7.5, the kernel needs 8.0"), "{old}");
        let tiny = message(good, Limits { shared_per_block: 1000, ..H200 });
        assert!(tiny.contains("13824 bytes of shared memory a CTA, the device gives at most 1000"), "{tiny}");
        assert!(message(shape(DType::F32, 0, 4), H200).starts_with("kernel gram_f32_sm80: a matrix of 0 rows"));
        assert!(message(shape(DType::F32, 4, 1 << 20), H200).contains("the tile index is exact below"));
        assert!(message(shape(DType::F32, 1 << 30, 64), H200).contains("slabs of rows"));
    }
}
