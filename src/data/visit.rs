//! One pass over a data set whose blocks are looked at by the caller, in their order.

use std::ops::Range;

use super::DataSet;
use super::arena::AnyArena;
use super::stream::{Each, Pass, Runner, each_block};
use crate::device::{IntBuffer, View};
use crate::error::Result;
use crate::model::forward::Batch;

/// What a program gave for a block.
#[derive(Debug)]
pub struct Block<'a> {
    arena: &'a mut AnyArena,
    /// Its samples.
    pub samples: Range<usize>,
}

impl Block<'_> {
    /// The rows of a value, back to back.
    pub fn read(&mut self, v: &View) -> Result<Vec<f64>> {
        self.arena.read_rows(v)
    }
    /// One column of some rows of a value.
    pub fn column(&mut self, v: &View, rows: Range<usize>, column: usize) -> Result<Vec<f64>> {
        self.arena.read_part(v, rows, &[column])
    }
    /// The numbers of a buffer.
    pub fn ints(&mut self, b: IntBuffer) -> Result<&[u32]> {
        self.arena.ints(b)
    }
}

/// Runs a program on every block of `data` but the first `done`, hands each to `look`, on several threads,
/// and what it returns to `fold`, in the order of the blocks. `build` makes the program of a block shape.
pub fn visit<P: AsRef<Pass> + Sync, R: Send>(
    runner: &Runner,
    name: &str,
    data: &DataSet,
    done: usize,
    build: impl Fn(Batch) -> Result<P>,
    look: impl Fn(&P, Block) -> Result<R> + Sync,
    fold: impl FnMut(R) -> Result<()> + Sync,
) -> Result<()> {
    let work = |pass: &P, arena: &mut AnyArena, samples: Range<usize>| {
        arena.run(&pass.as_ref().program)?;
        look(pass, Block { arena, samples })
    };
    each_block(runner, name, data, done, build, &mut Each { work, fold })
}
