//! A warp: registers, the program counter of every lane, and which lanes run together. Lanes at the lowest program
//! counter run first, so that they meet again; lanes at an instruction that needs others wait there for them.

use crate::block::Block;
use crate::copy::Copies;
use crate::fault::{Checked, FaultKind, Trouble, trouble};
use crate::instruction::{Condition, Content, Op, SINK, Slot, Special};
use crate::lanes::{ALL, Lanes, WARP, lanes_of};
use crate::module::Kernel;

/// Instructions that one group of diverged lanes may execute while others wait to run.
const PATIENCE: u32 = 4096;

pub(crate) struct Warp {
    pub index: usize,
    registers: Vec<Lanes>,
    /// Lanes in which each register has been written.
    defined: Vec<u32>,
    predicates: Vec<u32>,
    predicates_defined: Vec<u32>,
    /// Program counters of the lanes that are not active.
    counters: [u32; WARP],
    /// Program counter of the active lanes.
    pub counter: u32,
    /// Lanes that run together now.
    pub active: u32,
    /// Lanes that have not exited.
    pub live: u32,
    /// Lanes that the block has.
    pub existing: u32,
    /// Lanes that wait at an instruction for others.
    parked: u32,
    /// Whether one of those instructions is a barrier.
    parked_at_barrier: bool,
    /// Lanes that worked on while others of the warp were waiting for them at a barrier.
    pub strayed: u32,
    /// The next place at which other lanes wait to be joined.
    meeting: u32,
    /// Instructions executed while diverged, since the last time the lowest lanes stood back.
    steps: u32,
    /// The barrier waited for and how often it had completed before.
    pub waiting: Option<(usize, u64)>,
    pub copies: Copies,
}

/// What came of asking for lanes to take part in an instruction.
pub(crate) enum Gathered {
    /// All are here.
    Ready,
    /// The active lanes wait; another group runs.
    Parked,
}

impl Warp {
    pub fn new(index: usize, kernel: &Kernel) -> Self {
        let mut registers = vec![[0; WARP]; kernel.contents.len()];
        for (register, content) in registers.iter_mut().zip(&kernel.contents) {
            if let Content::Constant(value) = content {
                *register = [*value; WARP];
            }
        }
        Self {
            index,
            registers,
            defined: vec![0; kernel.contents.len()],
            predicates: vec![0; kernel.predicates.len()],
            predicates_defined: vec![0; kernel.predicates.len()],
            counters: [0; WARP],
            counter: 0,
            active: 0,
            live: 0,
            existing: 0,
            parked: 0,
            parked_at_barrier: false,
            strayed: 0,
            meeting: u32::MAX,
            steps: 0,
            waiting: None,
            copies: Copies::default(),
        }
    }

    /// Gets ready to run from the first instruction.
    pub fn start(&mut self, block: &Block) {
        let [bx, by, bz] = block.launch.block;
        let threads = (bx * by * bz) as usize;
        let first = self.index * WARP;
        self.existing = ALL >> (WARP - (threads - first).min(WARP));
        self.live = self.existing;
        self.active = self.existing;
        (self.counter, self.parked, self.strayed, self.steps) = (0, 0, 0, 0);
        (self.parked_at_barrier, self.meeting, self.waiting) = (false, u32::MAX, None);
        self.predicates_defined.fill(0);
        for (slot, content) in block.kernel.contents.iter().enumerate() {
            self.defined[slot] = if matches!(content, Content::Register(_)) { 0 } else { ALL };
            if let Content::Special(special) = content {
                self.registers[slot] = std::array::from_fn(|lane| u64::from(Self::special(*special, first, lane, block)));
            }
        }
    }

