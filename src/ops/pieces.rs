//! How the rows of an operation are cut where a binding cannot hold all of them. It serves operations whose rows do not
//! look at each other, over activations `[n, ..]` and probe-major stacks `[R * n, ..]` of them.

use std::ops::Range;

use crate::device::{Tensor, View};

/// Rows of the activations, for some of the probes: all rows, or one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub rows: Range<usize>,
    pub probes: Range<usize>,
    /// Rows of the activations in all.
    n: usize,
}

impl Piece {
    /// Its rows of a view of the activations.
    pub fn rows_of(&self, v: &View) -> View {
        v.slice_rows(self.rows.start, self.rows.len())
    }
    /// Its rows of a stack.
    pub fn stack_of(&self, v: &View) -> View {
        v.slice_rows(self.probes.start * self.n + self.rows.start, self.probes.len() * self.rows.len())
    }
    /// Rows of the activations.
    pub fn n(&self) -> u32 {
        self.rows.len() as u32
    }
    /// Rows of a stack.
    pub fn stacked(&self) -> u32 {
        (self.probes.len() * self.rows.len()) as u32
    }
}

/// Whether a binding of `most` elements holds all of a table.
pub(super) fn holds(t: &Tensor, most: usize) -> bool {
    t.rows.saturating_mul(t.cols) <= most
}

/// Whether a binding of `most` elements holds a view from its first element to its last.
pub(super) fn spans(v: &View, most: usize) -> bool {
    v.rows.saturating_sub(1).saturating_mul(v.stride).saturating_add(v.cols) <= most
}

/// Rows of a view that span at most `most` elements.
fn within(v: &View, most: usize) -> usize {
    match most.checked_sub(v.cols) {
        Some(rest) => rest.checked_div(v.stride).map_or(usize::MAX, |rows| rows + 1),
        None => 0,
    }
}

/// The pieces of `n` rows for `probes` probes, of which every view takes at most `most` elements; `None` where a single
/// row is larger. `rows` are views of the activations, `stacks` of `probes * n` rows.
pub(super) fn pieces<'a>(
    n: usize,
    probes: usize,
    rows: impl IntoIterator<Item = &'a View>,
    stacks: impl IntoIterator<Item = &'a View>,
    most: usize,
) -> Option<Vec<Piece>> {
    let least = |views: &mut dyn Iterator<Item = &'a View>| views.map(|v| within(v, most)).min().unwrap_or(usize::MAX);
    let (of_rows, of_stacks) = (least(&mut rows.into_iter()), least(&mut stacks.into_iter()));
    let each = of_rows.min(of_stacks);
    if each == 0 {
        return None;
    }
    if n == 0 || probes == 0 {
        return Some(Vec::new());
    }
    if each >= n {
        let step = (of_stacks / n).min(probes);
        let starts = (0..probes).step_by(step);
        return Some(starts.map(|from| Piece { rows: 0..n, probes: from..probes.min(from + step), n }).collect());
    }
    let cut = |probe| (0..n).step_by(each).map(move |from| Piece { rows: from..n.min(from + each), probes: probe..probe + 1, n });
    Some((0..probes).flat_map(cut).collect())
}

/// [`pieces`] of views of the activations and stacks of them, of at least one view of the activations.
pub(super) fn cut(rows: &[&View], stacks: &[&View], most: usize) -> Option<Vec<Piece>> {
    let n = rows[0].rows;
    let probes = stacks.first().map_or(1, |v| v.rows / n);
    pieces(n, probes, rows.iter().copied(), stacks.iter().copied(), most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Builder, DType};

    #[test]
    fn pieces_cover_every_row_of_every_probe_once_within_the_limit() {
        let mut b = Builder::<()>::new(DType::F32);
        for (n, probes, most) in [(7, 3, 1000), (7, 3, 60), (7, 3, 20), (7, 3, 5), (1, 9, 5), (6, 1, 11)] {
            let (x, dx) = (b.matrix(n, 6).columns(1, 4), b.matrix(probes * n, 5));
            let found = pieces(n, probes, [&x], [&dx], most).unwrap();
            let mut seen = vec![0; probes * n];
            for piece in &found {
                let (x, dx) = (piece.rows_of(&x), piece.stack_of(&dx));
                assert_eq!((x.rows, dx.rows), (piece.n() as usize, piece.stacked() as usize));
                assert!((x.rows - 1) * 6 + 4 <= most && dx.rows * 5 <= most, "{piece:?}");
                assert!(piece.rows.len() == n || piece.probes.len() == 1);
                (0..dx.rows).for_each(|i| seen[dx.offset / 5 + i] += 1);
            }
            assert_eq!(seen, vec![1; probes * n], "{n} {probes} {most}");
        }
        let x = b.matrix(3, 6);
        let inside = x.columns(2, 4);
        assert!(spans(&x, 18) && !spans(&x, 17) && spans(&inside, 16) && !spans(&inside, 15));
        assert_eq!(pieces(3, 1, [&x], [], 5), None);
        assert_eq!(pieces(0, 1, [&x], [], 6), Some(vec![]));
    }
}
