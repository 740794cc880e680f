//! One pass over a data set that writes tensors with a row of samples each, block by block: memory
//! holds the blocks in flight, however many samples there are.

use std::ops::Range;

use super::DataSet;
use super::arena::AnyArena;
use super::stream::{Each, Pass, Runner, each_block};
use super::tensor_file::TensorFile;
use crate::device::View;
use crate::error::Result;
use crate::model::forward::Batch;

/// A program for one block shape, what goes in beside the samples, and what is written.
#[derive(Debug)]
pub struct Scan {
    /// Its sums are not read.
    pub pass: Pass,
    /// Whole buffers that receive rows of the block's samples.
    pub feeds: Vec<View>,
    /// The first tensors of the file, in its order.
    pub outs: Vec<Out>,
}

/// What is written of a value: the rows of a sample follow each other.
#[derive(Debug)]
pub struct Out {
    pub view: View,
    /// The rows of each sample that are written, counted within it; `None`: all.
    pub rows: Option<Vec<usize>>,
}

impl From<View> for Out {
    fn from(view: View) -> Self {
        Self { view, rows: None }
    }
}

impl AsRef<Pass> for Scan {
    fn as_ref(&self) -> &Pass {
        &self.pass
    }
}

/// Scans all of `data` into `file`. `build` makes the program of a block shape, and `feed` gives the
/// rows of the samples of a range for feed number i. Results do not depend on threads or batch.
pub fn scan(
    runner: &Runner,
    name: &str,
    data: &DataSet,
    file: &TensorFile,
    build: impl Fn(Batch) -> Result<Scan>,
    feed: impl Fn(usize, Range<usize>) -> Result<Vec<f64>> + Sync,
) -> Result<()> {
    let work = |scan: &Scan, arena: &mut AnyArena, samples: Range<usize>| {
        for (i, view) in scan.feeds.iter().enumerate() {
            arena.fill(view, &feed(i, samples.clone())?);
        }
        arena.run(&scan.pass.program)?;
        let mut outs = scan.outs.iter().enumerate();
        outs.try_for_each(|(i, out)| match &out.rows {
            None => file.write(i, samples.start, &arena.bytes(&out.view)?),
            Some(rows) => file.write(i, samples.start, &arena.rows(&out.view, samples.len(), rows)?),
        })
    };
    each_block(runner, name, data, 0, build, &mut Each { work, fold: Ok })
}
