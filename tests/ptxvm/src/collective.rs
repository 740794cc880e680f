//! Instructions that lanes of a warp execute together, and the rules about who must take part.

use crate::access::combine;
use crate::block::Block;
use crate::fault::{Checked, FaultKind, Trouble, trouble};
use crate::instruction::{Match, Reduce, Shuffle, ShuffleMode, Slot, Vote, VoteMode};
use crate::lanes::{ALL, Lanes, WARP, lanes_of};
use crate::module::Kernel;
use crate::warp::{Gathered, Warp};

impl Warp {
    /// For `.aligned` instructions: all live lanes of the warp must be here with the guard passed; `full` asks for all 32.
    pub fn whole_warp(&mut self, mask: u32, full: bool, kernel: &Kernel) -> Checked<Gathered> {
        if mask != self.active {
            let message =
                format!("the guard lets lanes {mask:#010x} of {:#010x} pass; expected all of them or none", self.active);
            return trouble(FaultKind::WarpDivergence, message);
        }
        if full && self.live != ALL {
            let message = format!("lanes {:#010x} are there; expected all 32 of the warp", self.live);
            return trouble(FaultKind::WarpDivergence, message);
        }
        self.gather(self.live, false, kernel)
    }

    /// For instructions with a member mask: every lane named by a member must be here and name the same lanes.
    fn members(&mut self, slot: Slot, mask: u32, kernel: &Kernel) -> Checked<Result<Lanes, Gathered>> {
        let masks = *self.source(slot, mask, kernel)?;
        let fault = |lane: usize, message: String| {
            Err(Box::new(Trouble { lane: Some(lane as u32), kind: FaultKind::WarpDivergence, message }))
        };
        let first = masks[mask.trailing_zeros() as usize];
        if first as u32 == mask && lanes_of(mask).all(|lane| masks[lane] == first) {
            return Ok(Ok(masks));
        }
        for lane in lanes_of(mask) {
            let members = masks[lane] as u32;
            if members >> lane & 1 == 0 {
                return fault(lane, format!("the member mask {members:#010x} lacks the lane that executes it"));
            }
            let gone = members & self.existing & !self.live;
            if gone != 0 {
                return fault(lane, format!("the member mask {members:#010x} names lanes {gone:#010x}, which have exited"));
            }
            let here = members & self.active;
            if here & !mask != 0 {
                return fault(
                    lane,
                    format!("the member mask {members:#010x} names lanes {:#010x} that the guard keeps out", here & !mask),
                );
            }
            if let Some(other) = lanes_of(here).find(|&other| masks[other] as u32 != members) {
                return fault(
                    lane,
                    format!("the member mask is {members:#010x} here and {:#010x} in lane {other}", masks[other]),
                );
            }
        }
        let required = lanes_of(mask).fold(0, |required, lane| required | masks[lane] as u32);
        Ok(match self.gather(required, false, kernel)? {
            Gathered::Ready => Ok(masks),
            Gathered::Parked => Err(Gathered::Parked),
        })
    }

    pub fn shuffle(&mut self, shuffle: &Shuffle, mask: u32, block: &Block) -> Checked<Gathered> {
        let kernel = block.kernel;
        let masks = match self.members(shuffle.members, mask, kernel)? {
            Ok(masks) => masks,
            Err(parked) => return Ok(parked),
        };
        let a = *self.source(shuffle.a, mask, kernel)?;
        let b = *self.source(shuffle.b, mask, kernel)?;
        let c = *self.source(shuffle.c, mask, kernel)?;
        let mut result = [0; WARP];
        let mut inside = 0;
        for lane in lanes_of(mask) {
            let (offset, clamp, segment) = (b[lane] as usize & 31, c[lane] as usize & 31, c[lane] as usize >> 8 & 31);
            let most = (lane & segment) | (clamp & !segment & 31);
            let (source, in_range) = match shuffle.mode {
                ShuffleMode::Up => (lane.wrapping_sub(offset), lane as isize - offset as isize >= most as isize),
                ShuffleMode::Down => (lane + offset, lane + offset <= most),
                ShuffleMode::Butterfly => (lane ^ offset, lane ^ offset <= most),
                ShuffleMode::Index => {
                    let source = (lane & segment) | (offset & !segment & 31);
                    (source, source <= most)
                }
            };
            let source = if in_range { source } else { lane };
            if (masks[lane] as u32 & mask) >> source & 1 == 0 {
                let message = format!("a value is taken from lane {source}, which does not take part");
                return Err(Box::new(Trouble { lane: Some(lane as u32), kind: FaultKind::WarpDivergence, message }));
            }
            result[lane] = a[source];
            inside |= u32::from(in_range) << lane;
        }
        self.write(shuffle.d, mask, &result);
        if let Some(p) = shuffle.p {
            self.write_predicate(p, mask, inside);
        }
        Ok(Gathered::Ready)
    }

