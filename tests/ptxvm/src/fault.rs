//! What can go wrong, as values: launch faults, parse errors and host memory errors. Nothing here detects anything.

use std::error::Error;
use std::fmt;

/// What kind of defect a [`Fault`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FaultKind {
    /// An address outside every allocation, or past the block's shared memory or the parameters.
    OutOfBounds,
    /// An address that is no multiple of the size of the whole access.
    Misaligned,
    /// A load of bytes that nobody has written.
    Unwritten,
    /// An access to bytes that a `cp.async` not yet waited for is going to write.
    InFlight,
    /// Two threads of a block touch the same shared bytes, one of them writing, with nothing that orders them.
    SharedRace,
    /// Two threads touch the same global bytes within a launch, one of them writing, with nothing that orders them.
    GlobalRace,
    /// Two lanes of one store instruction write different values to one address.
    ConflictingStore,
    /// A barrier that part of a warp's threads do not execute, or whose thread counts disagree.
    BarrierDivergence,
    /// A warp-wide instruction that lanes it needs do not execute.
    WarpDivergence,
    /// Every live warp waits for something that can never happen.
    Deadlock,
    /// A register read before anything was written to it.
    UndefinedRegister,
    /// A `cp.async` still outstanding when its thread exits.
    UnwaitedCopy,
    /// An operand value for which PTX leaves the result undefined.
    IllegalOperand,
    /// A grid, block, parameter buffer or amount of shared memory that cannot be launched.
    IllegalLaunch,
    /// The kernel executed `trap`.
    Trap,
    /// Something that PTX allows and this interpreter does not execute.
    Unsupported,
}

/// A defect found while a kernel ran, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The entry's name.
    pub kernel: String,
    /// The line of the PTX text, counted from 1; 0 where the launch itself is refused.
    pub line: usize,
    /// That line, trimmed.
    pub text: String,
    /// `%ctaid` of the block.
    pub cta: [u32; 3],
    /// The warp within the block.
    pub warp: u32,
    /// The first lane concerned, where one can be named.
    pub lane: Option<u32>,
    pub kind: FaultKind,
    /// What was found and what was expected.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "kernel {}: {}", self.kernel, self.message);
        }
        let [x, y, z] = self.cta;
        write!(f, "kernel {}, line {} `{}`, block ({x}, {y}, {z}), warp {}", self.kernel, self.line, self.text, self.warp)?;
        if let Some(lane) = self.lane {
            write!(f, ", lane {lane}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Error for Fault {}

/// PTX text that the interpreter does not accept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// The line of the text, counted from 1.
    pub line: usize,
    /// What was found there and what was expected.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PTX line {}: {}", self.line, self.message)
    }
}

impl Error for ParseError {}

/// A host access to global memory that cannot be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemoryError {
    /// An allocation larger than what is left.
    OutOfMemory { asked: u64, free: u64 },
    /// A range that no single allocation holds.
    OutOfBounds { address: u64, len: u64, detail: String },
    /// An address to free that no allocation begins at.
    NotAnAllocation { address: u64 },
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory { asked, free } => {
                write!(f, "an allocation asks for {asked} bytes; expected at most {free}, what is free")
            }
            Self::OutOfBounds { address, len, detail } => {
                write!(f, "{len} bytes at {address:#x}: {detail}; expected a range inside one allocation")
            }
            Self::NotAnAllocation { address } => {
                write!(f, "{address:#x} is freed; expected the first address of a live allocation")
            }
        }
    }
}

impl Error for MemoryError {}

/// A fault before the place it happened at is known.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub lane: Option<u32>,
    pub kind: FaultKind,
    pub message: String,
}

/// The result of a check in the interpreter's inner loop: boxed, so that success stays cheap.
pub(crate) type Checked<T> = Result<T, Box<Trouble>>;

/// A [`Trouble`] of no particular lane.
#[cold]
pub(crate) fn trouble<T>(kind: FaultKind, message: impl Into<String>) -> Checked<T> {
    Err(Box::new(Trouble { lane: None, kind, message: message.into() }))
}

/// Names the lane at which a check failed.
pub(crate) trait AtLane<T> {
    fn at_lane(self, lane: usize) -> Checked<T>;
}

impl<T> AtLane<T> for Checked<T> {
    #[inline(always)]
    fn at_lane(self, lane: usize) -> Checked<T> {
        match self {
            Ok(value) => Ok(value),
            Err(mut trouble) => {
                trouble.lane = Some(lane as u32);
                Err(trouble)
            }
        }
    }
}
