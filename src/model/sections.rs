//! The intermediate form of a network: modules made of stages, and node layers between them.
//!
//! A tuple of members flows through the modules (`lib.md` 1.2). A member is `groups` blocks of
//! `width` values, each block followed by one constant coordinate where `constant` is set: that
//! coordinate carries the biases, so that scaling the whole tuple scales them too. The values are
//! data; the constants are known numbers, so passes over data leave them out, and the small
//! matrices built from a [`LinearMap`] put them back (`lib-closed-forms.md` section 0).

use crate::device::{DType, Tensor};
use crate::ops::activation::Activation;
use crate::ops::attention;
use crate::ops::linear::Matrix;

/// One member of the tuple at a node layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    pub groups: usize,
    pub width: usize,
    /// The value of the constant coordinate behind each group.
    pub constant: Option<f64>,
}

impl Member {
    /// One group.
    pub fn new(width: usize, constant: Option<f64>) -> Self {
        Self { groups: 1, width, constant }
    }
    /// Number of values.
    pub fn data(&self) -> usize {
        self.groups * self.width
    }
    /// Distance between the groups among the coordinates.
    pub fn pitch(&self) -> usize {
        self.width + usize::from(self.constant.is_some())
    }
    /// Number of coordinates, constants included.
    pub fn coords(&self) -> usize {
        self.groups * self.pitch()
    }
}

/// Coordinates of a whole tuple.
pub fn coords(members: &[Member]) -> usize {
    members.iter().map(Member::coords).sum()
}

/// Values of a whole tuple.
pub fn data(members: &[Member]) -> usize {
    members.iter().map(Member::data).sum()
}

/// For every coordinate of a tuple: `Ok(index among the values)` or `Err(constant)`.
pub fn coordinate_map(members: &[Member]) -> Vec<Result<usize, f64>> {
    let (mut map, mut next) = (Vec::with_capacity(coords(members)), 0);
    for m in members {
        for _ in 0..m.groups {
            map.extend((next..next + m.width).map(Ok));
            next += m.width;
            map.extend(m.constant.map(Err));
        }
    }
    map
}

/// One summand of an output member.
#[derive(Clone, Debug)]
pub enum Term {
    /// The input member itself, constants included.
    Pass { from: usize },
    /// x W + c b over all groups at once, c the mean of the constants of member `bias.0`; the output
    /// constants receive `constant` times the mean constant of `from`.
    Dense { from: usize, w: Tensor, bias: Option<(usize, Tensor)>, constant: f64 },
    /// x * w + c b elementwise, constants passed on: the affine part of a norm.
    Scale { from: usize, w: Tensor, bias: Tensor },
}

/// An output member of a linear stage: the sum of its terms.
#[derive(Clone, Debug)]
pub struct Out {
    pub member: Member,
    pub terms: Vec<Term>,
}

/// Shape of an attention stage; `d_v` counts values only.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    pub heads: usize,
    pub d_head: usize,
    pub d_v: usize,
    pub scale: f64,
    /// Only the last position of each sequence is a query, and all members drop to it.
    pub last_only: bool,
}

impl AttentionShape {
    /// The operation on `batch` sequences of `seq` positions.
    pub fn on(&self, batch: usize, seq: usize) -> attention::Shape {
        let Self { heads, d_head, d_v, scale, last_only } = *self;
        attention::Shape { batch, seq, heads, d_head, d_v, scale, last_only, causal: true }
    }
}

/// A step of the computation. Nonlinear stages act on the first members and pass the rest on.
#[derive(Clone, Debug)]
pub enum Stage {
    Linear(Vec<Out>),
    /// (x, ..) -> (v, x, ..): v = mean((x - mean x)^2).
    Variance,
    /// (v, x, ..) -> (y, ..): y = (x - mean x) / sqrt(max(v, 0) + eps); the constant passes.
    Normalise {
        eps: f64,
    },
    /// (x, ..) -> (act(x), ..); elementwise activations act on the constant too.
    Act(Activation),
    /// (g, u, ..) -> (act(g) * u, ..); members without constants.
    Gated(Activation),
    /// (q, k, v, ..) -> (z, ..), causal.
    Attention(AttentionShape),
}

