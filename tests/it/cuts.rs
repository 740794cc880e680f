//! Language models give the same bytes and the same scores however the work is cut among threads and
//! batches, whatever dtype their weights are stored in.

use std::collections::BTreeMap;
use std::path::Path;

use mechgraph::data::{DataSet, Labels};
use mechgraph::device::DType;
use mechgraph::model::Model;
use mechgraph::model::capture::capture;
use mechgraph::model::evaluate::{Score, evaluate};
use mechgraph::ops::loss::SKIPPED;
use safetensors::Dtype;

use crate::families::restored;
use crate::naive::{Numbers, shared, tokens, with_runner};

/// Threads and samples in a batch.
const CUTS: [(usize, Option<usize>); 5] = [(1, None), (2, None), (3, None), (2, Some(1)), (3, Some(70))];

/// Several blocks, the last of them ragged; of encoders with hidden tokens and labels.
fn data(model: &Model) -> DataSet {
    let (n, t) = (107, 17);
    let set = tokens(model.d_vocab().unwrap(), n, t, 8);
    if !model.is_encoder() {
        return set;
    }
    let mut numbers = Numbers::new(4);
    let mask = (0..n * t).map(|i| u32::from(i % t == 0 || numbers.bits() % 5 > 0)).collect();
    let label = |i: usize| if i % 3 == 0 { (i % model.classes()) as u32 } else { SKIPPED };
    let labels = Labels { values: (0..n * t).map(label).collect(), per_position: true };
    DataSet { mask: Some(mask), labels: Some(labels), ..set }
}

/// The file of a capture, and the score.
fn results(model: &Model, (threads, batch): (usize, Option<usize>), out: &Path) -> (Vec<u8>, Score) {
    let layers: Vec<usize> = (0..model.layers()).collect();
    let sites = ["z", "pattern", "mlp_act", "resid_post", "logits"].map(String::from);
    let places = model.places("--sites", &sites, &layers).unwrap();
    let set = data(model);
    let mut score = None;
    with_runner(threads, batch, |runner| {
        capture(model, &set, &places, None, runner, out, &BTreeMap::new()).unwrap();
        score = Some(evaluate(model, set, runner).unwrap());
    });
    (std::fs::read(out).unwrap(), score.unwrap())
}

#[test]
fn neither_threads_nor_batches_change_a_byte() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    for folder in ["hf/llama", "hf/gpt2", "hf/gpt_neox", "hf/gemma2", "masked-lm/bert"] {
        for stored in [Dtype::BF16, Dtype::F32] {
            let path = restored(&shared.join("fixtures").join(folder), stored, dir.path());
            let model = Model::load(path.to_str().unwrap(), DType::F32).unwrap().model;
            let one = results(&model, CUTS[0], &dir.path().join("out"));
            for cut in &CUTS[1..] {
                let other = results(&model, *cut, &dir.path().join("out"));
                let differs = one.0.iter().zip(&other.0).filter(|(a, b)| a != b).count();
                assert!(one.0 == other.0, "{folder} in {stored:?}: {differs} of {} bytes with {cut:?}", one.0.len());
                assert_eq!(one.1, other.1, "{folder} in {stored:?} with {cut:?}");
            }
        }
    }
}
