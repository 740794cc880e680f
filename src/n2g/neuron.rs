//! Neurons of one layer from their exemplars to tries and scores on what was held out.

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::augment::Augmenter;
use super::augment::apply::{Augmented, augmented};
use super::evaluate::{Baselines, Tally, Window, f1_interval};
use super::exemplars::{Neuron, Roles};
use super::fit::{Evidence, fit};
use super::graph::{Graph, Thresholds};
use super::lines::{Inherited, Line, Rules, Suffix, Traced, lines, suffix_line};
use super::probe::{Family, Probe};
use super::prune::{Job, Pruned, prune};
use super::record::{self, Counts, Exemplar, Record, Scores, Status};
use super::saliency::{Prompt, Trace, trace};
use super::settings::{Build, Settings};
use super::split::repeats;
use super::trie::{Choice, Trie};
use super::vocabulary::Vocabulary;
use crate::device::Device;
use crate::error::{Error, Result};

/// Tokens of an exemplar that are kept in front of its maximum and behind it.
const SHOWN: (usize, usize) = (48, 16);

/// What neurons have in common.
#[derive(Debug)]
pub struct Scene<'a> {
    pub device: &'a Device,
    /// Token ids of all windows, and the number of each.
    pub ids: &'a [u32],
    pub positions: usize,
    pub vocabulary: &'a Vocabulary,
    /// Tokens by their texts alone.
    pub exact: &'a Vocabulary,
    pub settings: &'a Settings,
    /// Makes prompts with words replaced, if that is asked for.
    pub augmenter: Option<&'a Augmenter<'a>>,
    /// Ids that no pattern holds.
    pub skip: &'a [u32],
    pub seed: u64,
}

/// A neuron to be done.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub layer: usize,
    pub neuron: usize,
    pub found: &'a Neuron,
    pub roles: &'a Roles,
    /// By exemplar: activations `[positions]`.
    pub act: &'a [Vec<f64>],
}

/// What a neuron came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub record: Record,
    pub trie: Trie,
    pub baselines: Baselines,
}

impl Settings {
    /// Which of the values that a walk passes counts.
    pub fn choice(&self) -> Choice {
        match self.build {
            Build::Merged | Build::Fitted => Choice::Deepest,
            Build::Pivots => Choice::Largest,
            Build::Raw => Choice::Shallowest,
        }
    }
    /// What the values of a trie are divided by for a neuron with this maximum.
    pub fn unit(&self, a_max: f64) -> f64 {
        if self.build == Build::Raw { a_max } else { 1.0 }
    }
}

impl Scene<'_> {
    fn window(&self, window: u32) -> &[u32] {
        &self.ids[window as usize * self.positions..(window as usize + 1) * self.positions]
    }
    /// Positions that hold text begin here.
    fn first(&self) -> usize {
        usize::from(self.settings.bos.is_some())
    }
}

/// The outcome of a neuron that has none, and why.
pub fn without(scene: &Scene, subject: &Subject, status: Status) -> Outcome {
    Outcome { record: record(scene, subject, status), trie: Trie::new(), baselines: Baselines::default() }
}

