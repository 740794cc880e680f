//! Whether the kernels that go row by row or element by element can index what a launch touches. It decides nothing
//! else.

use crate::device::View;

/// Most columns: more than any model has, and few enough for one dimension of a grid.
const COLUMNS: usize = 1 << 22;
/// Rows and elements from one row to the next stay below.
const ROWS: usize = 1 << 30;
/// Most elements of a view.
const ELEMENTS: usize = 1 << 31;
/// Most tiles along the second and third dimension of a grid.
const TILES: usize = 65_535;

/// Whether none of the views is empty or too large.
pub(super) fn fit<'a>(views: impl IntoIterator<Item = &'a View>) -> bool {
    let mut views = views.into_iter();
    views.all(|v| {
        let some = v.rows > 0 && v.cols > 0;
        some && v.cols <= COLUMNS && v.rows.max(v.stride) < ROWS && v.rows.saturating_mul(v.cols) <= ELEMENTS
    })
}

/// Whether a second or third dimension of a grid takes `n` tiles.
pub(super) fn tiles_fit(n: usize) -> bool {
    n <= TILES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Builder, DType};

    #[test]
    fn empty_and_oversized_views_are_left_to_the_host() {
        let view = |rows, cols| Builder::<()>::new(DType::F32).matrix(rows, cols);
        assert!(fit([&view(1, 1), &view(1 << 20, 1 << 11)]));
        for v in [view(0, 3), view(3, 0), view(1, COLUMNS + 1), view(ROWS, 1), view(1 << 20, (1 << 11) + 1)] {
            assert!(!fit([&view(1, 1), &v]), "{v:?}");
        }
        assert!(tiles_fit(TILES) && !tiles_fit(TILES + 1));
    }
}
