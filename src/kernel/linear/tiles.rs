//! Tiles and configurations of the linear kernels, and what a CTA of one costs.

use super::super::element::element;
use super::super::gram::copies;
use super::super::registry::Configuration;
use super::super::tuning::{Work, registers};
use super::{Epilogue, LinearShape};
use crate::device::DType;

/// A tile shape of a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// Rows and columns of y that a thread holds.
    thread: (u32, u32),
    /// Warps down and across the tile.
    warps: (u32, u32),
    /// Columns of x a stage.
    depth: u32,
    stages: u32,
    /// CTAs that a multiprocessor can hold as far as registers go: what bounds those of a thread.
    resident: u32,
}

const TILES_F32: [Tile; 2] = [
    Tile { thread: (8, 4), warps: (2, 2), depth: 16, stages: 4, resident: 4 },
    Tile { thread: (8, 8), warps: (4, 1), depth: 16, stages: 3, resident: 3 },
];
const TILES_F64: [Tile; 2] = [
    Tile { thread: (4, 8), warps: (2, 2), depth: 16, stages: 3, resident: 3 },
    Tile { thread: (8, 8), warps: (2, 4), depth: 16, stages: 2, resident: 1 },
];

pub(super) fn tiles(dtype: DType) -> &'static [Tile; 2] {
    match dtype {
        DType::F32 => &TILES_F32,
        DType::F64 => &TILES_F64,
    }
}

/// How many of a warp's lanes stand down and across its outputs: in f64 as `mma.m8n8k4` has them.
fn lanes(dtype: DType) -> (u32, u32) {
    match dtype {
        DType::F32 => (4, 8),
        DType::F64 => (8, 4),
    }
}

/// Elements added to a tile row that runs along k. f32: 16 bytes, so that the rows of 8 lanes, an odd
/// number of 16-byte words apart, lie in 8 different groups of four banks. f64: rows of 4 mod 16 elements,
/// so that four of each of four rows lie in different banks; a row that runs across k takes them too.
const PAD: u32 = 4;

pub(super) fn layout(transpose: bool) -> &'static str {
    if transpose { "nt" } else { "nn" }
}

impl Tile {
    fn rows(&self, dtype: DType) -> u32 {
        lanes(dtype).0 * self.thread.0 * self.warps.0
    }
    fn columns(&self, dtype: DType) -> u32 {
        lanes(dtype).1 * self.thread.1 * self.warps.1
    }
    fn threads(&self) -> u32 {
        32 * self.warps.0 * self.warps.1
    }
    fn configuration(&self, dtype: DType, transpose: bool, copy: u32, epilogue: Epilogue) -> Configuration {
        let (rows, columns, pitch) = (self.rows(dtype), self.columns(dtype), self.depth + PAD);
        let (element_bytes, (down, across)) = (dtype.bytes() as u32, lanes(dtype));
        let is_f32 = dtype == DType::F32;
        // nn keeps W's tile as [depth][columns], nt as [columns][depth]: its rows, the elements from k to
        // k and from column to column in shared memory and (f32) in registers, which way its copies run, how
        // many neighbouring columns a thread holds, and how it writes them.
        let across_pitch = if is_f32 { columns } else { columns + PAD };
        let (w_rows, w_pitch, w_k_pitch, w_column_pitch) =
            if transpose { (columns, pitch, 1, pitch) } else { (self.depth, across_pitch, across_pitch, 1) };
        let (w_k, w_column) = if transpose { (1, 4) } else { (self.thread.1, 1) };
        let w_copy = if transpose { "along" } else { "across" };
        let beside = match (dtype, transpose) {
            (DType::F32, true) => 1,
            (DType::F32, false) => 4,
            (DType::F64, _) => 2,
        };
        let write = if beside > 1 && copy == 16 { "vectors" } else { "singles" };
        let (x_bytes, w_bytes) = (rows * pitch * element_bytes, w_rows * w_pitch * element_bytes);
        let (kind, act) = epilogue.parts();
        let constants = [
            ("TILE_ROWS", rows),
            ("TILE_COLUMNS", columns),
            ("DEPTH", self.depth),
            ("THREAD_ROWS", self.thread.0),
            ("THREAD_COLUMNS", self.thread.1),
            ("WARPS_ACROSS", self.warps.1),
            ("STAGES", self.stages),
            ("X_PITCH", pitch),
            ("X_BYTES", x_bytes),
            ("W_PITCH", w_pitch),
            ("W_K_PITCH", w_k_pitch),
            ("W_COLUMN_PITCH", w_column_pitch),
            ("W_K", w_k),
            ("W_COLUMN", w_column),
            ("W_BYTES", w_bytes),
            ("STAGE_BYTES", x_bytes + w_bytes),
            ("BESIDE", beside),
            ("DOWN", down),
            ("ACROSS", across),
            ("HOLDER", if is_f32 { 13 } else { 3 }),
            ("RESIDENT", self.resident),
            ("REGISTERS", registers(self.resident, self.threads())),
        ];
        let constants = element(dtype).ints(constants);
        let constants = constants.word("LAYOUT", layout(transpose)).word("W_COPY", w_copy).word("WRITE", write);
        let constants = constants.word("EPILOGUE", kind).word("ACTIVATION", act.name());
        let layout = layout(transpose);
        Configuration {
            name: format!("{rows}x{columns}x{}-{layout}-cp{copy}-{}", self.depth, epilogue.name()),
            constants: copies(constants, copy, element_bytes),
            threads: self.threads(),
            shared: self.stages * (x_bytes + w_bytes),
        }
    }
}

