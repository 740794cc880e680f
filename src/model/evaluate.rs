//! How well a model predicts: cross-entropy, perplexity and accuracy on a data set.

use serde::Serialize;

use super::Model;
use super::forward::forward;
use crate::data::stream::{self, Pass, Read, Runner, Sum};
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

/// Measures `model` on `data`, against its labels or else the next tokens (see [`targets`]). Fails if
/// there is nothing to predict, or if an output is not finite.
pub fn evaluate(model: &Model, data: DataSet, runner: &Runner) -> Result<Score> {
    let (labels, labelled) = targets(&data, model)?;
    let data = DataSet { labels: Some(labels), ..data };
    let net = model.network(false)?;
    let sums = stream::run(runner, "eval", &data, |batch| {
        let mut b = Builder::new(model.dtype());
        let (input, first) = model.input(&mut b, &net, batch);
        let taps = forward(&mut b, &net, first, batch, net.modules.len())?;
        let logits = taps.tuples[net.modules.len()][0].view;
        let (labels, out) = (b.ints(logits.rows), b.accumulator(1, 2));
        let args = loss::Args { logits, labels, from: 0, out };
        args.check()?;
        b.push(Launch::Loss(args));
        Ok(Pass { program: b.finish(), input, reads: vec![Read::Add(out)], labels: Some(labels), first: None })
    })?;
    let [Sum::Add(sums)] = &sums[..] else { unreachable!("the pass reads one sum") };
    let (loss, accuracy) = (sums[0] / labelled as f64, sums[1] / labelled as f64);
    if !loss.is_finite() {
        return Err(Error::numeric("loss", loss.to_string(), "a finite number: does the model overflow its --dtype?"));
    }
    Ok(Score { loss, perplexity: loss.exp(), accuracy, labelled })
}
