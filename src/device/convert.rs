//! Stored numbers to the types that programs compute in: plain loops over bytes that the compiler
//! vectorises. Knows nothing of files.

use bytemuck::{AnyBitPattern, pod_read_unaligned};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::real::{DType, Real, Stored};

/// Elements of f16 that are converted at a time.
const BLOCK: usize = 256;

/// Reads `out.len()` elements from `raw`, which need not be aligned; with `rounded`, each is first
/// rounded to bf16.
pub(super) fn read<T: Real>(stored: Stored, rounded: bool, raw: &[u8], out: &mut [T]) {
    match (stored, rounded) {
        (Stored::F64, false) => each(raw, out, T::of),
        (Stored::F64, true) => each(raw, out, |x: f64| T::of_f32(to_bf16(narrow(x)))),
        (Stored::F32, false) => each(raw, out, T::of_f32),
        (Stored::F32, true) => each(raw, out, |x: f32| T::of_f32(to_bf16(x))),
        (Stored::BF16, _) => each(raw, out, |x: u16| T::of_f32(f32::from_bits(u32::from(x) << 16))),
        (Stored::F16, false) => read_f16(raw, out, T::of_f32),
        (Stored::F16, true) => read_f16(raw, out, |x| T::of_f32(to_bf16(x))),
    }
}

fn each<S: AnyBitPattern, T>(raw: &[u8], out: &mut [T], f: impl Fn(S) -> T) {
    for (y, x) in out.iter_mut().zip(raw.chunks_exact(size_of::<S>())) {
        *y = f(pod_read_unaligned(x));
    }
}

fn read_f16<T>(raw: &[u8], out: &mut [T], f: impl Fn(f32) -> T) {
    let (mut halves, mut wide) = ([f16::ZERO; BLOCK], [0f32; BLOCK]);
    for (y, x) in out.chunks_mut(BLOCK).zip(raw.chunks(2 * BLOCK)) {
        let (halves, wide) = (&mut halves[..y.len()], &mut wide[..y.len()]);
        bytemuck::cast_slice_mut(halves).copy_from_slice(x);
        halves.convert_to_f32_slice(wide);
        y.iter_mut().zip(wide).for_each(|(y, x)| *y = f(*x));
    }
}

/// The bytes of numbers, given part by part, as bf16, or else as finite f16, where every one of them is such a number.
pub(super) fn halves(parts: impl Iterator<Item = Vec<f32>>) -> Option<(Stored, Vec<u8>)> {
    let to_bf16 = |x: &f32| (x.to_bits() & 0xffff == 0).then_some((x.to_bits() >> 16) as u16);
    let to_f16 = |x: &f32| {
        let half = f16::from_f32(*x);
        (half.is_finite() && half.to_f32().to_bits() == x.to_bits()).then_some(half.to_bits())
    };
    let mut found = [(Stored::BF16, Some(Vec::new())), (Stored::F16, Some(Vec::new()))];
    for part in parts {
        for (stored, bytes) in &mut found {
            let Some(held) = bytes else { continue };
            let narrow: Option<Vec<u16>> = match stored {
                Stored::BF16 => part.iter().map(to_bf16).collect(),
                _ => part.iter().map(to_f16).collect(),
            };
            match narrow {
                Some(narrow) => held.extend_from_slice(bytemuck::cast_slice(&narrow)),
                None => *bytes = None,
            }
        }
        if found.iter().all(|(_, bytes)| bytes.is_none()) {
            return None;
        }
    }
    found.into_iter().find_map(|(stored, bytes)| Some((stored, bytes?)))
}

/// The nearest bf16, of two the even one, as f32.
fn to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    if x.is_nan() { x } else { f32::from_bits(rounded) }
}

/// An f32 that rounds to the same bf16 as `x`: `x` itself where it is one, else of the two f32 around it
/// the one with an odd last bit, so that no tie appears or is lost.
fn narrow(x: f64) -> f32 {
    let near = x as f32;
    let wide = f64::from(near);
    if wide == x || x.is_nan() || x.is_infinite() {
        return near;
    }
    let towards_zero = if wide.abs() > x.abs() { near.to_bits() - 1 } else { near.to_bits() };
    f32::from_bits(towards_zero | 1)
}

/// Bytes that one thread checks at a time.
const PART: usize = 1 << 20;

/// The first element of `raw` that is not finite, or is not after rounding to bf16 (with `rounded`) or
/// to `dtype`.
pub(super) fn find_unfit(stored: Stored, rounded: bool, dtype: DType, raw: &[u8]) -> Option<usize> {
    // Half an ulp above the largest number lies the tie that rounds to infinity.
    let bf16_tie = f32::from_bits(u32::from(bf16::MAX.to_bits()) << 16 | 0x8000);
    let f32_tie = f64::from(f32::MAX) + 2f64.powi(103);
    let most_f32 = if rounded { bf16_tie.next_down() } else { f32::MAX };
    let most_f64 = match (rounded, dtype) {
        (true, _) => f64::from(bf16_tie).next_down(),
        (false, DType::F32) => f32_tie.next_down(),
        (false, DType::F64) => f64::MAX,
    };
    match stored {
        Stored::F64 => find(raw, |x: f64| x.abs() <= most_f64),
        Stored::F32 => find(raw, |x: f32| x.abs() <= most_f32),
        Stored::F16 => find(raw, |x: u16| x & 0x7fff < 0x7c00),
        Stored::BF16 => find(raw, |x: u16| x & 0x7fff < 0x7f80),
    }
}

/// The first element that does not fit.
fn find<S: AnyBitPattern>(raw: &[u8], fits: impl Fn(S) -> bool + Sync) -> Option<usize> {
    let size = size_of::<S>();
    let all_fit = |part: &[u8]| part.chunks_exact(size).fold(true, |all, x| all & fits(pod_read_unaligned(x)));
    let part = raw.par_chunks(PART).position_first(|part| !part.chunks(PART / 256).all(all_fit))?;
    let rest = raw[part * PART..].chunks_exact(size);
    rest.enumerate().find(|(_, x)| !fits(pod_read_unaligned(x))).map(|(i, _)| part * PART / size + i)
}
