//! How the scratch memory of a launch is cut into parts. It knows sizes alone.

use crate::device::View;

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
    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }
}

/// Whether kernels can count the rows, columns and elements of these views in 32 bits.
pub(super) fn countable<'a>(views: impl IntoIterator<Item = &'a View>) -> bool {
    views.into_iter().all(|v| v.rows.max(v.cols).max(v.stride) < 1 << 30 && v.rows.saturating_mul(v.cols) < 1 << 31)
}
