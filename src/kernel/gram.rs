//! The PTX kernels of `ops::gram`: parameter blocks, tiles, configurations, and how the rows are split.
//! It launches nothing.
//!
//! A Gram matrix takes three launches: `centre_*` (mean and centred rows), `gram_*` (a lower
//! triangle of partial tiles for each slab of rows) and `gram_fold` (the slabs added in order).

use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::template::Constants;
use super::tuning::{self, Choice, Launch, Limits, Work, registers};
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
/// Most slabs: a grid's second dimension.
const SLABS_MOST: u32 = 65_535;
/// Most partial tiles of a slab: the kernel derives the tile from its index by an f32 square root.
const TILES_MOST: u64 = 1 << 23;

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

/// Tiles on and below the diagonal of `side` x `side` tiles.
fn triangle(side: u32) -> u64 {
    u64::from(side) * (u64::from(side) + 1) / 2
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

/// Threads of a CTA of `gram_fold_sm80`: 8 rows of 32 columns.
const FOLD_ROWS: u32 = 8;

/// A tile shape of a Gram kernel.
#[derive(Clone, Copy, Debug)]
struct Tile {
    /// Rows and columns of the tile.
    side: u32,
    /// Rows of X a stage.
    depth: u32,
    /// Rows and columns of a warp's part of the tile.
    warp: (u32, u32),
    stages: u32,
    /// CTAs that a multiprocessor can hold as far as registers go: what bounds those of a thread.
    resident: u32,
}

const TILES_F64: [Tile; 3] = [
    Tile { side: 32, depth: 8, warp: (16, 16), stages: 3, resident: 8 },
    Tile { side: 64, depth: 16, warp: (32, 32), stages: 4, resident: 4 },
    Tile { side: 128, depth: 16, warp: (64, 32), stages: 3, resident: 1 },
];
const TILES_F32: [Tile; 3] = [
    Tile { side: 32, depth: 8, warp: (16, 32), stages: 3, resident: 8 },
    Tile { side: 64, depth: 16, warp: (32, 32), stages: 4, resident: 4 },
    Tile { side: 128, depth: 16, warp: (32, 64), stages: 4, resident: 1 },
];

impl Tile {
    fn warps(&self) -> u32 {
        self.side * self.side / (self.warp.0 * self.warp.1)
    }
    /// Elements from one row of a stage to the next.
    ///
    /// f64: 4 more than the tile is wide, so that the 4 rows and 2 column pairs that 8 lanes read at
    /// once lie in 8 different groups of four banks. f32: no padding, lanes read along a row.
    fn pitch(&self, dtype: DType) -> u32 {
        match dtype {
            DType::F64 => self.side + 4,
            DType::F32 => self.side,
        }
    }
    /// The configuration that copies `copy` bytes at a time.
    fn configuration(&self, dtype: DType, copy: u32) -> Configuration {
        let element = dtype.bytes() as u32;
        let operand = self.depth * self.pitch(dtype) * element;
        let threads = 32 * self.warps();
        let constants = [
            ("TILE", self.side),
            ("DEPTH", self.depth),
            ("WARP_ROWS", self.warp.0),
            ("WARP_COLUMNS", self.warp.1),
            ("WARPS_ACROSS", self.side / self.warp.1),
            ("STAGES", self.stages),
            ("PITCH", self.pitch(dtype)),
            ("OPERAND_BYTES", operand),
            ("ELEMENT", element),
            ("PROMOTE", PROMOTE),
            ("RESIDENT", self.resident),
            ("REGISTERS", registers(self.resident, 32 * self.warps())),
        ];
        let constants = constants.into_iter().fold(Constants::default(), |all, (name, value)| all.int(name, value as usize));
        Configuration {
            name: format!("{0}x{0}x{1}-cp{copy}", self.side, self.depth),
            constants: copies(constants, copy, element),
            threads,
            shared: self.stages * 2 * operand,
        }
    }
}

/// The constants of copies of `copy` bytes of elements of `element` bytes.
pub(super) fn copies(constants: Constants, copy: u32, element: u32) -> Constants {
    // Only 16-byte copies may bypass L1, which holds nothing that is read twice.
    let cache = if copy == 16 { "cg" } else { "ca" };
    constants.int("COPY", copy as usize).int("VECTOR", (copy / element) as usize).word("CACHE", cache)
}

fn tiles(dtype: DType) -> &'static [Tile; 3] {
    match dtype {
        DType::F64 => &TILES_F64,
        DType::F32 => &TILES_F32,
    }
}

