//! Ablation: the model with directions of a node layer, or edges of a section, left out (`lib.md` 3.2).
//!
//! A block of samples is run once up to the node layer. From there on one run a mask follows, a
//! chunk of masks at a time. Linear maps around the first and last nonlinear stage are multiplied
//! into the bases beforehand, so a run starts from the masked features themselves.

use std::sync::Arc;

use faer::Mat;

use super::edge_mask::EdgeMask;
use super::edges::whole_rows;
use super::host::{product, tensor};
use super::jvp::repeat;
use super::plan::Node;
use super::schedule::Metric;
use super::{plain, start};
use crate::data::stream::{self, Pass, Read, Runner};
use crate::data::{DataSet, targets};
use crate::device::{Builder, DType, IntBuffer, Tensor, View};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::chain::Chain;
use crate::model::forward::{Batch, Taps};
use crate::model::sections::{LinearMap, Member, Network, Stage, coords};
use crate::ops::linear::Matrix;
use crate::ops::{Launch, copy, linear, loss, mask};

/// Rows that the stacked runs of a chunk of masks should have: enough for a dense product, few enough
/// to stay in the cache.
const CHUNK_ROWS: usize = 1024;

/// How well the model does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Mean cross-entropy over the labelled outputs, in nats.
    pub loss: f64,
    /// Share of the labelled outputs whose label has the largest logit.
    pub accuracy: f64,
}

impl Score {
    pub fn of(self, metric: Metric) -> f64 {
        match metric {
            Metric::Accuracy => self.accuracy,
            Metric::Loss => self.loss,
        }
    }
}

/// A basis of a node layer: C `[d, k]` and C+ `[k, d]`, or W and W+.
pub type Pair = (Mat<f64>, Mat<f64>);

/// A model, and the data that it is measured on.
#[derive(Debug)]
pub struct Bench<'a> {
    model: &'a Model,
    net: Network,
    data: DataSet,
    /// Labelled outputs.
    count: usize,
    runner: &'a Runner<'a>,
}

impl<'a> Bench<'a> {
    /// Fails where the data has nothing to predict (see [`targets`]).
    pub fn new(model: &'a Model, data: DataSet, runner: &'a Runner<'a>) -> Result<Self> {
        let (labels, count) = targets(&data, model)?;
        Ok(Self { model, net: model.network(true)?, data: DataSet { labels: Some(labels), ..data }, count, runner })
    }

    /// The model's modules.
    pub fn network(&self) -> &Network {
        &self.net
    }

    /// The model as it is.
    pub fn unablated(&self) -> Result<Score> {
        let scores = self.measure("unablated", 1, self.net.modules.len(), |b, out, labels, taps, _| {
            let logits = taps.tuples[self.net.modules.len()][0].view;
            let args = loss::Args { logits, labels, from: 0, out };
            args.check()?;
            b.push(Launch::Loss(args));
            Ok(())
        })?;
        Ok(scores[0])
    }

    /// For each of `kept` the model with f replaced by f C M C+ at a node layer, where M keeps the
    /// first that many directions.
    pub fn nodes(&self, node: &Node, (c, c_pinv): &Pair, kept: &[usize]) -> Result<Vec<Score>> {
        if kept.is_empty() {
            return Ok(Vec::new());
        }
        let dtype = self.model.dtype();
        let (c, tail) = (tensor(dtype, c.as_ref()), Tail::new(&self.net, node, Some(c_pinv), dtype));
        let masks: Vec<f64> = kept.iter().flat_map(|&n| (0..c.cols).map(move |j| f64::from(u8::from(j < n)))).collect();
        let masks = Tensor::from_f64(dtype, kept.len(), c.cols, masks);
        self.measure(&format!("nodes {}", node.name), kept.len(), node.module, |b, out, labels, taps, batch| {
            let f = whole_rows(b, &taps.tuples[node.module]);
            let batch = Batch { positions: f.rows / batch.samples, ..batch };
            let f_hat = multiply(b, f, &c);
            in_chunks(b, f_hat, &masks, |b, y, runs, index| {
                let logits = tail.emit(b, y, Batch { samples: runs * batch.samples, ..batch });
                let args = loss::ProbeArgs { logits, labels, index, out };
                args.check()?;
                b.push(Launch::ProbeLoss(args));
                Ok(())
            })
        })
    }

