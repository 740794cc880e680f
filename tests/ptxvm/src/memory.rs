//! Global memory: allocations with guard gaps, a written bit for every byte, contents and shadow in lazily made pages.
//! It knows nothing of threads: who may touch what when is the business of `shadow`.

use crate::fault::{Checked, FaultKind, MemoryError, trouble};
use crate::shadow::{GlobalCell, GlobalPage};
use crate::shared::{gather, ones, scatter};

/// Bytes a page; no aligned access of up to 16 bytes crosses two.
pub(crate) const PAGE: u64 = 4096;
/// The first address handed out: large enough that an address cut to 32 bits hits nothing.
const BASE: u64 = 0x0070_0000_0000;
/// Unmapped bytes kept behind every allocation.
const GUARD: u64 = 64 * 1024;
const ALIGNMENT: u64 = 256;
/// Pages of shadow (40 KiB each for granules of four bytes) kept for the next launch.
const SHADOW_PAGES: usize = 8192;
/// What unwritten bytes read as: a NaN in every floating point format.
const POISON: u8 = 0xFF;

struct Page {
    data: [u8; PAGE as usize],
    /// Bit b of word w: byte 64 w + b has been written.
    written: [u64; PAGE as usize / 64],
}

impl Page {
    fn poisoned() -> Box<Self> {
        Box::new(Self { data: [POISON; PAGE as usize], written: [0; PAGE as usize / 64] })
    }

    fn mark(&mut self, offset: usize, len: usize) {
        for word in offset / 64..(offset + len).div_ceil(64) {
            let first = offset.max(64 * word) - 64 * word;
            let end = (offset + len).min(64 * word + 64) - 64 * word;
            self.written[word] |= ones(end - first) << first;
        }
    }
}

struct Allocation {
    start: u64,
    size: u64,
    pages: Vec<Option<Box<Page>>>,
    shadow: Vec<Option<Box<GlobalPage>>>,
}

/// Where a checked access lies.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    allocation: usize,
    page: usize,
    offset: usize,
    size: usize,
}

/// The memory of the device.
pub(crate) struct GlobalMemory {
    /// Sorted by address; addresses are never handed out twice, so that a use after free is out of bounds.
    allocations: Vec<Allocation>,
    next: u64,
    used: u64,
    total: u64,
    /// Where the last access was.
    recent: usize,
    launches: u64,
    /// Pages of shadow made since they were last dropped.
    shadow_pages: usize,
}

impl GlobalMemory {
    pub fn new(total: u64) -> Self {
        Self { allocations: Vec::new(), next: BASE, used: 0, total, recent: 0, launches: 0, shadow_pages: 0 }
    }

    /// The number of the launch that begins, from 1 on.
    pub fn next_launch(&mut self) -> u64 {
        if self.shadow_pages > SHADOW_PAGES {
            self.shadow_pages = 0;
            for page in self.allocations.iter_mut().flat_map(|allocation| &mut allocation.shadow) {
                *page = None;
            }
        }
        self.launches += 1;
        self.launches
    }

    pub fn set_total(&mut self, total: u64) {
        self.total = total;
    }

    pub fn free_and_total(&self) -> (u64, u64) {
        (self.total.saturating_sub(self.used), self.total)
    }

    pub fn alloc(&mut self, bytes: u64) -> Result<u64, MemoryError> {
        let free = self.free_and_total().0;
        let padded = bytes.checked_next_multiple_of(ALIGNMENT).filter(|&padded| padded <= free);
        let Some(padded) = padded else { return Err(MemoryError::OutOfMemory { asked: bytes, free }) };
        let start = self.next;
        let pages = bytes.div_ceil(PAGE) as usize;
        let none = |_| None;
        self.allocations.push(Allocation {
            start,
            size: bytes,
            pages: (0..pages).map(none).collect(),
            shadow: (0..pages).map(|_| None).collect(),
        });
        self.next = start + (padded + GUARD).next_multiple_of(PAGE);
        self.used += padded;
        Ok(start)
    }

