//! A program that is run again and again on batches that the caller packs: the ragged counterpart of a
//! pass over a data set.

use std::ops::Range;

use super::arena::AnyArena;
use super::packed::Packed;
use crate::device::{Device, Program, View};
use crate::error::{Error, Result};
use crate::model::lm::forward::Inputs;
use crate::ops::Launch;

/// A program in its arena. It runs on the thread that calls it; of several, each has its own.
#[derive(Debug)]
pub struct Session {
    program: Program<Launch>,
    inputs: Inputs,
    /// Number of token ids there are.
    d_vocab: usize,
    arena: AnyArena,
}

impl Session {
    /// An arena on `device` for `program`, which reads `inputs`. Fails if the inputs may hold longer
    /// sequences than the model has positions.
    pub fn new(device: &Device, program: Program<Launch>, inputs: Inputs) -> Result<Self> {
        let tables = program.launches.iter().find_map(|l| if let Launch::TokenEmbed(a) = l { Some(a) } else { None });
        let d_vocab = tables.map_or(usize::MAX, |a| a.w_e.rows);
        let positions = tables.and_then(|a| a.w_pos.as_ref()).map_or(usize::MAX, |w| w.rows);
        if inputs.longest > positions {
            let found = format!("sequences of up to {} tokens", inputs.longest);
            return Err(Error::shape("packing", found, format!("at most {positions}, as many as there are positions")));
        }
        let arena = AnyArena::noted(device, &program)?;
        Ok(Self { program, inputs, d_vocab, arena })
    }
    /// Runs the program on one batch. Fails if it does not fit the inputs, or has a token id that the model
    /// does not embed.
    pub fn run(&mut self, batch: &Packed) -> Result<()> {
        if let Some(id) = batch.largest_token().filter(|id| *id as usize >= self.d_vocab) {
            return Err(Error::shape("packing", format!("token id {id}"), format!("ids below {}", self.d_vocab)));
        }
        self.arena.pack(&self.inputs, batch)?;
        self.arena.run(&self.program)
    }
    /// The rows of a value of the last run, back to back.
    pub fn read(&mut self, v: &View) -> Result<Vec<f64>> {
        self.arena.read_rows(v)
    }
    /// Of a value of the last run single elements, by row and column. Fails on one that it does not have.
    pub fn read_elements(&mut self, v: &View, at: &[(usize, usize)]) -> Result<Vec<f64>> {
        if let Some(beyond) = at.iter().find(|(row, column)| *row >= v.rows || *column >= v.cols) {
            return Err(Error::shape("packing", format!("element {beyond:?}"), format!("[{}, {}]", v.rows, v.cols)));
        }
        self.arena.read_elements(v, at)
    }
    /// Of a value of the last run these columns of `rows`, row by row: neurons that are read, say. Fails on
    /// rows and columns that it does not have.
    pub fn read_part(&mut self, v: &View, rows: Range<usize>, columns: &[usize]) -> Result<Vec<f64>> {
        if rows.end > v.rows {
            return Err(Error::shape("packing", format!("row {}", rows.end - 1), format!("rows below {}", v.rows)));
        }
        match columns.iter().find(|column| **column >= v.cols) {
            Some(column) => Err(Error::shape("packing", format!("column {column}"), format!("columns below {}", v.cols))),
            None => self.arena.read_part(v, rows, columns),
        }
    }
}