    /// The model with every output feature of a section computed from the input features that `mask`
    /// keeps for it: f_hat C+ through the section, feature i read, mapped back with C+ of the next
    /// layer.
    pub fn edges(&self, section: &Masked, mask: &EdgeMask, name: &str) -> Result<Score> {
        let used = mask.used();
        let select = |m: &Mat<f64>| Mat::from_fn(used.len(), m.ncols(), |j, i| m[(used[j], i)]);
        let dtype = self.model.dtype();
        let host = |m: &Mat<f64>| tensor(dtype, m.as_ref());
        let c = &section.c;
        let c = host(&Mat::from_fn(c.nrows(), used.len(), |i, j| c[(i, used[j])]));
        // What stays linear needs no runs: each output has a column of its own.
        let linear = section.linear.as_ref().map(|l| {
            host(&Mat::from_fn(used.len(), l.ncols(), |j, i| if mask.keeps(i, used[j]) { l[(used[j], i)] } else { 0.0 }))
        });
        let masks: Vec<f64> = mask.masks.iter().flat_map(|m| used.iter().map(|&j| f64::from(u8::from(m[j])))).collect();
        let masks = Tensor::from_f64(dtype, mask.masks.len(), used.len(), masks);
        let core = section.core.as_ref().filter(|_| !mask.owners.is_empty());
        let core = core.map(|core| (host(&select(&core.enter)), host(&core.leave_t), &core.chain));
        let owners: Arc<[usize]> = mask.owners.clone().into();
        let scores = self.measure(name, 1, section.from.module, |b, out, labels, taps, batch| {
            let f = whole_rows(b, &taps.tuples[section.from.module]);
            let positions = f.rows / batch.samples;
            let f_hat = multiply(b, f, &c);
            let seen = if section.last_only { f_hat.every(positions - 1, positions) } else { f_hat };
            let y = b.matrix(seen.rows, owners.len());
            b.push(match &linear {
                Some(l) => Launch::Linear(linear::Args::new(seen, Matrix::whole(l), y)),
                None => Launch::Fill(copy::FillArgs { y, value: 0.0 }),
            });
            if let Some((enter, leave_t, chain)) = &core {
                in_chunks(b, f_hat, &masks, |b, x, runs, index| {
                    let x = multiply(b, x, enter);
                    let x = chain.primal(b, x, Batch { samples: runs * batch.samples, positions }).output();
                    let args = mask::ReadoutArgs { x, w_t: leave_t.clone(), owners: owners.clone(), index, y };
                    args.check()?;
                    b.push(Launch::Readout(args));
                    Ok(())
                })?;
            }
            let logits = section.tail.emit(b, y, Batch { positions: y.rows / batch.samples, ..batch });
            let args = loss::Args { logits, labels, from: 0, out };
            args.check()?;
            b.push(Launch::Loss(args));
            Ok(())
        })?;
        Ok(scores[0])
    }

    /// One pass over the data: the forward pass up to module `until`, then what `emit` makes of it.
    /// `emit` adds the loss and the hits of run p to row p of the view that it is given.
    fn measure(
        &self,
        name: &str,
        runs: usize,
        until: usize,
        emit: impl Fn(&mut Builder<Launch>, View, IntBuffer, &Taps, Batch) -> Result<()>,
    ) -> Result<Vec<Score>> {
        let labels = self.data.labels.as_ref().map_or(0, |l| l.values.len()) / self.data.samples.count();
        let sums = stream::run(self.runner, name, &self.data, |batch| {
            let mut b = Builder::new(self.model.dtype());
            let (input, taps) = start(&mut b, self.model, &self.net, batch, until)?;
            let (out, labels) = (b.accumulator(runs, 2), b.ints(labels * batch.samples));
            emit(&mut b, out, labels, &taps, batch)?;
            Ok(Pass { program: b.finish(), input, reads: vec![Read::Add(out)], labels: Some(labels), first: None })
        })?;
        let score = |s: &[f64]| Score { loss: s[0] / self.count as f64, accuracy: s[1] / self.count as f64 };
        let scores: Vec<Score> = plain(sums)[0].chunks_exact(2).map(score).collect();
        match scores.iter().find(|s| !s.loss.is_finite()) {
            None => Ok(scores),
            Some(s) => {
                let expected = "a finite one (an activation has overflowed; try --dtype f64)";
                Err(Error::numeric(format!("measuring {name}"), format!("the loss {}", s.loss), expected))
            }
        }
    }
}

