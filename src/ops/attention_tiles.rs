//! How the closed forms of attention are cut into tiles of queries on a device: they follow from the shape alone. Element
//! counts are of one tile. It launches nothing.

use super::attention_math::{Attention, Tile};
use crate::device::DType;

/// Bytes of each of the about four large parts of the scratch memory, where one query takes no more.
pub(super) const PART_BYTES: usize = 16 << 20;
/// Queries of a tile at most.
const MOST_QUERIES: usize = 256;
/// Queries of a tile that is part of a sequence at most: a tile computes all pairs of its queries and of the
/// keys up to the last of them, seen or not.
const MOST_OF_SEQUENCE: usize = 64;

/// The sizes of the largest tile.
#[derive(Clone, Copy)]
pub(super) struct Most {
    /// Queries of all sequences.
    pub queries: usize,
    /// Keys of one sequence.
    pub keys: usize,
    /// Keys of all sequences.
    pub key_rows: usize,
    /// Pairs of a query and a key of its sequence.
    pub pairs: usize,
}

impl Most {
    pub fn of(tiles: &[Tile]) -> Self {
        let most = |size: &dyn Fn(&Tile) -> usize| tiles.iter().map(size).max().unwrap_or(0);
        Self {
            queries: most(&Tile::query_rows),
            keys: most(&|t| t.keys),
            key_rows: most(&Tile::key_rows),
            pairs: most(&|t| t.query_rows() * t.keys),
        }
    }
}

/// Tiles of which a query takes `each` elements of the largest part.
pub(super) fn tiles(a: &Attention, dtype: DType, each: usize) -> Vec<Tile> {
    let fit = (PART_BYTES / dtype.bytes() / each.max(1)).clamp(1, MOST_QUERIES);
    let long = !a.last_only && a.seq > MOST_OF_SEQUENCE;
    a.cut(if long { fit.min(MOST_OF_SEQUENCE) } else { fit }, 1)
}
