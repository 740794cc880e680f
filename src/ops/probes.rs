//! Probe vectors: the cotangents and tangents that a Jacobian is read with (`lib.md` 1.6).
//!
//! Random signs come from a counter-based generator over (seed, probe, sample, position, feature),
//! so they do not depend on batches, threads or backends.

use crate::device::{Arena, IntBuffer, Real, Tensor, View};

/// One step of the SplitMix64 generator (Steele, Lea and Flood 2014).
pub fn splitmix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A sign, uniform over +1 and -1, that depends on all of `key`.
pub fn sign(key: &[u64]) -> f64 {
    let h = key.iter().fold(0, |h, &k| splitmix(h ^ k));
    if h >> 63 == 0 { 1.0 } else { -1.0 }
}

/// Which probes there are; k counts the features, S the output positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Feature i at every position at once: k probes, exact where positions do not mix.
    Feature,
    /// Feature i at position t: S k probes, exact.
    FeatureAt,
    /// Feature i with signs over (sample, position): R k probes.
    PositionSigns { sources: usize },
    /// Position t with signs over (sample, feature): S R probes; with `all`, every position at once.
    FeatureSigns { sources: usize, all: bool },
    /// Signs over (sample, position, feature).
    Signs { sources: usize },
}

impl Kind {
    /// How many probes.
    pub fn count(self, features: usize, positions: usize) -> usize {
        match self {
            Kind::Feature => features,
            Kind::FeatureAt => features * positions,
            Kind::PositionSigns { sources } => sources * features,
            Kind::FeatureSigns { sources, all } => sources * if all { 1 } else { positions },
            Kind::Signs { sources } => sources,
        }
    }
    /// How many probes share a feature or a position; 1 where that is not asked.
    pub(super) fn sources(self) -> usize {
        match self {
            Kind::Feature | Kind::FeatureAt => 1,
            Kind::PositionSigns { sources } | Kind::FeatureSigns { sources, .. } | Kind::Signs { sources } => sources,
        }
    }
    /// The name by which kernels know it (`kernel::probes::KINDS`), and whether a row adds up all features.
    pub(super) fn form(self) -> (&'static str, bool) {
        match self {
            Kind::Feature => ("FEATURE", false),
            Kind::FeatureAt => ("FEATURE_AT", false),
            Kind::PositionSigns { .. } => ("POSITION_SIGNS", false),
            Kind::FeatureSigns { all: false, .. } => ("FEATURE_SIGNS", true),
            Kind::FeatureSigns { all: true, .. } => ("FEATURE_SIGNS_ALL", true),
            Kind::Signs { .. } => ("SIGNS", true),
        }
    }
}

impl Args {
    /// How many features there are to choose from.
    pub(super) fn features(&self) -> usize {
        self.c_t.as_ref().map_or(self.y.cols, |c| c.rows)
    }
}

/// y[r * n + (x, t), :] = sum_i phi_p[x, t, i] C[:, i] for probe p = index * R + r; 0 behind the last
/// probe.
#[derive(Clone, Debug)]
pub struct Args {
    pub kind: Kind,
    pub seed: u64,
    /// C' `[k, d_out]`; the identity where absent
    pub c_t: Option<Tensor>,
    /// Output positions of each sample
    pub positions: usize,
    /// `[1]`: index of the block's first sample
    pub first: IntBuffer,
    /// `[1]`: number of the chunk
    pub index: IntBuffer,
    /// R
    pub probes: usize,
    /// `[R * n, d_out]`
    pub y: View,
}

