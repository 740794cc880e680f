//! Forward passes over packed sequences of many short texts, up to one place of a model, in few programs:
//! what batches are made of, and what is read of them, is the callers'.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::data::packed::Packed;
use crate::data::session::Session;
use crate::device::{Builder, Device, Program, View};
use crate::error::{Error, Result};
use crate::model::Lm;
use crate::model::lm::forward::{Inputs, forward};
use crate::model::site::{Place, Site};
use crate::ops::{Launch, scratch};

/// The fewest rows of a batch: smaller ones are filled up.
const FEWEST_ROWS: usize = 128;

/// Sequences that run together, and the rows of them that are read.
#[derive(Debug, Default)]
pub struct Batch {
    packed: Packed,
    reads: Vec<u32>,
    longest: usize,
}

impl Batch {
    /// Appends a sequence; its first row.
    pub fn push(&mut self, tokens: &[u32]) -> usize {
        self.push_behind(0..0, tokens)
    }
    /// Appends a sequence that begins with the `shared` rows (see [`Packed::push_behind`]); its first own row.
    pub fn push_behind(&mut self, shared: Range<usize>, tokens: &[u32]) -> usize {
        let row = self.packed.rows();
        self.longest = self.longest.max(shared.len() + tokens.len());
        self.packed.push_behind(shared, tokens);
        row
    }
    /// Reads these rows; all calls together ascend.
    pub fn read(&mut self, rows: impl IntoIterator<Item = usize>) {
        self.reads.extend(rows.into_iter().map(|row| row as u32));
    }
}

/// What a program is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub rows: usize,
    /// Keys of all sequences; as many as rows where none share any.
    pub keys: usize,
    /// Rows that are read out; `None`: all.
    pub reads: Option<usize>,
    pub longest: usize,
}

/// A program in its arena, and where the place is.
#[derive(Debug)]
struct Ready {
    session: Session,
    view: View,
}

/// The programs of a thread.
#[derive(Debug, Default)]
struct Lane {
    ready: HashMap<Shape, Ready>,
    bytes: u64,
}

/// Runs batches up to one place.
#[derive(Debug)]
pub struct Passes<'a> {
    device: &'a Device,
    pub lm: &'a Lm,
    pub(super) place: Place,
    lanes: Vec<Mutex<Lane>>,
    /// Bytes that the programs of a lane may hold together.
    memory: u64,
    tokens: AtomicU64,
}

impl<'a> Passes<'a> {
    /// Passes to `place`, a site with one row a position or the logits, whose programs hold at most `memory`
    /// bytes.
    pub fn new(device: &'a Device, lm: &'a Lm, place: Place, memory: u64) -> Self {
        let lanes: Vec<_> = (0..device.lanes()).map(|_| Mutex::default()).collect();
        let memory = memory / lanes.len().max(1) as u64;
        Self { device, lm, place, lanes, memory, tokens: AtomicU64::new(0) }
    }
    /// Rows of sequences computed so far, without those that fill batches up.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }
    /// Does `one` for each of `batches`, side by side; the results in their order.
    pub fn each<B: Sync, R: Send>(&self, batches: &[B], one: impl Fn(&B) -> Result<R> + Sync) -> Vec<Result<R>> {
        self.device.host().install(|| batches.par_iter().map(&one).collect())
    }
    /// Runs a batch and hands `look` the session, the value at the place, and the row of it for each row that
    /// is read.
    pub fn run<R>(&self, mut batch: Batch, look: impl FnOnce(&mut Session, &View, &[usize]) -> Result<R>) -> Result<R> {
        self.tokens.fetch_add(batch.packed.rows() as u64, Ordering::Relaxed);
        let shape = self.shape(&batch);
        let rows: Vec<usize> = match shape.reads {
            Some(_) => (0..batch.reads.len()).collect(),
            None => batch.reads.iter().map(|row| *row as usize).collect(),
        };
        if shape.reads.is_some() {
            batch.packed.read(&batch.reads);
        }
        batch.packed.fill_up(shape.rows, shape.reads.unwrap_or(0));
        batch.packed.fill_keys(shape.keys);
        let lane = rayon::current_thread_index().unwrap_or(0) % self.lanes.len();
        let mut lane = self.lanes[lane].lock().unwrap_or_else(PoisonError::into_inner);
        let ready = self.ready(&mut lane, shape)?;
        ready.session.run(&batch.packed)?;
        look(&mut ready.session, &ready.view, &rows)
    }
    /// The shape of a batch: few serve all.
    fn shape(&self, Batch { packed, reads, longest }: &Batch) -> Shape {
        let rows = packed.rows().next_power_of_two().max(FEWEST_ROWS);
        // Every row that fills up is a key too.
        let keys = packed.keys() + rows - packed.rows();
        let keys = std::iter::successors(Some(rows), |k| Some(2 * k)).find(|k| *k >= keys).unwrap_or(keys);
        let reads = match self.place.site {
            // A row of logits is large: as few as can be.
            Site::Logits => Some(reads.len().next_power_of_two().min(rows)),
            _ => [rows / 64, rows / 16, rows / 4].into_iter().find(|m| *m >= reads.len().max(1)),
        };
        // A program for long sequences serves short ones, but its tables grow with them.
        let longest = longest.next_power_of_two().max(64).min(self.lm.n_ctx);
        Shape { rows, keys, reads, longest }
    }
    /// The program of a shape. Where there is no room for one more, the others of the lane make it.
    fn ready<'l>(&self, lane: &'l mut Lane, shape: Shape) -> Result<&'l mut Ready> {
        if !lane.ready.contains_key(&shape) {
            let (program, inputs, view) = self.program(shape)?;
            let bytes = program.bytes().saturating_add(scratch::bytes(&program));
            if bytes > self.memory {
                let hint = format!(" for prompts of {} tokens on each thread; fewer --threads need less", shape.rows);
                return Err(Error::Memory { asked: bytes, free: self.memory, hint });
            }
            if lane.bytes.saturating_add(bytes) > self.memory {
                *lane = Lane::default();
            }
            lane.bytes += bytes;
            lane.ready.insert(shape, Ready { session: Session::new(self.device, program, inputs)?, view });
        }
        lane.ready.get_mut(&shape).ok_or_else(|| Error::numeric("passes", "no program", "the one that was made"))
    }
    pub(super) fn program(&self, shape: Shape) -> Result<(Program<Launch>, Inputs, View)> {
        let mut b = Builder::new(self.lm.dtype);
        let layer = match self.place.site {
            Site::Logits => self.lm.blocks.len().saturating_sub(1),
            _ => self.place.layer,
        };
        let queries = shape.reads.map(|m| (layer, m));
        let inputs = match shape.keys == shape.rows {
            true => Inputs::new(&mut b, shape.rows, shape.longest, false, queries),
            false => Inputs::sharing(&mut b, shape.rows, shape.keys, shape.longest, queries),
        };
        let taps = forward(&mut b, self.lm, inputs, &[self.place])?;
        let view = taps.get(&self.place).map(|tap| tap.view).ok_or_else(|| {
            Error::numeric("passes", format!("no site {}", self.place.name()), "a site that the forward pass gives")
        })?;
        Ok((b.finish(), inputs, view))
    }
}
