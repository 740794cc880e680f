//! How many directions or edges an ablation keeps, one measurement after the other (`lib.md` 3.2).
//!
//! Schedules count what is ablated of n, curves what is kept.

use std::collections::BTreeMap;

use crate::error::Result;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Share of the labelled outputs that are predicted.
    Accuracy,
    /// Mean cross-entropy over the labelled outputs, in nats.
    Loss,
}

impl Metric {
    /// Whether `value` is no worse than `base` by more than `target`.
    pub fn is_good(self, value: f64, base: f64, target: f64) -> bool {
        match self {
            Metric::Accuracy => value >= base - target,
            Metric::Loss => value <= base + target,
        }
    }
}

/// The point between two bounds that a bisection tries next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Midpoint {
    Linear,
    /// The geometric mean.
    Logarithmic,
}

/// Which numbers are measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// `cutoff` single steps from everything ablated, then `x <- trunc(x - base^k)`, k = 0, 1, ..,
    /// down to 0. `base` is at least 1.
    Exponential { base: f64, cutoff: usize },
    /// `points` numbers, evenly spaced and rounded down, both ends included.
    Linear { points: usize },
    /// The most that can be ablated while the metric is good ([`Metric::is_good`]), up to `tolerance`.
    Bisect { target: f64, midpoint: Midpoint, tolerance: usize },
}

impl Schedule {
    /// The numbers to ablate of `n`, falling; none for a bisection, which finds them as it goes.
    pub fn ablated(self, n: usize) -> Vec<usize> {
        match self {
            Schedule::Exponential { base, cutoff } => {
                let mut counts: Vec<usize> = (n - cutoff.min(n)..=n).rev().collect();
                let (mut x, mut k) = (n - cutoff.min(n), 0);
                while x > 0 {
                    x = (x as f64 - base.powi(k)).trunc().max(0.0) as usize;
                    counts.push(x);
                    k += 1;
                }
                counts
            }
            Schedule::Linear { points } => {
                // More points than numbers to measure are no more than those numbers.
                let last = (points.max(2) - 1).min(n.max(1));
                let mut counts: Vec<usize> = (0..=last).rev().map(|i| (n as u128 * i as u128 / last as u128) as usize).collect();
                counts.dedup();
                counts
            }
            Schedule::Bisect { .. } => Vec::new(),
        }
    }
}

/// The bounds of a bisection over the number ablated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bisection {
    /// The largest number known to be good.
    pub good: usize,
    /// The smallest number known to be bad; at first `n`, which is taken to be bad.
    pub bad: usize,
}

impl Bisection {
    pub fn new(n: usize) -> Self {
        Self { good: 0, bad: n }
    }
    /// The number to try next; `None` when the bounds are within `tolerance` (at least 1).
    pub fn proposal(self, midpoint: Midpoint, tolerance: usize) -> Option<usize> {
        if self.bad - self.good <= tolerance.max(1) {
            return None;
        }
        let middle = match midpoint {
            Midpoint::Linear => (self.good + self.bad) / 2,
            Midpoint::Logarithmic => (self.good as f64 * self.bad as f64).sqrt() as usize,
        };
        // A bound itself would be tried for ever.
        Some(middle.clamp(self.good + 1, self.bad - 1))
    }
    /// Takes in whether ablating `count` is good.
    pub fn update(&mut self, count: usize, is_good: bool) {
        *(if is_good { &mut self.good } else { &mut self.bad }) = count;
    }
}

/// A whole ablation: the schedule and what may be added to it.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub schedule: Schedule,
    /// Further numbers kept; each at most the number there is.
    pub at: Vec<usize>,
    /// Going from few to many ablations, stop behind the first value this far from the base.
    pub stop_at: Option<f64>,
    pub metric: Metric,
}

/// The metric by the number kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    pub points: BTreeMap<usize, f64>,
    /// Of a bisection: the least number kept that is good.
    pub required: Option<usize>,
}

