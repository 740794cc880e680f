//! Capturing activations: which value of the forward pass a site names, and a pass over data that
//! writes them to a file.
//!
//! Tensors are `[N, T, width]`; q, k, v and z are `[N, T, heads, d_head]`, patterns
//! `[N, heads, queries, keys]`, and those of an MLP model `[N, width]`. Behind the last attention of
//! a model that reads only the last position, T (and the number of queries) is 1.

use std::collections::BTreeMap;
use std::path::Path;

use super::Model;
use super::forward::{Batch, Taps, forward};
use super::sections::{Network, Stage};
use super::site::{Place, Site};
use crate::data::DataSet;
use crate::data::scan::{Scan, scan};
use crate::data::stream::{Pass, Runner};
use crate::data::tensor_file::TensorFile;
use crate::device::{Builder, View};
use crate::error::Result;
use crate::ops::activation::Activation;

/// A value of the forward pass.
struct Tap {
    view: View,
    /// Shape of one sample.
    shape: Vec<usize>,
}

/// Writes the activations of `model` on `data` at `places` to `path`, in the model's dtype; `metadata`
/// goes into the file's header. Memory does not grow with the number of samples.
pub fn capture(
    model: &Model,
    data: &DataSet,
    places: &[Place],
    runner: &Runner,
    path: &Path,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let net = model.network(false)?;
    let plan = |batch: Batch| -> Result<(Scan, Vec<Vec<usize>>)> {
        let mut b = Builder::new(model.dtype());
        let (input, first) = model.input(&mut b, &net, batch);
        let until = places.iter().map(|p| module(&net, p).0).max().unwrap_or(0);
        let taps = forward(&mut b, &net, first, batch, until)?;
        let taps: Vec<Tap> = places.iter().map(|p| tap(model, &net, &taps, p, batch)).collect();
        let (outs, shapes) = taps.into_iter().map(|t| (t.view, t.shape)).unzip();
        let pass = Pass { program: b.finish(), input, reads: Vec::new(), labels: None, first: None };
        Ok((Scan { pass, feeds: Vec::new(), outs }, shapes))
    };
    let (_, shapes) = plan(Batch { samples: 1, positions: data.samples.positions() })?;
    let shapes = shapes.into_iter().map(|shape| [&[data.samples.count()], &shape[..]].concat());
    let tensors: Vec<(String, Vec<usize>)> = places.iter().map(Place::name).zip(shapes).collect();
    let file = TensorFile::create(path, model.dtype(), metadata, &tensors)?;
    scan(runner, "capture", data, &file, |batch| plan(batch).map(|p| p.0), |_, _| Ok(Vec::new()))?;
    file.finish()
}

/// The module behind which a place is known, and the member of the tuple there that it is, unless it
/// lies inside the module before.
fn module(net: &Network, place: &Place) -> (usize, usize) {
    let at = |name: &str| net.index(name, place.layer);
    match place.site {
        Site::ResidPre => (at("ln1"), 0),
        Site::Q => (at("attn_out"), 0),
        Site::K => (at("attn_out"), 1),
        Site::V => (at("attn_out"), 2),
        Site::Pattern | Site::Z => (at("attn_out") + 1, 0),
        Site::AttnOut => (at("add_resid1"), 0),
        Site::ResidMid => (at("ln2"), 0),
        Site::MlpPre => (at("mlp_act"), 0),
        Site::MlpMid | Site::MlpAct => (at("mlp_out"), 0),
        Site::MlpOut => (at("add_resid2"), 0),
        Site::ResidPost => (at("add_resid2") + 1, 0),
        Site::Act => (at("layers"), 0),
        Site::Pre => (at("layers") + 1, 0),
        Site::Logits => (net.modules.len(), 0),
    }
}

fn tap(model: &Model, net: &Network, taps: &Taps, place: &Place, batch: Batch) -> Tap {
    let (mi, member) = module(net, place);
    let view = match place.site {
        Site::Pattern => taps.patterns[&(mi - 1, 0)],
        Site::Z => taps.mixed[&(mi - 1, 0)].view,
        Site::MlpMid if matches!(net.modules[mi - 1].stages[0], Stage::Act(Activation::Solu)) => {
            // In front of the LayerNorm.
            taps.atoms[&(mi - 1, 1)][0].view
        }
        Site::Pre => match taps.atoms.get(&(mi - 1, 1)) {
            Some(input) => input[0].view,
            // The last layer has no activation behind it.
            None => taps.tuples[mi][member].view,
        },
        _ => taps.tuples[mi][member].view,
    };
    let rows = view.rows / batch.samples;
    let shape = match (model, place.site) {
        (Model::Mlp(_), _) => vec![view.cols],
        (Model::Transformer(t), Site::Pattern) => vec![t.config.n_heads, rows / t.config.n_heads, view.cols],
        (Model::Transformer(t), Site::Q | Site::K | Site::V | Site::Z) => vec![rows, t.config.n_heads, t.config.d_head],
        _ => vec![rows, view.cols],
    };
    Tap { view, shape }
}