impl Stage {
    /// The tuple behind the stage.
    pub fn output(&self, input: &[Member]) -> Vec<Member> {
        let behind = |first: Member, taken: usize| std::iter::once(first).chain(input[taken..].iter().copied()).collect();
        match self {
            Stage::Linear(outs) => outs.iter().map(|o| o.member).collect(),
            Stage::Variance => behind(Member::new(1, None), 0),
            Stage::Normalise { .. } => behind(input[1], 2),
            Stage::Act(act) => {
                let elementwise = act.is_elementwise();
                let constant = input[0].constant.map(|c| if elementwise { act.value(c) } else { c });
                behind(Member { constant, ..input[0] }, 1)
            }
            Stage::Gated(_) => behind(input[0], 2),
            Stage::Attention(_) => behind(input[2], 3),
        }
    }
    /// How many members a nonlinear stage works on, from the first on; the rest passes by. A linear
    /// stage works on none of its own.
    pub fn arity(&self) -> usize {
        match self {
            Stage::Linear(_) => 0,
            Stage::Variance | Stage::Act(_) => 1,
            Stage::Normalise { .. } | Stage::Gated(_) => 2,
            Stage::Attention(_) => 3,
        }
    }
    /// Whether an output position depends on more than its own input position.
    pub fn mixes_positions(&self) -> bool {
        matches!(self, Stage::Attention(_))
    }
}

/// A module: a node layer may sit at its input.
#[derive(Clone, Debug)]
pub struct Module {
    /// `name.block`, as in `lib.md` 1.2
    pub id: String,
    pub stages: Vec<Stage>,
    /// The tuple at its input.
    pub input: Vec<Member>,
    /// Whether only the last position of each sequence reaches its input.
    pub last_only: bool,
}

/// A whole network.
#[derive(Clone, Debug)]
pub struct Network {
    pub modules: Vec<Module>,
    pub output: Vec<Member>,
    pub output_last_only: bool,
}

impl Network {
    /// Strings the modules together from the first tuple on.
    pub fn new(first: Vec<Member>, modules: Vec<(String, Vec<Stage>)>) -> Self {
        let (mut tuple, mut last_only, mut out) = (first, false, Vec::new());
        for (id, stages) in modules {
            let (input, input_last) = (tuple.clone(), last_only);
            for stage in &stages {
                tuple = stage.output(&tuple);
                last_only |= matches!(stage, Stage::Attention(s) if s.last_only);
            }
            out.push(Module { id, stages, input, last_only: input_last });
        }
        Self { modules: out, output: tuple, output_last_only: last_only }
    }
    /// The tuple at the input of module `i`, or at the output for `i == modules.len()`, with whether
    /// only the last positions are there.
    pub fn tuple(&self, i: usize) -> (&[Member], bool) {
        match self.modules.get(i) {
            Some(m) => (&m.input, m.last_only),
            None => (&self.output, self.output_last_only),
        }
    }
    /// The index of module `name.block`, one of those that [`super::network`] makes: another name is a
    /// bug of the caller and panics.
    pub fn index(&self, name: &str, block: usize) -> usize {
        let id = format!("{name}.{block}");
        self.modules.iter().position(|m| m.id == id).unwrap_or_else(|| panic!("no module {id}"))
    }
    /// The stages from the input of module `from` to the input of module `to`.
    pub fn stages(&self, from: usize, to: usize) -> Vec<Stage> {
        self.modules[from..to].iter().flat_map(|m| m.stages.iter().cloned()).collect()
    }
}

/// How a block of input coordinates reaches a block of output coordinates.
#[derive(Clone, Debug)]
pub enum Kind {
    Identity(usize),
    Dense(Matrix),
    Diagonal(Tensor),
}

/// y[out..] += x[from..] K.
#[derive(Clone, Debug)]
pub struct Block {
    pub from: usize,
    pub to: usize,
    pub kind: Kind,
}

/// A linear stage over coordinates, constants and biases included: the matrix B `[d_in, d_out]` of
/// y = x B as a sum of blocks.
#[derive(Clone, Debug)]
pub struct LinearMap {
    pub d_in: usize,
    pub d_out: usize,
    pub blocks: Vec<Block>,
}

