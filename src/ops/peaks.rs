//! What is kept of the neurons of a site while text streams by: of every sample and neuron the largest
//! activation and one picked at random, and of every neuron a histogram.

use std::ops::Range;

use faer::traits::pulp::NullaryFnOnce;

use super::{check, outputs::Outputs, rows};
use crate::device::{Arena, IntBuffer, Real, View};
use crate::error::{Error, Result};

/// Bins of a histogram: one for activations that are not positive, one for those below 2^-16, quarters
/// of octaves up to 2^15 and what lies beyond, and the last for what is not finite.
pub const BINS: usize = crate::kernel::peaks::BINS;
/// Quarters of octaves below 1 at which the second bin ends.
const LOWEST: i32 = crate::kernel::peaks::LOWEST as i32;
/// Columns that are counted together: their bins fit into the first cache.
const TILE: usize = 32;

/// One sample is `positions` rows.
#[derive(Clone, Debug)]
pub struct Args {
    /// Activations `[samples * positions, width]`.
    pub x: View,
    pub positions: usize,
    /// Rows at the start of each sample that are passed over, as they hold no token of the text.
    pub skip: usize,
    /// Output `[samples, width]`: the largest activation, NaN aside.
    pub max: View,
    /// Output `[samples, width]`: the first position that has it.
    pub at: View,
    /// Output `[samples, width]`: the activation at the position that [`pick`] names.
    pub picked: View,
    /// `[1]`: the number of the first sample.
    pub first: IntBuffer,
    /// Of [`pick`].
    pub seed: u32,
    /// Output `[width * BINS]`: how many activations fall into each bin, neuron by neuron.
    pub counts: IntBuffer,
}

impl Args {
    /// Whether the shapes agree and the outputs have buffers of their own.
    pub fn check(&self) -> Result<()> {
        let op = "peaks";
        if self.skip >= self.positions || !self.x.rows.is_multiple_of(self.positions) {
            let found = format!("x of {} rows, samples of {} rows less {}", self.x.rows, self.positions, self.skip);
            return Err(Error::shape(op, found, "whole samples of at least one row that counts"));
        }
        let samples = self.x.rows / self.positions;
        for (name, v) in [("max", &self.max), ("at", &self.at), ("picked", &self.picked)] {
            check::view(op, name, v, samples, self.x.cols)?;
        }
        if self.counts.len != self.x.cols * BINS || self.first.len != 1 {
            let found = format!("counts of {} numbers, first of {}", self.counts.len, self.first.len);
            return Err(Error::shape(op, found, format!("counts of {} numbers, first of 1", self.x.cols * BINS)));
        }
        check::apart(op, &[&self.max, &self.at, &self.picked], &[&self.x])
    }
}

/// A position below `positions` for a neuron in a sample, and a key: of the samples of a text, those with
/// the smallest keys are a random choice that depends on `seed` alone.
pub fn pick(seed: u32, neuron: u32, sample: u32, positions: usize) -> (usize, u32) {
    let key = mix(mix(mix(seed ^ 0x9e37_79b9).wrapping_add(neuron)).wrapping_add(sample));
    let position = (u64::from(mix(key ^ 0x85eb_ca6b)) * positions as u64) >> 32;
    (position as usize, key)
}

/// A bijection of 32 bits that spreads every bit over all (Wellons' `lowbias32`).
fn mix(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// The bin of an activation.
#[inline(always)]
pub fn bin(x: f32) -> usize {
    // Exponent and the first two bits behind the leading one. Without branches: signs cannot be foretold.
    let quarter = (x.to_bits() as i32 >> 21) - (4 * 127 - LOWEST);
    let inside = (quarter + 2).clamp(1, BINS as i32 - 2);
    let positive = if x < f32::INFINITY { inside } else { BINS as i32 - 1 };
    (if x <= 0.0 { 0 } else { positive }) as usize
}

/// The smallest activation of a bin; minus infinity of the first.
pub fn edge(bin: usize) -> f64 {
    match bin {
        0 => f64::NEG_INFINITY,
        1 => 0.0,
        _ => {
            let quarter = bin as i32 - 2 - LOWEST;
            (1.0 + f64::from(quarter.rem_euclid(4)) / 4.0) * f64::from(quarter.div_euclid(4)).exp2()
        }
    }
}

/// Runs [`Args`] on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.max, &a.at, &a.picked]);
    let first = m.int(a.first)[0];
    let mut counts = vec![0u32; a.counts.len];
    for s in 0..a.max.rows {
        let rows = |t: usize| m.row(&a.x, s * a.positions + t);
        for (i, counts) in counts.chunks_mut(TILE * BINS).enumerate() {
            let columns = i * TILE..i * TILE + counts.len() / BINS;
            let (mut max, mut at) = ([T::of(f64::NEG_INFINITY); TILE], [T::ZERO; TILE]);
            let tile = |t: usize| &rows(t)[columns.clone()];
            rows::wide(Tile { tile, positions: a.skip..a.positions, max: &mut max, at: &mut at, counts });
            out.row(&a.max, s)[columns.clone()].copy_from_slice(&max[..columns.len()]);
            out.row(&a.at, s)[columns.clone()].copy_from_slice(&at[..columns.len()]);
        }
        let picked = out.row(&a.picked, s);
        for (j, picked) in picked.iter_mut().enumerate() {
            let (position, _) = pick(a.seed, j as u32, first.wrapping_add(s as u32), a.positions - a.skip);
            *picked = rows(a.skip + position)[j];
        }
    }
    out.put(m);
    m.int_mut(a.counts).copy_from_slice(&counts);
}

