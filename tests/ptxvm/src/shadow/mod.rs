//! Who touched which bytes, and whether something orders two accesses. In the manner of FastTrack: every access is
//! stamped with its warp's time, and a warp knows up to which time the accesses of others came before its own.

mod clocks;
mod global;
mod local;

pub(crate) use clocks::Clocks;
pub(crate) use global::{GlobalCell, GlobalPage};
pub(crate) use local::SharedShadow;

/// The thread that accesses, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    /// Number of the block in the grid, plus 1.
    pub cta: u32,
    pub warp: usize,
    pub lane: usize,
    /// Unique to the instruction executed.
    pub serial: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Read,
    Write,
    /// A volatile, relaxed or acquire load: no race with atomics. It is checked and not recorded.
    StrongRead,
    /// Atomics and strong stores: no races among these.
    Atomic,
}

/// What an access meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Conflict {
    /// Bytes that an asynchronous copy is going to write.
    InFlight,
    /// An access of another thread that nothing orders before this one.
    Race { past: Kind, cta: Option<u32>, warp: usize, lane: usize },
    /// A write by another lane of the same instruction.
    SameInstruction { lane: usize },
}