impl LinearMap {
    /// The map of a linear stage on a tuple.
    pub fn new(input: &[Member], outs: &[Out], dtype: DType) -> Self {
        let starts = |members: &mut dyn Iterator<Item = Member>| -> Vec<usize> {
            members
                .scan(0, |at, m| {
                    *at += m.coords();
                    Some(*at - m.coords())
                })
                .collect()
        };
        let from_at = starts(&mut input.iter().copied());
        let to_at = starts(&mut outs.iter().map(|o| o.member));
        let mut blocks = Vec::new();
        for (o, &to) in outs.iter().zip(&to_at) {
            for term in &o.terms {
                term_blocks(term, input, &from_at, &o.member, to, dtype, &mut blocks);
            }
        }
        let d_out = outs.iter().map(|o| o.member.coords()).sum();
        Self { d_in: coords(input), d_out, blocks }
    }
    /// The map of a whole matrix `[d_in, d_out]`.
    pub fn dense(t: &Tensor) -> Self {
        let block = Block { from: 0, to: 0, kind: Kind::Dense(Matrix::whole(t)) };
        Self { d_in: t.rows, d_out: t.cols, blocks: vec![block] }
    }
}

/// The positions of a member's constants, relative to its first coordinate.
fn constants(m: &Member) -> Vec<usize> {
    m.constant.map_or(Vec::new(), |_| (0..m.groups).map(|g| g * m.pitch() + m.width).collect())
}

fn term_blocks(term: &Term, input: &[Member], from_at: &[usize], out: &Member, to: usize, dtype: DType, blocks: &mut Vec<Block>) {
    match term {
        Term::Pass { from } => {
            blocks.push(Block { from: from_at[*from], to, kind: Kind::Identity(input[*from].coords().min(out.coords())) })
        }
        Term::Dense { from, w, bias, constant } => {
            let (m, at) = (&input[*from], from_at[*from]);
            // Groups without constants between them are one block.
            let split = |m: &Member| if m.constant.is_some() { (m.groups, m.width) } else { (1, m.data()) };
            let ((gi, wi), (go, wo)) = (split(m), split(out));
            for i in 0..gi {
                for o in 0..go {
                    let w = Matrix { tensor: w.clone(), row: i * wi, col: o * wo, rows: wi, cols: wo };
                    blocks.push(Block { from: at + i * m.pitch(), to: to + o * out.pitch(), kind: Kind::Dense(w) });
                }
            }
            if let Some((source, b)) = bias {
                bias_blocks(&input[*source], from_at[*source], b, out, to, blocks);
            }
            if *constant != 0.0 {
                let (sources, sinks) = (constants(m), constants(out));
                let share = Tensor::row(dtype, vec![constant / sources.len() as f64]);
                for &s in &sources {
                    for &t in &sinks {
                        blocks.push(Block { from: at + s, to: to + t, kind: Kind::Dense(Matrix::whole(&share)) });
                    }
                }
            }
        }
        Term::Scale { from, w, bias } => {
            let (m, at) = (&input[*from], from_at[*from]);
            blocks.push(Block { from: at, to, kind: Kind::Diagonal(w.clone()) });
            bias_blocks(m, at, bias, out, to, blocks);
            for c in constants(m) {
                blocks.push(Block { from: at + c, to: to + c, kind: Kind::Identity(1) });
            }
        }
    }
}

/// The bias row, fed by the mean of the source's constants.
fn bias_blocks(source: &Member, at: usize, b: &Tensor, out: &Member, to: usize, blocks: &mut Vec<Block>) {
    let sources = constants(source);
    let share = Tensor::row(b.dtype(), b.to_f64().iter().map(|b| b / sources.len() as f64).collect());
    let (groups, width) = if out.constant.is_some() { (out.groups, out.width) } else { (1, out.data()) };
    for s in sources {
        for g in 0..groups {
            let w = Matrix::columns(&share, g * width, width);
            blocks.push(Block { from: at + s, to: to + g * out.pitch(), kind: Kind::Dense(w) });
        }
    }
}