/// Does neurons of one layer together; `probe` reads that layer.
pub fn build(scene: &Scene, probe: &Probe, subjects: &[Subject]) -> Result<Vec<Outcome>> {
    let settings = scene.settings;
    // Number of the subject and of the training exemplar, in order, beside each job.
    let mut owners: Vec<(usize, usize)> = Vec::new();
    let mut jobs: Vec<Job> = Vec::new();
    for (i, s) in subjects.iter().enumerate() {
        let mut seen: Vec<&[u32]> = Vec::new();
        for &rank in &s.roles.train {
            let window = scene.window(s.found.top[rank].window);
            for pivot in pivots(scene, s, rank) {
                // What ends alike is pruned to the same prompt.
                let end = &window[(pivot + 1).saturating_sub(ALIKE)..=pivot];
                if settings.pivots > 1 && seen.contains(&end) {
                    continue;
                }
                seen.push(end);
                owners.push((i, rank));
                jobs.push(Job { neuron: s.neuron, window, pivot, act: s.act[rank][pivot] });
            }
        }
    }
    let pruned = prune(probe, &jobs, scene.vocabulary, settings)?;
    let prompts: Vec<Prompt> = jobs
        .iter()
        .zip(&pruned)
        .zip(&owners)
        .map(|((job, p), (i, _))| prompt(scene, job, p, subjects[*i].found.maximum()))
        .collect();
    // A suffix on which nothing is left gives no scale: its prompt is recorded, but says nothing.
    let usable: Vec<usize> = (0..prompts.len()).filter(|&i| prompts[i].factor.is_finite()).collect();
    let some: Vec<Prompt> = usable.iter().map(|&i| prompts[i].clone()).collect();
    let mut traces: Vec<Option<Trace>> = vec![None; prompts.len()];
    for (&i, t) in usable.iter().zip(trace(probe, &some, settings.build == Build::Merged, settings)?) {
        traces[i] = Some(t);
    }
    let augmentations = match scene.augmenter {
        Some(augmenter) => augmented(probe, augmenter, &prompts, &traces, settings)?,
        None => prompts.iter().map(|_| Vec::new()).collect(),
    };
    let anchors = if settings.anchor { anchors(probe, &prompts, &jobs, settings)? } else { vec![None; jobs.len()] };
    let work = |(i, s): (usize, &Subject)| {
        let mut all: Vec<Step> = Vec::new();
        for j in (0..jobs.len()).filter(|&j| owners[j].0 == i) {
            let (rank, job, pruned, anchor) = (owners[j].1, &jobs[j], &pruned[j], anchors[j]);
            let original = all.len();
            all.push(Step { rank, job, pruned, anchor, prompt: &prompts[j], trace: traces[j].as_ref(), augments: None });
            all.extend(augmentations[j].iter().map(|a| {
                let augments = Some((original, a));
                Step { rank, job, pruned, anchor, prompt: &a.prompt, trace: Some(&a.trace), augments }
            }));
        }
        finish(scene, s, &all)
    };
    scene.device.host().install(|| subjects.par_iter().enumerate().map(work).collect())
}

/// Tokens by which two pivots are told apart.
const ALIKE: usize = 4;

/// The positions of a training window that are traced, strongest first.
fn pivots(scene: &Scene, s: &Subject, rank: usize) -> Vec<usize> {
    let (settings, peak) = (scene.settings, &s.found.top[rank]);
    if settings.pivots <= 1 && settings.pivot_share >= 1.0 {
        return if peak.value > 0.0 { vec![peak.position as usize] } else { vec![] };
    }
    let least = (settings.pivot_share * peak.value).max(settings.fire_threshold * s.found.maximum());
    let act = &s.act[rank];
    let mut strong: Vec<usize> = (scene.first()..act.len()).filter(|&t| act[t] >= least).collect();
    strong.sort_by(|a, b| act[*b].total_cmp(&act[*a]));
    strong.truncate(settings.pivots);
    strong
}

fn prompt(scene: &Scene, job: &Job, pruned: &Pruned, a_max: f64) -> Prompt {
    let settings = scene.settings;
    let scale = if settings.rescale { job.act / pruned.suffix_max } else { 1.0 };
    let factor = if settings.build == Build::Raw { 1.0 } else { scale / a_max };
    let tokens = settings.bos.into_iter().chain(job.window[pruned.start..pruned.end].iter().copied()).collect();
    Prompt { neuron: job.neuron, tokens, pivot: scene.first() + job.pivot - pruned.start, factor }
}

/// For each prompt whether its pattern holds only at the start of a text, and the activation behind a pad
/// token by which this is told. A prompt as long as the context leaves no room for that token: it is `None`.
fn anchors(probe: &Probe, prompts: &[Prompt], jobs: &[Job], settings: &Settings) -> Result<Vec<Option<(bool, f64)>>> {
    let first = usize::from(settings.bos.is_some());
    let told: Vec<usize> = (0..prompts.len()).filter(|&i| prompts[i].pivot + 2 <= probe.longest()).collect();
    let family = |&i: &usize| {
        let p = &prompts[i];
        let base: Vec<u32> = [&p.tokens[..first], &[settings.mask_token], &p.tokens[first..=p.pivot]].concat();
        Family { neuron: p.neuron, reads: vec![base.len() - 1], base, variants: Vec::new() }
    };
    let answers = probe.run(&told.iter().map(family).collect::<Vec<_>>())?;
    let mut anchors = vec![None; prompts.len()];
    for (i, answer) in told.into_iter().zip(answers) {
        anchors[i] = Some((answer.base[0] / jobs[i].act < settings.prune_ratio, answer.base[0]));
    }
    Ok(anchors)
}

/// A prompt on its way.
struct Step<'a> {
    rank: usize,
    job: &'a Job<'a>,
    pruned: &'a Pruned,
    prompt: &'a Prompt,
    trace: Option<&'a Trace>,
    /// An augmentation has that of its original.
    anchor: Option<(bool, f64)>,
    /// Number of the step that this one augments, and how.
    augments: Option<(usize, &'a Augmented)>,
}