/// Emits `body` for one chunk of masks after the other: it is given the masked features of R runs,
/// R, and the number of the chunk.
fn in_chunks(
    b: &mut Builder<Launch>,
    f_hat: View,
    masks: &Tensor,
    body: impl FnOnce(&mut Builder<Launch>, View, usize, IntBuffer) -> Result<()>,
) -> Result<()> {
    let most = (CHUNK_ROWS / f_hat.rows).clamp(1, masks.rows.max(1));
    let chunks = masks.rows.div_ceil(most);
    let runs = masks.rows.div_ceil(chunks.max(1));
    let mut done = Ok(());
    repeat(b, chunks, |b, index| {
        let y = b.matrix(runs * f_hat.rows, f_hat.cols);
        let args = mask::Args { f_hat, masks: masks.clone(), index, y };
        done = args.check();
        b.push(Launch::Mask(args));
        if done.is_ok() {
            done = body(b, y, runs, index);
        }
    });
    done
}

/// x W.
fn multiply(b: &mut Builder<Launch>, x: View, w: &Tensor) -> View {
    let y = b.matrix(x.rows, w.cols);
    b.push(Launch::Linear(linear::Args::new(x, Matrix::whole(w), y)));
    y
}

/// From the features of a node layer to the logits.
#[derive(Clone, Debug)]
struct Tail {
    /// C+ and the linear stages behind the node layer; absent for raw coordinates.
    enter: Option<Tensor>,
    chain: Chain,
}

impl Tail {
    fn new(net: &Network, node: &Node, c_pinv: Option<&Mat<f64>>, dtype: DType) -> Self {
        let stages = net.stages(node.module, net.modules.len());
        let Some(c_pinv) = c_pinv else {
            return Self { enter: None, chain: Chain::new(&stages, &node.members, dtype) };
        };
        let (enter, taken, tuple) = enter(&stages, &node.members, c_pinv, dtype);
        Self { enter: Some(tensor(dtype, enter.as_ref())), chain: Chain::new(&stages[taken..], &tuple, dtype) }
    }
    fn emit(&self, b: &mut Builder<Launch>, features: View, batch: Batch) -> View {
        let x = self.enter.as_ref().map_or(features, |w| multiply(b, features, w));
        self.chain.primal(b, x, batch).output()
    }
}

/// C+ through the linear stages in front of the first nonlinear one: the product, the number of those
/// stages, and the tuple behind them.
fn enter(stages: &[Stage], members: &[Member], c_pinv: &Mat<f64>, dtype: DType) -> (Mat<f64>, usize, Vec<Member>) {
    let (mut x, mut tuple, mut taken) = (c_pinv.clone(), members.to_vec(), 0);
    for stage in stages {
        let Stage::Linear(outs) = stage else { break };
        x = LinearMap::new(&tuple, outs, dtype).rows(x.as_ref());
        tuple = stage.output(&tuple);
        taken += 1;
    }
    (x, taken, tuple)
}

/// A section ready for edge ablation: features to features as
/// f_hat -> core(f_hat enter) leave + f_hat linear.
#[derive(Clone, Debug)]
pub struct Masked {
    from: Node,
    /// C of the layer in front, `[d, k_in]`.
    c: Mat<f64>,
    /// Absent where the whole section is linear.
    core: Option<Core>,
    /// `[k_in, k_out]`: what passes the core by; absent where nothing does.
    linear: Option<Mat<f64>>,
    /// Only the last position of each sequence is left behind the section.
    last_only: bool,
    tail: Tail,
}

