//! Batches of token sequences of any lengths, behind each other without padding.

use std::ops::Range;

use crate::device::IntBuffer;
use crate::error::{Error, Result};
use crate::model::lm::forward::Inputs;

/// The numbers that a forward pass over packed sequences reads, a row a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    /// A number a key: where its sequence begins and ends among the keys, and its row.
    first: Vec<u32>,
    end: Vec<u32>,
    keys: Vec<u32>,
    seen: Option<Vec<u32>>,
    /// The first row of each sequence, empty ones too.
    starts: Vec<u32>,
    /// By row: its place among the keys.
    asking: Vec<u32>,
    /// The rows that are read out, and their positions.
    queries: Vec<u32>,
    query_positions: Vec<u32>,
    /// Their places among the keys.
    query_asking: Vec<u32>,
}

impl Packed {
    /// Sequences behind each other; empty ones have no rows.
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut packed = Self::default();
        sequences.into_iter().for_each(|s| packed.push(s));
        packed
    }
    /// Appends a sequence.
    pub fn push(&mut self, tokens: &[u32]) {
        self.push_behind(0..0, tokens);
    }
    /// Appends a sequence that begins with the `shared` rows, those of a sequence from its first one on,
    /// and goes on with `tokens`. Only for causal models, where the rows do not change by what follows.
    pub fn push_behind(&mut self, shared: Range<usize>, tokens: &[u32]) {
        let (from, to) = (self.tokens.len() as u32, (self.tokens.len() + tokens.len()) as u32);
        let behind = shared.len() as u32;
        let (first, end) = (self.keys.len() as u32, self.keys.len() as u32 + behind + to - from);
        self.starts.push(from);
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((0..to - from).map(|i| behind + i));
        self.asking.extend(first + behind..end);
        if from == to {
            // Without rows of its own it asks nothing.
            return;
        }
        self.keys.extend(shared.map(|row| row as u32).chain(from..to));
        self.first.extend((first..end).map(|_| first));
        self.end.extend((first..end).map(|_| end));
        if let Some(seen) = &mut self.seen {
            seen.resize(to as usize, 1);
        }
    }
    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }
    /// Keys so far: as many as rows, unless rows are shared.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }
    /// The rows of sequence `i`, counted as they were appended; none of one that was not.
    pub fn range(&self, i: usize) -> Range<usize> {
        let at = |i: usize| self.starts.get(i).map_or(self.rows(), |start| *start as usize);
        at(i)..at(i + 1)
    }
    /// Hides the tokens where `mask` is 0 from the others; it has a number for each row.
    pub fn hide(&mut self, mask: &[u32]) {
        self.seen = Some(mask.to_vec());
    }
    /// Reads out the last row of each sequence.
    pub fn read_last(&mut self) {
        let is_last = |i: &u32| {
            let key = self.asking[*i as usize];
            self.end[key as usize] == key + 1
        };
        let rows: Vec<u32> = (0..self.rows() as u32).filter(is_last).collect();
        self.read(&rows);
    }
    /// Reads out these rows, which ascend.
    pub fn read(&mut self, rows: &[u32]) {
        self.queries = rows.to_vec();
        // A row that there is not is refused when the batch is run.
        let at = |of: &[u32]| rows.iter().map(|&row| of.get(row as usize).copied().unwrap_or(0)).collect();
        (self.query_positions, self.query_asking) = (at(&self.positions), at(&self.asking));
    }
    /// Fills up to `rows` rows with sequences of one token, and up to `queries` rows to read out, so that a
    /// batch fits a program of that many. The rows that were read out before stay the first of them.
    pub fn fill_up(&mut self, rows: usize, queries: usize) {
        let missing = queries.saturating_sub(self.queries.len()) as u32;
        while self.rows() < rows {
            self.push(&[0]);
        }
        let (all, last) = (self.rows() as u32, self.queries.last().copied().unwrap_or(0));
        let fillers = (0..missing).map(|i| (all + i).saturating_sub(missing).max(last));
        let queries: Vec<u32> = self.queries.iter().copied().chain(fillers).collect();
        self.read(&queries);
    }
    /// Fills up to `keys` keys with some that nothing asks for, as the last thing before a batch is run.
    pub fn fill_keys(&mut self, keys: usize) {
        while self.keys.len() < keys {
            let key = self.keys.len() as u32;
            self.keys.push(0);
            self.first.push(key);
            self.end.push(key + 1);
        }
    }
    /// What goes into each buffer of `inputs`. Fails if one has another size, if the rows to read out do not
    /// ascend, and if a sequence is longer than the batch may hold.
    pub(super) fn contents(&self, inputs: &Inputs) -> Result<Vec<(IntBuffer, &[u32])>> {
        let wrong = |found: String, expected: String| Err(Error::shape("packing", found, expected));
        if self.rows() != inputs.tokens.len {
            return wrong(format!("{} rows", self.rows()), format!("{} rows", inputs.tokens.len));
        }
        let longest = self.positions.iter().max().map_or(0, |p| *p as usize + 1);
        if longest > inputs.longest {
            return wrong(format!("a sequence of {longest} tokens"), format!("at most {}", inputs.longest));
        }
        let mut contents: Vec<(IntBuffer, &[u32])> = vec![
            (inputs.tokens, &self.tokens),
            (inputs.positions, &self.positions),
            (inputs.packing.first, &self.first),
            (inputs.packing.end, &self.end),
        ];
        let keys = inputs.packing.first.len;
        if self.keys.len() != keys {
            return wrong(format!("{} keys", self.keys.len()), format!("{keys} keys"));
        }
        if let Some(shared) = inputs.shared {
            contents.extend([(shared.rows, &self.keys[..]), (shared.asking, &self.asking)]);
        }
        match (inputs.packing.seen, &self.seen) {
            (Some(buffer), Some(seen)) if seen.len() == buffer.len => contents.push((buffer, seen)),
            (Some(buffer), Some(seen)) => {
                return wrong(format!("a mask of {} rows", seen.len()), format!("{} rows", buffer.len));
            }
            (None, None) => {}
            _ => return wrong("a mask on one side only".into(), "a program with a mask for batches with one".into()),
        }
        if let Some(q) = inputs.queries {
            let count = self.queries.len();
            if count != q.rows.len {
                return wrong(format!("{count} rows to read out"), format!("{} rows to read out", q.rows.len));
            }
            if !self.queries.is_sorted() || self.queries.last().is_some_and(|row| *row as usize >= self.rows()) {
                return wrong("rows to read out".into(), format!("numbers below {} that ascend", self.rows()));
            }
            contents.extend([(q.rows, &self.queries[..]), (q.positions, &self.query_positions)]);
            if inputs.shared.is_some() {
                contents.push((q.asking, &self.query_asking));
            }
        }
        Ok(contents)
    }
    /// The largest token id; `None` without rows.
    pub(super) fn largest_token(&self) -> Option<u32> {
        self.tokens.iter().max().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_lie_behind_each_other() {
        let mut p = Packed::new([&[5, 6, 7][..], &[], &[8], &[9, 9]]);
        assert_eq!((p.rows(), p.tokens.as_slice()), (6, &[5, 6, 7, 8, 9, 9][..]));
        assert_eq!(p.positions, [0, 1, 2, 0, 0, 1]);
        assert_eq!((p.first.as_slice(), p.end.as_slice()), (&[0, 0, 0, 3, 4, 4][..], &[3, 3, 3, 4, 6, 6][..]));
        p.read_last();
        assert_eq!((p.queries.as_slice(), p.query_positions.as_slice()), (&[2, 3, 5][..], &[2, 0, 1][..]));
        assert_eq!([0, 1, 2, 3, 4].map(|i| p.range(i)), [0..3, 3..3, 3..4, 4..6, 6..6]);
        p.fill_up(8, 5);
        assert_eq!((p.rows(), p.queries.as_slice()), (8, &[2, 3, 5, 6, 7][..]));
        assert_eq!((&p.positions[6..], &p.first[6..], &p.end[6..]), (&[0, 0][..], &[6, 7][..], &[7, 8][..]));
    }

    #[test]
    fn fillers_come_behind_the_rows_that_are_read_out() {
        let mut p = Packed::new([&[5, 6][..], &[7, 8, 9]]);
        p.read_last();
        p.fill_up(5, 4);
        assert_eq!((p.queries.as_slice(), p.query_positions.as_slice()), (&[1, 4, 4, 4][..], &[1, 2, 2, 2][..]));
        p.fill_up(7, 4);
        assert_eq!((p.rows(), p.queries.len()), (7, 4));
    }
}
