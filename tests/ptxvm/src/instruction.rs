//! Instructions as they are executed: operands are indices into a warp's register file, in which constants and
//! special registers have places of their own. Everything that can be decided from the text has been decided here.

use crate::convert::Convert;
use crate::float::Evaluate;
use crate::lanes::{Binary, Comparison, Ternary, Unary};
use crate::matrix::Shape;
use crate::statistics::Class;
use crate::types::Type;

/// A place in the register file or, for predicates, in the predicate file.
pub(crate) type Slot = u16;
/// A destination whose value nobody wants (`_`).
pub(crate) const SINK: Slot = Slot::MAX;

/// A function of two predicates, all lanes at once.
pub(crate) type Combination = fn(u32, u32) -> u32;

/// A predicate operand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Condition {
    pub predicate: Slot,
    pub negated: bool,
}

/// What a place of the register file holds when a block starts.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Content {
    /// Nothing: a register with this name.
    Register(String),
    Constant(u64),
    /// The address of a shared variable (its index) plus an offset.
    Shared(usize, u64),
    Special(Special),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    Lane,
    Warp,
    Warps,
    Processor,
    LaneMaskEq,
    LaneMaskLe,
    LaneMaskLt,
    LaneMaskGe,
    LaneMaskGt,
    /// Reads the counter of executed instructions, 32 or 64 bits of it.
    Clock,
    Clock64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Space {
    Global,
    Shared,
}

/// `[base + offset]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub base: Slot,
    pub offset: i64,
    /// Whether the sum is taken modulo 2^32.
    pub narrow: bool,
}

/// A load or store: `count` elements of `ty`, one register each.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub space: Space,
    pub ty: Type,
    /// The bits of the registers, to which narrower signed integers are extended.
    pub register: u64,
    pub count: u8,
    pub registers: [Slot; 4],
    pub address: Address,
    /// Volatile, relaxed, acquire and release accesses do not race with each other or with atomics.
    pub strong: bool,
    /// `.nc`: the bytes must not change during the launch.
    pub constant: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct LoadParameter {
    pub ty: Type,
    pub register: u64,
    pub count: u8,
    pub registers: [Slot; 4],
    pub address: Address,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AtomicOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
}

impl AtomicOp {
    /// The operation of that name, one of those that also reduce a warp.
    pub fn reduction(name: &str) -> Option<Self> {
        Some(match name {
            "add" => AtomicOp::Add,
            "min" => AtomicOp::Min,
            "max" => AtomicOp::Max,
            "and" => AtomicOp::And,
            "or" => AtomicOp::Or,
            "xor" => AtomicOp::Xor,
            _ => return None,
        })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Atomic {
    pub space: Space,
    pub op: AtomicOp,
    pub ty: Type,
    pub d: Slot,
    pub address: Address,
    pub b: Slot,
    pub c: Slot,
}

#[derive(Clone, Debug)]
pub(crate) struct CopyAsync {
    pub to: Address,
    pub from: Address,
    /// Bytes written: 4, 8 or 16.
    pub size: u8,
    /// Bytes read, where given; the rest is zeros.
    pub source_size: Option<Slot>,
}

#[derive(Clone, Debug)]
pub(crate) struct LoadMatrix {
    pub count: u8,
    pub transpose: bool,
    pub registers: [Slot; 4],
    pub address: Address,
}

#[derive(Clone, Debug)]
pub(crate) struct MatrixMultiply {
    pub shape: Shape,
    pub d: [Slot; 4],
    pub a: [Slot; 4],
    pub b: [Slot; 2],
    pub c: [Slot; 4],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ShuffleMode {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Clone, Debug)]
pub(crate) struct Shuffle {
    pub mode: ShuffleMode,
    pub d: Slot,
    pub p: Option<Slot>,
    pub a: Slot,
    pub b: Slot,
    pub c: Slot,
    pub members: Slot,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum VoteMode {
    All,
    Any,
    Uniform,
    Ballot,
}

#[derive(Clone, Debug)]
pub(crate) struct Vote {
    pub mode: VoteMode,
    /// A predicate, or a register for a ballot.
    pub d: Slot,
    pub a: Condition,
    pub members: Slot,
}

#[derive(Clone, Debug)]
pub(crate) struct Match {
    /// `.all` rather than `.any`.
    pub all: bool,
    pub d: Slot,
    pub p: Option<Slot>,
    pub a: Slot,
    pub members: Slot,
}

#[derive(Clone, Debug)]
pub(crate) struct Reduce {
    pub op: AtomicOp,
    pub ty: Type,
    pub d: Slot,
    pub a: Slot,
    pub members: Slot,
}

#[derive(Clone, Debug)]
pub(crate) struct Barrier {
    pub id: Slot,
    pub threads: Option<Slot>,
    /// `bar.arrive`: the warp does not wait.
    pub arrive: bool,
}

/// `setp`: the comparison and, where given, what it is combined with.
#[derive(Clone, Debug)]
pub(crate) struct Compare {
    pub f: Comparison,
    pub p: Slot,
    pub q: Slot,
    pub a: Slot,
    pub b: Slot,
    pub with: Option<(Combination, Condition)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Unary {
        f: Unary,
        d: Slot,
        a: Slot,
    },
    Binary {
        f: Binary,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Ternary {
        f: Ternary,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    /// `div` and `rem` of integers, which a divisor of zero makes a fault.
    Divide {
        f: Binary,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Lop3 {
        table: u8,
        d: Slot,
        a: Slot,
        b: Slot,
        c: Slot,
    },
    Insert {
        bits: u8,
        d: Slot,
        a: Slot,
        b: Slot,
        position: Slot,
        length: Slot,
    },
    Evaluate(Box<Evaluate>),
    Convert(Box<Convert>),
    Clock {
        d: Slot,
        mask: u64,
    },
    Pack {
        d: Slot,
        parts: [Slot; 4],
        count: u8,
        bits: u8,
    },
    Unpack {
        parts: [Slot; 4],
        a: Slot,
        count: u8,
        bits: u8,
    },
    Compare(Box<Compare>),
    Predicate {
        f: Combination,
        d: Slot,
        a: Condition,
        b: Condition,
    },
    Select {
        d: Slot,
        a: Slot,
        b: Slot,
        p: Condition,
    },
    LoadParameter(Box<LoadParameter>),
    Load(Box<Access>),
    Store(Box<Access>),
    Atomic(Box<Atomic>),
    CopyAsync(Box<CopyAsync>),
    CommitGroup,
    WaitGroup(u32),
    WaitAll,
    LoadMatrix(Box<LoadMatrix>),
    MatrixMultiply(Box<MatrixMultiply>),
    Shuffle(Box<Shuffle>),
    Vote(Box<Vote>),
    Match(Box<Match>),
    Reduce(Box<Reduce>),
    ActiveMask {
        d: Slot,
    },
    Barrier(Box<Barrier>),
    WarpSync {
        members: Slot,
    },
    /// Fences and prefetches: blocks run one after another, so there is nothing to do.
    Nothing,
    Branch {
        target: u32,
        uniform: bool,
    },
    Exit,
    Trap,
}

#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    pub guard: Option<Condition>,
    pub op: Op,
    pub class: Class,
    /// The line of the text, counted from 1.
    pub line: u32,
}