    pub fn free(&mut self, address: u64) -> Result<(), MemoryError> {
        let found = self.allocations.binary_search_by_key(&address, |allocation| allocation.start);
        let Ok(index) = found else { return Err(MemoryError::NotAnAllocation { address }) };
        let gone = self.allocations.remove(index);
        self.used -= gone.size.next_multiple_of(ALIGNMENT);
        self.recent = 0;
        Ok(())
    }

    /// The allocation that holds `len` bytes at `address`.
    fn find(&self, address: u64, len: u64) -> Option<usize> {
        let holds = |a: &Allocation| address >= a.start && len <= a.size && address - a.start <= a.size - len;
        if self.allocations.get(self.recent).is_some_and(holds) {
            return Some(self.recent);
        }
        let index = self.allocations.partition_point(|a| a.start <= address).checked_sub(1)?;
        holds(&self.allocations[index]).then_some(index)
    }

    /// Says where an address outside every allocation lies.
    fn describe(&self, address: u64) -> String {
        let after = self.allocations.partition_point(|a| a.start <= address);
        match after.checked_sub(1).map(|index| &self.allocations[index]) {
            Some(a) if address - a.start <= a.size + GUARD => {
                let (start, size) = (a.start, a.size);
                format!("byte {} of an allocation of {size} bytes at {start:#x}", address - start)
            }
            _ => match self.allocations.get(after) {
                Some(a) if a.start - address <= GUARD => {
                    format!("{} bytes before the allocation at {:#x}", a.start - address, a.start)
                }
                _ => "no allocation is near".into(),
            },
        }
    }

    /// Calls `visit` with page index, offset in the page and offset in the range for every page the range touches.
    fn pieces(
        &self,
        address: u64,
        len: u64,
        mut visit: impl FnMut(usize, usize, std::ops::Range<usize>),
    ) -> Result<usize, MemoryError> {
        let Some(index) = self.find(address, len) else {
            return Err(MemoryError::OutOfBounds { address, len, detail: self.describe(address) });
        };
        let first = address - self.allocations[index].start;
        let mut done = 0;
        while done < len {
            let at = first + done;
            let size = (PAGE - at % PAGE).min(len - done);
            visit((at / PAGE) as usize, (at % PAGE) as usize, done as usize..(done + size) as usize);
            done += size;
        }
        Ok(index)
    }

    pub fn host_write(&mut self, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let mut pieces = Vec::new();
        let index = self.pieces(address, bytes.len() as u64, |page, offset, range| pieces.push((page, offset, range)))?;
        for (page, offset, range) in pieces {
            let page = self.allocations[index].pages[page].get_or_insert_with(Page::poisoned);
            page.data[offset..offset + range.len()].copy_from_slice(&bytes[range.clone()]);
            page.mark(offset, range.len());
        }
        Ok(())
    }

    pub fn host_fill(&mut self, address: u64, byte: u8, len: u64) -> Result<(), MemoryError> {
        let mut pieces = Vec::new();
        let index = self.pieces(address, len, |page, offset, range| pieces.push((page, offset, range.len())))?;
        for (page, offset, len) in pieces {
            let page = self.allocations[index].pages[page].get_or_insert_with(Page::poisoned);
            page.data[offset..offset + len].fill(byte);
            page.mark(offset, len);
        }
        Ok(())
    }

    pub fn host_read(&self, address: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        let mut pieces = Vec::new();
        let index = self.pieces(address, bytes.len() as u64, |page, offset, range| pieces.push((page, offset, range)))?;
        for (page, offset, range) in pieces {
            match &self.allocations[index].pages[page] {
                Some(page) => bytes[range.clone()].copy_from_slice(&page.data[offset..offset + range.len()]),
                None => bytes[range].fill(POISON),
            }
        }
        Ok(())
    }

    pub fn is_written(&self, address: u64, len: u64) -> bool {
        let mut pieces = Vec::new();
        let Ok(index) = self.pieces(address, len, |page, offset, range| pieces.push((page, offset, range.len()))) else {
            return false;
        };
        let written = |page: &Page, byte: usize| page.written[byte / 64] >> (byte % 64) & 1 == 1;
        pieces.iter().all(|&(page, offset, len)| {
            self.allocations[index].pages[page]
                .as_ref()
                .is_some_and(|page| (offset..offset + len).all(|byte| written(page, byte)))
        })
    }

