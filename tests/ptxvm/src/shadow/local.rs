//! Accesses to the shared memory of a block.

use super::{Clocks, Conflict, Kind, Who};
use crate::lanes::{WARP, lanes_of};

const NOBODY: u16 = u16::MAX;

/// What happened to a granule. Reads and atomics since the last write are kept by warp.
#[derive(Clone, Copy)]
struct Cell {
    /// The block this is about; a cell of an earlier block counts as untouched.
    cta: u32,
    /// When the last write was; 0 for never.
    stamp: u32,
    serial: u32,
    /// Warps that read.
    readers: u32,
    /// Warps that accessed atomically.
    atomics: u32,
    /// Warp * 32 + lane of the last write.
    writer: u16,
    in_flight: bool,
}

/// When a warp accessed and which of its lanes did.
#[derive(Clone, Copy, Default)]
struct Mark {
    stamp: u32,
    lanes: u32,
}

pub(crate) struct SharedShadow {
    cells: Vec<Cell>,
    /// `[warp * cells + cell]`
    reads: Vec<Mark>,
    atomics: Vec<Mark>,
    /// Log2 of the bytes of a granule.
    shift: u32,
}

impl SharedShadow {
    /// A shadow for `bytes` of memory in granules of 1, 2 or 4 bytes.
    pub fn new(bytes: u32, granule: u32, warps: usize) -> Self {
        let cells = bytes.div_ceil(granule) as usize;
        let untouched = Cell { cta: 0, stamp: 0, serial: 0, readers: 0, atomics: 0, writer: 0, in_flight: false };
        Self {
            cells: vec![untouched; cells],
            reads: vec![Mark::default(); cells * warps],
            atomics: vec![Mark::default(); cells * warps],
            shift: granule.trailing_zeros(),
        }
    }

    /// Forgets all blocks.
    pub fn clear(&mut self) {
        for cell in &mut self.cells {
            cell.cta = 0;
        }
    }

    fn cells(&self, offset: usize, size: usize) -> std::ops::Range<usize> {
        offset >> self.shift..((offset + size - 1) >> self.shift) + 1
    }

    /// The race of an access with the marks of a cell that nothing orders before it.
    fn unordered(&self, marks: &[Mark], warps: u32, cell: usize, past: Kind, clocks: &Clocks, who: Who) -> Option<Conflict> {
        lanes_of(warps).find_map(|warp| {
            let mark = marks[warp * self.cells.len() + cell];
            let lane = clocks.unordered(mark.stamp, warp, mark.lanes, who.warp, who.lane)?;
            Some(Conflict::Race { past, cta: None, warp, lane })
        })
    }

    #[inline(always)]
    fn mark(mark: &mut Mark, warps: &mut u32, stamp: u32, who: Who) {
        let (bit, lane) = (1 << who.warp, 1 << who.lane);
        let known = *warps & bit != 0 && mark.stamp == stamp;
        *mark = Mark { stamp, lanes: if known { mark.lanes | lane } else { lane } };
        *warps |= bit;
    }

    /// A read or write in the common case: nothing in flight, no atomics, and everything before it comes before all that
    /// the warp does now. False if it is not that case; then nothing has been recorded that [`Self::examine`] would not.
    #[inline(always)]
    fn is_plain(&mut self, cells: std::ops::Range<usize>, stamp: u32, floor: u32, who: Who, kind: Kind) -> bool {
        let count = self.cells.len();
        let row = who.warp * count;
        let marks = &mut self.reads[row + cells.start..row + cells.end];
        let me = (who.warp * WARP + who.lane) as u16;
        let (bit, lane) = (1 << who.warp, 1 << who.lane);
        if kind == Kind::Read {
            for (cell, mark) in self.cells[cells].iter_mut().zip(marks) {
                let before = cell.stamp <= floor || cell.writer == me;
                if cell.cta != who.cta || cell.in_flight || cell.atomics != 0 || !before {
                    return false;
                }
                let known = cell.readers & bit != 0 && mark.stamp == stamp;
                *mark = Mark { stamp, lanes: if known { mark.lanes | lane } else { lane } };
                cell.readers |= bit;
            }
            return true;
        }
        if kind != Kind::Write {
            return false;
        }
        for index in cells {
            let cell = &mut self.cells[index];
            let before = lanes_of(cell.readers).all(|warp| self.reads[warp * count + index].stamp <= floor);
            let before = before && (cell.stamp <= floor || cell.writer == me);
            if cell.cta != who.cta || cell.in_flight || cell.atomics != 0 || !before {
                return false;
            }
            Self::write(cell, stamp, who);
        }
        true
    }