/// From prompts to the trie and its scores.
fn finish(scene: &Scene, s: &Subject, steps: &[Step]) -> Result<Outcome> {
    let (settings, a_max) = (scene.settings, s.found.maximum());
    let by_step: Vec<Vec<Line>> = steps.iter().map(|step| step_lines(scene, step, steps)).collect();
    let is_finite = |t: &Trace| t.act.iter().chain(t.importance.values().flatten()).all(|x| x.is_finite());
    if !steps.iter().filter_map(|step| step.trace).all(is_finite) {
        let expected = "finite activations of every prompt";
        return Err(Error::numeric(format!("neuron {}:{}", s.layer, s.neuron), "an activation that is not finite", expected));
    }
    let first = scene.first();
    let normalised: Vec<Vec<f64>> = s.act.iter().map(|act| act.iter().map(|a| a / a_max).collect()).collect();
    let window =
        |&rank: &usize| Window { tokens: &scene.window(s.found.top[rank].window)[first..], act: &normalised[rank][first..] };
    let train: Vec<Window> = s.roles.train.iter().map(window).collect();
    let test: Vec<Window> = s.roles.test.iter().map(window).collect();
    let mut trie = Trie::new();
    match settings.build {
        Build::Merged | Build::Pivots => by_step.iter().flatten().for_each(|line| trie.insert(line)),
        Build::Raw => by_step.iter().flatten().for_each(|line| trie.overwrite(line)),
        Build::Fitted => {
            let of = |(i, rank): (usize, &usize)| {
                let lines = steps.iter().zip(&by_step).filter(|(step, _)| step.rank == *rank).flat_map(|(_, l)| l.clone());
                Evidence { window: train[i], lines: lines.collect() }
            };
            let evidence: Vec<Evidence> = s.roles.train.iter().enumerate().map(of).collect();
            trie = fit(&evidence, scene.vocabulary, settings.fire_threshold);
        }
    }
    if settings.build == Build::Merged {
        trie.merge_wildcards();
    }
    let baselines = Baselines::new(&train, scene.exact, settings.fire_threshold);
    let mut record = record(scene, s, Status::Done);
    let thresholds = Thresholds { activation: settings.activation_threshold, importance: settings.importance_threshold };
    let all: Vec<Line> = by_step.into_iter().flatten().collect();
    record.graph = Some(Graph::new(&all, scene.vocabulary, thresholds));
    record.prompts = steps.iter().map(|step| kept(s, step)).collect();
    record.scores = Some(scores(scene, s, &trie, &baselines, &test));
    Ok(Outcome { record, trie, baselines })
}

fn step_lines(scene: &Scene, step: &Step, steps: &[Step]) -> Vec<Line> {
    let (settings, Some(t)) = (scene.settings, step.trace) else { return Vec::new() };
    let (p, literal) = (step.prompt, settings.importance_threshold);
    let original = step.augments.and_then(|(i, a)| Some((steps[i].prompt, steps[i].trace?, a.substitute.replaced.as_ref())));
    let moved = |inherited: Inherited, replaced: Option<&(Range<usize>, usize)>| match replaced {
        // The published code goes by position.
        Some((range, count)) if settings.build != Build::Merged => inherited.replaced(range, *count),
        _ => inherited,
    };
    if settings.build == Build::Raw {
        let first = scene.first();
        let suffix = |p: &Prompt, t: &Trace| Suffix {
            tokens: p.tokens[first..=p.pivot].to_vec(),
            saliency: t.importance.get(&p.pivot).map_or_else(Vec::new, |column| column[first..=p.pivot].to_vec()),
            value: t.norm_act[p.pivot],
            anchored: step.anchor.is_some_and(|a| a.0),
        };
        let mut own = suffix(p, t);
        if let Some((p, t, replaced)) = original {
            // The suffix is without the BOS token.
            let replaced = replaced.map(|(range, count)| (range.start - first..range.end - first, *count));
            moved(Inherited::of_suffix(&suffix(p, t), literal), replaced.as_ref()).raise(&mut own, literal);
        }
        return vec![suffix_line(&own, literal, scene.vocabulary)];
    }
    let traced = |p: &Prompt, t: &Trace| Traced {
        tokens: p.tokens.clone(),
        activation: t.norm_act.clone(),
        importance: t.importance.clone(),
    };
    let rules = |p: &Prompt| Rules {
        importance: literal,
        activation: settings.activation_threshold,
        pivot: (settings.build != Build::Merged).then_some(p.pivot),
        skip: scene.skip,
    };
    let inherited = original.map(|(p, t, replaced)| moved(Inherited::of(&traced(p, t), &rules(p)), replaced));
    lines(&traced(p, t), inherited.as_ref(), &rules(p), scene.vocabulary)
}

