//! Any run of stages on rows of whole tuples, constants included: primal, tangents, cotangents.
//!
//! This is the general road: it serves what has no closed form, checks the closed forms, and runs
//! ablated inputs, whose constants need not be 1. Rows are `[n, coordinates]`; R probes are stacked
//! probe-major, row r * n + i belongs to primal row i.

use super::forward::Batch;
use super::sections::{AttentionShape, Kind, LinearMap, Member, Stage, coords};
use crate::device::{Builder, DType, View};
use crate::ops::activation::Activation;
use crate::ops::{Launch, activation, attention, copy, gated, linear, norm};

/// A step with the widths of its first members resolved.
#[derive(Clone, Debug)]
enum Step {
    Linear(LinearMap),
    Variance {
        width: usize,
    },
    Normalise {
        width: usize,
        eps: f64,
    },
    /// Acts on the first `on` coordinates.
    Act {
        act: Activation,
        on: usize,
    },
    Gated {
        act: Activation,
        width: usize,
    },
    /// The constants behind the values of each head are part of them.
    Attention(AttentionShape),
}

/// A run of stages, ready to be emitted.
#[derive(Clone, Debug)]
pub struct Chain {
    steps: Vec<Step>,
    /// Coordinates in front of each step, and behind the last.
    widths: Vec<usize>,
    /// Positions behind the last step are the last of each sequence only.
    pub last_only: bool,
}

/// What a primal run leaves for its tangents.
#[derive(Clone, Debug)]
pub struct Tape {
    /// Input rows of each step, then the output rows.
    pub rows: Vec<View>,
    patterns: Vec<Option<View>>,
    batch: Batch,
}

impl Tape {
    /// The output rows.
    pub fn output(&self) -> View {
        self.rows[self.rows.len() - 1]
    }
}

/// Whether derivatives run with the computation or against it.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Tangent,
    Cotangent,
}

impl Chain {
    pub fn new(stages: &[Stage], input: &[Member], dtype: DType) -> Self {
        let mut tuple = input.to_vec();
        let (mut steps, mut widths, mut last_only) = (Vec::new(), vec![coords(input)], false);
        for stage in stages {
            steps.push(match stage {
                Stage::Linear(outs) => Step::Linear(LinearMap::new(&tuple, outs, dtype)),
                Stage::Variance => Step::Variance { width: tuple[0].width },
                Stage::Normalise { eps } => Step::Normalise { width: tuple[1].width, eps: *eps },
                Stage::Act(act) => {
                    let on = if act.is_elementwise() { tuple[0].coords() } else { tuple[0].width };
                    Step::Act { act: *act, on }
                }
                Stage::Gated(act) => Step::Gated { act: *act, width: tuple[0].width },
                Stage::Attention(s) => {
                    last_only |= s.last_only;
                    Step::Attention(AttentionShape { d_v: tuple[2].pitch(), ..*s })
                }
            });
            tuple = stage.output(&tuple);
            widths.push(coords(&tuple));
        }
        Self { steps, widths, last_only }
    }
    /// Coordinates of the output.
    pub fn d_out(&self) -> usize {
        self.widths[self.widths.len() - 1]
    }

