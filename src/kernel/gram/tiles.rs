//! Tiles and configurations of the Gram kernels, and what a CTA of one costs.

use super::super::registry::Configuration;
use super::super::template::Constants;
use super::super::tuning::{Work, registers};
use super::{PROMOTE, Split};
use crate::device::DType;

/// Most slabs: a grid's second dimension.
const SLABS_MOST: u32 = 65_535;
/// Most partial tiles of a slab: the kernel derives the tile from its index by an f32 square root.
pub(super) const TILES_MOST: u64 = 1 << 23;

/// Tiles on and below the diagonal of `side` x `side` tiles.
pub(super) fn triangle(side: u32) -> u64 {
    u64::from(side) * (u64::from(side) + 1) / 2
}

/// Threads of a CTA of `gram_fold_sm80`: 8 rows of 32 columns.
pub(super) const FOLD_ROWS: u32 = 8;

/// A tile shape of a Gram kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// Rows and columns of the tile.
    pub side: u32,
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
        let constants = Constants::default().ints(constants);
        Configuration {
            name: format!("{0}x{0}x{1}-cp{copy}", self.side, self.depth),
            constants: copies(constants, copy, element),
            threads,
            shared: self.stages * 2 * operand,
        }
    }
}

/// The constants of copies of `copy` bytes of elements of `element` bytes.
pub(in crate::kernel) fn copies(constants: Constants, copy: u32, element: u32) -> Constants {
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

pub(super) fn configurations(dtype: DType) -> Vec<Configuration> {
    let copies = [16, dtype.bytes() as u32];
    tiles(dtype).iter().flat_map(|tile| copies.map(|copy| tile.configuration(dtype, copy))).collect()
}

/// The tile of one of [`configurations`].
pub(super) fn tile_of(dtype: DType, configuration: &Configuration) -> Tile {
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
pub(super) fn work(
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

pub(super) fn centre_configurations(dtype: DType) -> Vec<Configuration> {
    let threads = 32 * CENTRE_WARPS;
    let constants = typed(Constants::default(), "", "TYPE", dtype).int("WARPS", CENTRE_WARPS as usize);
    let constants = constants.int("ELEMENT", dtype.bytes()).int("REGISTERS", registers(2, threads) as usize);
    // An f64 sum for each warp and column.
    vec![Configuration { name: "32".into(), constants, threads, shared: 8 * threads }]
}

pub(super) fn fold_configurations() -> Vec<Configuration> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The least shared memory a CTA of all devices that run these kernels: compute capability 8.6 and 8.9.
    const LEAST_SHARED: u32 = 101_376;

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
}
