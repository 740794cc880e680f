//! How the threads of a kernel that works element by element are spread over a matrix: the host's side
//! of the fragment `sheet`.

/// Threads of a CTA.
pub(super) const THREADS: u32 = 256;

/// A matrix cut into tiles of `2^log_columns` columns and as many rows as a CTA's threads then take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sheet {
    pub log_columns: u32,
    /// Tiles along the rows, tiles along the columns.
    pub tiles: [u32; 2],
}

impl Sheet {
    /// Tiles for `[rows, cols]` with `deep` rows a thread. None of it touches the numbers.
    pub fn new(rows: u32, cols: u32, deep: u32) -> Self {
        let columns = cols.clamp(1, THREADS).next_power_of_two();
        let tiles = [rows.div_ceil(THREADS / columns * deep), cols.div_ceil(columns)];
        Self { log_columns: columns.ilog2(), tiles }
    }
    /// CTAs: the tiles, `layers` times.
    pub fn grid(&self, layers: u32) -> [u32; 3] {
        [self.tiles[0], self.tiles[1], layers]
    }
    /// The tiles, for a kernel that numbers them along the columns first.
    pub fn count(&self) -> u64 {
        u64::from(self.tiles[0]) * u64::from(self.tiles[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiles_cover_the_matrix_and_nothing_twice() {
        for (rows, cols) in [(1, 1), (1, 50_257), (7, 3), (1000, 64), (513, 257), (4096, 33)] {
            for deep in [1, 4] {
                let Sheet { log_columns, tiles } = Sheet::new(rows, cols, deep);
                let (tall, wide) = ((THREADS >> log_columns) * deep, 1 << log_columns);
                assert!(tiles[0] * tall >= rows && (tiles[0] - 1) * tall < rows);
                assert!(tiles[1] * wide >= cols && (tiles[1] - 1) * wide < cols);
            }
        }
    }

    #[test]
    fn narrow_matrices_fill_their_threads() {
        assert_eq!(Sheet::new(10_000, 3, 4), Sheet { log_columns: 2, tiles: [40, 1] });
        assert_eq!(Sheet::new(8, 768, 4), Sheet { log_columns: 8, tiles: [2, 3] });
    }
}
