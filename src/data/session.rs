//! A program that is run again and again on batches that the caller packs: the ragged counterpart of a
//! pass over a data set.

use super::arena::AnyArena;
use super::packed::Packed;
use crate::device::{Device, Program, View};
use crate::error::Result;
use crate::model::lm::forward::Inputs;
use crate::ops::Launch;

/// A program in its arena.
#[derive(Debug)]
pub struct Session {
    program: Program<Launch>,
    inputs: Inputs,
    arena: AnyArena,
}

impl Session {
    /// An arena on `device` for `program`, which reads `inputs`.
    pub fn new(device: &Device, program: Program<Launch>, inputs: Inputs) -> Result<Self> {
        let arena = AnyArena::new(device, &program)?;
        Ok(Self { program, inputs, arena })
    }
    /// Runs the program on one batch. Fails if it does not fit the inputs.
    pub fn run(&mut self, batch: &Packed) -> Result<()> {
        self.arena.pack(&self.inputs, batch)?;
        self.arena.run(&self.program)
    }
    /// The rows of a value of the last run, back to back.
    pub fn read(&self, v: &View) -> Vec<f64> {
        self.arena.read_rows(v)
    }
}
