//! Vector clocks of the warps of a block, and within each warp of its lanes.

use crate::lanes::{ALL, WARP, lanes_of};

pub(crate) struct Clocks {
    tick: u32,
    warps: usize,
    /// The stamp of each warp's accesses from now on.
    stamps: Vec<u32>,
    /// `known[w * warps + v]`: accesses of warp v stamped up to this come before what warp w does now.
    known: Vec<u32>,
    /// Accesses of the warp's own lanes stamped up to this come before what any of them does now.
    own: Vec<u32>,
    /// `lanes[w][l][m]`: the same for lane m as seen from lane l of warp w, where that is more than `own`.
    lanes: Vec<[[u32; WARP]; WARP]>,
    /// Accesses of anybody stamped up to this come before what any lane of the warp does now.
    floors: Vec<u32>,
}

impl Clocks {
    pub fn new(warps: usize) -> Self {
        Self {
            tick: 0,
            warps,
            stamps: vec![0; warps],
            known: vec![0; warps * warps],
            own: vec![0; warps],
            lanes: vec![[[0; WARP]; WARP]; warps],
            floors: vec![0; warps],
        }
    }

    /// Starts a block: nothing of it has happened yet. Returns whether the time has begun anew, so that old stamps mean
    /// nothing.
    pub fn start(&mut self) -> bool {
        let anew = self.tick > u32::MAX / 2;
        if anew {
            self.tick = 0;
            self.lanes.fill([[0; WARP]; WARP]);
        }
        self.tick += 1;
        self.known.fill(self.tick);
        self.own.fill(self.tick);
        self.floors.fill(self.tick);
        self.tick += 1;
        self.stamps.fill(self.tick);
        anew
    }

    #[inline(always)]
    pub fn stamp(&self, warp: usize) -> u32 {
        self.stamps[warp]
    }

    /// Ends the present time of a warp and returns a stamp that everything it did is at or before.
    fn release(&mut self, warp: usize) -> u32 {
        let published = self.tick + 1;
        self.tick += 2;
        self.stamps[warp] = self.tick;
        published
    }

    /// Adds what a warp did and knows to what a barrier hands on.
    pub fn arrive(&mut self, warp: usize, joined: &mut [u32]) {
        let published = self.release(warp);
        for (joined, known) in joined.iter_mut().zip(&self.known[warp * self.warps..]) {
            *joined = (*joined).max(*known);
        }
        joined[warp] = published;
    }

    /// Lets a warp go on after a barrier: all of its lanes know what all who arrived did and knew.
    pub fn leave(&mut self, warp: usize, joined: &[u32]) {
        let known = &mut self.known[warp * self.warps..][..self.warps];
        for (known, joined) in known.iter_mut().zip(joined) {
            *known = (*known).max(*joined);
        }
        self.own[warp] = joined[warp];
        self.floors[warp] = known.iter().copied().min().unwrap_or(0);
    }

    /// `bar.warp.sync`: the member lanes know what each other did and knew.
    pub fn synchronise(&mut self, warp: usize, members: u32) {
        let published = self.release(warp);
        if members == ALL {
            self.own[warp] = published;
            return;
        }
        let lanes = &mut self.lanes[warp];
        let mut joined = [0; WARP];
        for lane in lanes_of(members) {
            for (joined, known) in joined.iter_mut().zip(&lanes[lane]) {
                *joined = (*joined).max(*known);
            }
        }
        for lane in lanes_of(members) {
            joined[lane] = published;
        }
        for lane in lanes_of(members) {
            lanes[lane] = joined;
        }
    }

    /// Everything stamped up to this comes before what any lane of the warp does now.
    #[inline(always)]
    pub fn floor(&self, warp: usize) -> u32 {
        self.floors[warp]
    }

    /// The first of the lanes `of` of warp `by` whose access stamped `stamp` does not come before what lane `lane` of
    /// `warp` does now.
    #[inline]
    pub fn unordered(&self, stamp: u32, by: usize, of: u32, warp: usize, lane: usize) -> Option<usize> {
        if by != warp {
            return (stamp > self.known[warp * self.warps + by]).then_some(of.trailing_zeros() as usize);
        }
        let others = of & !(1 << lane);
        if others == 0 || stamp <= self.own[warp] {
            return None;
        }
        lanes_of(others).find(|&other| stamp > self.lanes[warp][lane][other])
    }
}