    fn special(special: Special, first: usize, lane: usize, block: &Block) -> u32 {
        let [bx, by, _] = block.launch.block;
        let thread = (first + lane) as u32;
        let bit = 1u32 << lane;
        match special {
            Special::Tid(axis) => [thread % bx, thread / bx % by, thread / bx / by][axis as usize],
            Special::Ntid(axis) => block.launch.block[axis as usize],
            Special::Ctaid(axis) => block.index(block.number)[axis as usize],
            Special::Nctaid(axis) => block.launch.grid[axis as usize],
            Special::Lane => lane as u32,
            Special::Warp => (first / WARP) as u32,
            Special::Warps => block.launch.block.iter().product::<u32>().div_ceil(WARP as u32),
            Special::Processor => 0,
            Special::LaneMaskEq => bit,
            Special::LaneMaskLe => bit | (bit - 1),
            Special::LaneMaskLt => bit - 1,
            Special::LaneMaskGe => !(bit - 1),
            Special::LaneMaskGt => !(bit | (bit - 1)),
            Special::Clock | Special::Clock64 => 0,
        }
    }

    #[cold]
    fn undefined<T>(missing: u32, name: &str) -> Checked<T> {
        let lane = Some(missing.trailing_zeros());
        let message = format!("register {name} is read; expected something to have been written to it");
        Err(Box::new(Trouble { lane, kind: FaultKind::UndefinedRegister, message }))
    }

    /// A register whose lanes in `mask` must have been written.
    #[inline(always)]
    pub fn source(&self, slot: Slot, mask: u32, kernel: &Kernel) -> Checked<&Lanes> {
        let missing = mask & !self.defined[slot as usize];
        if missing != 0 {
            let name = match &kernel.contents[slot as usize] {
                Content::Register(name) => name.as_str(),
                _ => "",
            };
            return Self::undefined(missing, name);
        }
        Ok(&self.registers[slot as usize])
    }

    /// A predicate as a mask, of which only the lanes in `mask` mean anything.
    #[inline(always)]
    pub fn condition(&self, condition: Condition, mask: u32, kernel: &Kernel) -> Checked<u32> {
        let slot = condition.predicate as usize;
        let missing = mask & !self.predicates_defined[slot];
        if missing != 0 {
            return Self::undefined(missing, &kernel.predicates[slot]);
        }
        Ok(if condition.negated { !self.predicates[slot] } else { self.predicates[slot] })
    }

    /// Writes the lanes in `mask`.
    #[inline(always)]
    pub fn write(&mut self, slot: Slot, mask: u32, values: &Lanes) {
        if slot == SINK {
            return;
        }
        let slot = slot as usize;
        self.defined[slot] |= mask;
        let register = &mut self.registers[slot];
        if mask == ALL {
            *register = *values;
        } else {
            for lane in lanes_of(mask) {
                register[lane] = values[lane];
            }
        }
    }

    /// Writes one lane.
    #[inline(always)]
    pub fn write_lane(&mut self, slot: Slot, lane: usize, value: u64) {
        if slot != SINK {
            self.defined[slot as usize] |= 1 << lane;
            self.registers[slot as usize][lane] = value;
        }
    }

    /// Writes the lanes in `mask` of a predicate.
    pub fn write_predicate(&mut self, slot: Slot, mask: u32, values: u32) {
        if slot != SINK {
            let slot = slot as usize;
            self.predicates_defined[slot] |= mask;
            self.predicates[slot] = self.predicates[slot] & !mask | values & mask;
        }
    }

    fn save(&mut self) {
        for lane in lanes_of(self.active) {
            self.counters[lane] = self.counter;
        }
    }

    /// Chooses the lanes to run next: those at the lowest counter or, once in a while, those ahead of the present ones.
    /// False if all live lanes are parked. Expects the counters of all lanes to be up to date.
    fn regroup(&mut self) -> bool {
        let candidates = self.live & !self.parked;
        let counters = || lanes_of(candidates).map(|lane| self.counters[lane]);
        let Some(lowest) = counters().min() else { return false };
        let mut chosen = lowest;
        if self.steps > PATIENCE {
            // The present counter is behind a branch that may have led all of its lanes back.
            chosen = counters().filter(|&counter| counter >= self.counter).min().unwrap_or(lowest);
            self.steps = 0;
        }
        self.counter = chosen;
        self.active = lanes_of(self.live).filter(|&lane| self.counters[lane] == chosen).fold(0, |mask, lane| mask | 1 << lane);
        self.parked &= !self.active;
        let others = lanes_of(self.live & !self.active).map(|lane| self.counters[lane]);
        self.meeting = others.filter(|&counter| counter > chosen).min().unwrap_or(u32::MAX);
        true
    }

