//! Products of given tangents and cotangents with the Jacobians of a transformer's blocks.
//!
//! Block L maps the residual stream in front of it to the one behind it, for a whole sequence; its
//! Jacobian J is taken at the model's own residual stream. A tangent v gives J v, a cotangent w J' w.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::chain::Chain;
use super::checkpoint::index;
use super::forward::{Batch, forward};
use super::{Checkpoint, Transformer, in_range, network};
use crate::data::DataSet;
use crate::data::scan::{Scan, scan};
use crate::data::stream::{Pass, Runner};
use crate::data::tensor_file::TensorFile;
use crate::device::{Builder, View};
use crate::error::{Error, Result};
use crate::ops::{Launch, copy};

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
    model: &Transformer,
    data: &DataSet,
    file: &Checkpoint,
    runner: &Runner,
    path: &Path,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let directions = directions(model, data, file)?;
    let (n, t, d) = (data.samples.count(), data.samples.positions(), model.config.d_model);
    let shape = |x: &Direction| {
        let last_only = !x.is_cotangent && is_last_only(model, x.layer);
        vec![n, if last_only { 1 } else { t }, d]
    };
    let tensors: Vec<(String, Vec<usize>)> = directions.iter().map(|x| (x.output(), shape(x))).collect();
    let out = TensorFile::create(path, model.dtype, metadata, &tensors)?;
    let feed = |i: usize, samples: Range<usize>| {
        let sample = directions[i].positions * d;
        file.part_f64(&directions[i].input(), samples.start * sample..samples.end * sample)
    };
    scan(runner, "jvp", data, &out, |batch| plan(model, &directions, batch), feed)?;
    out.finish()
}

/// Whether only the last position of a sequence is behind the block.
fn is_last_only(model: &Transformer, layer: usize) -> bool {
    model.config.read_last && layer + 1 == model.config.n_layers
}

/// The directions that a file holds, by layer, checked.
fn directions(model: &Transformer, data: &DataSet, file: &Checkpoint) -> Result<Vec<Direction>> {
    let (n, t, d) = (data.samples.count(), data.samples.positions(), model.config.d_model);
    let mut directions = Vec::new();
    for name in file.names() {
        let Some((kind @ (TANGENT | COTANGENT), number)) = name.split_once('.') else { continue };
        let wrong = |found: String, expected: String| Error::tensor(file.path(), name, found, expected);
        // A name such as tangent.03 would not be found under the name of its layer.
        let layer = number.parse().ok().filter(|&l: &usize| l < model.config.n_layers && l.to_string() == number);
        let layer = layer.ok_or_else(|| {
            let expected = format!("a layer below {}, as many as the model has", model.config.n_layers);
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

/// The program of a batch: the forward pass up to the last block in question, then each block.
fn plan(model: &Transformer, directions: &[Direction], batch: Batch) -> Result<Scan> {
    let net = network::transformer(model, false)?;
    let mut b = Builder::new(model.dtype);
    let (input, first) = model.input(&mut b, &net, batch);
    let until = directions.iter().map(|x| net.index("ln1", x.layer)).max().unwrap_or(0);
    let taps = forward(&mut b, &net, first, batch, until)?;
    let (mut feeds, mut outs) = (Vec::new(), Vec::new());
    for same_layer in directions.chunk_by(|x, y| x.layer == y.layer) {
        let layer = same_layer[0].layer;
        let (from, to) = (net.index("ln1", layer), net.index("add_resid2", layer) + 1);
        let chain = Chain::new(&net.stages(from, to), net.tuple(from).0, model.dtype);
        let resid = with_constant(&mut b, taps.tuples[from][0].view, 1.0);
        let tape = chain.primal(&mut b, resid, batch);
        for x in same_layer {
            let feed = b.matrix(batch.samples * x.positions, model.config.d_model);
            let product = if x.is_cotangent {
                let behind = if tape.output().rows < feed.rows { feed.every(x.positions - 1, x.positions) } else { feed };
                let dy = with_constant(&mut b, behind, 0.0);
                chain.vjp(&mut b, &tape, dy, 1)
            } else {
                // Constants do not move.
                let dx = with_constant(&mut b, feed, 0.0);
                chain.jvp(&mut b, &tape, dx, 1)
            };
            feeds.push(feed);
            outs.push(product.columns(0, model.config.d_model));
        }
    }
    let pass = Pass { program: b.finish(), input, reads: Vec::new(), labels: None, first: None };
    Ok(Scan { pass, feeds, outs })
}

/// Rows with the constant coordinate behind them.
fn with_constant(b: &mut Builder<Launch>, x: View, constant: f64) -> View {
    let y = b.matrix(x.rows, x.cols + 1);
    b.push(Launch::Copy(copy::Args::new(x, y.columns(0, x.cols))));
    b.push(Launch::Fill(copy::FillArgs { y: y.columns(x.cols, 1), value: constant }));
    y
}