    /// Checks an access against all before it and records it. A write to bytes that another lane of the same
    /// instruction has written is recorded and reported as [`Conflict::SameInstruction`].
    #[inline(always)]
    pub fn access(&mut self, clocks: &Clocks, offset: usize, size: usize, who: Who, kind: Kind) -> Option<Conflict> {
        let (stamp, floor) = (clocks.stamp(who.warp), clocks.floor(who.warp));
        if self.is_plain(self.cells(offset, size), stamp, floor, who, kind) {
            return None;
        }
        self.examine(clocks, offset, size, who, kind)
    }

    #[inline(never)]
    fn examine(&mut self, clocks: &Clocks, offset: usize, size: usize, who: Who, kind: Kind) -> Option<Conflict> {
        let (stamp, floor) = (clocks.stamp(who.warp), clocks.floor(who.warp));
        let row = who.warp * self.cells.len();
        let mut same = None;
        for index in self.cells(offset, size) {
            let cell = &mut self.cells[index];
            if cell.cta != who.cta {
                *cell = Cell { cta: who.cta, stamp: 0, serial: 0, readers: 0, atomics: 0, writer: NOBODY, in_flight: false };
            }
            if cell.in_flight {
                return Some(Conflict::InFlight);
            }
            if cell.stamp > floor {
                let (by, of) = (cell.writer as usize / WARP, cell.writer as usize % WARP);
                if kind == Kind::Write && cell.serial == who.serial && by == who.warp && of != who.lane {
                    same = Some(Conflict::SameInstruction { lane: of });
                } else if clocks.unordered(cell.stamp, by, 1 << of, who.warp, who.lane).is_some() {
                    return Some(Conflict::Race { past: Kind::Write, cta: None, warp: by, lane: of });
                }
            }
            match kind {
                Kind::Read if cell.atomics == 0 => {
                    Self::mark(&mut self.reads[row + index], &mut cell.readers, stamp, who);
                    continue;
                }
                Kind::Write if cell.atomics | cell.readers == 0 => {
                    Self::write(cell, stamp, who);
                    continue;
                }
                _ => {}
            }
            let (readers, atomics) = (cell.readers, cell.atomics);
            if matches!(kind, Kind::Read | Kind::Write) {
                let found = self.unordered(&self.atomics, atomics, index, Kind::Atomic, clocks, who);
                if found.is_some() {
                    return found;
                }
            }
            if matches!(kind, Kind::Write | Kind::Atomic) {
                let found = self.unordered(&self.reads, readers, index, Kind::Read, clocks, who);
                if found.is_some() {
                    return found;
                }
            }
            let cell = &mut self.cells[index];
            match kind {
                Kind::Read => Self::mark(&mut self.reads[row + index], &mut cell.readers, stamp, who),
                Kind::Atomic => Self::mark(&mut self.atomics[row + index], &mut cell.atomics, stamp, who),
                Kind::Write => Self::write(cell, stamp, who),
                Kind::StrongRead => {}
            }
        }
        same
    }

    fn write(cell: &mut Cell, stamp: u32, who: Who) {
        cell.stamp = stamp;
        cell.serial = who.serial;
        cell.writer = (who.warp * WARP + who.lane) as u16;
        cell.readers = 0;
        cell.atomics = 0;
    }

    /// An asynchronous copy is issued: from now on nobody may touch the bytes.
    pub fn begin_copy(&mut self, clocks: &Clocks, offset: usize, size: usize, who: Who) -> Option<Conflict> {
        let conflict = self.access(clocks, offset, size, who, Kind::Write);
        for index in self.cells(offset, size) {
            self.cells[index].in_flight = true;
        }
        conflict
    }

    /// An asynchronous copy has been waited for: its bytes count as written now by the thread that issued it.
    pub fn end_copy(&mut self, clocks: &Clocks, offset: usize, size: usize, who: Who) {
        let stamp = clocks.stamp(who.warp);
        for index in self.cells(offset, size) {
            let cell = &mut self.cells[index];
            cell.in_flight = false;
            Self::write(cell, stamp, who);
        }
    }
}
