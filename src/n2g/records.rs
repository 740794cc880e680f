//! Reading `neurons.jsonl`, a line at a time: a run has tens of thousands of neurons, and only one of them
//! is ever in memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Split};
use std::path::{Path, PathBuf};

use super::record::Record;
use crate::error::{Error, Result};

/// The records of a file, one after the other.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    lines: Split<BufReader<File>>,
    number: usize,
}

impl Records {
    /// Opens a file. The iterator ends with the first line that is no record, as an error.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_file() {
            return Err(Error::file(path, "no such file", "the records of neurons"));
        }
        let file = File::open(path).map_err(|e| Error::io(path, "reading", e))?;
        Ok(Self { path: path.into(), lines: BufReader::new(file).split(b'\n'), number: 0 })
    }
    fn line(&mut self) -> Option<Result<Vec<u8>>> {
        self.number += 1;
        self.lines.next().map(|line| line.map_err(|e| Error::io(&self.path, "reading", e)))
    }
    fn parse(&self, line: &[u8]) -> Result<Record> {
        let wrong = |e| Error::file(&self.path, format!("line {}: no record ({e})", self.number), "a neuron's record as JSON");
        serde_json::from_slice(line).map_err(wrong)
    }
}

impl Iterator for Records {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        let line = self.line()?;
        Some(line.and_then(|line| self.parse(&line)))
    }
}

/// The record of a neuron; `None` if the file has none. Other lines are not looked into.
pub fn find(path: &Path, layer: usize, neuron: usize) -> Result<Option<Record>> {
    let mut records = Records::open(path)?;
    let head = format!("{{\"layer\":{layer},\"neuron\":{neuron},");
    while let Some(line) = records.line() {
        let line = line?;
        if line.starts_with(head.as_bytes()) {
            return records.parse(&line).map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::n2g::fixture::record;

    #[test]
    fn records_are_found_and_read_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("neurons.jsonl");
        let lines: Vec<String> = [(0, 1), (0, 11), (1, 1)].map(|(l, n)| serde_json::to_string(&record(l, n)).unwrap()).into();
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let read: Vec<Record> = Records::open(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [record(0, 1), record(0, 11), record(1, 1)]);
        assert_eq!(find(&path, 0, 11).unwrap(), Some(record(0, 11)));
        assert_eq!((find(&path, 1, 11).unwrap(), find(&path, 11, 0).unwrap()), (None, None));
    }

    #[test]
    fn lines_that_are_no_records_are_placed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("neurons.jsonl");
        std::fs::write(&path, serde_json::to_string(&record(0, 1)).unwrap() + "\n{\"layer\":0,\"neuron\":2,}\n").unwrap();
        let message = |e: Error| e.to_string().split_once("neurons.jsonl: ").unwrap().1.to_string();
        let e = message(Records::open(&path).unwrap().find_map(Result::err).unwrap());
        assert!(e.starts_with("line 2: no record (") && e.ends_with("; expected a neuron's record as JSON"), "{e}");
        assert_eq!(message(find(&path, 0, 2).unwrap_err()), e);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(message(Records::open(&path).unwrap_err()), "no such file; expected the records of neurons");
    }
}
