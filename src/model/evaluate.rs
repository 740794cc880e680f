//! How well a model predicts: cross-entropy, perplexity and accuracy on a data set.

use serde::Serialize;

use super::forward::{Batch, forward};
use super::lm::forward as lm_forward;
use super::{Lm, Model};
use crate::data::stream::{self, Input, Pass, Read, Runner, Sum};
use crate::data::{DataSet, targets};
use crate::device::Builder;
use crate::error::{Error, Result};
use crate::ops::{Launch, loss};

/// Means over the outputs that have a label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Cross-entropy, in nats.
    pub loss: f64,
    /// exp(loss).
    pub perplexity: f64,
    /// Share of outputs whose largest value is the label's.
    pub accuracy: f64,
    /// Number of outputs with a label.
    pub labelled: usize,
}

/// Measures `model` on `data`, against its labels or else the next tokens (see [`targets`]). Fails on
/// a checkpoint without an output head, if there is nothing to predict, or if an output is not finite.
pub fn evaluate(model: &Model, data: DataSet, runner: &Runner) -> Result<Score> {
    if model.classes() == 0 {
        return Err(Error::numeric("logits", "a checkpoint without an output head", "a checkpoint with one"));
    }
    let (labels, labelled) = targets(&data, model)?;
    let data = DataSet { labels: Some(labels), ..data };
    let lm = model.lm();
    let sums = stream::run(runner, "eval", &data, |batch| match &lm {
        Some(lm) => sequences(lm, &data, batch),
        None => vectors(model, batch),
    })?;
    let [Sum::Add(sums)] = &sums[..] else { unreachable!("the pass reads one sum") };
    let (loss, accuracy) = (sums[0] / labelled as f64, sums[1] / labelled as f64);
    if !loss.is_finite() {
        return Err(Error::numeric("loss", loss.to_string(), "a finite number: does the model overflow its --dtype?"));
    }
    Ok(Score { loss, perplexity: loss.exp(), accuracy, labelled })
}

/// The program of a batch of token sequences. Logits are made and consumed a few rows at a time: for a
/// whole batch they would be the largest value of all.
fn sequences(lm: &Lm, data: &DataSet, batch: Batch) -> Result<Pass> {
    let mut b = Builder::new(lm.dtype);
    let inputs = lm.inputs(&mut b, batch, data.mask.is_some());
    let mut f = lm_forward::Forward::new(lm, inputs, &[]);
    let mut x = f.embed(&mut b)?;
    for layer in 0..lm.blocks.len() {
        x = f.step(&mut b, layer, x, false)?.unwrap_or(x);
    }
    let x = f.read_out(&mut b, x)?;
    let (labels, out) = (b.ints(x.rows), b.accumulator(1, 2));
    for from in (0..x.rows).step_by(ROWS) {
        let logits = f.logits(&mut b, x.slice_rows(from, ROWS.min(x.rows - from)))?;
        let args = loss::Args { logits, labels, from, out };
        args.check()?;
        b.push(Launch::Loss(args));
        f.release(&[x]);
    }
    Ok(Pass { program: b.finish(), input: Input::Packed(inputs), reads: vec![Read::Add(out)], labels: Some(labels), first: None })
}

/// Rows of logits at a time.
const ROWS: usize = 128;

/// The program of a batch of input vectors.
fn vectors(model: &Model, batch: Batch) -> Result<Pass> {
    let net = model.network(false)?;
    let mut b = Builder::new(model.dtype());
    let (input, first) = model.input(&mut b, &net, batch)?;
    let taps = forward(&mut b, &net, first, batch, net.modules.len())?;
    let logits = taps.tuples[net.modules.len()][0].view;
    let (labels, out) = (b.ints(logits.rows), b.accumulator(1, 2));
    let args = loss::Args { logits, labels, from: 0, out };
    args.check()?;
    b.push(Launch::Loss(args));
    Ok(Pass { program: b.finish(), input, reads: vec![Read::Add(out)], labels: Some(labels), first: None })
}
