//! Saliency: how much of an activation is lost when each token of a prompt is masked.

use std::collections::{BTreeMap, BTreeSet};

use super::probe::{Family, Probe, Variant};
use super::prune::peak;
use super::settings::Settings;
use crate::error::Result;

/// A prompt to be traced.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    pub neuron: usize,
    /// Token ids, a BOS token in front included; and the position of the pivot among them.
    pub tokens: Vec<u32>,
    pub pivot: usize,
    /// What activations are multiplied by: the scale of the prompt over the neuron's maximum.
    pub factor: f64,
}

/// What the model does on a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// `[tokens]`: activations; only that of the pivot where no other can give a line.
    pub act: Vec<f64>,
    /// `[tokens]`: times the factor, rounded to three decimals where lines ask for it.
    pub norm_act: Vec<f64>,
    pub argmax: usize,
    /// By position t: `1 - a_t(k masked) / a_t` of every position k, 0 behind t. Of the pivot, the argmax,
    /// and every token above the activation threshold.
    pub importance: BTreeMap<usize, Vec<f64>>,
}

/// Rounds to three decimals, as lines are compared.
pub fn rounded(x: f64) -> f64 {
    (x * 1000.0).round_ties_even() / 1000.0
}

/// Traces every prompt. With `all`, every token is read, and those that fire get importances of their own;
/// otherwise only the pivot, which is the last token.
pub fn trace(probe: &Probe, prompts: &[Prompt], all: bool, settings: &Settings) -> Result<Vec<Trace>> {
    let first = usize::from(settings.bos.is_some());
    if !all {
        let families: Vec<Family> = prompts.iter().map(|p| masked(p, vec![p.pivot], &[p.pivot], settings)).collect();
        let answers = probe.run(&families)?;
        let one = |(p, a): (&Prompt, super::probe::Answer)| {
            let act = a.base[0];
            let column = a.variants.iter().map(|v| importance(v[0], act)).collect();
            let mut norm_act = vec![0.0; p.tokens.len()];
            norm_act[p.pivot] = act * p.factor;
            Trace { act: vec![act], norm_act, argmax: p.pivot, importance: [(p.pivot, column)].into() }
        };
        return Ok(prompts.iter().zip(answers).map(one).collect());
    }
    let every =
        |p: &Prompt| Family { neuron: p.neuron, base: p.tokens.clone(), reads: (0..p.tokens.len()).collect(), variants: vec![] };
    let bases = probe.run(&prompts.iter().map(every).collect::<Vec<_>>())?;
    let mut traces: Vec<Trace> = prompts
        .iter()
        .zip(bases)
        .map(|(p, a)| {
            let mut norm_act: Vec<f64> = a.base.iter().map(|act| rounded(act * p.factor)).collect();
            // What stands in front of every prompt is no token of the text.
            norm_act[..first].fill(0.0);
            Trace { argmax: first + peak(&a.base[first..]).0, act: a.base, norm_act, importance: BTreeMap::new() }
        })
        .collect();
    let columns: Vec<Vec<usize>> = prompts
        .iter()
        .zip(&traces)
        .map(|(p, t)| {
            let firing = (first..p.tokens.len()).filter(|&i| t.norm_act[i] > settings.activation_threshold);
            firing.chain([p.pivot, t.argmax]).collect::<BTreeSet<_>>().into_iter().collect()
        })
        .collect();
    let families: Vec<Family> = prompts.iter().zip(&columns).map(|(p, columns)| masked(p, vec![], columns, settings)).collect();
    for (((trace, answer), columns), family) in traces.iter_mut().zip(probe.run(&families)?).zip(&columns).zip(&families) {
        let mut importances: BTreeMap<usize, Vec<f64>> = columns.iter().map(|&t| (t, vec![0.0; trace.act.len()])).collect();
        for (variant, values) in family.variants.iter().zip(&answer.variants) {
            for (t, masked) in variant.reads.iter().zip(values) {
                if let Some(column) = importances.get_mut(t) {
                    column[variant.at] = importance(*masked, trace.act[*t]);
                }
            }
        }
        trace.importance = importances;
    }
    Ok(traces)
}

/// The share of an activation that is lost; 0 where there is none to lose.
fn importance(masked: f64, act: f64) -> f64 {
    if act == 0.0 { 0.0 } else { 1.0 - masked / act }
}

/// A prompt with each of its tokens masked in turn, as far as the last of `columns`, which are read.
fn masked(p: &Prompt, reads: Vec<usize>, columns: &[usize], settings: &Settings) -> Family {
    let last = columns.last().copied().unwrap_or(0);
    let variant = |k: usize| {
        let tokens = std::iter::once(settings.mask_token).chain(p.tokens[k + 1..=last].iter().copied()).collect();
        Variant { at: k, tokens, reads: columns.iter().copied().filter(|t| *t >= k).collect() }
    };
    let base = p.tokens[..=last].to_vec();
    Family { neuron: p.neuron, base, reads, variants: (0..=last).map(variant).collect() }
}