fn configurations(dtype: DType) -> Vec<Configuration> {
    let copies = [16, dtype.bytes() as u32];
    tiles(dtype).iter().flat_map(|tile| copies.map(|copy| tile.configuration(dtype, copy))).collect()
}

/// The tile of one of [`configurations`].
fn tile_of(dtype: DType, configuration: &Configuration) -> Tile {
    let side = configuration.constants.get_int("TILE");
    let [small, medium, large] = *tiles(dtype);
    if side == Some(small.side.into()) {
        small
    } else if side == Some(medium.side.into()) {
        medium
    } else {
        large
    }
}

/// The work of a CTA, in clocks of a multiprocessor of compute capability 8.0: 64 f64 or 128 f32
/// multiply-adds and 128 bytes of shared memory a clock.
fn work(
    tile: &Tile,
    configuration: &Configuration,
    dtype: DType,
    split: &Split,
    cols: u32,
    aligned: bool,
) -> std::result::Result<Work, String> {
    let copy = configuration.constants.get_int("COPY").unwrap_or(16);
    if copy == 16 && !aligned {
        return Err("16-byte copies, but not every row of x starts at a multiple of 16 bytes".into());
    }
    let tiles = triangle(cols.div_ceil(tile.side));
    if tiles >= TILES_MOST {
        return Err(format!("{tiles} tiles, the tile index is exact below {TILES_MOST}"));
    }
    if split.slabs > SLABS_MOST {
        return Err(format!("{} slabs of rows, a grid has at most {SLABS_MOST}", split.slabs));
    }
    let (side, warps) = (f64::from(tile.side), f64::from(tile.warps()));
    let (multiply, read) = match dtype {
        DType::F64 => (side * side / 64.0, warps * f64::from(tile.warp.0 + tile.warp.1) * 8.0 / 128.0),
        // A quarter of the rows and an eighth of the columns a lane, four at a time, two wavefronts each.
        DType::F32 => (side * side / 128.0, warps * 2.0 * f64::from(tile.warp.0 / 16 + tile.warp.1 / 32)),
    };
    let copied = 2.0 * side * dtype.bytes() as f64;
    let write = copied / 128.0 + copied / copy as f64 / 32.0;
    let rows = f64::from(split.slab_rows);
    Ok(Work {
        ctas: tiles * u64::from(split.slabs),
        registers: registers(tile.resident, 32 * tile.warps()),
        multiply: rows * multiply,
        feed: rows * (read + write),
    })
}

/// Warps of a CTA of `centre_*`.
const CENTRE_WARPS: u32 = 16;

/// The constants of a type under a prefix: its name, its size, its zero, how it becomes f64 and back.
fn typed(constants: Constants, prefix: &str, name: &str, dtype: DType) -> Constants {
    let (zero, widen, narrow) = match dtype {
        DType::F64 => ("0d0000000000000000", "mov.f64", "mov.f64"),
        DType::F32 => ("0f00000000", "cvt.f64.f32", "cvt.rn.f32.f64"),
    };
    let words = [(name.to_string(), dtype.name()), (format!("{prefix}ZERO"), zero)];
    let words = words.into_iter().chain([(format!("{prefix}WIDEN"), widen), (format!("{prefix}NARROW"), narrow)]);
    words.fold(constants, |all, (name, word)| all.word(name, word))
}

