//! Pruning: the shortest of some suffixes of a window's context on which the pivot still fires.

use super::probe::{Family, Probe};
use super::settings::{Lengths, Settings};
use super::vocabulary::Vocabulary;
use crate::error::Result;

/// A token of a window that fires a neuron.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    pub neuron: usize,
    /// Token ids of the window.
    pub window: &'a [u32],
    /// Position of the token, and its activation in the window: above 0.
    pub pivot: usize,
    pub act: f64,
}

/// What is left of a window: `window[start..end]`, the suffix and what is kept behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pruned {
    pub start: usize,
    pub end: usize,
    /// Whether a suffix passed; else it is the longest of those tried.
    pub accepted: bool,
    /// The largest activation on the suffix where the pivot must have it, else the pivot's.
    pub suffix_max: f64,
}

/// Prunes every job: suffixes of one length run together, the next length with what is left.
pub fn prune(probe: &Probe, jobs: &[Job], vocabulary: &Vocabulary, settings: &Settings) -> Result<Vec<Pruned>> {
    let stages: Vec<Vec<Vec<usize>>> = jobs.iter().map(|job| stages(job.pivot + 1 - first(settings), settings)).collect();
    let mut pruned: Vec<Option<Pruned>> = vec![None; jobs.len()];
    for stage in 0.. {
        let open = |&i: &usize| pruned[i].is_none_or(|p| !p.accepted) && stage < stages[i].len();
        let open: Vec<usize> = (0..jobs.len()).filter(open).collect();
        if open.is_empty() {
            break;
        }
        let tried: Vec<(usize, usize)> = open.iter().flat_map(|&i| stages[i][stage].iter().map(move |&n| (i, n))).collect();
        let families: Vec<Family> = tried.iter().map(|&(i, n)| suffix(&jobs[i], n, settings)).collect();
        for (&(i, n), answer) in tried.iter().zip(probe.run(&families)?) {
            if pruned[i].is_none_or(|p| !p.accepted) {
                pruned[i] = Some(judge(&jobs[i], n, &answer.base, vocabulary, settings));
            }
        }
    }
    // A context that has no length to try is that of a pivot at the very start: itself.
    let alone = |job: &Job| Pruned { start: job.pivot, end: job.pivot + 1, accepted: false, suffix_max: job.act };
    Ok(pruned.into_iter().zip(jobs).map(|(p, job)| p.unwrap_or_else(|| alone(job))).collect())
}

/// The first position that a suffix may hold: a BOS token goes in front of every prompt anyway.
fn first(settings: &Settings) -> usize {
    usize::from(settings.bos.is_some())
}

/// The lengths to try of a context of `context` tokens, the pivot included, in groups that run together.
fn stages(context: usize, settings: &Settings) -> Vec<Vec<usize>> {
    let longest = settings.prune_cutoff.map_or(context, |cutoff| cutoff.min(context));
    let whole = settings.prune_cutoff.is_none_or(|cutoff| context <= cutoff);
    let mut lengths: Vec<usize> = match settings.lengths {
        Lengths::Step(step) => (1..).map(|i| i * step.max(1)).take_while(|n| *n <= longest).collect(),
        Lengths::Growing => {
            let next = |n: &usize| Some(n + (n / 2).max(1));
            std::iter::successors(Some(1), next).take_while(|n| *n <= longest).collect()
        }
    };
    if (whole || settings.lengths == Lengths::Growing) && lengths.last() != Some(&longest) && longest > 0 {
        lengths.push(longest);
    }
    // Short suffixes are cheap: several at a time save rounds. Long ones are tried one by one.
    let mut stages: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for n in lengths {
        match stages.last_mut().filter(|_| tokens + n <= 10) {
            Some(stage) => stage.push(n),
            None => {
                stages.push(vec![n]);
                tokens = 0;
            }
        }
        tokens += n;
    }
    stages
}

