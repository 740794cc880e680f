//! Sequences packed behind each other without padding, and matrices whose rows hold several heads.
//! Only handles, their checks and the walk over sequences: no arithmetic.

use super::check;
use crate::device::{Arena, IntBuffer, Real, View};
use crate::error::{Error, Result};

/// Where the sequences of `n` packed rows begin and end. Whoever fills the buffers has checked them:
/// the rows of a sequence follow each other, and every sequence holds at least one row.
#[derive(Clone, Copy, Debug)]
pub struct Packing {
    /// `[n]`: the row at which the row's sequence begins.
    pub first: IntBuffer,
    /// `[n]`: the row behind the end of the row's sequence.
    pub end: IntBuffer,
    /// `[n]`: 0 where the row is hidden as a key from every query (padding), else 1; all are seen if
    /// absent.
    pub seen: Option<IntBuffer>,
}

/// One sequence of a packing.
pub(super) struct Sequence {
    /// Its packed rows.
    pub rows: std::ops::Range<usize>,
    /// Its queries, counted over all sequences.
    pub queries: std::ops::Range<usize>,
}

impl Packing {
    /// Packed rows: `n`.
    pub fn rows(&self) -> usize {
        self.end.len
    }
    /// The contents of [`Packing::first`] and [`Packing::end`] for sequences of these lengths.
    pub fn bounds(lengths: &[usize]) -> (Vec<u32>, Vec<u32>) {
        let (mut first, mut end) = (Vec::new(), Vec::new());
        for &length in lengths {
            let start = first.len();
            first.resize(start + length, start as u32);
            end.resize(start + length, (start + length) as u32);
        }
        (first, end)
    }
    /// Whether the buffers are of one length.
    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        let n = self.rows();
        ints(op, "first", self.first, n)?;
        self.seen.map_or(Ok(()), |seen| ints(op, "seen", seen, n))
    }
    /// The sequences in their order, with the queries of each: `queries` names their packed rows in
    /// ascending order; every row is one if absent.
    pub(super) fn sequences<T: Real>(&self, m: &Arena<T>, queries: Option<IntBuffer>) -> Vec<Sequence> {
        let (ends, queries) = (m.int(self.end), queries.map(|q| m.int(q)));
        let mut sequences: Vec<Sequence> = Vec::new();
        while let Some(&end) = ends.get(sequences.last().map_or(0, |s| s.rows.end)) {
            let (row, query) = sequences.last().map_or((0, 0), |s| (s.rows.end, s.queries.end));
            // A bound that is not one must not make this loop stand still or leave the rows.
            let end = (end as usize).clamp(row + 1, ends.len());
            let behind = queries.map_or(end, |q| query + q[query..].partition_point(|&r| (r as usize) < end));
            sequences.push(Sequence { rows: row..end, queries: query..behind });
        }
        sequences
    }
}

/// A buffer of numbers, one for each of `n` rows.
fn ints(op: &'static str, name: &str, buffer: IntBuffer, n: usize) -> Result<()> {
    if buffer.len == n {
        return Ok(());
    }
    Err(Error::shape(op, format!("{name} of {} numbers", buffer.len), format!("{name} of {n} numbers")))
}

/// Rows that hold one vector a head: head `h` owns the columns from `h * pitch` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// The rows; their columns hold all heads, perhaps with other things between.
    pub view: View,
    /// Columns between the starts of two heads.
    pub pitch: usize,
}

impl Heads {
    /// Heads of `width` columns that lie side by side.
    pub fn dense(view: View, width: usize) -> Self {
        Self { view, pitch: width }
    }
    /// Heads that begin at column `from` of rows that hold other things too.
    pub fn within(rows: View, from: usize, pitch: usize) -> Self {
        Self { view: rows.columns(from, rows.cols - from), pitch }
    }
    /// The columns of head `h`, `[rows, width]`.
    pub fn head(&self, h: usize, width: usize) -> View {
        self.view.columns(h * self.pitch, width)
    }
    /// Whether the view has `rows` rows and room for `heads` heads of `width` columns apart from each
    /// other.
    pub(super) fn check(&self, op: &'static str, name: &str, rows: usize, heads: usize, width: usize) -> Result<()> {
        check::view(op, name, &self.view, rows, self.view.cols)?;
        let columns = heads.saturating_sub(1).saturating_mul(self.pitch).saturating_add(width);
        if columns > self.view.cols || (heads > 1 && self.pitch < width) {
            let found = format!("{name} of {} columns with heads {} columns apart", self.view.cols, self.pitch);
            return Err(Error::shape(op, found, format!("room for {heads} heads of {width} columns")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    fn packing(f: &mut Fixture, lengths: &[usize]) -> Packing {
        let (first, end) = Packing::bounds(lengths);
        Packing { first: f.ints(&first), end: f.ints(&end), seen: None }
    }

    #[test]
    fn sequences_are_walked_with_their_queries() {
        let mut f = Fixture::default();
        let p = packing(&mut f, &[3, 1, 2]);
        let some = f.ints(&[0, 2, 4, 5]);
        let m = f.arena::<f64>();
        assert_eq!(m.int(p.first), [0, 0, 0, 3, 4, 4]);
        assert_eq!(m.int(p.end), [3, 3, 3, 4, 6, 6]);
        let ranges = |q| p.sequences(&m, q).into_iter().map(|s| (s.rows, s.queries)).collect::<Vec<_>>();
        assert_eq!(ranges(None), [(0..3, 0..3), (3..4, 3..4), (4..6, 4..6)]);
        assert_eq!(ranges(Some(some)), [(0..3, 0..2), (3..4, 2..2), (4..6, 2..4)]);
    }

    #[test]
    fn wrong_bounds_end_the_walk_all_the_same() {
        let mut f = Fixture::default();
        let p = Packing { first: f.ints(&[0, 0, 0]), end: f.ints(&[0, 9, 1]), seen: None };
        let sequences = p.sequences(&f.arena::<f64>(), None);
        assert_eq!(sequences.iter().map(|s| s.rows.clone()).collect::<Vec<_>>(), [0..1, 1..3]);
    }

    #[test]
    fn heads_that_do_not_fit_are_refused() {
        let mut f = Fixture::default();
        let heads = Heads { view: f.output(4, 20), pitch: 8 };
        assert_eq!((heads.head(1, 3).offset - heads.view.offset, heads.head(1, 3).cols), (8, 3));
        assert!(heads.check("t", "q", 4, 3, 4).is_ok());
        let error = heads.check("t", "q", 4, 3, 5).unwrap_err().to_string();
        assert_eq!(
            error,
            "operation t: found q of 20 columns with heads 8 columns apart; expected room for 3 heads of 5 columns"
        );
        assert!(heads.check("t", "q", 4, 2, 9).is_err() && heads.check("t", "q", 5, 1, 5).is_err());
        let p = Packing { seen: Some(f.ints(&[1])), ..packing(&mut f, &[2]) };
        assert_eq!(p.check("t").unwrap_err().to_string(), "operation t: found seen of 1 numbers; expected seen of 2 numbers");
    }
}
