//! What the warps of a block share while it runs: memory, clocks, barriers, counters and the order of chance.

use crate::barrier::Barriers;
use crate::fault::{Checked, FaultKind, trouble};
use crate::machine::{Launch, Options};
use crate::memory::GlobalMemory;
use crate::module::Kernel;
use crate::shadow::{Clocks, Conflict, Kind, SharedShadow, Who};
use crate::shared::SharedMemory;
use crate::statistics::Statistics;

/// A small generator of pseudorandom numbers (splitmix64).
pub(crate) struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

pub(crate) struct Block<'a> {
    pub kernel: &'a Kernel,
    pub launch: &'a Launch<'a>,
    pub options: &'a Options,
    pub global: &'a mut GlobalMemory,
    /// Unique to the launch.
    pub launch_id: u64,
    /// Number of the block in the grid, x fastest.
    pub number: u32,
    pub shared: SharedMemory,
    pub shadow: SharedShadow,
    pub clocks: Clocks,
    pub barriers: Barriers,
    /// Warps that have not exited, as a mask.
    pub live: u32,
    pub statistics: Statistics,
    /// The count of instructions when memory last changed.
    pub changed: u64,
    pub chance: Chance,
    /// Counts the executed memory instructions, to tell one from the next.
    pub serial: u32,
    /// Log2 of the bytes of a granule in which accesses are tracked.
    pub shift: u32,
}

impl Block<'_> {
    /// `%ctaid` of the block with this number.
    pub fn index(&self, number: u32) -> [u32; 3] {
        let [x, y, _] = self.launch.grid;
        [number % x, number / x % y, number / x / y]
    }

    pub fn who(&self, warp: usize, lane: usize) -> Who {
        Who { cta: self.number + 1, warp, lane, serial: self.serial }
    }

    /// A conflict in shared memory as a fault.
    #[cold]
    pub fn shared_conflict<T>(&self, conflict: Conflict, offset: usize, kind: Kind) -> Checked<T> {
        self.conflict(conflict, format!("shared byte {offset}"), kind, FaultKind::SharedRace)
    }

    /// A conflict in global memory as a fault.
    #[cold]
    pub fn global_conflict<T>(&self, conflict: Conflict, address: u64, kind: Kind) -> Checked<T> {
        self.conflict(conflict, format!("global address {address:#x}"), kind, FaultKind::GlobalRace)
    }

    fn conflict<T>(&self, conflict: Conflict, place: String, kind: Kind, race: FaultKind) -> Checked<T> {
        let verb = |kind: Kind| match kind {
            Kind::Read | Kind::StrongRead => "read",
            Kind::Write => "written",
            Kind::Atomic => "updated atomically",
        };
        match conflict {
            Conflict::InFlight => {
                let message =
                    format!("{place} is {} while a cp.async to it is in flight; expected a wait for its group first", verb(kind));
                trouble(FaultKind::InFlight, message)
            }
            Conflict::Race { past, cta, warp, lane } => {
                let (by, expected) = match cta {
                    None => (format!("warp {warp}, lane {lane}"), "a barrier between the two"),
                    Some(u32::MAX) => ("several blocks".into(), "atomics, or separate launches"),
                    Some(cta) => {
                        let [x, y, z] = self.index(cta - 1);
                        (format!("block ({x}, {y}, {z})"), "atomics, or separate launches")
                    }
                };
                trouble(race, format!("{place} is {} after being {} by {by}; expected {expected}", verb(kind), verb(past)))
            }
            Conflict::SameInstruction { lane } => trouble(
                FaultKind::ConflictingStore,
                format!("{place} gets another value from lane {lane} in the same instruction"),
            ),
        }
    }
}
