//! The shared memory of a block: layout, contents and a written bit for every byte. Races are the business of `shadow`.

use crate::fault::{Checked, FaultKind, trouble};
use crate::scope::Shared;

/// The first shared address: not 0, so that a null address hits nothing, and a multiple of every alignment in use.
pub(crate) const BASE: u64 = 1024;
/// What `cvta` adds to a shared address to make it generic.
pub(crate) const WINDOW: u64 = 0x7E00_0000_0000;

/// The bytes of static shared memory, rounded up to the alignment of the dynamic part, and every variable's address.
/// Variables that nobody uses get no memory.
pub(crate) fn layout(variables: &[Shared]) -> (u32, Vec<u64>) {
    let mut end = 0;
    let mut addresses = vec![0; variables.len()];
    for (address, variable) in addresses.iter_mut().zip(variables) {
        if let (true, Some(size)) = (variable.used, variable.size) {
            end = u64::next_multiple_of(end, variable.align);
            *address = BASE + end;
            end += size;
        }
    }
    let dynamic = || variables.iter().filter(|variable| variable.used && variable.size.is_none());
    let align = dynamic().map(|variable| variable.align).max().unwrap_or(1);
    let end = end.next_multiple_of(align);
    for (address, variable) in addresses.iter_mut().zip(variables) {
        if variable.size.is_none() {
            *address = BASE + end;
        }
    }
    (u32::try_from(end).unwrap_or(u32::MAX), addresses)
}

pub(crate) struct SharedMemory {
    data: Vec<u8>,
    /// Bit b of word w: byte 64 w + b has been written.
    written: Vec<u64>,
}

/// `size` ones, for a size of up to 64.
pub(crate) fn ones(size: usize) -> u64 {
    u64::MAX >> (64 - size)
}

/// Reads up to 16 bytes as a little-endian number.
#[inline(always)]
pub(crate) fn gather(bytes: &[u8], offset: usize, size: usize) -> u128 {
    let part = |from: usize| u64::from_le_bytes(bytes[from..from + 8].try_into().unwrap_or_default());
    match size {
        16 => u128::from(part(offset + 8)) << 64 | u128::from(part(offset)),
        8 => part(offset).into(),
        4 => u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap_or_default()).into(),
        _ => bytes[offset..offset + size].iter().rev().fold(0, |value, &byte| value << 8 | u128::from(byte)),
    }
}

/// Writes up to 16 bytes of a little-endian number.
#[inline(always)]
pub(crate) fn scatter(bytes: &mut [u8], offset: usize, size: usize, value: u128) {
    bytes[offset..offset + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

impl SharedMemory {
    pub fn new(bytes: u32) -> Self {
        Self { data: vec![0; bytes as usize], written: vec![0; (bytes as usize).div_ceil(64)] }
    }

    /// Forgets everything, for the next block.
    pub fn reset(&mut self) {
        self.written.fill(0);
    }

    /// The offset of an access of `size` bytes, if it is aligned and inside.
    #[inline(always)]
    pub fn place(&self, address: u64, size: usize) -> Checked<usize> {
        let offset = address.wrapping_sub(BASE);
        if !address.is_multiple_of(size as u64) {
            return trouble(
                FaultKind::Misaligned,
                format!("{size} bytes of shared memory at {address:#x}; expected a multiple of {size}"),
            );
        }
        if offset >= self.data.len() as u64 || self.data.len() as u64 - offset < size as u64 {
            let where_to = match address.checked_sub(BASE) {
                Some(offset) => format!("byte {offset} of the block's {} bytes", self.data.len()),
                None => "before the block's first byte".into(),
            };
            return trouble(FaultKind::OutOfBounds, format!("{size} bytes of shared memory at {address:#x}, {where_to}"));
        }
        Ok(offset as usize)
    }

    #[inline(always)]
    pub fn load(&self, offset: usize, size: usize) -> Checked<u128> {
        let missing = !(self.written[offset / 64] >> (offset % 64)) & ones(size);
        if missing != 0 {
            let byte = offset + missing.trailing_zeros() as usize;
            return trouble(FaultKind::Unwritten, format!("a load of shared byte {byte}, which nobody has written"));
        }
        Ok(gather(&self.data, offset, size))
    }

    #[inline(always)]
    pub fn store(&mut self, offset: usize, size: usize, value: u128) {
        self.written[offset / 64] |= ones(size) << (offset % 64);
        scatter(&mut self.data, offset, size, value);
    }

    /// The bytes as they are, written or not.
    pub fn peek(&self, offset: usize, size: usize) -> u128 {
        gather(&self.data, offset, size)
    }
}