/// The suffix of `n` tokens that ends at the pivot.
fn suffix(job: &Job, n: usize, settings: &Settings) -> Family {
    let tokens = &job.window[job.pivot + 1 - n..job.pivot + 1];
    let base: Vec<u32> = settings.bos.into_iter().chain(tokens.iter().copied()).collect();
    let reads = if settings.prune_argmax { first(settings)..base.len() } else { base.len() - 1..base.len() };
    Family { neuron: job.neuron, reads: reads.collect(), base, variants: Vec::new() }
}

fn judge(job: &Job, n: usize, acts: &[f64], vocabulary: &Vocabulary, settings: &Settings) -> Pruned {
    let (at, max) = peak(acts);
    let (part, ratio) = (max / job.act, settings.prune_ratio);
    let accepted = match settings.prune_argmax {
        true => at + 1 == acts.len() && part > ratio,
        false => part >= ratio,
    };
    let end = job.pivot + 1 + behind(job, vocabulary, settings.post_context);
    Pruned { start: job.pivot + 1 - n, end, accepted, suffix_max: max }
}

/// The first position of the largest of some activations, and it.
pub fn peak(acts: &[f64]) -> (usize, f64) {
    acts.iter().copied().enumerate().fold((0, f64::NEG_INFINITY), |best, (i, a)| if a > best.1 { (i, a) } else { best })
}

/// Tokens behind the pivot that belong to its sentence, at most `most`.
fn behind(job: &Job, vocabulary: &Vocabulary, most: usize) -> usize {
    let ends_sentence = |id: &u32| vocabulary.text(*id).contains(['.', '!', '\n']);
    let rest = &job.window[job.pivot..];
    let sentence = rest.iter().position(ends_sentence).map_or(rest.len(), |i| i + 1);
    (sentence - 1).min(most)
}

#[cfg(test)]
mod tests {
    use super::super::settings::Mode;
    use super::super::vocabulary::Fold;
    use super::*;

    fn lengths(mode: Mode, context: usize) -> Vec<usize> {
        stages(context, &Settings::of(mode, 0, None)).concat()
    }

    #[test]
    fn the_lengths_of_a_mode_are_tried_shortest_first() {
        assert_eq!(lengths(Mode::Reference, 40), [5, 10, 15, 20, 25, 30]);
        assert_eq!(lengths(Mode::Reference, 12), [5, 10, 12]);
        assert_eq!(lengths(Mode::Reference, 30), [5, 10, 15, 20, 25, 30]);
        assert_eq!(lengths(Mode::Reference, 31), [5, 10, 15, 20, 25, 30]);
        assert_eq!(lengths(Mode::Reference, 3), [3]);
        assert_eq!(lengths(Mode::Paper, 100), (1..=100).collect::<Vec<_>>());
        assert_eq!(lengths(Mode::Default, 100), [1, 2, 3, 4, 6, 9, 13, 19, 28, 32]);
        assert_eq!(lengths(Mode::Default, 5), [1, 2, 3, 4, 5]);
        assert_eq!(lengths(Mode::Default, 1), [1]);
        let settings = Settings::of(Mode::Paper, 0, None);
        assert_eq!(stages(7, &settings), [vec![1, 2, 3, 4], vec![5], vec![6], vec![7]]);
    }

    #[test]
    fn what_is_kept_behind_the_pivot_is_of_its_sentence() {
        let texts = ["a", " b.", "!", "c\n", "?"].map(String::from).to_vec();
        let vocabulary = Vocabulary::new(texts, Fold::Exact);
        let kept = |window: &[u32], pivot| behind(&Job { neuron: 0, window, pivot, act: 1.0 }, &vocabulary, 5);
        assert_eq!(kept(&[0, 0, 0, 0, 0, 0, 0, 0], 1), 5);
        assert_eq!(kept(&[0, 0, 0], 1), 1);
        assert_eq!(kept(&[0, 0, 4, 1, 0], 1), 2);
        assert_eq!(kept(&[0, 1, 0, 0], 1), 0);
        assert_eq!(kept(&[0, 2, 0], 0), 1);
        assert_eq!(kept(&[3, 0], 0), 0);
    }
}
