//! Loads, stores and atomics of the lanes of a warp, each checked for bounds, alignment, written bytes and races.

use crate::block::Block;
use crate::execute::extend;
use crate::fault::{AtLane, Checked, FaultKind, trouble};
use crate::instruction::{Access, Address, Atomic, AtomicOp, LoadMatrix, Space};
use crate::lanes::{ALL, Lanes, WARP, lanes_of};
use crate::shadow::{Conflict, Kind};
use crate::traffic;
use crate::types::Type;
use crate::warp::{Gathered, Warp};

impl Block<'_> {
    /// Reads and records a read of shared memory.
    #[inline]
    pub fn shared_load(&mut self, address: u64, size: usize, warp: usize, lane: usize, kind: Kind) -> Checked<u128> {
        let offset = self.shared.place(address, size)?;
        let who = self.who(warp, lane);
        if let Some(conflict) = self.shadow.access(&self.clocks, offset, size, who, kind) {
            return self.shared_conflict(conflict, offset, kind);
        }
        self.shared.load(offset, size)
    }

    #[inline]
    fn shared_store(&mut self, address: u64, size: usize, value: u128, warp: usize, lane: usize, kind: Kind) -> Checked<()> {
        let offset = self.shared.place(address, size)?;
        let who = self.who(warp, lane);
        match self.shadow.access(&self.clocks, offset, size, who, kind) {
            Some(Conflict::SameInstruction { .. }) if self.shared.peek(offset, size) == value => {}
            Some(conflict) => return self.shared_conflict(conflict, offset, kind),
            None => {}
        }
        self.shared.store(offset, size, value);
        self.changed = self.statistics.instructions;
        Ok(())
    }

    /// Reads and records a read of global memory. `constant`: nobody may have written the bytes in this launch.
    #[inline]
    pub fn global_load(
        &mut self,
        address: u64,
        size: usize,
        warp: usize,
        lane: usize,
        kind: Kind,
        constant: bool,
    ) -> Checked<u128> {
        let place = self.global.place(address, size)?;
        let value = self.global.load(place)?;
        let who = self.who(warp, lane);
        for cell in self.global.cells(place, self.launch_id, self.shift) {
            if let Some(conflict) = cell.access(&self.clocks, who, kind) {
                return self.global_conflict(conflict, address, kind);
            }
            if constant && cell.is_written() {
                let message = format!("global address {address:#x} is read by ld.global.nc and written in the same launch");
                return trouble(FaultKind::GlobalRace, message);
            }
        }
        Ok(value)
    }

    #[inline]
    fn global_store(&mut self, address: u64, size: usize, value: u128, warp: usize, lane: usize, kind: Kind) -> Checked<()> {
        let place = self.global.place(address, size)?;
        let who = self.who(warp, lane);
        let mut same = None;
        for cell in self.global.cells(place, self.launch_id, self.shift) {
            match cell.access(&self.clocks, who, kind) {
                Some(conflict @ Conflict::SameInstruction { .. }) => same = Some(conflict),
                Some(conflict) => return self.global_conflict(conflict, address, kind),
                None => {}
            }
        }
        match same {
            Some(conflict) if self.global.peek(place) != value => self.global_conflict(conflict, address, kind),
            _ => {
                self.global.store(place, value);
                self.changed = self.statistics.instructions;
                Ok(())
            }
        }
    }
}

impl Warp {
    /// The addresses of the lanes in `mask`.
    pub fn addresses(&self, address: &Address, mask: u32, block: &Block) -> Checked<Lanes> {
        let base = self.source(address.base, mask, block.kernel)?;
        let bits = if address.narrow { 0xFFFF_FFFF } else { u64::MAX };
        Ok(base.map(|base| base.wrapping_add(address.offset as u64) & bits))
    }

    fn count_traffic(block: &mut Block, space: Space, addresses: &Lanes, mask: u32, size: usize) {
        block.serial = block.serial.wrapping_add(1);
        match space {
            Space::Shared => block.statistics.bank_conflicts += traffic::extra_wavefronts(addresses, mask, size),
            Space::Global => {
                let (touched, least) = traffic::sectors(addresses, mask, size);
                block.statistics.sectors += touched;
                block.statistics.sectors_least += least;
            }
        }
    }

    pub fn load(&mut self, access: &Access, mask: u32, block: &mut Block) -> Checked<()> {
        let element = access.ty.bytes() as usize;
        let size = element * usize::from(access.count);
        let addresses = self.addresses(&access.address, mask, block)?;
        Self::count_traffic(block, access.space, &addresses, mask, size);
        let kind = if access.strong { Kind::StrongRead } else { Kind::Read };
        let element_mask = access.ty.mask();
        for lane in lanes_of(mask) {
            let value = match access.space {
                Space::Shared => block.shared_load(addresses[lane], size, self.index, lane, kind),
                Space::Global => block.global_load(addresses[lane], size, self.index, lane, kind, access.constant),
            }
            .at_lane(lane)?;
            for (k, slot) in access.registers[..access.count as usize].iter().enumerate() {
                let part = (value >> (8 * element * k)) as u64 & element_mask;
                self.write_lane(*slot, lane, extend(part, access.ty) & access.register);
            }
        }
        Ok(())
    }