/// Some columns of a sample.
struct Tile<'a, T, F> {
    /// The columns at a position, at most [`TILE`] of them.
    tile: F,
    positions: Range<usize>,
    max: &'a mut [T; TILE],
    at: &'a mut [T; TILE],
    /// `[columns * BINS]`: what is there is added to.
    counts: &'a mut [u32],
}

impl<'m, T: Real, F: Fn(usize) -> &'m [T]> NullaryFnOnce for Tile<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        // Of a fixed length, so that the loops are unrolled.
        let (mut x, mut bins) = ([T::ZERO; TILE], [0u8; TILE]);
        for t in self.positions {
            let row = (self.tile)(t);
            match <&[T; TILE]>::try_from(row) {
                Ok(whole) => x = *whole,
                Err(_) => x[..row.len()].copy_from_slice(row),
            }
            let position = T::of(t as f64);
            for j in 0..TILE {
                let is_larger = x[j] > self.max[j];
                self.max[j] = if is_larger { x[j] } else { self.max[j] };
                self.at[j] = if is_larger { position } else { self.at[j] };
                bins[j] = bin(x[j].to_f64() as f32) as u8;
            }
            for (of, b) in self.counts.chunks_exact_mut(BINS).zip(bins) {
                of[usize::from(b) % BINS] += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, numbers, read};
    use super::*;

    #[test]
    fn every_sample_gives_its_peak_and_every_neuron_its_histogram() {
        let (samples, positions, skip, width) = (3, 7, 1, 37);
        let x: Vec<f64> = numbers(samples * positions * width, 3).iter().map(|x| f64::from(*x as f32)).collect();
        let mut f = Fixture::default();
        let args = Args {
            x: f.input(samples * positions, width, &x),
            positions,
            skip,
            max: f.output(samples, width),
            at: f.output(samples, width),
            picked: f.output(samples, width),
            first: f.ints(&[40]),
            seed: 5,
            counts: f.ints(&vec![9; width * BINS]),
        };
        args.check().unwrap();
        let mut m = f.arena::<f32>();
        cpu(&args, &mut m);
        let (max, at, picked) = (read(&m, &args.max), read(&m, &args.at), read(&m, &args.picked));
        let mut counts = vec![0; width * BINS];
        for j in 0..width {
            for s in 0..samples {
                let value = |t: usize| x[(s * positions + t) * width + j];
                let best = (skip..positions).fold(skip, |best, t| if value(t) > value(best) { t } else { best });
                assert_eq!((max[s * width + j], at[s * width + j]), (value(best), best as f64));
                let (position, _) = pick(5, j as u32, 40 + s as u32, positions - skip);
                assert_eq!(picked[s * width + j], value(skip + position));
                (skip..positions).for_each(|t| counts[j * BINS + bin(value(t) as f32)] += 1);
            }
        }
        assert_eq!(m.int(args.counts), counts);
        assert!(Args { skip: 7, ..args.clone() }.check().is_err());
        assert!(Args { positions: 4, ..args.clone() }.check().is_err());
        assert!(Args { at: args.x, ..args }.check().is_err());
    }

    #[test]
    fn a_value_lies_between_the_edges_of_its_bin() {
        for i in 0..4000 {
            let x = (f64::from(i) / 100.0 - 20.0).exp2() as f32;
            let b = bin(x);
            assert!(edge(b) <= f64::from(x) && (b >= BINS - 2 || f64::from(x) < edge(b + 1)), "{x} in bin {b}");
        }
        assert_eq!([0.0, -3.0, f32::NEG_INFINITY, f32::INFINITY, f32::NAN].map(bin), [0, 0, 0, BINS - 1, BINS - 1]);
        assert_eq!([1e-30, 1e-5, 1.0, 1.25, 1e30].map(bin), [1, 1, 66, 67, BINS - 2]);
    }

    #[test]
    fn picks_are_spread_evenly() {
        let mut hits = [0; 8];
        (0..8000).for_each(|s| hits[pick(1, 3, s, 8).0] += 1);
        assert!(hits.iter().all(|n| (900..1100).contains(n)), "{hits:?}");
        assert_ne!(pick(1, 3, 5, 1000), pick(2, 3, 5, 1000));
    }

    #[test]
    fn activations_that_are_no_numbers_are_counted_and_never_the_peak() {
        let mut f = Fixture::default();
        let x = f.input(3, 1, &[f64::NAN, 2.0, f64::INFINITY]);
        let mut args = Args {
            x,
            positions: 3,
            skip: 0,
            max: f.output(1, 1),
            at: f.output(1, 1),
            picked: f.output(1, 1),
            first: f.ints(&[0]),
            seed: 0,
            counts: f.ints(&[0; BINS]),
        };
        args.x = x.slice_rows(0, 3);
        let mut m = f.arena::<f64>();
        cpu(&args, &mut m);
        assert_eq!((m.int(args.counts)[BINS - 1], read(&m, &args.max)[0]), (2, f64::INFINITY));
    }
}
