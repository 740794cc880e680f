//! Products of given tangents and cotangents with the Jacobians of a transformer's blocks.
//!
//! Block L maps the residual stream in front of it to the one behind it, for a whole sequence; its
//! Jacobian J is taken at the model's own residual stream. A tangent v gives J v, a cotangent w J' w.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::checkpoint::index;
use super::forward::Batch;
use super::lm::forward::Forward;
use super::{Checkpoint, Lm, in_range};
use crate::data::DataSet;
use crate::data::scan::{Scan, scan};
use crate::data::stream::{Input, Pass, Runner};
use crate::data::tensor_file::{Entry, TensorFile};
use crate::device::Builder;
use crate::error::{Error, Result};

/// A tensor of directions in the residual stream of a block.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Direction {
    layer: usize,
    is_cotangent: bool,
    /// Positions of a sample: all of them, or 1 where only the last is behind the block.
    positions: usize,
}

impl Direction {
    /// Its name in the file that is read.
    fn input(&self) -> String {
        format!("{}.{}", if self.is_cotangent { COTANGENT } else { TANGENT }, self.layer)
    }
    /// The name of its product.
    fn output(&self) -> String {
        format!("{}.{}", if self.is_cotangent { "vjp" } else { "jvp" }, self.layer)
    }
}

const TANGENT: &str = "tangent";
const COTANGENT: &str = "cotangent";

/// Writes `jvp.L` `[N, T, d]` and `vjp.L` `[N, T, d]` to `path` for every `tangent.L` and `cotangent.L`
/// `[N, T, d]` of `file`, in the model's dtype; `data` holds the tokens of the same file.
///
/// Where only the last position is behind block L (`read_position: last`), `jvp.L` is `[N, 1, d]`,
/// `cotangent.L` may be, and of a longer one only the last position counts.
///
/// Fails with one sentence on a layer the model lacks, a wrong shape or dtype, a value that is not
/// finite in the model's dtype, and if there is neither a tangent nor a cotangent.
pub fn products(
    model: &Lm,
    data: &DataSet,
    file: &Checkpoint,
    runner: &Runner,
    path: &Path,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let directions = directions(model, data, file)?;
    let (n, t, d) = (data.samples.count(), data.samples.positions(), model.d_model);
    let shape = |x: &Direction| {
        let last_only = !x.is_cotangent && is_last_only(model, x.layer);
        vec![n, if last_only { 1 } else { t }, d]
    };
    let tensors: Vec<Entry> = directions.iter().map(|x| Entry::real(x.output(), shape(x))).collect();
    let out = TensorFile::create(path, model.dtype, metadata, &tensors)?;
    let feed = |i: usize, samples: Range<usize>| {
        let sample = directions[i].positions * d;
        file.part_f64(&directions[i].input(), samples.start * sample..samples.end * sample)
    };
    scan(runner, "jvp", data, &out, |batch| plan(model, data, &directions, batch), feed)?;
    out.finish()
}

/// Whether only the last position of a sequence is behind the block.
fn is_last_only(model: &Lm, layer: usize) -> bool {
    model.reads_last && layer + 1 == model.blocks.len()
}

/// The directions that a file holds, by layer, checked.
fn directions(model: &Lm, data: &DataSet, file: &Checkpoint) -> Result<Vec<Direction>> {
    let (n, t, d) = (data.samples.count(), data.samples.positions(), model.d_model);
    let mut directions = Vec::new();
    for name in file.names() {
        let Some((kind @ (TANGENT | COTANGENT), number)) = name.split_once('.') else { continue };
        let wrong = |found: String, expected: String| Error::tensor(file.path(), name, found, expected);
        // A name such as tangent.03 would not be found under the name of its layer.
        let layer = number.parse().ok().filter(|&l: &usize| l < model.blocks.len() && l.to_string() == number);
        let layer = layer.ok_or_else(|| {
            let expected = format!("a layer below {}, as many as the model has", model.blocks.len());
            wrong(format!("layer {}", number.escape_debug()), expected)
        })?;
        let (is_cotangent, shape) = (kind == COTANGENT, file.shape(name).unwrap_or_default());
        let positions = match *shape {
            [a, b, c] if (a, b, c) == (n, t, d) => t,
            [a, 1, c] if (a, c) == (n, d) && is_cotangent && is_last_only(model, layer) => 1,
            _ => return Err(wrong(format!("shape {shape:?}"), format!("shape [{n}, {t}, {d}], by tokens and model"))),
        };
        // Before the work begins, and no more than a sample at a time.
        for i in 0..n {
            let range = i * positions * d..(i + 1) * positions * d;
            let x = file.part_f64(name, range.clone())?;
            in_range(&x, model.dtype).map_err(|j| {
                let found = format!("{} at index {:?}", x[j], index(range.start + j, shape));
                wrong(found, format!("values within the range of {}", model.dtype.name()))
            })?;
        }
        directions.push(Direction { layer, is_cotangent, positions });
    }
    if directions.is_empty() {
        let found = format!("no tangent.L or cotangent.L among {}", file.contents());
        return Err(Error::file(file.path(), found, format!("at least one, of shape [{n}, {t}, {d}]")));
    }
    directions.sort_unstable();
    Ok(directions)
}

/// The program of a batch: the forward pass up to the last block in question, and the products at each.
fn plan(model: &Lm, data: &DataSet, directions: &[Direction], batch: Batch) -> Result<Scan> {
    let mut b = Builder::new(model.dtype);
    let inputs = model.inputs(&mut b, batch, data.mask.is_some());
    let mut f = Forward::new(model, inputs, &[]);
    let mut x = f.embed(&mut b)?;
    let (mut feeds, mut outs) = (Vec::new(), Vec::new());
    let mut kept = Vec::new();
    for layer in 0..directions.last().map_or(0, |d| d.layer + 1) {
        let here: Vec<&Direction> = directions.iter().filter(|d| d.layer == layer).collect();
        if here.is_empty() {
            x = f.step(&mut b, layer, x, false)?.unwrap_or(x);
            continue;
        }
        let trace = f.trace(&mut b, layer, x)?;
        for direction in here {
            let feed = b.matrix(batch.samples * direction.positions, model.d_model);
            let product = if direction.is_cotangent {
                let is_wider = trace.y.rows < feed.rows;
                let behind = if is_wider { feed.every(direction.positions - 1, direction.positions) } else { feed };
                f.vjp(&mut b, layer, &trace, behind)?
            } else {
                f.jvp(&mut b, layer, &trace, feed)?
            };
            feeds.push(feed);
            outs.push(product.into());
            kept.push(product);
        }
        // What the next block begins with, and the products, stay until the program ends.
        f.carry_on(trace.y, &kept);
        x = trace.y;
    }
    let pass = Pass { program: b.finish(), input: Input::Packed(inputs), reads: Vec::new(), labels: None, first: None };
    Ok(Scan { pass, feeds, outs })
}
