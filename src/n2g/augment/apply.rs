//! Substituted prompts of neurons: made, tried, and traced (`n2g.md` 1.11).

use super::super::probe::{Family, Probe};
use super::super::saliency::{Prompt, Trace, trace};
use super::super::settings::{Build, Settings};
use super::{Augmenter, Original, Substitute};
use crate::error::Result;

/// A substituted prompt that a neuron was read on.
#[derive(Clone, Debug)]
pub struct Augmented {
    pub substitute: Substitute,
    pub prompt: Prompt,
    pub trace: Trace,
}

/// By prompt: its augmentations, in the order of [`Augmenter::substitutes`]. A prompt without a trace has
/// none. In the `reference` mode all are kept; else those on which the pivot keeps `prune_ratio` of its
/// activation on the prompt.
pub fn augmented(
    probe: &Probe,
    augmenter: &Augmenter,
    prompts: &[Prompt],
    traces: &[Option<Trace>],
    settings: &Settings,
) -> Result<Vec<Vec<Augmented>>> {
    let is_reference = settings.build == Build::Merged;
    let traced: Vec<(usize, &Trace)> = traces.iter().enumerate().filter_map(|(i, t)| Some((i, t.as_ref()?))).collect();
    let originals: Vec<Original> = traced
        .iter()
        .map(|&(i, t)| {
            let pivot = if is_reference { t.argmax } else { prompts[i].pivot };
            let importance = t.importance.get(&pivot).map_or(&[][..], Vec::as_slice);
            Original { tokens: &prompts[i].tokens, pivot, importance }
        })
        .collect();
    // Number of the prompt beside each.
    let mut tried: Vec<(usize, Substitute)> = Vec::new();
    for (substitutes, (i, _)) in augmenter.substitutes(&originals)?.into_iter().zip(&traced) {
        let fitting = substitutes.into_iter().filter(|s| s.tokens.len() <= probe.longest());
        tried.extend(fitting.map(|s| (*i, s)));
    }
    if !is_reference {
        let family = |(i, s): &(usize, Substitute)| Family {
            neuron: prompts[*i].neuron,
            base: s.tokens[..=s.pivot].to_vec(),
            reads: vec![s.pivot],
            variants: Vec::new(),
        };
        let answers = probe.run(&tried.iter().map(family).collect::<Vec<_>>())?;
        let least = |i: usize| traces[i].as_ref().map_or(f64::NAN, |t| settings.prune_ratio * t.act[0]);
        let tested = tried.into_iter().zip(answers);
        tried = tested.filter(|((i, _), answer)| answer.base[0] >= least(*i)).map(|(one, _)| one).collect();
    }
    let of = |(i, s): &(usize, Substitute)| Prompt { tokens: s.tokens.clone(), pivot: s.pivot, ..prompts[*i].clone() };
    let own: Vec<Prompt> = tried.iter().map(of).collect();
    let found = trace(probe, &own, is_reference, settings)?;
    let mut all: Vec<Vec<Augmented>> = prompts.iter().map(|_| Vec::new()).collect();
    for (((i, substitute), prompt), trace) in tried.into_iter().zip(own).zip(found) {
        all[i].push(Augmented { substitute, prompt, trace });
    }
    Ok(all)
}