/// Runs on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let (chunk, first) = (m.int(a.index)[0] as usize, m.int(a.first)[0] as u64);
    let features = a.c_t.as_ref().map_or(a.y.cols, |c| c.rows);
    let c_t = a.c_t.as_ref().map(|c| c.slice::<T>());
    let (n, d, count) = (a.y.rows / a.probes, a.y.cols, a.kind.count(features, a.positions));
    let add = |y: &mut [T], i: usize, s: f64| match c_t {
        Some(c) => y.iter_mut().zip(&c[i * d..][..d]).for_each(|(y, c)| *y += T::of(s) * *c),
        None => y[i] += T::of(s),
    };
    let y = m.real_mut(a.y.buffer);
    for r in 0..a.probes {
        let p = chunk * a.probes + r;
        for row in 0..n {
            let y = &mut y[a.y.range(r * n + row)];
            y.fill(T::ZERO);
            if p >= count {
                continue;
            }
            let (x, t) = (first + (row / a.positions) as u64, row % a.positions);
            let key = |source: usize, at: usize, i: usize| sign(&[a.seed, source as u64, x, at as u64, i as u64]);
            match a.kind {
                Kind::Feature => add(y, p, 1.0),
                Kind::FeatureAt if t == p / features => add(y, p % features, 1.0),
                Kind::FeatureAt => {}
                Kind::PositionSigns { .. } => add(y, p % features, key(p / features, t, usize::MAX)),
                Kind::FeatureSigns { sources, all } => {
                    let (source, at) = (p % sources, p / sources);
                    if all || at == t {
                        (0..features).for_each(|i| add(y, i, key(source, if all { t } else { 0 }, i)));
                    }
                }
                Kind::Signs { .. } => (0..features).for_each(|i| add(y, i, key(p, t, i))),
            }
        }
    }
}

/// Copies the rows of one chunk: y = rows index * n .. of x, zero behind the last row.
#[derive(Clone, Debug)]
pub struct ChunkArgs {
    pub x: View,
    pub index: IntBuffer,
    pub y: View,
}

/// Runs on one CPU thread.
pub fn cpu_chunk<T: Real>(a: &ChunkArgs, m: &mut Arena<T>) {
    let start = m.int(a.index)[0] as usize * a.y.rows;
    let mut y = m.take(a.y.buffer);
    for i in 0..a.y.rows {
        let y = &mut y[a.y.range(i)];
        if start + i < a.x.rows { y.copy_from_slice(m.row(&a.x, start + i)) } else { y.fill(T::ZERO) }
    }
    m.put(a.y.buffer, y);
}

/// y[j * n + i, :] = e_j: every input direction as a tangent of every row of a chunk, zero for rows
/// behind `rows`, the rows there are in all.
#[derive(Clone, Debug)]
pub struct BasisArgs {
    pub rows: usize,
    pub index: IntBuffer,
    /// `[d * n, d]`
    pub y: View,
}

/// Runs on one CPU thread.
pub fn cpu_basis<T: Real>(a: &BasisArgs, m: &mut Arena<T>) {
    let (d, start) = (a.y.cols, m.int(a.index)[0] as usize);
    let n = a.y.rows / d;
    let y = m.real_mut(a.y.buffer);
    for j in 0..d {
        for i in 0..n {
            let y = &mut y[a.y.range(j * n + i)];
            y.fill(T::ZERO);
            if start * n + i < a.rows {
                y[j] = T::ONE;
            }
        }
    }
}

/// y[r * n + s, :] = f[s, j] C+[j, :] for feature j = index * R + r; 0 behind the last feature: the
/// tangent field that moves one feature at all positions.
#[derive(Clone, Debug)]
pub struct FeatureArgs {
    /// `[n, k]`
    pub f_hat: View,
    /// C+ `[k, d]`
    pub c_pinv: Tensor,
    pub index: IntBuffer,
    pub probes: usize,
    /// `[R * n, d]`
    pub y: View,
}

/// Runs on one CPU thread.
pub fn cpu_feature<T: Real>(a: &FeatureArgs, m: &mut Arena<T>) {
    let (chunk, n) = (m.int(a.index)[0] as usize, a.f_hat.rows);
    let mut y = m.take(a.y.buffer);
    for r in 0..a.probes {
        let j = chunk * a.probes + r;
        for s in 0..n {
            let y = &mut y[a.y.range(r * n + s)];
            if j < a.c_pinv.rows {
                let f = m.row(&a.f_hat, s)[j];
                let direction = &a.c_pinv.slice::<T>()[j * a.c_pinv.cols..][..a.c_pinv.cols];
                y.iter_mut().zip(direction).for_each(|(y, c)| *y = f * *c);
            } else {
                y.fill(T::ZERO);
            }
        }
    }
    m.put(a.y.buffer, y);
}