/// The section from its first nonlinear stage to its last.
#[derive(Clone, Debug)]
struct Core {
    /// `[k_in, d]`: C+ and the linear stages in front.
    enter: Mat<f64>,
    chain: Chain,
    /// `[k_out, d']`: the linear stages behind and C of the next layer, transposed.
    leave_t: Mat<f64>,
}

impl Masked {
    /// The section between two node layers with their bases; `to` is absent where the next layer is
    /// not rotated.
    pub fn new(bench: &Bench, nodes: [&Node; 2], (c, c_pinv): Pair, to: Option<&Pair>) -> Self {
        let (net, dtype, [from, next]) = (&bench.net, bench.model.dtype(), nodes);
        let stages = net.stages(from.module, next.module);
        let (enter, first, members) = enter(&stages, &from.members, &c_pinv, dtype);
        let end = stages.iter().rposition(|s| !matches!(s, Stage::Linear(_))).map_or(first, |last| last + 1);
        // A single nonlinear stage is run without the members that pass it by; what several leave
        // alone is not told apart from what they read.
        let own = match &stages[first..end] {
            [] => 0,
            [only] => only.arity(),
            _ => members.len(),
        };
        let (own, rest) = members.split_at(own);
        let tuples = stages[first..end].iter().scan(own.to_vec(), |t, s| {
            *t = s.output(t);
            Some(t.clone())
        });
        let behind_own = tuples.last().unwrap_or_default();
        let mut tuple: Vec<Member> = behind_own.iter().chain(rest).copied().collect();
        let mut maps = Vec::new();
        for stage in &stages[end..] {
            if let Stage::Linear(outs) = stage {
                maps.push(LinearMap::new(&tuple, outs, dtype));
                tuple = stage.output(&tuple);
            }
        }
        let c_next = to.map_or_else(|| Mat::identity(next.width(), next.width()), |pair| pair.0.clone());
        let leave = maps.iter().rev().fold(c_next, |y, map| map.cols(y.as_ref()));
        let (d_in, d_out) = (coords(own), coords(&behind_own));
        let core = (first < end).then(|| Core {
            enter: enter.subcols(0, d_in).to_owned(),
            chain: Chain::new(&stages[first..end], own, dtype),
            leave_t: leave.subrows(0, d_out).transpose().to_owned(),
        });
        let passing = enter.ncols() - d_in;
        let linear = (passing > 0).then(|| product(enter.subcols(d_in, passing), leave.subrows(d_out, passing)));
        let tail = Tail::new(net, next, to.map(|pair| &pair.1), dtype);
        Self { from: from.clone(), c, core, linear, last_only: next.last_only && !from.last_only, tail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::basis::plan::nodes;
    use crate::basis::rotation::Threshold;
    use crate::basis::{self, BasisKind, EdgeKind, Graph, Method, Options, Problem};
    use crate::data::{Labels, Samples};
    use crate::device::{Arena, Cpu, Device};
    use crate::model::fixture::{mlp_config, transformer_config};
    use crate::model::{ActFn, MlpConfig, Norm, TransformerConfig, random_mlp, random_transformer};
    use crate::ops::run_cpu;
    use crate::progress::{Mode, Progress};

    /// Two blocks, the second of three samples; four positions, so that masks come in chunks.
    const N: usize = 131;
    const T: usize = 4;

    fn transformer(norm: Norm, parallel: bool, read_last: bool) -> (Model, DataSet) {
        let config = TransformerConfig { parallel, read_last, ..transformer_config(norm, ActFn::Gelu) };
        let model = Model::Transformer(random_transformer(config, DType::F64, 5).unwrap());
        let ids = (0..N * T).map(|i| (i * i * 7 + i / 3) as u32 % 9).collect();
        let labels = read_last.then(|| Labels { values: (0..N as u32).map(|i| i * 5 % 9).collect(), per_position: false });
        (
            model,
            DataSet {
                samples: Samples::Tokens { ids, n: N, t: T },
                labels,
                mask: None,
                text: None,
                name: "d".into(),
                sha256: String::new(),
            },
        )
    }

    fn mlp() -> (Model, DataSet) {
        let config = MlpConfig { act: ActFn::Relu, ..mlp_config(true) };
        let model = Model::Mlp(random_mlp(config, DType::F64, 2).unwrap());
        let x = (0..700 * 4).map(|i| f64::from(i * i % 101) / 50.0 - 1.0).collect();
        let labels = Some(Labels { values: (0..700).map(|i| i % 3).collect(), per_position: false });
        (
            model,
            DataSet {
                samples: Samples::Inputs { x, n: 700, width: 4 },
                labels,
                mask: None,
                text: None,
                name: "d".into(),
                sha256: String::new(),
            },
        )
    }

    fn with_runner(test: impl FnOnce(&Runner)) {
        let (device, progress) = (Device::Cpu(Cpu::new(2).unwrap()), Progress::new(Mode::Quiet));
        test(&Runner { device: &device, progress: &progress, batch: None, memory: u64::MAX, checkpoints: None });
    }

    fn graph(model: &Model, data: &DataSet, layers: &[&str], basis: BasisKind, runner: &Runner) -> Graph {
        let node_layers: Vec<String> = layers.iter().map(|l| l.to_string()).collect();
        let options = Options {
            rotate_final: layers.last() != Some(&"output"),
            quadrature: vec![vec![(1.0, 1.0)]; layers.len()],
            node_layers,
            basis,
            edges: EdgeKind::Squared,
            sources_pos: None,
            sources_hidden: None,
            sources_edges: None,
            threshold: Threshold::Relative(1e-12),
            centre: true,
            isolate_variance: true,
            ngf: false,
            method: Method::Auto,
            seed: 0,
        };
        basis::build(Problem { model, data, gram_data: None, options: &options }, runner).unwrap()
    }

    fn pair(graph: &Graph, l: usize) -> Option<Pair> {
        graph.layers[l].basis.as_ref().map(|b| (b.c.clone(), b.c_pinv.clone()))
    }

    /// Emits the front of the model, hands f_hat of a node layer to `rest`, which gives the logits, and
    /// measures those with plain loops: all samples in one program, without blocks, chunks or masks.
    fn naive(bench: &Bench, node: &Node, c: &Mat<f64>, rest: impl FnOnce(&mut Builder<Launch>, View, Batch) -> View) -> Score {
        let (mut b, samples) = (Builder::new(DType::F64), &bench.data.samples);
        let batch = Batch { samples: samples.count(), positions: samples.positions() };
        let (input, taps) = start(&mut b, bench.model, &bench.net, batch, node.module).unwrap();
        let f = whole_rows(&mut b, &taps.tuples[node.module]);
        let f_hat = multiply(&mut b, f, &tensor(DType::F64, c.as_ref()));
        let logits = rest(&mut b, f_hat, Batch { positions: f.rows / batch.samples, ..batch });
        let program = b.finish();
        let mut m = Arena::<f64>::new(&program.layout);
        match (samples, input) {
            (Samples::Tokens { ids, .. }, stream::Input::Tokens(t)) => m.int_mut(t).copy_from_slice(ids),
            (Samples::Inputs { x, .. }, stream::Input::Values(v)) => m.real_mut(v.buffer).copy_from_slice(x),
            _ => unreachable!(),
        }
        run_cpu(&program, &mut m);
        let (mut loss, mut hits, mut count) = (0.0, 0.0, 0.0);
        for (i, &label) in bench.data.labels.as_ref().unwrap().values.iter().enumerate().filter(|(_, l)| **l != loss::SKIPPED) {
            let row = m.row(&logits, i);
            loss -= (row[label as usize].exp() / row.iter().map(|x| x.exp()).sum::<f64>()).ln();
            hits += f64::from(u8::from(
                (0..row.len()).all(|j| row[j] < row[label as usize] || j >= label as usize && row[j] == row[label as usize]),
            ));
            count += 1.0;
        }
        Score { loss: loss / count, accuracy: hits / count }
    }

    fn through(b: &mut Builder<Launch>, bench: &Bench, [from, to]: [usize; 2], x: View, batch: Batch) -> View {
        let stages = bench.net.stages(from, to);
        Chain::new(&stages, bench.net.tuple(from).0, DType::F64).primal(b, x, batch).output()
    }

    #[track_caller]
    fn assert_same(a: Score, b: Score, what: &str) {
        assert!((a.loss - b.loss).abs() <= 1e-9 * b.loss.abs().max(1.0), "{what}: loss {} and {}", a.loss, b.loss);
        assert_eq!(a.accuracy, b.accuracy, "{what}");
    }

    const LAYERS: [&str; 10] =
        ["ln1.0", "ln1_out.0", "attn_in.0", "attn_out.0", "ln2.0", "ln2_out.0", "mlp_in.0", "mlp_act.0", "ln1.1", "unembed"];

    #[test]
    fn keeping_every_direction_changes_nothing_and_keeping_none_is_zero_input() {
        with_runner(|runner| {
            for ((model, data), layers) in [
                (transformer(Norm::Ln, false, false), &LAYERS[..]),
                (transformer(Norm::LnPre, true, true), &LAYERS),
                (transformer(Norm::None, false, true), &["ln1.0", "ln2.0", "unembed"]),
                (mlp(), &["layers.0", "layers.1", "layers.2"]),
            ] {
                for basis in [BasisKind::Jacobian, BasisKind::Pca] {
                    let graph = graph(&model, &data, layers, basis, runner);
                    let bench = Bench::new(&model, data.clone(), runner).unwrap();
                    let (base, end) = (bench.unablated().unwrap(), bench.net.modules.len());
                    for (l, layer) in graph.layers.iter().enumerate() {
                        let (node, basis) = (&layer.node, pair(&graph, l).unwrap());
                        let (k, half) = (layer.k(), layer.k() / 2);
                        let scores = bench.nodes(node, &basis, &[k, half, 0]).unwrap();
                        assert_same(scores[0], base, &node.name);
                        let zero = naive(&bench, node, &basis.0, |b, f_hat, batch| {
                            let zero = b.matrix(f_hat.rows, node.width());
                            b.push(Launch::Fill(copy::FillArgs { y: zero, value: 0.0 }));
                            through(b, &bench, [node.module, end], zero, batch)
                        });
                        assert_same(scores[2], zero, &node.name);
                        // Without input there is no bias either: all logits are 0.
                        assert!((zero.loss - (model.classes() as f64).ln()).abs() < 1e-12);
                        let some = naive(&bench, node, &basis.0, |b, f_hat, batch| {
                            let kept = f_hat.columns(0, half);
                            let x = multiply(b, kept, &tensor(DType::F64, basis.1.subrows(0, half)));
                            through(b, &bench, [node.module, end], x, batch)
                        });
                        assert_same(scores[1], some, &node.name);
                        assert!((scores[1].loss - base.loss).abs() > 1e-6, "{}: half the directions do nothing", node.name);
                    }
                }
            }
        });
    }

    /// Edge ablation by its definition: each output feature from a run of its own through all stages.
    fn naive_edges(bench: &Bench, [from, to]: [&Node; 2], (c, c_pinv): &Pair, next: Option<&Pair>, mask: &EdgeMask) -> Score {
        let host = |m: &Mat<f64>| tensor(DType::F64, m.as_ref());
        naive(bench, from, c, |b, f_hat, batch| {
            let samples = batch.samples;
            let mut outputs: Option<View> = None;
            for i in 0..mask.owners.len() {
                let keep: Vec<f64> = (0..f_hat.cols).map(|j| f64::from(u8::from(mask.keeps(i, j)))).collect();
                let masked = b.matrix(f_hat.rows, f_hat.cols);
                b.push(Launch::Scale(copy::ScaleArgs {
                    x: f_hat,
                    w: Tensor::row(DType::F64, keep),
                    bias: None,
                    y: masked,
                    accumulate: false,
                }));
                let x = multiply(b, masked, &host(c_pinv));
                let x = through(b, bench, [from.module, to.module], x, batch);
                let x = next.map_or(x, |pair| multiply(b, x, &host(&pair.0)));
                let y = *outputs.get_or_insert_with(|| b.matrix(x.rows, x.cols));
                b.push(Launch::Copy(copy::Args::new(x.columns(i, 1), y.columns(i, 1))));
            }
            let y = outputs.unwrap();
            let y = next.map_or(y, |pair| multiply(b, y, &host(&pair.1)));
            through(b, bench, [to.module, bench.net.modules.len()], y, Batch { samples, positions: y.rows / samples })
        })
    }

    #[test]
    fn edges_are_ablated_as_by_the_definition() {
        let mut coarse = LAYERS.to_vec();
        coarse.push("output");
        with_runner(|runner| {
            for ((model, data), layers) in [
                (transformer(Norm::Ln, false, false), &coarse[..]),
                (transformer(Norm::LnPre, true, true), &coarse),
                (transformer(Norm::Ln, false, true), &["attn_in.0", "attn_in.1", "mlp_in.1", "output"]),
                (transformer(Norm::None, false, true), &["ln1.0", "ln2.0", "ln1.1", "unembed"]),
                (mlp(), &["layers.0", "layers.1", "layers.2", "output"]),
            ] {
                let graph = graph(&model, &data, layers, BasisKind::Jacobian, runner);
                let bench = Bench::new(&model, data, runner).unwrap();
                let found = nodes(&bench.net, &layers.iter().map(|l| l.to_string()).collect::<Vec<_>>(), false).unwrap();
                for (l, e) in graph.edges.iter().enumerate() {
                    let (ends, next) = ([&found[l], &found[l + 1]], pair(&graph, l + 1));
                    let section = Masked::new(&bench, ends, pair(&graph, l).unwrap(), next.as_ref());
                    for (count, constant) in
                        [(usize::MAX, true), (e.nrows() * e.ncols() / 3, true), (9, true), (9, false), (0, false)]
                    {
                        let mask = EdgeMask::new(e, count, constant);
                        let what = format!("{} with {count} edges, {constant}, {} masks", ends[0].name, mask.masks.len());
                        let want = naive_edges(&bench, ends, &pair(&graph, l).unwrap(), next.as_ref(), &mask);
                        assert_same(bench.edges(&section, &mask, "edges").unwrap(), want, &what);
                        if count == usize::MAX {
                            assert_same(want, bench.unablated().unwrap(), &what);
                        }
                    }
                }
            }
        });
    }

    #[test]
    fn blocks_batches_and_threads_do_not_matter() {
        let (model, data) = transformer(Norm::Ln, false, false);
        let scores = [(1, None), (2, Some(1)), (2, Some(200))].map(|(threads, batch)| {
            let (device, progress) = (Device::Cpu(Cpu::new(threads).unwrap()), Progress::new(Mode::Quiet));
            let runner = Runner { device: &device, progress: &progress, batch, memory: u64::MAX, checkpoints: None };
            let graph = graph(&model, &data, &["ln1.0", "ln2.0", "output"], BasisKind::Jacobian, &runner);
            let bench = Bench::new(&model, data.clone(), &runner).unwrap();
            let basis = pair(&graph, 0).unwrap();
            let section =
                Masked::new(&bench, [&graph.layers[0].node, &graph.layers[1].node], basis.clone(), pair(&graph, 1).as_ref());
            let edges = bench.edges(&section, &EdgeMask::new(&graph.edges[0], 11, true), "edges").unwrap();
            (bench.nodes(&graph.layers[0].node, &basis, &[3, 5]).unwrap(), edges)
        });
        assert_eq!(scores[0], scores[1]);
        assert_eq!(scores[0], scores[2]);
    }

    #[test]
    fn data_without_labels_is_refused_where_they_are_needed() {
        with_runner(|runner| {
            let (model, data) = mlp();
            let error = Bench::new(&model, DataSet { labels: None, ..data }, runner).unwrap_err().to_string();
            assert!(error.starts_with("d: tensor labels: not in the file; expected labels"), "{error}");
        });
    }

    #[test]
    fn a_plan_beyond_the_memory_is_refused() {
        let (model, data) = transformer(Norm::None, false, true);
        with_runner(|runner| {
            let small = Runner { device: runner.device, progress: runner.progress, batch: None, memory: 1000, checkpoints: None };
            let error = Bench::new(&model, data, &small).unwrap().unablated().unwrap_err().to_string();
            assert!(error.starts_with("memory: the plan needs"), "{error}");
        });
    }
}
