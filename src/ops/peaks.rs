//! What is kept of the neurons of a site while text streams by: of every sample and neuron the largest
//! activation and one picked at random, of every neuron a histogram, and a list of the few that pass the
//! bars of what was kept before.

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
/// Columns that are counted together, so that their bins fit into the first cache, and that share lists.
pub const TILE: usize = crate::kernel::peaks::NEURONS as usize;
/// Samples that cells can number.
const MOST_SAMPLES: usize = u32::MAX as usize / TILE;
/// Lists of a tile.
const LISTS: usize = 2;

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
    /// `[width * BINS]`: how many activations fall into each bin, neuron by neuron, is added to it, modulo 2^32.
    pub counts: IntBuffer,
    pub bars: Bars,
    pub passed: Passed,
}

/// What a neuron's activations must pass to be listed: whoever keeps the best so far and raises the bars
/// with them misses none.
#[derive(Clone, Copy, Debug)]
pub struct Bars {
    /// `[1, width]`: the largest of a sample passes above it, and where it is minus infinity.
    pub least: View,
    /// `[2 * width]`: the largest of a sample passes too where the key that [`pick`] gives for `!seed` is at
    /// most the first `width` of them; the one picked at random, if it is positive, where its own is at most the others.
    pub most: IntBuffer,
}

/// Lists of what has passed: for each [`TILE`] neurons one of largest activations, then one of those picked at random,
/// each in the order of the samples, and of the neurons within one.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// `[2 * tiles * (1 + 2 * capacity)]`: of each list the number of those that passed, which may be more than
    /// it has room for; then, for each, `TILE * sample + neuron` within the tile and the position.
    pub cells: IntBuffer,
    /// `[2 * tiles, capacity]`: their activations. What lies behind them is not told.
    pub values: View,
}

impl Passed {
    /// u32 of the cells of lists for `width` neurons.
    pub fn cells_len(width: usize, capacity: usize) -> usize {
        Self::lists(width) * (1 + 2 * capacity)
    }
    /// Lists for `width` neurons.
    pub fn lists(width: usize) -> usize {
        LISTS * width.div_ceil(TILE)
    }
    /// The number of a list's activations, its cells and positions in turn; `None` where there were more than it has
    /// room for.
    pub fn list<'a>(&self, cells: &'a [u32], list: usize) -> Option<&'a [u32]> {
        let capacity = self.values.cols;
        let list = &cells[list * (1 + 2 * capacity)..][..1 + 2 * capacity];
        let count = list[0] as usize;
        (count <= capacity).then(|| &list[1..1 + 2 * count])
    }
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
        let (width, capacity) = (self.x.cols, self.passed.values.cols);
        check::view(op, "least", &self.bars.least, 1, width)?;
        check::view(op, "values", &self.passed.values, Passed::lists(width), capacity)?;
        let (most, cells) = (self.bars.most.len, self.passed.cells.len);
        if (most, cells) != (2 * width, Passed::cells_len(width, capacity)) || samples > MOST_SAMPLES {
            let found = format!("{samples} samples, most of {most} numbers, cells of {cells}");
            let cells = Passed::cells_len(width, capacity);
            return Err(Error::shape(
                op,
                found,
                format!("at most {MOST_SAMPLES} samples, most of {}, cells of {cells}", 2 * width),
            ));
        }
        check::apart(op, &[&self.max, &self.at, &self.picked, &self.passed.values], &[&self.x, &self.bars.least])
    }
}

/// A position below `positions` for a neuron in a sample, and a key: of the samples of a text, those with
/// the smallest keys are a random choice that depends on `seed` alone.
pub fn pick(seed: u32, neuron: u32, sample: u32, positions: usize) -> (usize, u32) {
    let key = key(first_key(seed), neuron, sample);
    (position(key, positions) as usize, key)
}

fn first_key(seed: u32) -> u32 {
    mix(seed ^ 0x9e37_79b9)
}

#[inline(always)]
fn key(first: u32, neuron: u32, sample: u32) -> u32 {
    mix(mix(first.wrapping_add(neuron)).wrapping_add(sample))
}

/// The position below `positions` of a key.
#[inline(always)]
fn position(key: u32, positions: usize) -> u32 {
    ((u64::from(mix(key ^ 0x85eb_ca6b)) * positions as u64) >> 32) as u32
}

