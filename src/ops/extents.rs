//! Whether kernels can index what a launch touches. It decides nothing else.

use crate::device::View;

/// Most columns: more than any model has, and few enough for one dimension of a grid.
const COLUMNS: usize = 1 << 22;
/// Rows, columns and elements from one row to the next stay below: one more than the largest index that kernels compute
/// in 32 bits with a sign.
pub(super) const MOST: usize = 1 << 30;
/// Most elements of a view whose elements are counted.
const ELEMENTS: usize = 1 << 31;
/// Most CTAs along the second and third dimension of a grid.
pub(super) const MOST_PLANES: usize = 65_535;

/// Whether kernels that take a row at a time serve the views: none is empty or has too many rows or columns.
pub(super) fn rows_fit<'a>(views: impl IntoIterator<Item = &'a View>) -> bool {
    views.into_iter().all(|v| v.rows > 0 && v.cols > 0 && v.rows.max(v.cols).max(v.stride) < MOST)
}

/// Whether kernels can count the rows, columns and elements of the views in 32 bits; empty ones too.
pub(super) fn countable<'a>(views: impl IntoIterator<Item = &'a View>) -> bool {
    views.into_iter().all(|v| v.rows.max(v.cols).max(v.stride) < MOST && v.rows.saturating_mul(v.cols) < ELEMENTS)
}

/// Whether kernels that go element by element serve the views: none is empty or too large.
pub(super) fn fit<'a>(views: impl IntoIterator<Item = &'a View>) -> bool {
    let mut views = views.into_iter();
    views.all(|v| {
        let some = v.rows > 0 && v.cols > 0;
        some && v.cols <= COLUMNS && v.rows.max(v.stride) < MOST && v.rows.saturating_mul(v.cols) <= ELEMENTS
    })
}

/// Whether a second or third dimension of a grid takes `n` tiles.
pub(super) fn tiles_fit(n: usize) -> bool {
    n <= MOST_PLANES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Builder, DType};

    #[test]
    fn empty_and_oversized_views_are_left_to_the_host() {
        let view = |rows, cols| Builder::<()>::new(DType::F32).matrix(rows, cols);
        assert!(fit([&view(1, 1), &view(1 << 20, 1 << 11)]));
        for v in [view(0, 3), view(3, 0), view(1, COLUMNS + 1), view(MOST, 1), view(1 << 20, (1 << 11) + 1)] {
            assert!(!fit([&view(1, 1), &v]), "{v:?}");
        }
        assert!(tiles_fit(MOST_PLANES) && !tiles_fit(MOST_PLANES + 1));
    }
}
