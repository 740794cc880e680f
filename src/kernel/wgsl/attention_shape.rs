//! The tiles of attention in WGSL: which rows and columns a workgroup has, what it keeps in workgroup memory, and which of
//! them a head gets. Configurations of [`super::attention`] are made of these; nothing here is launched.
//!
//! Between tiles that differ in columns, in rows of an invocation or in depth an element is summed in the same order, so that
//! the choice may follow from what an adapter runs.

use super::super::registry::Configuration;
use super::super::template::Constants;
use super::Limits;

/// Queries or keys of a workgroup.
pub const ROWS: u32 = 32;
/// Columns of results of a workgroup.
const COLUMNS: [u32; 4] = [32, 64, 128, 256];
/// Columns of results that are added up at a time.
const PIECE: u32 = 64;
/// Columns that scores of the forward pass are summed over at a time.
const DEPTHS: [u32; 2] = [32, 16];
/// Invocations that share a row.
const LANES: u32 = 8;
/// Rows of an invocation: the fewer where it would hold more than [`HELD`] numbers of their results.
const EACH: [u32; 2] = [4, 2];
/// Numbers of results that an invocation holds at most, so that they stay in registers beside the scores and what those are
/// made of. WebGPU does not tell how many registers there are.
const HELD: u32 = 64;

/// A tile of a pass: what its kernel keeps in workgroup memory and in registers.
#[derive(Clone, Copy)]
pub struct Tile {
    /// Lines of a tile of the other rows.
    others: u32,
    /// Columns that scores are summed over at a time.
    depth: u32,
    /// Pairs of own and other lines for scores, lines of results that are added up, sums of them, vectors of weights for
    /// each of the others, and vectors that invocations exchange.
    pairs: u32,
    values: u32,
    sums: u32,
    weights: u32,
    exchanged: u32,
}

pub const FORWARD_TILE: Tile = Tile { others: 32, depth: 32, pairs: 1, values: 1, sums: 1, weights: 8, exchanged: 64 };
pub const PATTERN_TILE: Tile = Tile { values: 0, sums: 0, weights: 0, exchanged: 0, ..FORWARD_TILE };
pub const TANGENT_TILE: Tile = Tile { others: 16, depth: 16, pairs: 2, values: 2, sums: 2, weights: 16, exchanged: 128 };
pub const QUERIES_TILE: Tile = Tile { pairs: 1, values: 1, ..TANGENT_TILE };
pub const KEYS_TILE: Tile = Tile { pairs: 1, exchanged: 0, ..TANGENT_TILE };

impl Tile {
    /// Rows of an invocation where a workgroup has that many columns of results.
    fn each(self, columns: u32) -> u32 {
        if self.sums * EACH[0] * columns / LANES <= HELD { EACH[0] } else { EACH[1] }
    }
    /// How many columns of results a workgroup may have; the fewest where there are no results.
    fn widths(self) -> impl Iterator<Item = u32> {
        let most = (HELD * LANES / EACH[1]).checked_div(self.sums).unwrap_or(COLUMNS[0]);
        COLUMNS.into_iter().filter(move |columns| *columns <= most)
    }
    /// The tile whose depth pads heads of `width` columns least, and is the largest of such.
    pub fn fitting(self, width: u32) -> Self {
        let padded = |depth: &u32| width.next_multiple_of(*depth);
        Self { depth: DEPTHS.into_iter().min_by_key(padded).unwrap_or(self.depth), ..self }
    }
    fn configuration(self, columns: u32, quads: bool) -> Configuration {
        let Tile { others, depth, pairs, values, weights, exchanged, .. } = self;
        let each = self.each(columns);
        let (lines, piece) = (ROWS / each, columns.min(PIECE));
        let staged = (pairs * (ROWS + others) * (depth / 4 + 1)).max(values * others * (piece / 4));
        let shape = [("ROWS", ROWS), ("EACH", each), ("LINES", lines), ("COLUMNS", columns), ("PIECE", piece)];
        let sizes = [("OTHERS", others), ("DEPTH", depth), ("STAGED", staged)];
        let constants = super::vector(Constants::default().ints(shape).ints(sizes), quads);
        let vector = constants.get_word("VECTOR").unwrap_or_default();
        Configuration {
            name: format!("{columns}x{depth}-{vector}"),
            constants,
            threads: lines * LANES,
            shared: 16 * (staged + weights * others + exchanged),
        }
    }
    /// All of its configurations, from few columns to many, by elements and by quads.
    pub fn configurations(self) -> Vec<Configuration> {
        self.widths().flat_map(|columns| [false, true].map(|quads| self.configuration(columns, quads))).collect()
    }
    /// Those of every depth that [`Tile::fitting`] may give it.
    pub fn of_all_depths(self) -> Vec<Configuration> {
        DEPTHS.into_iter().flat_map(|depth| Self { depth, ..self }.configurations()).collect()
    }
    /// The configuration with the fewest columns that hold a head of `width`, else with the most that the adapter runs,
    /// and how many workgroups share a head. Scores are computed in each of these: no head is split that need not be.
    pub fn choose(self, width: u32, quads: bool, limits: &Limits) -> (Configuration, u32) {
        let runs = |columns: &u32| {
            let c = self.configuration(*columns, quads);
            c.threads <= limits.invocations && c.shared <= limits.workgroup_memory
        };
        let all: Vec<u32> = self.widths().filter(runs).collect();
        let columns = all.iter().find(|columns| **columns >= width).or(all.last()).copied().unwrap_or(COLUMNS[0]);
        (self.configuration(columns, quads), width.div_ceil(columns))
    }
}

/// Workgroups that share a head's columns at most, for heads of `width` columns.
pub fn chunks_at_most(width: usize) -> usize {
    width.div_ceil(COLUMNS[0] as usize)
}