/// A bijection of 32 bits that spreads every bit over all (Wellons' `lowbias32`).
#[inline(always)]
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
    let values = a.passed.values;
    let mut out = Outputs::take(m, [&a.max, &a.at, &a.picked, &values]);
    let (mut counts, mut cells) = (m.take_ints(a.counts), m.take_ints(a.passed.cells));
    cells.chunks_mut(1 + 2 * values.cols).for_each(|list| list[0] = 0);
    let (first, width) = (m.int(a.first)[0], a.x.cols);
    let (least, most) = (m.row(&a.bars.least, 0), m.int(a.bars.most).split_at(width));
    let seeds = [first_key(!a.seed), first_key(a.seed)];
    for s in 0..a.max.rows {
        let rows = |t: usize| m.row(&a.x, s * a.positions + t);
        for (i, counts) in counts.chunks_mut(TILE * BINS).enumerate() {
            let columns = i * TILE..i * TILE + counts.len() / BINS;
            let tile = |t: usize| &rows(t)[columns.clone()];
            let mut found = Found::default();
            let (sample, neuron) = (first.wrapping_add(s as u32), columns.start as u32);
            let positions = a.skip..a.positions;
            rows::wide(Tile { tile, positions, seeds, sample, neuron, counts, found: &mut found });
            out.row(&a.max, s)[columns.clone()].copy_from_slice(&found.max[..columns.len()]);
            out.row(&a.at, s)[columns.clone()].copy_from_slice(&found.at[..columns.len()]);
            for j in 0..columns.len() {
                let (column, position) = (columns.start + j, a.skip + found.position[j] as usize);
                let (max, picked) = (found.max[j], rows(position)[column]);
                out.row(&a.picked, s)[column] = picked;
                let mut list = |kind: usize, value: T, position: u32| {
                    let list = LISTS * i + kind;
                    let cells = &mut cells[list * (1 + 2 * values.cols)..];
                    let count = cells[0] as usize;
                    if count < values.cols {
                        cells[1 + 2 * count..][..2].copy_from_slice(&[(TILE * s + j) as u32, position]);
                        out.row(&values, list)[count] = value;
                    }
                    cells[0] += 1;
                };
                let bar = least[column];
                if max > bar || bar == T::of(f64::NEG_INFINITY) || found.keys[0][j] <= most.0[column] {
                    list(0, max, found.at[j].to_f64() as u32);
                }
                if picked > T::ZERO && found.keys[1][j] <= most.1[column] {
                    list(1, picked, position as u32);
                }
            }
        }
    }
    out.put(m);
    m.put_ints(a.counts, counts);
    m.put_ints(a.passed.cells, cells);
}

/// What is found of some columns of a sample.
struct Found<T> {
    max: [T; TILE],
    at: [T; TILE],
    /// Of `!seed` and of the seed.
    keys: [[u32; TILE]; 2],
    /// Of the activation that is picked, among those that count.
    position: [u32; TILE],
}

impl<T: Real> Default for Found<T> {
    fn default() -> Self {
        let max = [T::of(f64::NEG_INFINITY); TILE];
        Self { max, at: [T::ZERO; TILE], keys: [[0; TILE]; 2], position: [0; TILE] }
    }
}

/// Some columns of a sample.
struct Tile<'a, T, F> {
    /// The columns at a position, at most [`TILE`] of them.
    tile: F,
    positions: Range<usize>,
    seeds: [u32; 2],
    sample: u32,
    /// The first column.
    neuron: u32,
    /// `[columns * BINS]`: what is there is added to.
    counts: &'a mut [u32],
    found: &'a mut Found<T>,
}

