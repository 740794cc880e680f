//! The sixteen barriers of a block: `bar.sync` and `bar.arrive`, whole warps at a time.

use crate::block::Block;
use crate::fault::{Checked, FaultKind, trouble};
use crate::instruction::{Barrier, Slot};
use crate::lanes::{WARP, lanes_of};
use crate::warp::{Gathered, Warp};

#[derive(Default)]
struct State {
    /// Threads it waits for, if anybody has arrived; `None` in the option for all warps that live.
    expected: Option<Option<u32>>,
    /// Warps that arrived, and those of them that wait.
    arrived: u32,
    waiting: u32,
    /// What those who arrived did and knew.
    joined: Vec<u32>,
    /// How often it has completed.
    completed: u64,
}

pub(crate) struct Barriers {
    states: [State; 16],
}

impl Barriers {
    pub fn new(warps: usize) -> Self {
        Self { states: std::array::from_fn(|_| State { joined: vec![0; warps], ..State::default() }) }
    }

    /// Gets ready for the next block.
    pub fn reset(&mut self) {
        for state in &mut self.states {
            (state.expected, state.arrived, state.waiting) = (None, 0, 0);
            state.joined.fill(0);
        }
    }

    /// Whether a barrier has completed since it had done so `before` times.
    pub fn is_past(&self, (id, before): (usize, u64)) -> bool {
        self.states[id].completed != before
    }

    /// How many threads a barrier has and expects, for messages.
    pub fn describe(&self, id: usize) -> String {
        let state = &self.states[id];
        let arrived = state.arrived.count_ones() as usize * WARP;
        match state.expected.flatten() {
            Some(expected) => format!("barrier {id} with {arrived} of {expected} threads"),
            None => format!("barrier {id} with {} warps there", state.arrived.count_ones()),
        }
    }
}

impl Block<'_> {
    /// Lets the waiting warps go if everybody expected has arrived.
    fn complete(&mut self, id: usize) {
        let state = &mut self.barriers.states[id];
        let full = match state.expected {
            None => false,
            Some(None) => self.live & !state.arrived == 0,
            Some(Some(threads)) => state.arrived.count_ones() * WARP as u32 == threads,
        };
        if !full {
            return;
        }
        for warp in lanes_of(state.waiting) {
            self.clocks.leave(warp, &state.joined);
        }
        (state.expected, state.arrived, state.waiting) = (None, 0, 0);
        state.joined.fill(0);
        state.completed += 1;
        self.statistics.barriers += 1;
    }

    /// A warp has exited; barriers for all warps no longer wait for it.
    pub fn warp_exits(&mut self, warp: usize) {
        self.live &= !(1 << warp);
        for id in 0..self.barriers.states.len() {
            if self.barriers.states[id].expected == Some(None) {
                self.complete(id);
            }
        }
    }
}

impl Warp {
    /// The value of an operand that must be the same in all lanes.
    fn uniform(&self, slot: Slot, mask: u32, block: &Block) -> Checked<u64> {
        let values = self.source(slot, mask, block.kernel)?;
        let first = values[mask.trailing_zeros() as usize];
        match lanes_of(mask).find(|&lane| values[lane] != first) {
            None => Ok(first),
            Some(lane) => trouble(
                FaultKind::BarrierDivergence,
                format!("an operand of the barrier is {first} in one lane and {} in lane {lane}", values[lane]),
            ),
        }
    }

    pub fn barrier(&mut self, barrier: &Barrier, mask: u32, block: &mut Block) -> Checked<Gathered> {
        if mask != self.active {
            let message =
                format!("the guard lets lanes {mask:#010x} of {:#010x} pass; expected all of them or none", self.active);
            return trouble(FaultKind::BarrierDivergence, message);
        }
        if let Gathered::Parked = self.gather(self.live, true, block.kernel)? {
            return Ok(Gathered::Parked);
        }
        self.end_of_parking()?;
        let id = self.uniform(barrier.id, mask, block)? as usize;
        let threads = match barrier.threads {
            Some(slot) => Some(self.uniform(slot, mask, block)? as u32),
            None => None,
        };
        let warps = block.launch.block.iter().product::<u32>().div_ceil(WARP as u32);
        if id >= block.barriers.states.len() {
            return trouble(FaultKind::IllegalOperand, format!("barrier {id}; expected 0 to 15"));
        }
        if threads.is_some_and(|threads| threads == 0 || !threads.is_multiple_of(WARP as u32) || threads / WARP as u32 > warps) {
            let message = format!("a barrier of {} threads; expected a multiple of 32 that the block has", threads.unwrap_or(0));
            return trouble(FaultKind::IllegalOperand, message);
        }
        let state = &mut block.barriers.states[id];
        let expected = *state.expected.get_or_insert(threads);
        if expected != threads {
            let count = |threads: Option<u32>| threads.map_or("all".into(), |threads| threads.to_string());
            let message = format!("barrier {id} is executed for {} threads after others for {}", count(threads), count(expected));
            return trouble(FaultKind::BarrierDivergence, message);
        }
        if state.arrived >> self.index & 1 == 1 {
            return trouble(FaultKind::BarrierDivergence, format!("the warp arrives at barrier {id} twice before it completes"));
        }
        state.arrived |= 1 << self.index;
        block.clocks.arrive(self.index, &mut state.joined);
        if !barrier.arrive {
            state.waiting |= 1 << self.index;
            self.waiting = Some((id, state.completed));
        }
        block.complete(id);
        Ok(Gathered::Ready)
    }
}
