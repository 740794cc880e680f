//! How well an access of a warp uses shared memory banks and global memory sectors.

use crate::lanes::{Lanes, WARP, lanes_of};

const SECTOR: u64 = 32;

/// Wavefronts beyond the fewest: lanes take turns in groups that together ask for up to 128 bytes, and within a group
/// every bank serves one word a wavefront. A word is as long as the access, and at least four bytes.
pub(crate) fn extra_wavefronts(addresses: &Lanes, mask: u32, size: usize) -> u64 {
    let word = size.max(4) as u64;
    let banks = 128 / word as usize;
    let mut extra = 0;
    for group in (0..WARP).step_by(banks) {
        let lanes = (group..group + banks).filter(|&lane| mask >> lane & 1 == 1);
        let mut words = [0; WARP];
        let mut seen = 0u32;
        let mut conflict = false;
        for lane in lanes.clone() {
            let index = addresses[lane] / word;
            let bank = index as usize % banks;
            conflict |= seen >> bank & 1 == 1 && words[bank] != index;
            words[bank] = index;
            seen |= 1 << bank;
        }
        if conflict {
            extra += most_words(lanes.map(|lane| addresses[lane] / word), banks) - 1;
        }
    }
    extra
}

/// The most distinct words in one bank.
fn most_words(words: impl Iterator<Item = u64>, banks: usize) -> u64 {
    let mut distinct = [0; WARP];
    let mut count = 0;
    let mut counts = [0; WARP];
    for word in words {
        if !distinct[..count].contains(&word) {
            distinct[count] = word;
            count += 1;
            counts[word as usize % banks] += 1;
        }
    }
    counts.iter().copied().max().unwrap_or(1)
}

/// Sectors touched by the lanes in `mask`, and the fewest that could hold as many distinct bytes.
pub(crate) fn sectors(addresses: &Lanes, mask: u32, size: usize) -> (u64, u64) {
    let mut sorted = [0; WARP];
    let mut count = 0;
    for lane in lanes_of(mask) {
        sorted[count] = addresses[lane];
        count += 1;
    }
    let sorted = &mut sorted[..count];
    if !sorted.is_sorted() {
        sorted.sort_unstable();
    }
    let (mut distinct, mut touched) = (0, 0);
    let (mut address_before, mut sector_before) = (None, None);
    for &address in sorted.iter() {
        distinct += u64::from(address_before != Some(address));
        touched += u64::from(sector_before != Some(address / SECTOR));
        (address_before, sector_before) = (Some(address), Some(address / SECTOR));
    }
    (touched, (distinct * size as u64).div_ceil(SECTOR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::ALL;

    #[test]
    fn consecutive_words_need_one_wavefront_and_a_stride_of_32_words_needs_32() {
        let stride = |bytes: u64| std::array::from_fn(|lane| 1024 + lane as u64 * bytes);
        assert_eq!(extra_wavefronts(&stride(4), ALL, 4), 0);
        assert_eq!(extra_wavefronts(&stride(8), ALL, 4), 1);
        assert_eq!(extra_wavefronts(&stride(128), ALL, 4), 31);
        assert_eq!(extra_wavefronts(&stride(0), ALL, 4), 0);
        assert_eq!(extra_wavefronts(&stride(16), ALL, 16), 0);
        // Eight lanes of a group, all in the same four banks, in four groups.
        assert_eq!(extra_wavefronts(&stride(128), ALL, 16), 4 * 7);
        assert_eq!(extra_wavefronts(&stride(132), ALL, 4), 0);
    }

    #[test]
    fn sectors_are_counted_once_and_compared_with_the_fewest() {
        let stride = |bytes: u64| std::array::from_fn(|lane| 4096 + lane as u64 * bytes);
        assert_eq!(sectors(&stride(4), ALL, 4), (4, 4));
        assert_eq!(sectors(&stride(32), ALL, 4), (32, 4));
        assert_eq!(sectors(&stride(16), ALL, 16), (16, 16));
        assert_eq!(sectors(&stride(0), ALL, 4), (1, 1));
        let reversed = std::array::from_fn(|lane| 4096 + 4 * (31 - lane as u64));
        assert_eq!(sectors(&reversed, ALL, 4), (4, 4));
    }
}
