//! The forward pass over data: constants left out, pass-through members aliased, activations fused
//! into the linear map before them.

use std::collections::HashMap;

use super::sections::{Member, Network, Out, Stage, Term};
use crate::device::{Builder, View};
use crate::error::{Error, Result};
use crate::ops::linear::Matrix;
use crate::ops::{Launch, activation, attention, copy, linear, norm};

/// The values of one member, `[n, groups * width]`, with its constant.
#[derive(Clone, Copy, Debug)]
pub struct Value {
    pub view: View,
    pub member: Member,
}

/// Where the forward pass left what.
#[derive(Clone, Debug, Default)]
pub struct Taps {
    /// By module index: the tuple at its input; the last entry is the output.
    pub tuples: Vec<Vec<Value>>,
    /// By (module, stage): the input of each nonlinear stage.
    pub atoms: HashMap<(usize, usize), Vec<Value>>,
    /// By (module, stage): attention probabilities `[batch * heads * queries, seq]`.
    pub patterns: HashMap<(usize, usize), View>,
    /// By (module, stage): the values of each head that attention has mixed, z.
    pub mixed: HashMap<(usize, usize), Value>,
}

/// The first tuple, and its sum where the embedding has already added it up.
#[derive(Clone, Debug)]
pub struct First {
    pub tuple: Vec<Value>,
    pub sum: Option<View>,
}

/// Batch shape of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    /// Samples in the batch.
    pub samples: usize,
    /// Positions of each sample; 1 for an MLP.
    pub positions: usize,
}

impl Batch {
    pub fn rows(&self) -> usize {
        self.samples * self.positions
    }
}

/// Emits modules `0..until` on the given first tuple.
pub fn forward(b: &mut Builder<Launch>, net: &Network, first: First, batch: Batch, until: usize) -> Result<Taps> {
    let mut taps = Taps { tuples: vec![first.tuple.clone()], ..Taps::default() };
    let (mut tuple, mut positions, mut sum) = (first.tuple, batch.positions, first.sum);
    // The activated values, where the linear map before an activation has already applied it.
    let mut activated: Option<View> = None;
    for (mi, module) in net.modules[..until].iter().enumerate() {
        for (si, stage) in module.stages.iter().enumerate() {
            if !matches!(stage, Stage::Linear(_)) {
                taps.atoms.insert((mi, si), tuple.clone());
            }
            tuple = match stage {
                Stage::Linear(outs) if sum.is_some() => {
                    let value = |view| Value { view, member: outs[0].member };
                    sum.take().map(value).into_iter().collect()
                }
                Stage::Linear(outs) => {
                    let next = following(net, mi, si, until);
                    let act = if let Some(Stage::Act(act)) = next { act.is_elementwise().then_some(*act) } else { None };
                    let (values, post) = emit_linear(b, &tuple, outs, act)?;
                    activated = post;
                    values
                }
                Stage::Variance => {
                    let v = b.matrix(tuple[0].view.rows, 1);
                    let args = norm::VarianceArgs { x: tuple[0].view, v };
                    b.push(Launch::Variance(args));
                    with_first(Value { view: v, member: Member::new(1, None) }, &tuple)
                }
                Stage::Normalise { eps } => {
                    let y = b.matrix(tuple[1].view.rows, tuple[1].view.cols);
                    b.push(Launch::Normalise(norm::NormaliseArgs { v: tuple[0].view, x: tuple[1].view, y, eps: *eps }));
                    with_first(Value { view: y, member: tuple[1].member }, &tuple[2..])
                }
                Stage::Act(act) => {
                    let x = tuple[0].view;
                    let y = activated.take().unwrap_or_else(|| {
                        let y = b.matrix(x.rows, x.cols);
                        b.push(Launch::Activation(activation::Args { act: *act, x, y }));
                        y
                    });
                    let member = stage.output(&[tuple[0].member])[0];
                    with_first(Value { view: y, member }, &tuple[1..])
                }
                Stage::Gated(_) => {
                    return Err(Error::shape("forward", "a gated stage", "stages of TransformerLens transformers and MLPs"));
                }
                Stage::Attention(s) => {
                    let queries = if s.last_only { 1 } else { positions };
                    let shape = s.on(batch.samples, positions);
                    let p = b.matrix(batch.samples * s.heads * queries, positions);
                    let z = b.matrix(batch.samples * queries, s.heads * s.d_v);
                    let (q, k, v) = (tuple[0].view, tuple[1].view, tuple[2].view);
                    b.push(Launch::Attention(attention::Args { shape, q, k, v, p, z }));
                    taps.patterns.insert((mi, si), p);
                    let rest = tuple[3..].iter().map(|v| match s.last_only {
                        true => Value { view: v.view.every(positions - 1, positions), ..*v },
                        false => *v,
                    });
                    let z = Value { view: z, member: tuple[2].member };
                    taps.mixed.insert((mi, si), z);
                    let joined = std::iter::once(z).chain(rest).collect();
                    positions = queries;
                    joined
                }
            };
        }
        taps.tuples.push(tuple.clone());
    }
    Ok(taps)
}

