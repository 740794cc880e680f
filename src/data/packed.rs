//! Batches of token sequences of any lengths, behind each other without padding.

use crate::device::IntBuffer;
use crate::error::{Error, Result};
use crate::model::lm::forward::Inputs;

/// The numbers that a forward pass over packed sequences reads, a row a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    first: Vec<u32>,
    end: Vec<u32>,
    seen: Option<Vec<u32>>,
    /// The rows that are read out, and their positions.
    queries: Vec<u32>,
    query_positions: Vec<u32>,
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
        let (from, to) = (self.tokens.len() as u32, (self.tokens.len() + tokens.len()) as u32);
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(0..to - from);
        self.first.extend((from..to).map(|_| from));
        self.end.extend((from..to).map(|_| to));
        if let Some(seen) = &mut self.seen {
            seen.resize(to as usize, 1);
        }
    }
    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }
    /// Hides the tokens where `mask` is 0 from the others; it has a number for each row.
    pub fn hide(&mut self, mask: &[u32]) {
        self.seen = Some(mask.to_vec());
    }
    /// Reads out the last row of each sequence.
    pub fn read_last(&mut self) {
        let is_last = |i: &u32| self.end[*i as usize] == i + 1;
        let rows: Vec<u32> = (0..self.rows() as u32).filter(is_last).collect();
        self.read(&rows);
    }
    /// Reads out these rows, which ascend.
    pub fn read(&mut self, rows: &[u32]) {
        self.queries = rows.to_vec();
        self.query_positions = rows.iter().map(|&row| self.positions[row as usize]).collect();
    }
    /// Fills up to `rows` rows with sequences of one token, and up to `queries` rows to read out with the
    /// last ones of them, so that a batch fits a program of that many.
    pub fn fill_up(&mut self, rows: usize, queries: usize) {
        let missing = queries.saturating_sub(self.queries.len());
        while self.rows() < rows {
            self.push(&[0]);
        }
        let last = self.rows() as u32;
        let mut all = self.queries.clone();
        all.extend((0..missing as u32).map(|i| (last + i).saturating_sub(missing as u32)));
        all.sort_unstable();
        self.read(&all);
    }
    /// What goes into each buffer of `inputs`. Fails if one has another size, or a sequence is longer
    /// than the batch may hold.
    pub(super) fn contents(&self, inputs: &Inputs) -> Result<Vec<(IntBuffer, &[u32])>> {
        let mut contents: Vec<(IntBuffer, &[u32])> = vec![
            (inputs.tokens, &self.tokens),
            (inputs.positions, &self.positions),
            (inputs.packing.first, &self.first),
            (inputs.packing.end, &self.end),
        ];
        match (inputs.packing.seen, &self.seen) {
            (Some(buffer), Some(seen)) => contents.push((buffer, seen)),
            (None, None) => {}
            _ => return Err(Error::shape("packing", "a mask on one side only", "a program with a mask for batches with one")),
        }
        if let Some(q) = inputs.queries {
            contents.extend([(q.rows, &self.queries[..]), (q.positions, &self.query_positions)]);
        }
        let longest = self.positions.iter().max().map_or(0, |p| *p as usize + 1);
        match contents.iter().find(|(buffer, values)| buffer.len != values.len()) {
            Some((buffer, values)) => {
                Err(Error::shape("packing", format!("{} rows", values.len()), format!("{} rows", buffer.len)))
            }
            None if longest > inputs.longest => {
                let expected = format!("at most {}", inputs.longest);
                Err(Error::shape("packing", format!("a sequence of {longest} tokens"), expected))
            }
            None => Ok(contents),
        }
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
        p.fill_up(8, 5);
        assert_eq!((p.rows(), p.queries.as_slice()), (8, &[2, 3, 5, 6, 7][..]));
        assert_eq!((&p.positions[6..], &p.first[6..], &p.end[6..]), (&[0, 0][..], &[6, 7][..], &[7, 8][..]));
    }
}