    /// Goes on to the next instruction.
    #[inline(always)]
    fn advance(&mut self) {
        self.counter += 1;
        if self.active != self.live {
            self.steps += 1;
            if self.counter >= self.meeting {
                self.save();
                self.regroup();
            }
        }
    }

    /// Sends the lanes in `taken`, some or all of the active ones, to `target` and the others on.
    fn branch(&mut self, taken: u32, target: u32) {
        if taken == self.active && self.active == self.live {
            self.counter = target;
            return;
        }
        self.counter += 1;
        self.steps += 1;
        self.save();
        for lane in lanes_of(taken) {
            self.counters[lane] = target;
        }
        self.regroup();
    }

    /// Ends the lanes in `leaving`, some or all of the active ones. Those that wait look again at whom they wait for.
    fn exit(&mut self, leaving: u32) {
        self.counter += 1;
        self.save();
        self.live &= !leaving;
        self.active &= !leaving;
        self.parked = 0;
        if self.live != 0 {
            self.regroup();
        }
    }

    /// Asks for the lanes in `required` to execute the present instruction together with the active ones. `barrier` says
    /// whether it is one.
    pub fn gather(&mut self, required: u32, barrier: bool, kernel: &Kernel) -> Checked<Gathered> {
        let missing = required & self.live & !self.active;
        if missing == 0 {
            return Ok(Gathered::Ready);
        }
        self.save();
        self.parked |= self.active;
        self.parked_at_barrier |= barrier;
        if self.regroup() {
            return Ok(Gathered::Parked);
        }
        let lane = missing.trailing_zeros();
        let line = kernel.code[self.counters[lane as usize] as usize].line;
        let kind = if barrier { FaultKind::BarrierDivergence } else { FaultKind::WarpDivergence };
        let message = format!(
            "lanes {:#010x} execute this without lanes {missing:#010x}, of which lane {lane} waits at line {line}",
            self.active
        );
        Err(Box::new(Trouble { lane: Some(lane), kind, message }))
    }

    /// A barrier is executed: lanes that went past it, did something and exited never came.
    pub fn end_of_parking(&mut self) -> Checked<()> {
        let gone = self.strayed & !self.live;
        (self.parked_at_barrier, self.strayed) = (false, 0);
        match gone {
            0 => Ok(()),
            _ => trouble(
                FaultKind::BarrierDivergence,
                format!(
                    "lanes {gone:#010x} of the warp went another way past this barrier and have exited; expected all to execute it"
                ),
            ),
        }
    }

    /// Executes up to `count` instructions, fewer if the warp has to wait or exits.
    pub fn run(&mut self, block: &mut Block, count: usize) -> Checked<()> {
        let kernel = block.kernel;
        for _ in 0..count {
            let instruction = &kernel.code[self.counter as usize];
            block.statistics.add(instruction.class);
            let mask = match instruction.guard {
                Some(guard) => self.active & self.condition(guard, self.active, kernel)?,
                None => self.active,
            };
            match instruction.op {
                Op::Branch { target, uniform } => {
                    if uniform && mask != 0 && mask != self.active {
                        return trouble(
                            FaultKind::WarpDivergence,
                            format!("bra.uni is taken by lanes {mask:#010x} of {:#010x}; expected all or none", self.active),
                        );
                    }
                    self.branch(mask, target);
                }
                Op::Exit if mask == 0 => self.advance(),
                Op::Exit => {
                    self.copies.check_empty(mask)?;
                    self.exit(mask);
                    if self.live == 0 {
                        block.warp_exits(self.index);
                        return Ok(());
                    }
                }
                _ if mask == 0 => self.advance(),
                _ => {
                    if self.parked_at_barrier {
                        self.strayed |= mask;
                    }
                    match self.execute(block, instruction, mask)? {
                        Gathered::Ready => self.advance(),
                        Gathered::Parked => continue,
                    }
                    if self.waiting.is_some() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// The line at which the warp is.
    pub fn line(&self, kernel: &Kernel) -> u32 {
        let at = if self.waiting.is_some() { self.counter.saturating_sub(1) } else { self.counter };
        kernel.code[at as usize].line
    }
}
