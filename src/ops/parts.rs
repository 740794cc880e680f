//! How the scratch memory of a launch is cut into parts. It knows sizes alone.

use crate::device::DType;

/// Multiple of bytes at which each part begins.
const PART: u64 = 256;

/// Parts one behind the other: offsets for a launch without addresses yet, addresses for one with them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    start: u64,
    end: u64,
}

impl Parts {
    /// No parts yet, the first to begin at `start`.
    pub fn new(start: u64) -> Self {
        Self { start, end: start }
    }
    /// Where a part of that many bytes begins.
    pub fn take(&mut self, bytes: u64) -> u64 {
        let at = self.end;
        self.end = at.saturating_add(bytes).checked_next_multiple_of(PART).unwrap_or(u64::MAX);
        at
    }
    /// Where a part of that many numbers begins.
    pub fn take_numbers(&mut self, n: usize, dtype: DType) -> u64 {
        self.take((n as u64).saturating_mul(dtype.bytes() as u64))
    }
    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }
}