impl<'m, T: Real, F: Fn(usize) -> &'m [T]> NullaryFnOnce for Tile<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let found = self.found;
        for (keys, seed) in found.keys.iter_mut().zip(self.seeds) {
            for (j, of) in keys.iter_mut().enumerate() {
                *of = key(seed, self.neuron.wrapping_add(j as u32), self.sample);
            }
        }
        for j in 0..TILE {
            found.position[j] = position(found.keys[1][j], self.positions.len());
        }
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
                let is_larger = x[j] > found.max[j];
                found.max[j] = if is_larger { x[j] } else { found.max[j] };
                found.at[j] = if is_larger { position } else { found.at[j] };
                bins[j] = bin(x[j].to_f64() as f32) as u8;
            }
            for (of, b) in self.counts.chunks_exact_mut(BINS).zip(bins) {
                let of = &mut of[usize::from(b) % BINS];
                *of = of.wrapping_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, numbers, read};
    use super::*;

    /// Arguments for `x` `[samples * positions, width]`, with bars that nothing passes unless they are given, and room for
    /// `capacity` in a list.
    fn args(
        f: &mut Fixture,
        (samples, positions, skip, width): (usize, usize, usize, usize),
        x: &[f64],
        bars: Option<(&[f64], &[u32])>,
        capacity: usize,
    ) -> Args {
        let (least, most) = bars.map_or((vec![f64::INFINITY; width], vec![0; 2 * width]), |(l, m)| (l.to_vec(), m.to_vec()));
        Args {
            x: f.input(samples * positions, width, x),
            positions,
            skip,
            max: f.output(samples, width),
            at: f.output(samples, width),
            picked: f.output(samples, width),
            first: f.ints(&[40]),
            seed: 5,
            counts: f.ints(&vec![9; width * BINS]),
            bars: Bars { least: f.input(1, width, &least), most: f.ints(&most) },
            passed: Passed {
                cells: f.ints(&vec![77; Passed::cells_len(width, capacity)]),
                values: f.output(Passed::lists(width), capacity),
            },
        }
    }

    #[test]
    fn every_sample_gives_its_peak_and_every_neuron_its_histogram() {
        let sizes @ (samples, positions, skip, width) = (3, 7, 1, 37);
        let x: Vec<f64> = numbers(samples * positions * width, 3).iter().map(|x| f64::from(*x as f32)).collect();
        let mut f = Fixture::default();
        let args = args(&mut f, sizes, &x, None, 2);
        args.check().unwrap();
        let mut m = f.arena::<f32>();
        cpu(&args, &mut m);
        let (max, at, picked) = (read(&m, &args.max), read(&m, &args.at), read(&m, &args.picked));
        let mut counts = vec![9; width * BINS];
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
        assert_eq!(m.int(args.counts), counts, "what was there is added to");
        assert!((0..Passed::lists(width)).all(|list| args.passed.list(m.int(args.passed.cells), list) == Some(&[])));
        assert!(Args { skip: 7, ..args.clone() }.check().is_err());
        assert!(Args { positions: 4, ..args.clone() }.check().is_err());
        assert!(Args { bars: Bars { most: args.first, ..args.bars }, ..args.clone() }.check().is_err());
        let passed = Passed { values: args.passed.values.slice_rows(0, 1), ..args.passed };
        assert!(Args { passed, ..args.clone() }.check().is_err());
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
        let args = args(&mut f, (1, 3, 0, 1), &[f64::NAN, 2.0, f64::INFINITY], None, 1);
        let mut m = f.arena::<f64>();
        cpu(&args, &mut m);
        assert_eq!((m.int(args.counts)[BINS - 1], read(&m, &args.max)[0]), (9 + 2, f64::INFINITY));
    }

    #[test]
    fn what_passes_the_bars_is_listed_and_nothing_else() {
        let sizes @ (samples, positions, skip, width) = (6, 5, 1, 70);
        let x: Vec<f64> = numbers(samples * positions * width, 8).iter().map(|x| f64::from(*x as f32)).collect();
        // Every third neuron has no best yet, and keys are barred at a quarter of their range.
        let least: Vec<f64> = (0..width).map(|j| if j % 3 == 0 { f64::NEG_INFINITY } else { 0.1 * (j % 7) as f64 }).collect();
        let most: Vec<u32> = (0..2 * width).map(|i| if i % 5 == 0 { 0 } else { u32::MAX / 4 }).collect();
        for capacity in [200, 40] {
            let mut f = Fixture::default();
            let args = args(&mut f, sizes, &x, Some((&least, &most)), capacity);
            args.check().unwrap();
            let mut m = f.arena::<f32>();
            cpu(&args, &mut m);
            let (max, at, picked) = (read(&m, &args.max), read(&m, &args.at), read(&m, &args.picked));
            let mut full = 0;
            for list in 0..Passed::lists(width) {
                let (columns, kind) = (list / 2 * TILE..width.min((list / 2 + 1) * TILE), list % 2);
                let mut expected = Vec::new();
                for s in 0..samples {
                    for j in columns.clone() {
                        let cell = s * width + j;
                        let key = |seed| pick(seed, j as u32, 40 + s as u32, positions - skip);
                        let passes = match kind {
                            0 => least[j] < max[cell] || j % 3 == 0 || key(!5).1 <= most[j],
                            _ => picked[cell] > 0.0 && key(5).1 <= most[width + j],
                        };
                        let found = [(max[cell], at[cell] as u32), (picked[cell], (skip + key(5).0) as u32)][kind];
                        expected.extend(passes.then_some(((TILE * s + j % TILE) as u32, found.1, found.0)));
                    }
                }
                assert!(kind == 1 || expected.len() < samples * columns.len() && !expected.is_empty());
                match args.passed.list(m.int(args.passed.cells), list) {
                    None => full += usize::from(expected.len() > capacity),
                    Some(cells) => {
                        let values = m.row(&args.passed.values, list);
                        let found: Vec<_> = cells.chunks(2).zip(values).map(|(c, v)| (c[0], c[1], f64::from(*v))).collect();
                        assert_eq!(found, expected);
                    }
                }
            }
            assert_eq!(full > 0, capacity == 40, "lists without room say so");
        }
    }
}