    pub fn store(&mut self, access: &Access, mask: u32, block: &mut Block) -> Checked<()> {
        let element = access.ty.bytes() as usize;
        let size = element * usize::from(access.count);
        let addresses = self.addresses(&access.address, mask, block)?;
        Self::count_traffic(block, access.space, &addresses, mask, size);
        let kind = if access.strong { Kind::Atomic } else { Kind::Write };
        let mut values = [0u128; WARP];
        for (k, slot) in access.registers[..access.count as usize].iter().enumerate() {
            let part = self.source(*slot, mask, block.kernel)?;
            for (value, part) in values.iter_mut().zip(part) {
                *value |= u128::from(part & access.ty.mask()) << (8 * element * k);
            }
        }
        for lane in lanes_of(mask) {
            match access.space {
                Space::Shared => block.shared_store(addresses[lane], size, values[lane], self.index, lane, kind),
                Space::Global => block.global_store(addresses[lane], size, values[lane], self.index, lane, kind),
            }
            .at_lane(lane)?;
        }
        Ok(())
    }

    /// Atomics of the lanes take place one after another, from a lane of chance on.
    pub fn atomic(&mut self, atomic: &Atomic, mask: u32, block: &mut Block) -> Checked<()> {
        let size = atomic.ty.bytes() as usize;
        let addresses = self.addresses(&atomic.address, mask, block)?;
        Self::count_traffic(block, atomic.space, &addresses, mask, size);
        let b = *self.source(atomic.b, mask, block.kernel)?;
        let c = *self.source(atomic.c, mask, block.kernel)?;
        let first = block.chance.below(WARP);
        for lane in (first..first + WARP).map(|lane| lane % WARP).filter(|lane| mask >> lane & 1 == 1) {
            let address = addresses[lane];
            // What is there is looked at as the store's own access: a read of its own would not be atomic.
            let old = match atomic.space {
                Space::Shared => {
                    let offset = block.shared.place(address, size).at_lane(lane)?;
                    block.shared.load(offset, size)
                }
                Space::Global => {
                    let place = block.global.place(address, size).at_lane(lane)?;
                    block.global.load(place)
                }
            }
            .at_lane(lane)? as u64;
            let new = combine(atomic.op, atomic.ty, old, b[lane], c[lane]);
            let changed = block.changed;
            match atomic.space {
                Space::Shared => block.shared_store(address, size, new.into(), self.index, lane, Kind::Atomic),
                Space::Global => block.global_store(address, size, new.into(), self.index, lane, Kind::Atomic),
            }
            .at_lane(lane)?;
            if new == old {
                block.changed = changed;
            }
            self.write_lane(atomic.d, lane, old);
        }
        Ok(())
    }

    /// `ldmatrix`: lane 8 i + r gives the address of row r of matrix i; lane l receives elements 2 (l % 4) and
    /// 2 (l % 4) + 1 of row l / 4, or of column l / 4 when transposed.
    pub fn load_matrix(&mut self, load: &LoadMatrix, mask: u32, block: &mut Block) -> Checked<Gathered> {
        if let Gathered::Parked = self.whole_warp(mask, true, block.kernel)? {
            return Ok(Gathered::Parked);
        }
        let count = usize::from(load.count);
        let givers = ALL >> (WARP - 8 * count);
        let addresses = self.addresses(&load.address, givers, block)?;
        Self::count_traffic(block, Space::Shared, &addresses, givers, 16);
        let mut rows = [0u128; WARP];
        for lane in lanes_of(givers) {
            rows[lane] = block.shared_load(addresses[lane], 16, self.index, lane, Kind::Read).at_lane(lane)?;
        }
        for (i, slot) in load.registers[..count].iter().enumerate() {
            let element = |row: usize, column: usize| (rows[8 * i + row] >> (16 * column)) as u64 & 0xFFFF;
            let values: Lanes = std::array::from_fn(|lane| {
                let (g, t) = (lane / 4, lane % 4);
                match load.transpose {
                    false => element(g, 2 * t) | element(g, 2 * t + 1) << 16,
                    true => element(2 * t, g) | element(2 * t + 1, g) << 16,
                }
            });
            self.write(*slot, mask, &values);
        }
        Ok(Gathered::Ready)
    }
}

/// The new value of a memory or warp reduction; `b` is the operand, or what to compare with when `c` is to be stored.
pub(crate) fn combine(op: AtomicOp, ty: Type, old: u64, b: u64, c: u64) -> u64 {
    let signed = |x: u64| extend(x, ty) as i64;
    match (op, ty) {
        (AtomicOp::Add, Type::F32) => {
            let sum = f32::from_bits(old as u32) + f32::from_bits(b as u32);
            if sum.is_nan() { 0x7FFF_FFFF } else { sum.to_bits().into() }
        }
        (AtomicOp::Add, Type::F64) => (f64::from_bits(old) + f64::from_bits(b)).to_bits(),
        (AtomicOp::Add, _) => old.wrapping_add(b) & ty.mask(),
        (AtomicOp::Min, _) if ty.is_signed() => signed(old).min(signed(b)) as u64 & ty.mask(),
        (AtomicOp::Max, _) if ty.is_signed() => signed(old).max(signed(b)) as u64 & ty.mask(),
        (AtomicOp::Min, _) => old.min(b),
        (AtomicOp::Max, _) => old.max(b),
        (AtomicOp::And, _) => old & b,
        (AtomicOp::Or, _) => old | b,
        (AtomicOp::Xor, _) => old ^ b,
        (AtomicOp::Exchange, _) => b,
        (AtomicOp::CompareAndSwap, _) => {
            if old == b {
                c
            } else {
                old
            }
        }
    }
}
