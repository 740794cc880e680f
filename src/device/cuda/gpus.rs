//! The GPUs of a run: threads of the host's pool take turns in them, each with lanes and arenas of its own.

use super::{Cuda, DriverChoice};
use crate::error::{Error, Result};

/// At least one GPU. A thread always gets the same one, and so does whatever it makes. Which GPU computes a block does
/// not change its bits: the kernels sum in the same order on all.
#[derive(Clone, Debug)]
pub struct Gpus {
    first: Cuda,
    others: Vec<Cuda>,
}

/// What `--gpus` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    All,
    /// By number, as the driver counts them.
    Numbers(Vec<usize>),
}

impl Default for Selection {
    fn default() -> Self {
        Selection::Numbers(vec![0])
    }
}

impl From<Cuda> for Gpus {
    fn from(first: Cuda) -> Self {
        Self { first, others: Vec::new() }
    }
}

impl Gpus {
    /// Opens the GPUs that are asked for.
    pub fn open(driver: DriverChoice, selection: &Selection) -> Result<Self> {
        let numbers = match selection {
            Selection::All => (0..Cuda::count(driver)?.max(1)).collect(),
            Selection::Numbers(numbers) => numbers.clone(),
        };
        let mut all = numbers.into_iter().map(|number| Cuda::open(driver, number));
        let first = all.next().unwrap_or_else(|| Err(Error::flag("--gpus", "no number", "at least one")))?;
        Ok(Self { first, others: all.collect::<Result<_>>()? })
    }
    /// The first one, which speaks for all where kernels are chosen.
    pub fn first(&self) -> &Cuda {
        &self.first
    }
    /// That of the calling thread.
    pub fn here(&self) -> &Cuda {
        let thread = rayon::current_thread_index().unwrap_or(0) % self.count();
        thread.checked_sub(1).and_then(|i| self.others.get(i)).unwrap_or(&self.first)
    }
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }
    pub fn iter(&self) -> impl Iterator<Item = &Cuda> {
        std::iter::once(&self.first).chain(&self.others)
    }
    /// One line for people.
    pub fn describe(&self) -> String {
        let mut names: Vec<(String, usize)> = Vec::new();
        for name in self.iter().map(Cuda::describe) {
            match names.iter_mut().find(|(seen, _)| *seen == name) {
                Some((_, count)) => *count += 1,
                None => names.push((name, 1)),
            }
        }
        let parts = names.into_iter().map(|(name, count)| if count == 1 { name } else { format!("{count} x {name}") });
        parts.collect::<Vec<_>>().join("; ")
    }
    /// Bytes that are free on the GPU that has the fewest.
    pub fn free_memory(&self) -> Result<u64> {
        self.iter().try_fold(u64::MAX, |least, cuda| Ok(least.min(cuda.free_memory()?)))
    }
}
