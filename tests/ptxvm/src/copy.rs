//! `cp.async`: copies wait in per-thread groups. From issue to the wait that completes it, nobody may touch the
//! destination; the source is read at issue or at that wait, as the options say.

use std::collections::VecDeque;

use crate::block::Block;
use crate::fault::{AtLane, Checked, FaultKind, Trouble, trouble};
use crate::instruction::CopyAsync;
use crate::lanes::{WARP, lanes_of};
use crate::machine::Completion;
use crate::shadow::Kind;
use crate::traffic;
use crate::warp::Warp;

struct Pending {
    /// Offset in the block's shared memory.
    to: usize,
    from: u64,
    /// Bytes written and bytes read.
    size: usize,
    read: usize,
    /// The source as it was at issue, if that is when it is read.
    early: Option<u128>,
}

/// The outstanding copies of the lanes of a warp.
#[derive(Default)]
pub(crate) struct Copies {
    lanes: [Lane; WARP],
}

#[derive(Default)]
struct Lane {
    queue: VecDeque<Pending>,
    /// Copies in each committed group, the oldest first.
    groups: VecDeque<usize>,
    /// Copies issued since the last commit.
    open: usize,
}

impl Copies {
    /// Makes a group of what each lane in `mask` issued since its last.
    pub fn commit(&mut self, mask: u32) {
        for lane in lanes_of(mask) {
            let lane = &mut self.lanes[lane];
            lane.groups.push_back(std::mem::take(&mut lane.open));
        }
    }

    /// Lanes that exit must have waited for everything.
    pub fn check_empty(&mut self, mask: u32) -> Checked<()> {
        for lane in lanes_of(mask) {
            let outstanding = self.lanes[lane].queue.len();
            if outstanding > 0 {
                let message = format!("the thread exits with {outstanding} cp.async outstanding; expected a wait for them");
                return Err(Box::new(Trouble { lane: Some(lane as u32), kind: FaultKind::UnwaitedCopy, message }));
            }
            self.lanes[lane].groups.clear();
        }
        Ok(())
    }
}

/// Reads the source of a copy, filled up with zeros.
fn read(block: &mut Block, from: u64, read: usize, size: usize, warp: usize, lane: usize) -> Checked<u128> {
    if read == size {
        return block.global_load(from, size, warp, lane, Kind::Read, false);
    }
    let mut value = 0;
    for byte in 0..read {
        value |= block.global_load(from + byte as u64, 1, warp, lane, Kind::Read, false)? << (8 * byte);
    }
    Ok(value)
}

impl Warp {
    pub fn copy_async(&mut self, copy: &CopyAsync, mask: u32, block: &mut Block) -> Checked<()> {
        let size = usize::from(copy.size);
        let to = self.addresses(&copy.to, mask, block)?;
        let from = self.addresses(&copy.from, mask, block)?;
        let bytes = match copy.source_size {
            Some(slot) => *self.source(slot, mask, block.kernel)?,
            None => [size as u64; WARP],
        };
        block.serial = block.serial.wrapping_add(1);
        block.statistics.bank_conflicts += traffic::extra_wavefronts(&to, mask, size);
        let reading = lanes_of(mask).filter(|&lane| bytes[lane] > 0).fold(0, |mask, lane| mask | 1 << lane);
        let (touched, least) = traffic::sectors(&from, reading, size);
        block.statistics.sectors += touched;
        block.statistics.sectors_least += least;
        for lane in lanes_of(mask) {
            let pending = self.issue(to[lane], from[lane], size, bytes[lane], lane, block).at_lane(lane)?;
            let lane = &mut self.copies.lanes[lane];
            lane.queue.push_back(pending);
            lane.open += 1;
        }
        Ok(())
    }

    fn issue(&self, to: u64, from: u64, size: usize, bytes: u64, lane: usize, block: &mut Block) -> Checked<Pending> {
        if bytes > size as u64 {
            return trouble(FaultKind::IllegalOperand, format!("a source size of {bytes} bytes; expected at most {size}"));
        }
        if !from.is_multiple_of(size as u64) {
            let message = format!("cp.async of {size} bytes from {from:#x}; expected a multiple of {size}");
            return trouble(FaultKind::Misaligned, message);
        }
        let offset = block.shared.place(to, size)?;
        // Everything about the source that can be wrong is found now, whenever it is read.
        let value = read(block, from, bytes as usize, size, self.index, lane)?;
        let who = block.who(self.index, lane);
        if let Some(conflict) = block.shadow.begin_copy(&block.clocks, offset, size, who) {
            return block.shared_conflict(conflict, offset, Kind::Write);
        }
        let early = (block.options.completion == Completion::Early).then_some(value);
        Ok(Pending { to: offset, from, size, read: bytes as usize, early })
    }

    /// Completes all but the `pending` youngest groups of each lane in `mask`.
    pub fn wait_group(&mut self, pending: u32, mask: u32, block: &mut Block) -> Checked<()> {
        block.serial = block.serial.wrapping_add(1);
        for lane in lanes_of(mask) {
            while self.copies.lanes[lane].groups.len() > pending as usize {
                let copies = &mut self.copies.lanes[lane];
                for _ in 0..copies.groups.pop_front().unwrap_or(0) {
                    let Some(copy) = self.copies.lanes[lane].queue.pop_front() else { break };
                    let value = match copy.early {
                        Some(value) => value,
                        None => read(block, copy.from, copy.read, copy.size, self.index, lane).at_lane(lane)?,
                    };
                    let who = block.who(self.index, lane);
                    block.shadow.end_copy(&block.clocks, copy.to, copy.size, who);
                    block.shared.store(copy.to, copy.size, value);
                    block.changed = block.statistics.instructions;
                }
            }
        }
        Ok(())
    }
}