impl Protocol {
    /// Measures a curve over `n` directions or edges. `measure` gives the metric for each of some
    /// numbers kept; with `stop_at` it is asked for at most `wave` of them at a time.
    pub fn run(&self, n: usize, base: f64, wave: usize, mut measure: impl FnMut(&[usize]) -> Result<Vec<f64>>) -> Result<Curve> {
        let mut curve = Curve::default();
        if let Schedule::Bisect { target, midpoint, tolerance } = self.schedule {
            let mut bounds = Bisection::new(n);
            while let Some(count) = bounds.proposal(midpoint, tolerance) {
                for value in measure(&[n - count])? {
                    curve.points.insert(n - count, value);
                    bounds.update(count, self.metric.is_good(value, base, target));
                }
            }
            curve.required = Some(n - bounds.good);
            return Ok(curve);
        }
        let mut kept: Vec<usize> = self.schedule.ablated(n).into_iter().map(|x| n - x).chain(self.at.iter().copied()).collect();
        kept.sort_unstable_by(|a, b| b.cmp(a));
        kept.dedup();
        let wave = if self.stop_at.is_some() { wave.max(1) } else { kept.len().max(1) };
        for some in kept.chunks(wave) {
            for (&k, value) in some.iter().zip(measure(some)?) {
                curve.points.insert(k, value);
                if self.stop_at.is_some_and(|limit| (value - base).abs() > limit) {
                    return Ok(curve);
                }
            }
        }
        Ok(curve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(cutoff: usize, n: usize) -> Vec<usize> {
        Schedule::Exponential { base: 2.0, cutoff }.ablated(n)
    }

    fn protocol(schedule: Schedule) -> Protocol {
        Protocol { schedule, at: Vec::new(), stop_at: None, metric: Metric::Accuracy }
    }

    #[test]
    fn b30_schedules_are_those_of_the_reference() {
        assert_eq!(exponential(usize::MAX, 12), (0..=12).rev().collect::<Vec<_>>());
        assert_eq!(exponential(0, 12), [12, 11, 9, 5, 0]);
        assert_eq!(exponential(1, 12), [12, 11, 10, 8, 4, 0]);
        assert_eq!(exponential(3, 12), [12, 11, 10, 9, 8, 6, 2, 0]);
        assert_eq!(exponential(3, 24), [24, 23, 22, 21, 20, 18, 14, 6, 0]);
        assert_eq!(Schedule::Linear { points: 3 }.ablated(12), [12, 6, 0]);
        assert_eq!(Schedule::Linear { points: 11 }.ablated(20), (0..=10).rev().map(|i| 2 * i).collect::<Vec<_>>());
        assert_eq!(Schedule::Linear { points: 3 }.ablated(5), [5, 2, 0]);
        assert_eq!(Schedule::Linear { points: 9 }.ablated(2), [2, 1, 0]);
        assert_eq!(Schedule::Linear { points: usize::MAX }.ablated(3), [3, 2, 1, 0]);
        assert_eq!(Schedule::Linear { points: usize::MAX }.ablated(0), [0]);
        for n in [0, 1, 2] {
            assert_eq!(exponential(10, n), (0..=n).rev().collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_papers_schedule_keeps_what_the_fixtures_kept() {
        let kept: Vec<usize> =
            Schedule::Exponential { base: 1.05, cutoff: 10 }.ablated(129).into_iter().map(|x| 129 - x).collect();
        let rest = [42, 45, 48, 51, 54, 57, 60, 63, 67, 71, 75, 79, 83, 87, 92, 97, 102, 107, 113, 119, 125, 129];
        assert_eq!(kept, (0..=11).chain((13..40).step_by(2)).chain(rest).collect::<Vec<_>>());
    }

    #[test]
    fn b31_bisection_ends_between_the_largest_good_and_the_smallest_bad() {
        for midpoint in [Midpoint::Linear, Midpoint::Logarithmic] {
            for n in [1, 2, 20, 16_641] {
                for good in [0, 1, 2, 7, 10, 19, 16_000, 16_640].into_iter().filter(|g| *g < n) {
                    let mut tried = Vec::new();
                    let bisect = |tolerance| protocol(Schedule::Bisect { target: 0.001, midpoint, tolerance });
                    let is_good = |kept: usize| if n - kept <= good { 0.9995 } else { 0.5 };
                    let measure = |kept: &[usize]| {
                        tried.extend_from_slice(kept);
                        Ok(kept.iter().map(|&k| is_good(k)).collect())
                    };
                    let curve = bisect(1).run(n, 1.0, 1, measure).unwrap();
                    assert_eq!(curve.required, Some(n - good), "{midpoint:?} {n} {good}");
                    let mut once = tried.clone();
                    once.sort_unstable();
                    once.dedup();
                    assert_eq!((once.len(), curve.points.len()), (tried.len(), tried.len()), "no number twice");
                    assert!(tried.iter().all(|&k| k > 0 && k < n));
                    for tolerance in [2, 5, 100] {
                        let rough =
                            bisect(tolerance).run(n, 1.0, 1, |kept| Ok(kept.iter().map(|&k| is_good(k)).collect())).unwrap();
                        let required = rough.required.unwrap();
                        assert!(required >= n - good && required - (n - good) < tolerance, "{tolerance}: {required}");
                    }
                }
            }
        }
    }

    #[test]
    fn bisection_follows_the_fixtures() {
        // seed 0, section ln2.0: the numbers kept that the paper's run tried, 82 the least good one.
        let bisect = protocol(Schedule::Bisect { target: 0.001, midpoint: Midpoint::Linear, tolerance: 1 });
        let (base, good, bad) = (8935.0 / 8939.0, 8927.0 / 8939.0, 8926.0 / 8939.0);
        let curve =
            bisect.run(16_641, base, 1, |kept| Ok(kept.iter().map(|&k| if k >= 82 { good } else { bad }).collect())).unwrap();
        let kept: Vec<usize> = curve.points.into_keys().rev().collect();
        assert_eq!(kept, [8321, 4161, 2081, 1041, 521, 261, 131, 99, 83, 82, 81, 79, 75, 66]);
    }

    #[test]
    fn a_loss_is_good_from_below() {
        assert!(Metric::Loss.is_good(1.2, 1.0, 0.2) && !Metric::Loss.is_good(1.3, 1.0, 0.2));
        assert!(Metric::Accuracy.is_good(0.75, 1.0, 0.25) && !Metric::Accuracy.is_good(0.7, 1.0, 0.25));
        assert!(!Metric::Loss.is_good(f64::NAN, 1.0, 9.0) && !Metric::Accuracy.is_good(f64::NAN, 1.0, 9.0));
    }

    #[test]
    fn points_are_added_and_the_curve_stops_where_asked() {
        let mut p = protocol(Schedule::Linear { points: 3 });
        p.at = vec![3, 6];
        let value = |k: usize| k as f64 / 12.0;
        let all = p.run(12, 1.0, 1, |kept| Ok(kept.iter().map(|&k| value(k)).collect())).unwrap();
        assert_eq!((all.points.keys().copied().collect::<Vec<_>>(), all.required), (vec![0, 3, 6, 12], None));
        p.stop_at = Some(0.5);
        for wave in [1, 2, 9] {
            let mut asked = 0;
            let measure = |kept: &[usize]| {
                asked += kept.len();
                assert!(kept.len() <= wave);
                Ok(kept.iter().map(|&k| value(k)).collect())
            };
            let curve = p.run(12, 1.0, wave, measure).unwrap();
            // Half of it gone is still allowed, three quarters is not; nothing behind it is shown.
            assert_eq!(curve.points.keys().copied().collect::<Vec<_>>(), [3, 6, 12], "{wave}");
            assert_eq!(asked, if wave == 1 { 3 } else { 4 });
        }
    }
}
