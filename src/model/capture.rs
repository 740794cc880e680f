//! Capturing activations: a pass over data that writes the values at named sites to a file.
//!
//! Tensors are `[N, T, width]`; q, k, v and z are `[N, T, heads, d_head]`, patterns
//! `[N, heads, queries, keys]`, and those of an MLP model `[N, width]`. Behind the last attention of
//! a model that reads only the last position, T (and the number of queries) is 1.

use std::collections::BTreeMap;
use std::path::Path;

use super::forward::{Batch, Taps, forward};
use super::lm::forward::{self as lm_forward, Axes};
use super::sections::Network;
use super::site::{Place, Site};
use super::{Lm, Model};
use crate::data::scan::{Out, Scan, scan};
use crate::data::stream::{Input, Pass, Runner};
use crate::data::tensor_file::{Entry, TensorFile};
use crate::data::{DataSet, Samples};
use crate::device::{Builder, View};
use crate::error::{Error, Result};

/// A value of the forward pass, and the shape of what is written of one sample.
struct Tap {
    out: Out,
    shape: Vec<usize>,
}

/// Writes the activations of `model` on `data` at `places` to `path`, in the model's dtype, and for token
/// sequences `tokens` `[N, T]`; `metadata` goes into the file's header. With `positions`, which ascend, T
/// (and of patterns the queries) are only those. Memory does not grow with the number of samples.
///
/// Fails on positions that the samples or what lies behind the last attention do not have, and on logits
/// of a model without a head.
pub fn capture(
    model: &Model,
    data: &DataSet,
    places: &[Place],
    positions: Option<&[usize]>,
    runner: &Runner,
    path: &Path,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let lm = model.lm();
    let plan = |batch: Batch| -> Result<(Pass, Vec<Tap>)> {
        match &lm {
            Some(lm) => sequences(lm, data, places, positions, batch),
            None => vectors(model, places, positions, batch),
        }
    };
    let (_, taps) = plan(Batch { samples: 1, positions: data.samples.positions() })?;
    let entry = |(p, t): (&Place, &Tap)| Entry::real(p.name(), [&[data.samples.count()], &t.shape[..]].concat());
    let mut entries: Vec<Entry> = places.iter().zip(&taps).map(entry).collect();
    let tokens = match &data.samples {
        Samples::Tokens { ids, n, t } => {
            entries.push(Entry::integer("tokens", vec![*n, *t]));
            Some((ids, *t))
        }
        Samples::Inputs { .. } => None,
    };
    let file = TensorFile::create(path, model.dtype(), metadata, &entries)?;
    let build = |batch| {
        let (pass, taps) = plan(batch)?;
        Ok(Scan { pass, feeds: Vec::new(), outs: taps.into_iter().map(|t| t.out).collect() })
    };
    scan(runner, "capture", data, &file, build, |_, _| Ok(Vec::new()))?;
    if let Some((ids, t)) = tokens {
        // A piece at a time: there may be more ids than memory has room for twice.
        for (i, some) in ids.chunks(t * PIECE).enumerate() {
            let wide: Vec<i64> = some.iter().map(|&id| i64::from(id)).collect();
            file.write(places.len(), i * PIECE, bytemuck::cast_slice(&wide))?;
        }
    }
    file.finish()
}

/// Samples whose ids are written at once.
const PIECE: usize = 1024;

/// The program of a batch of token sequences.
fn sequences(lm: &Lm, data: &DataSet, places: &[Place], positions: Option<&[usize]>, batch: Batch) -> Result<(Pass, Vec<Tap>)> {
    let mut b = Builder::new(lm.dtype);
    let inputs = lm.inputs(&mut b, batch, data.mask.is_some());
    let found = lm_forward::forward(&mut b, lm, inputs, places)?;
    let taps = places.iter().map(|place| {
        let tap = found[place];
        let rows = tap.view.rows / batch.samples;
        let (outer, inner) = match tap.axes {
            Axes::Pattern(heads) => (heads, rows / heads),
            _ => (1, rows),
        };
        if let Some(&p) = positions.unwrap_or_default().iter().find(|p| **p >= inner) {
            let expected = format!("positions below {inner}, as many as {} has", place.name());
            return Err(Error::flag("--positions", format!("position {p}"), expected));
        }
        let kept = positions.map_or(inner, <[usize]>::len);
        let rows = positions.map(|p| (0..outer).flat_map(|h| p.iter().map(move |p| h * inner + p)).collect());
        let shape = match tap.axes {
            Axes::Rows => vec![kept, tap.view.cols],
            Axes::Heads(heads) => vec![kept, heads, tap.view.cols / heads],
            Axes::Pattern(heads) => vec![heads, kept, tap.view.cols],
        };
        Ok(Tap { out: Out { view: tap.view, rows }, shape })
    });
    let taps = taps.collect::<Result<_>>()?;
    Ok((Pass { program: b.finish(), input: Input::Packed(inputs), reads: Vec::new(), labels: None, first: None }, taps))
}

/// The program of a batch of input vectors.
fn vectors(model: &Model, places: &[Place], positions: Option<&[usize]>, batch: Batch) -> Result<(Pass, Vec<Tap>)> {
    if positions.is_some() {
        return Err(Error::flag("--positions", "positions of an mlp", "a model that reads token sequences"));
    }
    let net = model.network(false)?;
    let mut b = Builder::new(model.dtype());
    let (input, first) = model.input(&mut b, &net, batch)?;
    let until = places.iter().map(|p| module(&net, p)).max().unwrap_or(0);
    let taps = forward(&mut b, &net, first, batch, until)?;
    let tap = |place: &Place| {
        let view = view(&net, &taps, place);
        Tap { out: view.into(), shape: vec![view.cols] }
    };
    let taps = places.iter().map(tap).collect();
    Ok((Pass { program: b.finish(), input, reads: Vec::new(), labels: None, first: None }, taps))
}

/// The module in front of which a place of an MLP model is known, unless it lies inside the one before.
fn module(net: &Network, place: &Place) -> usize {
    match place.site {
        Site::Act => net.index("layers", place.layer),
        Site::Logits => net.modules.len(),
        _ => net.index("layers", place.layer) + 1,
    }
}

fn view(net: &Network, taps: &Taps, place: &Place) -> View {
    let mi = module(net, place);
    match taps.atoms.get(&(mi.wrapping_sub(1), 1)) {
        Some(input) if place.site == Site::Pre => input[0].view,
        // The last layer has no activation behind it.
        _ => taps.tuples[mi][0].view,
    }
}