    /// Emits the primal run on rows `x` `[samples * positions, d_in]`.
    pub fn primal(&self, b: &mut Builder<Launch>, x: View, batch: Batch) -> Tape {
        let mut tape = Tape { rows: vec![x], patterns: Vec::new(), batch };
        let mut positions = batch.positions;
        for (i, step) in self.steps.iter().enumerate() {
            let x = tape.rows[i];
            let mut pattern = None;
            let rows = if matches!(step, Step::Attention(s) if s.last_only) { batch.samples } else { x.rows };
            let y = b.matrix(rows, self.widths[i + 1]);
            match step {
                Step::Linear(map) => emit_map(b, map, x, y, false),
                Step::Variance { width } => {
                    b.push(Launch::Variance(norm::VarianceArgs { x: x.columns(0, *width), v: y.columns(0, 1) }));
                    b.push(Launch::Copy(copy::Args::new(x, y.columns(1, x.cols))));
                }
                Step::Normalise { width, eps } => {
                    let (v, xs) = (x.columns(0, 1), x.columns(1, *width));
                    b.push(Launch::Normalise(norm::NormaliseArgs { v, x: xs, y: y.columns(0, *width), eps: *eps }));
                    rest(b, x, 1 + width, y, *width);
                }
                Step::Act { act, on } => {
                    b.push(Launch::Activation(activation::Args { act: *act, x: x.columns(0, *on), y: y.columns(0, *on) }));
                    rest(b, x, *on, y, *on);
                }
                Step::Gated { act, width } => {
                    let (g, u) = (x.columns(0, *width), x.columns(*width, *width));
                    b.push(Launch::Gated(gated::Args { act: *act, g, u, h: y.columns(0, *width) }));
                    rest(b, x, 2 * width, y, *width);
                }
                Step::Attention(s) => {
                    let p = b.matrix(batch.samples * s.heads * if s.last_only { 1 } else { positions }, positions);
                    let (q, k, v, at, z) = attention_views(s, x, y);
                    let shape = s.on(batch.samples, positions);
                    b.push(Launch::Attention(attention::Args { shape, q, k, v, p, z }));
                    rest(b, last(s, x, positions), at, y, z.cols);
                    if s.last_only {
                        positions = 1;
                    }
                    pattern = Some(p);
                }
            }
            tape.patterns.push(pattern);
            tape.rows.push(y);
        }
        tape
    }

    /// Emits tangents: `dx` `[R * n, d_in]` to the returned `[R * n_out, d_out]`.
    pub fn jvp(&self, b: &mut Builder<Launch>, tape: &Tape, dx: View, probes: usize) -> View {
        let mut d = dx;
        for i in 0..self.steps.len() {
            d = self.derivative(b, tape, i, d, probes, Mode::Tangent);
        }
        d
    }

    /// Emits cotangents: `dy` `[R * n_out, d_out]` to the returned `[R * n, d_in]`.
    pub fn vjp(&self, b: &mut Builder<Launch>, tape: &Tape, dy: View, probes: usize) -> View {
        let mut d = dy;
        for i in (0..self.steps.len()).rev() {
            d = self.derivative(b, tape, i, d, probes, Mode::Cotangent);
        }
        d
    }

    fn derivative(&self, b: &mut Builder<Launch>, tape: &Tape, i: usize, d: View, probes: usize, mode: Mode) -> View {
        let (step, x) = (&self.steps[i], tape.rows[i]);
        let forward = mode == Mode::Tangent;
        let shape_of = if forward { tape.rows[i + 1] } else { x };
        let out = b.matrix(probes * shape_of.rows, shape_of.cols);
        if matches!(step, Step::Attention(s) if s.last_only) {
            // Positions before the last receive no cotangent from the members that pass by.
            b.push(Launch::Fill(copy::FillArgs { y: out, value: 0.0 }));
        }
        // The side of the step's input and of its output, whichever way derivatives run.
        let (inner, outer) = if forward { (d, out) } else { (out, d) };
        match step {
            Step::Linear(map) => emit_map(b, map, d, out, !forward),
            Step::Variance { width } => {
                let (xs, dxs, dv) = (x.columns(0, *width), inner.columns(0, *width), outer.columns(0, 1));
                pass(b, inner, outer.columns(1, x.cols), forward);
                b.push(if forward {
                    Launch::VarianceTangent(norm::VarianceTangent { x: xs, dx: dxs, dv })
                } else {
                    Launch::VarianceCotangent(norm::VarianceCotangent { x: xs, dv, dx: dxs, accumulate: true })
                });
            }
            Step::Normalise { width, eps } => {
                let (v, xs, eps) = (x.columns(0, 1), x.columns(1, *width), *eps);
                let (dv, dx, dy) = (inner.columns(0, 1), inner.columns(1, *width), outer.columns(0, *width));
                pass(b, inner.columns(1 + width, x.cols - 1 - width), outer.columns(*width, x.cols - 1 - width), forward);
                b.push(if forward {
                    Launch::NormaliseTangent(norm::NormaliseTangent { x: xs, v, dx, dv, dy, eps })
                } else {
                    Launch::NormaliseCotangent(norm::NormaliseCotangent { x: xs, v, dy, dx, dv, eps })
                });
            }
            Step::Act { act, on } => {
                let (from, to) = (d.columns(0, *on), out.columns(0, *on));
                let args = activation::TangentArgs { act: *act, x: x.columns(0, *on), dx: from, dy: to, transpose: !forward };
                b.push(Launch::ActivationTangent(args));
                pass(b, inner.columns(*on, x.cols - on), outer.columns(*on, x.cols - on), forward);
            }
            Step::Gated { act, width } => {
                let part = |v: View, at: usize| v.columns(at * width, *width);
                let (g, u, dg, du) = (part(x, 0), part(x, 1), part(inner, 0), part(inner, 1));
                let args = gated::TangentArgs { act: *act, g, u, dg, du, dh: outer.columns(0, *width), transpose: !forward };
                b.push(Launch::GatedTangent(args));
                pass(b, inner.columns(2 * width, x.cols - 2 * width), outer.columns(*width, x.cols - 2 * width), forward);
            }
            Step::Attention(s) => {
                let positions = tape.batch.positions;
                let (q, k, v, at, _) = attention_views(s, x, tape.rows[i + 1]);
                let (dq, dk, dv, _, dz) = attention_views(s, inner, outer);
                let shape = s.on(tape.batch.samples, positions);
                if let Some(p) = tape.patterns[i] {
                    b.push(if forward {
                        Launch::AttentionTangent(attention::Tangent { shape, q, k, v, p, dq, dk, dv, dz })
                    } else {
                        Launch::AttentionCotangent(attention::Cotangent { shape, q, k, v, p, dz, dq, dk, dv })
                    });
                }
                let count = x.cols - at;
                pass(b, last(s, inner, positions).columns(at, count), outer.columns(dz.cols, count), forward);
            }
        }
        out
    }
}