    pub fn vote(&mut self, vote: &Vote, mask: u32, block: &Block) -> Checked<Gathered> {
        let kernel = block.kernel;
        let masks = match self.members(vote.members, mask, kernel)? {
            Ok(masks) => masks,
            Err(parked) => return Ok(parked),
        };
        let votes = self.condition(vote.a, mask, kernel)? & mask;
        let (mut predicate, mut ballots) = (0, [0; WARP]);
        for lane in lanes_of(mask) {
            let members = masks[lane] as u32 & mask;
            let yes = votes & members;
            ballots[lane] = yes.into();
            let verdict = match vote.mode {
                VoteMode::All => yes == members,
                VoteMode::Any | VoteMode::Ballot => yes != 0,
                VoteMode::Uniform => yes == members || yes == 0,
            };
            predicate |= u32::from(verdict) << lane;
        }
        match vote.mode {
            VoteMode::Ballot => self.write(vote.d, mask, &ballots),
            _ => self.write_predicate(vote.d, mask, predicate),
        }
        Ok(Gathered::Ready)
    }

    pub fn match_lanes(&mut self, matching: &Match, mask: u32, block: &Block) -> Checked<Gathered> {
        let kernel = block.kernel;
        let masks = match self.members(matching.members, mask, kernel)? {
            Ok(masks) => masks,
            Err(parked) => return Ok(parked),
        };
        let a = *self.source(matching.a, mask, kernel)?;
        let (mut result, mut all_equal) = ([0; WARP], 0);
        for lane in lanes_of(mask) {
            let members = masks[lane] as u32 & mask;
            let equal = lanes_of(members).filter(|&other| a[other] == a[lane]).fold(0u32, |equal, other| equal | 1 << other);
            let all = equal == members;
            all_equal |= u32::from(all) << lane;
            result[lane] = if matching.all && !all { 0 } else { equal.into() };
        }
        self.write(matching.d, mask, &result);
        if let Some(p) = matching.p {
            self.write_predicate(p, mask, all_equal);
        }
        Ok(Gathered::Ready)
    }

    pub fn reduce(&mut self, reduce: &Reduce, mask: u32, block: &Block) -> Checked<Gathered> {
        let kernel = block.kernel;
        let masks = match self.members(reduce.members, mask, kernel)? {
            Ok(masks) => masks,
            Err(parked) => return Ok(parked),
        };
        let a = *self.source(reduce.a, mask, kernel)?;
        let mut result = [0; WARP];
        for lane in lanes_of(mask) {
            let members = lanes_of(masks[lane] as u32 & mask);
            result[lane] = members.map(|other| a[other]).reduce(|x, y| combine(reduce.op, reduce.ty, x, y, 0)).unwrap_or(0);
        }
        self.write(reduce.d, mask, &result);
        Ok(Gathered::Ready)
    }

    /// `bar.warp.sync`: orders the memory accesses of the member lanes.
    pub fn synchronise(&mut self, members: Slot, mask: u32, block: &mut Block) -> Checked<Gathered> {
        let masks = match self.members(members, mask, block.kernel)? {
            Ok(masks) => masks,
            Err(parked) => return Ok(parked),
        };
        let mut left = mask;
        while left != 0 {
            let members = masks[left.trailing_zeros() as usize] as u32;
            let whole = members & self.live == self.live;
            block.clocks.synchronise(self.index, if whole { ALL } else { members & self.live });
            left &= !members;
        }
        Ok(Gathered::Ready)
    }
}