fn with_first(first: Value, rest: &[Value]) -> Vec<Value> {
    std::iter::once(first).chain(rest.iter().copied()).collect()
}

/// The stage behind `(mi, si)`, if it is run at all.
fn following(net: &Network, mi: usize, si: usize, until: usize) -> Option<&Stage> {
    let rest = net.modules[mi].stages.get(si + 1);
    rest.or_else(|| net.modules[mi + 1..until.max(mi + 1)].iter().find_map(|m| m.stages.first()))
}

/// Emits a linear stage. With `act`, the first output is activated by the map's epilogue as well and
/// returned beside the pre-activations.
pub fn emit_linear(
    b: &mut Builder<Launch>,
    tuple: &[Value],
    outs: &[Out],
    act: Option<activation::Activation>,
) -> Result<(Vec<Value>, Option<View>)> {
    let (mut values, mut post) = (Vec::with_capacity(outs.len()), None);
    for (oi, out) in outs.iter().enumerate() {
        if let [Term::Pass { from }] = out.terms[..] {
            values.push(Value { view: tuple[from].view, member: out.member });
            continue;
        }
        let rows = out.terms.first().map_or(0, |t| tuple[source(t)].view.rows);
        let y = b.matrix(rows, out.member.data());
        let fused = act.filter(|_| oi == 0 && matches!(out.terms[..], [Term::Dense { .. }]));
        for (ti, term) in out.terms.iter().enumerate() {
            let x = tuple[source(term)].view;
            match term {
                Term::Pass { .. } => b.push(Launch::Copy(copy::Args { accumulate: ti > 0, ..copy::Args::new(x, y) })),
                Term::Dense { w, bias, .. } => {
                    let mut args = linear::Args::new(x, Matrix::whole(w), y);
                    args.accumulate = ti > 0;
                    // The constant that carries the bias is 1 on data, whichever member holds it.
                    args.bias = bias.as_ref().map(|(_, b)| Matrix::whole(b));
                    if let Some(act) = fused {
                        let activated = b.matrix(rows, out.member.data());
                        (args.act, args.pre, args.y) = (Some(act), Some(y), activated);
                        post = Some(activated);
                    }
                    args.check()?;
                    b.push(Launch::Linear(args));
                }
                Term::Scale { w, bias, .. } => {
                    let args = copy::ScaleArgs { x, w: w.clone(), bias: Some(bias.clone()), y, accumulate: ti > 0 };
                    b.push(Launch::Scale(args));
                }
            }
        }
        values.push(Value { view: y, member: out.member });
    }
    Ok((values, post))
}

fn source(t: &Term) -> usize {
    match t {
        Term::Pass { from } | Term::Dense { from, .. } | Term::Scale { from, .. } => *from,
    }
}