    /// Copies contents and written bits; the ranges may overlap.
    pub fn host_copy(&mut self, to: u64, from: u64, len: u64) -> Result<(), MemoryError> {
        let mut data = vec![0; len as usize];
        self.host_read(from, &mut data)?;
        let mut sources = Vec::new();
        let source = self.pieces(from, len, |page, offset, range| sources.push((page, offset, range)))?;
        let mut written = vec![false; len as usize];
        for (page, offset, range) in sources {
            if let Some(page) = &self.allocations[source].pages[page] {
                for (k, byte) in (offset..offset + range.len()).enumerate() {
                    written[range.start + k] = page.written[byte / 64] >> (byte % 64) & 1 == 1;
                }
            }
        }
        let mut pieces = Vec::new();
        let index = self.pieces(to, len, |page, offset, range| pieces.push((page, offset, range)))?;
        for (page, offset, range) in pieces {
            let page = self.allocations[index].pages[page].get_or_insert_with(Page::poisoned);
            for (k, byte) in (offset..offset + range.len()).enumerate() {
                page.data[byte] = data[range.start + k];
                let bit = 1 << (byte % 64);
                match written[range.start + k] {
                    true => page.written[byte / 64] |= bit,
                    false => page.written[byte / 64] &= !bit,
                }
            }
        }
        Ok(())
    }

    /// The place of a thread's access of `size` bytes (a power of two up to 16), if it is aligned and inside.
    #[inline]
    pub fn place(&mut self, address: u64, size: usize) -> Checked<Place> {
        if !address.is_multiple_of(size as u64) {
            return trouble(
                FaultKind::Misaligned,
                format!("{size} bytes of global memory at {address:#x}; expected a multiple of {size}"),
            );
        }
        let Some(allocation) = self.find(address, size as u64) else {
            let message = format!("{size} bytes of global memory at {address:#x}, {}", self.describe(address));
            return trouble(FaultKind::OutOfBounds, message);
        };
        self.recent = allocation;
        let offset = address - self.allocations[allocation].start;
        Ok(Place { allocation, page: (offset / PAGE) as usize, offset: (offset % PAGE) as usize, size })
    }

    /// The bytes of an access, all of which must have been written.
    #[inline]
    pub fn load(&self, place: Place) -> Checked<u128> {
        let Place { allocation, page, offset, size } = place;
        let allocation = &self.allocations[allocation];
        if let Some(page) = &allocation.pages[page]
            && !(page.written[offset / 64] >> (offset % 64)) & ones(size) == 0
        {
            return Ok(gather(&page.data, offset, size));
        }
        let byte = page as u64 * PAGE + offset as u64;
        let (start, total) = (allocation.start, allocation.size);
        trouble(
            FaultKind::Unwritten,
            format!(
                "a load of {size} bytes at byte {byte} of the allocation of {total} bytes at {start:#x}, not all of them written"
            ),
        )
    }

    #[inline]
    pub fn store(&mut self, place: Place, value: u128) {
        let Place { allocation, page, offset, size } = place;
        let page = self.allocations[allocation].pages[page].get_or_insert_with(Page::poisoned);
        page.written[offset / 64] |= ones(size) << (offset % 64);
        scatter(&mut page.data, offset, size, value);
    }

    /// The bytes as they are, written or not.
    pub fn peek(&self, place: Place) -> u128 {
        let page = &self.allocations[place.allocation].pages[place.page];
        page.as_ref().map_or(u128::MAX, |page| gather(&page.data, place.offset, place.size))
    }

    /// The record of accesses to the granules of `1 << shift` bytes of an access.
    #[inline]
    pub fn cells(&mut self, place: Place, launch: u64, shift: u32) -> &mut [GlobalCell] {
        let page = self.allocations[place.allocation].shadow[place.page].get_or_insert_with(|| {
            self.shadow_pages += 1;
            Box::new(GlobalPage::new())
        });
        let last = (place.offset + place.size - 1) >> shift;
        &mut page.cells(launch, PAGE as usize >> shift)[place.offset >> shift..=last]
    }
}