pub(super) fn configurations(dtype: DType) -> Vec<Configuration> {
    let mut all = Vec::new();
    for tile in tiles(dtype) {
        for transpose in [false, true] {
            for copy in [16, dtype.bytes() as u32] {
                all.extend(Epilogue::all().map(|epilogue| tile.configuration(dtype, transpose, copy, epilogue)));
            }
        }
    }
    all
}

/// The tile of one of [`configurations`].
pub(super) fn tile_of(dtype: DType, configuration: &Configuration) -> Tile {
    let [small, large] = *tiles(dtype);
    if configuration.constants.get_int("TILE_ROWS") == Some(small.rows(dtype).into()) { small } else { large }
}

/// Tiles down and across y.
pub(super) fn tiles_of(shape: &LinearShape, tile: &Tile) -> (u32, u32) {
    (shape.n.div_ceil(tile.rows(shape.dtype)), shape.m.div_ceil(tile.columns(shape.dtype)))
}

/// The work of a CTA, in clocks of a multiprocessor of compute capability 8.0: 128 multiply-adds in f32 or
/// 64 in f64, and 128 bytes of shared memory a clock.
pub(super) fn work(shape: &LinearShape, configuration: &Configuration) -> std::result::Result<Work, String> {
    let copy = configuration.constants.get_int("COPY").unwrap_or(16);
    if configuration.constants.get_word("LAYOUT") != Some(layout(shape.transpose)) {
        return Err(format!("the other layout of W, {} is asked for", layout(shape.transpose)));
    }
    if !configuration.name.ends_with(&format!("cp{copy}-{}", shape.epilogue.name())) {
        return Err(format!("another epilogue, {} is asked for", shape.epilogue.name()));
    }
    if copy == 16 && !shape.aligned {
        return Err("16-byte copies, but not every row of x, W and y starts at a multiple of 16 bytes".into());
    }
    let (dtype, tile) = (shape.dtype, tile_of(shape.dtype, configuration));
    let (row_tiles, column_tiles) = tiles_of(shape, &tile);
    let ctas = u64::from(row_tiles) * u64::from(column_tiles);
    if ctas >= 1 << 31 {
        return Err(format!("{ctas} tiles, a grid has fewer than 2^31"));
    }
    let warps = f64::from(tile.threads() / 32);
    let (rows, columns) = (f64::from(tile.rows(dtype)), f64::from(tile.columns(dtype)));
    let (multiply, read) = match dtype {
        // A 16-byte word of each row, and of each column, for four k; two wavefronts each.
        DType::F32 => (rows * columns / 128.0, warps * f64::from(tile.thread.0 + tile.thread.1) / 2.0),
        // Eight rows of four k, or columns, in two wavefronts.
        DType::F64 => (rows * columns / 64.0, warps * (f64::from(tile.thread.0) + f64::from(tile.thread.1) / 2.0) / 2.0),
    };
    let copied = (rows + columns) * dtype.bytes() as f64;
    let write = copied / 128.0 + copied / copy as f64 / 32.0;
    let depth = f64::from(shape.k.next_multiple_of(tile.depth));
    Ok(Work {
        ctas,
        registers: registers(tile.resident, tile.threads()),
        multiply: depth * multiply,
        feed: depth * (read + write),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_and_threads_cover_every_tile_exactly() {
        for (dtype, c) in [DType::F32, DType::F64].into_iter().flat_map(|d| configurations(d).into_iter().map(move |c| (d, c))) {
            let get = |name| c.constants.get_int(name).unwrap() as u32;
            let (at_once, depth) = (c.threads * get("VECTOR"), get("DEPTH"));
            // Along k a pass takes whole groups of eight rows; across k whole rows.
            let along = |rows: u32| at_once.is_multiple_of(8 * depth) && (rows * depth).is_multiple_of(at_once);
            assert!(along(get("TILE_ROWS")), "{}", c.name);
            let columns = get("TILE_COLUMNS");
            if c.constants.get_word("W_COPY") == Some("along") {
                assert!(along(columns), "{}", c.name);
            } else {
                assert!(at_once.is_multiple_of(columns) && (depth * columns).is_multiple_of(at_once), "{}", c.name);
            }
            assert_eq!(c.threads * get("THREAD_ROWS") * get("THREAD_COLUMNS"), get("TILE_ROWS") * columns, "{}", c.name);
            let token = get("THREAD_ROWS") * lanes(dtype).0;
            assert!(token.is_multiple_of(16), "{}: a token's rows lie in the lanes of one column", c.name);
            assert!(get("THREAD_COLUMNS").is_multiple_of(get("BESIDE")), "{}", c.name);
            // The least shared memory a CTA: compute capability 8.6 and 8.9.
            assert!(c.shared <= 101_376, "{}", c.name);
        }
    }
}