fn kept(s: &Subject, step: &Step) -> record::Prompt {
    let (t, job, pruned) = (step.trace, step.job, step.pruned);
    let narrow = |x: &[f64]| x.iter().map(|x| finite(*x)).collect();
    record::Prompt {
        window: s.found.top[step.rank].window as usize,
        pivot: job.pivot,
        act: finite(job.act),
        start: pruned.start,
        end: pruned.end,
        accepted: pruned.accepted,
        suffix_max: finite(pruned.suffix_max),
        scale: finite(job.act / pruned.suffix_max),
        anchored: step.anchor.map(|(holds, act)| (holds, finite(act))),
        tokens: step.prompt.tokens.clone(),
        norm_act: t.map_or_else(Vec::new, |t| narrow(&t.norm_act)),
        argmax: t.map_or(step.prompt.pivot, |t| t.argmax),
        importance: t.map_or_else(Default::default, |t| t.importance.iter().map(|(t, x)| (*t, narrow(x))).collect()),
        augments: step.augments.map(|(original, _)| original),
    }
}

/// A number that a record can hold: 0 in the place of what is not finite, of which the neuron's status or
/// the prompt's lack of importances tells.
fn finite(x: f64) -> f32 {
    Some(x as f32).filter(|x| x.is_finite()).unwrap_or(0.0)
}

fn scores(scene: &Scene, s: &Subject, trie: &Trie, baselines: &Baselines, test: &[Window]) -> Scores {
    let (settings, fire) = (scene.settings, scene.settings.fire_threshold);
    let unit = settings.unit(s.found.maximum());
    let mut scores = Scores { any: (settings.build == Build::Raw).then(Counts::default), ..Scores::default() };
    let (mut tally, mut parts) = (Tally::default(), Vec::new());
    for (w, rank) in test.iter().zip(&s.roles.test) {
        let keys: Vec<u32> = w.tokens.iter().map(|id| scene.vocabulary.key(*id).unwrap_or(u32::MAX - 2)).collect();
        let predict = |t: usize| trie.predict(&keys, t, settings.choice()).map_or(0.0, |value| value / unit);
        let predicted: Vec<f64> = (0..keys.len()).map(predict).collect();
        let mut part = Tally::default();
        part.add(w.act, &predicted, fire);
        tally.add(w.act, &predicted, fire);
        if !s.roles.train.iter().any(|t| repeats(exemplar(scene, s, *rank), exemplar(scene, s, *t))) {
            scores.unique.merge(&part.counts);
        }
        parts.push(part.counts);
        if let Some(any) = &mut scores.any {
            w.act.iter().zip(&predicted).for_each(|(act, p)| any.add(*act >= fire, *p > 0.0));
        }
        baselines.count(*w, scene.exact, fire, [&mut scores.token, &mut scores.ngram]);
    }
    scores.held_out = tally.counts;
    scores.r2 = tally.r2();
    scores.f1_interval = f1_interval(&parts, seed(scene.seed, s.layer, s.neuron));
    scores
}

/// The seed of a neuron's resamples.
pub fn seed(seed: u64, layer: usize, neuron: usize) -> u64 {
    seed ^ ((layer as u64) << 40) ^ ((neuron as u64) << 8)
}

fn exemplar<'a>(scene: &'a Scene, s: &Subject, rank: usize) -> (&'a [u32], usize) {
    let peak = &s.found.top[rank];
    (scene.window(peak.window), peak.position as usize)
}

/// What is known of a neuron from its exemplars alone.
fn record(scene: &Scene, s: &Subject, status: Status) -> Record {
    let exemplar = |(rank, peak): (usize, &super::exemplars::Peak)| {
        let (window, position) = (scene.window(peak.window), peak.position as usize);
        let (start, end) = (position.saturating_sub(SHOWN.0), (position + SHOWN.1 + 1).min(window.len()));
        Exemplar {
            window: peak.window as usize,
            position,
            value: finite(peak.value),
            duplicate_of: s.roles.duplicate_of[rank],
            start,
            tokens: window[start..end].to_vec(),
            activations: s.act.get(rank).map_or_else(Vec::new, |a| a[start..end].iter().map(|x| finite(*x)).collect()),
        }
    };
    Record {
        layer: s.layer,
        neuron: s.neuron,
        status,
        a_max: finite(s.found.maximum()),
        firing_rate: finite(s.found.firing_rate()),
        exemplars: s.found.top.iter().enumerate().map(exemplar).collect(),
        train: s.roles.train.clone(),
        test: s.roles.test.clone(),
        prompts: Vec::new(),
        graph: None,
        scores: None,
    }
}