/// Copies from the input side to the output side of a step, or back.
fn pass(b: &mut Builder<Launch>, inner: View, outer: View, forward: bool) {
    if inner.cols > 0 {
        b.push(Launch::Copy(if forward { copy::Args::new(inner, outer) } else { copy::Args::new(outer, inner) }));
    }
}

/// Copies the coordinates behind those a step works on.
fn rest(b: &mut Builder<Launch>, x: View, from: usize, y: View, to: usize) {
    if x.cols > from {
        b.push(Launch::Copy(copy::Args::new(x.columns(from, x.cols - from), y.columns(to, x.cols - from))));
    }
}

fn last(s: &AttentionShape, x: View, positions: usize) -> View {
    if s.last_only { x.every(positions - 1, positions) } else { x }
}

/// q, k, v and where the rest begins in the input; z in the output.
fn attention_views(s: &AttentionShape, x: View, y: View) -> (View, View, View, usize, View) {
    let (hq, hv) = (s.heads * s.d_head, s.heads * s.d_v);
    (x.columns(0, hq), x.columns(hq, hq), x.columns(2 * hq, hv), 2 * hq + hv, y.columns(0, hv))
}

/// y = x B, or with `transpose` y = x B'.
fn emit_map(b: &mut Builder<Launch>, map: &LinearMap, x: View, y: View, transpose: bool) {
    b.push(Launch::Fill(copy::FillArgs { y, value: 0.0 }));
    for block in &map.blocks {
        let (rows, cols) = match &block.kind {
            Kind::Identity(n) => (*n, *n),
            Kind::Diagonal(w) => (w.cols, w.cols),
            Kind::Dense(m) => (m.rows, m.cols),
        };
        let (x, y) = if transpose {
            (x.columns(block.to, cols), y.columns(block.from, rows))
        } else {
            (x.columns(block.from, rows), y.columns(block.to, cols))
        };
        b.push(match &block.kind {
            Kind::Identity(_) => Launch::Copy(copy::Args::add(x, y)),
            Kind::Diagonal(w) => Launch::Scale(copy::ScaleArgs { x, w: w.clone(), bias: None, y, accumulate: true }),
            Kind::Dense(w) => Launch::Linear(linear::Args { transpose, accumulate: true, ..linear::Args::new(x, w.clone(), y) }),
        });
    }
}
