//! Accesses to the shared memory of a block.

use super::{Clocks, Conflict, Kind, Who};
use crate::lanes::{WARP, lanes_of};

const NOBODY: u16 = u16::MAX;

/// What happened to a granule. Reads and atomics since the last write are kept by warp.
#[derive(Clone, Copy)]
struct Cell {
    /// The block this is about; a cell of an earlier block counts as untouched.
    cta: u32,
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
    /// `[cell * warps + warp]`
    reads: Vec<Mark>,
    atomics: Vec<Mark>,
    warps: usize,
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
            warps,
            shift: granule.trailing_zeros(),
        }
    }

    /// Forgets all blocks.
    pub fn clear(&mut self) {
        for cell in &mut self.cells {
            cell.cta = 0;
        }
    }

    fn cells(&self, offset: usize, size: usize) -> std::ops::RangeInclusive<usize> {
        offset >> self.shift..=(offset + size - 1) >> self.shift
    }

    #[inline(always)]
    fn touch(&mut self, index: usize, cta: u32) -> &mut Cell {
        let cell = &mut self.cells[index];
        if cell.cta != cta {
            *cell = Cell { cta, stamp: 0, serial: 0, readers: 0, atomics: 0, writer: NOBODY, in_flight: false };
        }
        cell
    }

    fn unordered(marks: &[Mark], warps: u32, past: Kind, clocks: &Clocks, who: Who) -> Option<Conflict> {
        lanes_of(warps).find_map(|warp| {
            let mark = marks[warp];
            let lane = clocks.unordered(mark.stamp, warp, mark.lanes, who.warp, who.lane)?;
            Some(Conflict::Race { past, cta: None, warp, lane })
        })
    }

    fn mark(mark: &mut Mark, warps: &mut u32, stamp: u32, who: Who) {
        let bit = 1 << who.warp;
        if *warps & bit != 0 && mark.stamp == stamp {
            mark.lanes |= 1 << who.lane;
        } else {
            *mark = Mark { stamp, lanes: 1 << who.lane };
            *warps |= bit;
        }
    }

    /// Checks an access against all before it and records it. A write to bytes that another lane of the same
    /// instruction has written is recorded and reported as [`Conflict::SameInstruction`].
    #[inline]
    pub fn access(&mut self, clocks: &Clocks, offset: usize, size: usize, who: Who, kind: Kind) -> Option<Conflict> {
        let stamp = clocks.stamp(who.warp);
        let mut same = None;
        for index in self.cells(offset, size) {
            let warps = self.warps;
            let cell = *self.touch(index, who.cta);
            if cell.in_flight {
                return Some(Conflict::InFlight);
            }
            if cell.writer != NOBODY {
                let (by, of) = (cell.writer as usize / WARP, cell.writer as usize % WARP);
                if kind == Kind::Write && cell.serial == who.serial && by == who.warp && of != who.lane {
                    same = Some(Conflict::SameInstruction { lane: of });
                } else if !clocks.ordered(cell.stamp, by, of, who.warp, who.lane) {
                    return Some(Conflict::Race { past: Kind::Write, cta: None, warp: by, lane: of });
                }
            }
            let marks = index * warps..(index + 1) * warps;
            if matches!(kind, Kind::Read | Kind::Write) && cell.atomics != 0 {
                let found = Self::unordered(&self.atomics[marks.clone()], cell.atomics, Kind::Atomic, clocks, who);
                if found.is_some() {
                    return found;
                }
            }
            if matches!(kind, Kind::Write | Kind::Atomic) && cell.readers != 0 {
                let found = Self::unordered(&self.reads[marks], cell.readers, Kind::Read, clocks, who);
                if found.is_some() {
                    return found;
                }
            }
            let place = index * warps + who.warp;
            let cell = &mut self.cells[index];
            match kind {
                Kind::Read => Self::mark(&mut self.reads[place], &mut cell.readers, stamp, who),
                Kind::Atomic => Self::mark(&mut self.atomics[place], &mut cell.atomics, stamp, who),
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
            let cell = self.touch(index, who.cta);
            cell.in_flight = false;
            Self::write(cell, stamp, who);
        }
    }
}
