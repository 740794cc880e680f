//! The CPU backend: a pool of threads that each run whole programs.
//!
//! A block of samples is the unit of work: one thread runs its program from start to end with
//! sequential GEMMs, and blocks run side by side. So results do not depend on the thread count.

use std::path::Path;

use crate::error::{Error, Result};

/// A pool of worker threads.
#[derive(Debug)]
pub struct Cpu {
    pool: rayon::ThreadPool,
}

impl Cpu {
    /// `threads` = 0 takes the number of cores.
    pub fn new(threads: usize) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| Error::Backend {
            backend: "cpu",
            found: format!("no thread pool of {threads} threads ({e})"),
            expected: "a smaller --threads".into(),
        })?;
        Ok(Self { pool })
    }
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }
    /// Runs `f` inside the pool: rayon's parallel iterators in it use the pool's threads.
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        self.pool.install(f)
    }
    /// Bytes of memory that are free now; see [`free_memory`].
    pub fn free_memory(&self) -> Result<u64> {
        free_memory()
    }
    /// Model name and thread count.
    pub fn describe(&self) -> String {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|l| l.strip_prefix("model name")).and_then(|l| l.split_once(':'));
        format!("{}, {} threads", name.map_or("CPU", |(_, n)| n.trim()), self.threads())
    }
}

/// Memory that can be had without swapping, from the kernel's own estimate and the cgroup's limit.
/// Where neither can be read (not Linux) no limit is assumed.
pub fn free_memory() -> Result<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        info.lines().find_map(|l| l.strip_prefix("MemAvailable:")).and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    let host = kib.map_or(u64::MAX, |k| k * 1024);
    let read = |p: &str| std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(p)).ok()?.trim().parse::<u64>().ok();
    let cgroup = match (read("memory.max"), read("memory.current")) {
        (Some(max), Some(now)) => max.saturating_sub(now),
        _ => u64::MAX,
    };
    Ok(host.min(cgroup))
}
