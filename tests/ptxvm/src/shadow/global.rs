//! Accesses to global memory within a launch. Between blocks nothing is ordered; within a block the clocks decide.

use super::{Clocks, Conflict, Kind, Who};
use crate::lanes::lanes_of;

/// More than one block.
const SEVERAL: u32 = u32::MAX;

/// Threads that accessed a granule: all of one block, or those of several, of which no more is known. Where several
/// warps did, `stamp` is the latest and `lanes` the union.
#[derive(Clone, Copy, Default)]
struct Past {
    /// Number of the block plus 1; 0 for nobody.
    cta: u32,
    stamp: u32,
    warps: u32,
    lanes: u32,
}

impl Past {
    fn only(who: Who, stamp: u32) -> Self {
        Self { cta: who.cta, stamp, warps: 1 << who.warp, lanes: 1 << who.lane }
    }

    /// Adds a thread that accesses now. If all before come before it, whatever is ordered after it is ordered after
    /// them, and they need not be kept.
    #[inline(always)]
    fn add(&mut self, clocks: &Clocks, who: Who) {
        let stamp = clocks.stamp(who.warp);
        if self.cta == who.cta && self.stamp == stamp && self.warps == 1 << who.warp {
            self.lanes |= 1 << who.lane;
        } else if self.race(Kind::Read, clocks, who).is_none() {
            *self = Self::only(who, stamp);
        } else if self.cta == who.cta {
            self.stamp = self.stamp.max(stamp);
            self.warps |= 1 << who.warp;
            self.lanes |= 1 << who.lane;
        } else {
            self.cta = SEVERAL;
        }
    }

    /// The race between these threads and one that accesses now.
    #[inline(always)]
    fn race(&self, past: Kind, clocks: &Clocks, who: Who) -> Option<Conflict> {
        if self.cta == 0 || self.cta == who.cta && self.stamp <= clocks.floor(who.warp) {
            return None;
        }
        let (warp, lane) = (self.warps.trailing_zeros() as usize, self.lanes.trailing_zeros() as usize);
        if self.cta != who.cta {
            return Some(Conflict::Race { past, cta: Some(self.cta), warp, lane });
        }
        lanes_of(self.warps).find_map(|warp| {
            let lane = clocks.unordered(self.stamp, warp, self.lanes, who.warp, who.lane)?;
            Some(Conflict::Race { past, cta: None, warp, lane })
        })
    }
}

/// What happened to a granule within the launch.
#[derive(Clone, Copy, Default)]
pub(crate) struct GlobalCell {
    writes: Past,
    reads: Past,
    serial: u32,
    /// Whether the writes were atomic.
    atomic: bool,
}

impl GlobalCell {
    /// Checks an access against all before it and records it, as `SharedShadow::access` does.
    #[inline(always)]
    pub fn access(&mut self, clocks: &Clocks, who: Who, kind: Kind) -> Option<Conflict> {
        let (stamp, floor) = (clocks.stamp(who.warp), clocks.floor(who.warp));
        let (warp, lane) = (1 << who.warp, 1 << who.lane);
        let mine = |past: &Past| past.warps == warp && past.lanes == lane;
        let before = |past: &Past| past.cta == 0 || past.cta == who.cta && (past.stamp <= floor || mine(past));
        if kind == Kind::Read && before(&self.writes) {
            let reads = &mut self.reads;
            if before(reads) {
                *reads = Past::only(who, stamp);
                return None;
            }
            if reads.cta == who.cta && reads.stamp == stamp && reads.warps == warp {
                reads.lanes |= lane;
                return None;
            }
            if reads.cta != who.cta {
                reads.cta = SEVERAL;
                return None;
            }
        }
        if kind == Kind::Write && before(&self.writes) && before(&self.reads) {
            *self = Self { writes: Past::only(who, stamp), reads: Past::default(), serial: who.serial, atomic: false };
            return None;
        }
        self.examine(clocks, who, kind)
    }

    #[inline(never)]
    fn examine(&mut self, clocks: &Clocks, who: Who, kind: Kind) -> Option<Conflict> {
        let past = if self.atomic { Kind::Atomic } else { Kind::Write };
        let mut same = None;
        if kind == Kind::Write && self.serial == who.serial && self.writes.cta == who.cta && !self.atomic {
            let lane = self.writes.lanes.trailing_zeros() as usize;
            same = (lane != who.lane).then_some(Conflict::SameInstruction { lane });
        } else if !(self.atomic && matches!(kind, Kind::Atomic | Kind::StrongRead)) {
            let race = self.writes.race(past, clocks, who);
            if race.is_some() {
                return race;
            }
        }
        match kind {
            Kind::Read => {
                self.reads.add(clocks, who);
                return None;
            }
            Kind::StrongRead => return None,
            Kind::Write | Kind::Atomic => {}
        }
        let race = self.reads.race(Kind::Read, clocks, who);
        if race.is_some() {
            return race;
        }
        if kind == Kind::Atomic && self.atomic {
            self.writes.add(clocks, who);
        } else {
            self.writes = Past::only(who, clocks.stamp(who.warp));
        }
        self.atomic = kind == Kind::Atomic;
        self.reads = Past::default();
        self.serial = who.serial;
        same
    }

    /// Whether anybody has written here in this launch.
    pub fn is_written(&self) -> bool {
        self.writes.cta != 0
    }
}

/// The cells of a page of memory; they are about one launch.
pub(crate) struct GlobalPage {
    launch: u64,
    cells: Vec<GlobalCell>,
}

impl GlobalPage {
    pub fn new() -> Self {
        Self { launch: 0, cells: Vec::new() }
    }

    /// The cells, all untouched if the page was last used in another launch.
    pub fn cells(&mut self, launch: u64, count: usize) -> &mut [GlobalCell] {
        if self.launch != launch || self.cells.len() != count {
            self.launch = launch;
            self.cells.clear();
            self.cells.resize(count, GlobalCell::default());
        }
        &mut self.cells
    }
}