fn centre_configurations(dtype: DType) -> Vec<Configuration> {
    let threads = 32 * CENTRE_WARPS;
    let constants = typed(Constants::default(), "", "TYPE", dtype).int("WARPS", CENTRE_WARPS as usize);
    let constants = constants.int("ELEMENT", dtype.bytes()).int("REGISTERS", registers(2, threads) as usize);
    // An f64 sum for each warp and column.
    vec![Configuration { name: "32".into(), constants, threads, shared: 8 * threads }]
}

fn fold_configurations() -> Vec<Configuration> {
    [(DType::F64, DType::F64), (DType::F32, DType::F64), (DType::F32, DType::F32)]
        .map(|(partial, out)| {
            let threads = 32 * FOLD_ROWS;
            let constants = typed(Constants::default(), "PARTIAL_", "PARTIAL", partial);
            let constants = typed(constants, "OUT_", "OUT", out).int("REGISTERS", registers(6, threads) as usize);
            let constants = constants.int("PARTIAL_BYTES", partial.bytes()).int("OUT_BYTES", out.bytes());
            let constants = constants.int("ROWS", FOLD_ROWS as usize);
            Configuration { name: format!("{}-{}", partial.name(), out.name()), constants, threads, shared: 0 }
        })
        .to_vec()
}

const SM80: Language = Language::Ptx { least: (8, 0) };

pub(super) static CENTRE_F64: Kernel = Kernel {
    name: "centre_f64_sm80",
    operation: "gram",
    language: SM80,
    source: include_str!("../../kernels/centre_f64_sm80.ptx"),
    params: CentreParams::FIELDS,
    configurations: || centre_configurations(DType::F64),
};
pub(super) static CENTRE_F32: Kernel = Kernel {
    name: "centre_f32_sm80",
    operation: "gram",
    language: SM80,
    source: include_str!("../../kernels/centre_f32_sm80.ptx"),
    params: CentreParams::FIELDS,
    configurations: || centre_configurations(DType::F32),
};
pub(super) static GRAM_F64: Kernel = Kernel {
    name: "gram_f64_sm80",
    operation: "gram",
    language: SM80,
    source: include_str!("../../kernels/gram_f64_sm80.ptx"),
    params: GramParams::FIELDS,
    configurations: || configurations(DType::F64),
};
pub(super) static GRAM_F32: Kernel = Kernel {
    name: "gram_f32_sm80",
    operation: "gram",
    language: SM80,
    source: include_str!("../../kernels/gram_f32_sm80.ptx"),
    params: GramParams::FIELDS,
    configurations: || configurations(DType::F32),
};
pub(super) static FOLD: Kernel = Kernel {
    name: "gram_fold_sm80",
    operation: "gram",
    language: SM80,
    source: include_str!("../../kernels/gram_fold_sm80.ptx"),
    params: FoldParams::FIELDS,
    configurations: fold_configurations,
};

#[cfg(test)]
mod tests {
    use super::super::tuning::Verdict;
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
    fn copies_and_fragments_cover_every_tile_exactly() {
        for dtype in [DType::F64, DType::F32] {
            for c in configurations(dtype) {
                let get = |name| c.constants.get_int(name).unwrap() as u32;
                let at_once = c.threads * get("VECTOR");
                assert_eq!(at_once % get("TILE"), 0, "{}", c.name);
                assert_eq!(get("DEPTH") * get("TILE") % at_once, 0, "{}", c.name);
                assert_eq!(get("PROMOTE") % get("DEPTH"), 0, "{}", c.name);
                assert_eq!(c.threads / 32 * get("WARP_ROWS") * get("WARP_COLUMNS"), get("TILE") * get("TILE"), "{}", c.name);
                assert_eq!(get("TILE") % get("WARP_ROWS") + get("TILE") % get("WARP_COLUMNS"), 0, "{}", c.name);
                assert!(c.shared <= LEAST_SHARED, "{}", c.name);
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
