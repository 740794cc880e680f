//! The [`Network`] of each model: which modules it has and what flows between them (`lib.md` 1.2,
//! 1.3).

use super::config::{ActFn, Norm};
use super::mlp::Mlp;
use super::sections::{AttentionShape, Member, Network, Out, Stage, Term};
use super::transformer::{Affine, Block, Transformer};
use crate::device::Tensor;
use crate::error::{Error, Result};
use crate::ops::activation::Activation;

/// The activation of a config's `act_fn`; the LayerNorm of `solu_ln` is a stage of its own.
pub fn activation(act: ActFn) -> Activation {
    match act {
        ActFn::Relu => Activation::Relu,
        ActFn::Gelu => Activation::Gelu,
        ActFn::GeluNew => Activation::GeluNew,
        ActFn::Silu => Activation::Silu,
        ActFn::SoluLn => Activation::Solu,
        ActFn::Tanh => Activation::Tanh,
        ActFn::Sigmoid => Activation::Sigmoid,
        ActFn::Identity => Activation::Identity,
    }
}

/// The value r of the constant neuron before the activation, act(r) = 1, so that the biases behind
/// the activation can be carried by it. SoLU acts on whole rows: there the constant passes by.
pub fn constant_neuron(act: Activation) -> Result<f64> {
    if !act.is_elementwise() {
        return Ok(1.0);
    }
    act.unit_point().ok_or_else(|| {
        // The variants are named as in config.json but for the capital.
        let name = format!("{act:?}").to_lowercase();
        Error::numeric(
            "config.json: the activation function",
            format!("{name}, which never reaches 1, so that no constant neuron can carry the biases behind it"),
            "relu, gelu, gelu_new, silu, solu_ln or identity",
        )
    })
}

fn pass(member: Member, from: usize) -> Out {
    Out { member, terms: vec![Term::Pass { from }] }
}

fn dense(member: Member, from: usize, w: &Tensor, b: &Tensor, constant: f64) -> Out {
    Out { member, terms: vec![Term::Dense { from, w: w.clone(), bias: Some((from, b.clone())), constant }] }
}

fn affine_out(width: usize, affine: &Affine) -> Out {
    let member = Member::new(width, Some(1.0));
    Out { member, terms: vec![Term::Scale { from: 0, w: affine.w.clone(), bias: affine.b.clone() }] }
}

/// The modules of a TransformerLens-layout transformer, `add_embed` first. The constant neuron's
/// value is a parameter of the weights, so unfoldable activations are an error only where `fold`.
pub fn transformer(t: &Transformer, fold: bool) -> Result<Network> {
    let c = &t.config;
    let act = activation(c.act);
    let unit = if fold { constant_neuron(act)? } else { act.unit_point().unwrap_or(1.0) };
    let resid = Member::new(c.d_model, Some(1.0));
    let sum = Out { member: resid, terms: vec![Term::Pass { from: 0 }, Term::Pass { from: 1 }] };
    let mut modules = vec![("add_embed".to_string(), vec![Stage::Linear(vec![sum.clone()])])];
    let normed = c.norm != Norm::None;
    for (b, w) in t.blocks.iter().enumerate() {
        let mut module = |name: &str, stages: Vec<Stage>| modules.push((format!("{name}.{b}"), stages));
        module("ln1", if normed { vec![Stage::Variance] } else { vec![] });
        module("ln1_out", norm_out(c, normed, w.ln1.as_ref(), true));
        module("attn_in", vec![attention_in(w, c.n_heads, c.d_head, resid)]);
        let d_head = c.d_head;
        let scale = if c.attn_scale { 1.0 / (d_head as f64).sqrt() } else { 1.0 };
        let last_only = c.read_last && b + 1 == t.blocks.len();
        let shape = AttentionShape { heads: c.n_heads, d_head, d_v: d_head, scale, last_only };
        let silent = Member::new(c.d_model, Some(0.0));
        module(
            "attn_out",
            vec![Stage::Attention(shape), Stage::Linear(vec![dense(silent, 0, &w.w_o, &w.b_o, 0.0), pass(resid, 1)])],
        );
        module("add_resid1", vec![Stage::Linear(if c.parallel { vec![sum.clone(), pass(resid, 1)] } else { vec![sum.clone()] })]);
        // In a parallel block the norm reads the second member and the sum passes by.
        let swap = Stage::Linear(vec![pass(resid, 1), pass(resid, 0)]);
        match (normed, c.parallel) {
            (true, false) => module("ln2", vec![Stage::Variance]),
            (true, true) => module("ln2", vec![swap.clone(), Stage::Variance]),
            (false, _) => module("ln2", vec![]),
        }
        match (normed, c.parallel) {
            (false, true) => module("ln2_out", vec![swap]),
            _ => module("ln2_out", norm_out(c, normed, w.ln2.as_ref(), !c.parallel)),
        }
        module(
            "mlp_in",
            vec![Stage::Linear(vec![dense(Member::new(c.d_mlp, Some(unit)), 0, &w.w_in, &w.b_in, unit), pass(resid, 1)])],
        );
        let mut acts = vec![Stage::Act(act)];
        if c.act == ActFn::SoluLn {
            acts.extend([Stage::Variance, Stage::Normalise { eps: c.eps }]);
            acts.extend(w.mid_ln.as_ref().map(|a| Stage::Linear(vec![affine_out(c.d_mlp, a), pass(resid, 1)])));
        }
        module("mlp_act", acts);
        module("mlp_out", vec![Stage::Linear(vec![dense(silent, 0, &w.w_out, &w.b_out, 0.0), pass(resid, 1)])]);
        module("add_resid2", vec![Stage::Linear(vec![sum.clone()])]);
    }
    modules.push(("ln_final".into(), if normed { vec![Stage::Variance] } else { vec![] }));
    let mut last = if normed { vec![Stage::Normalise { eps: c.eps }] } else { vec![] };
    last.extend(t.ln_final.as_ref().map(|a| Stage::Linear(vec![affine_out(c.d_model, a)])));
    modules.push(("ln_final_out".into(), last));
    modules.push(("unembed".into(), vec![Stage::Linear(vec![dense(Member::new(c.d_vocab_out, None), 0, &t.w_u, &t.b_u, 0.0)])]));
    // Token embeddings carry the constant 0 and positions the constant 1, so that their sum is 1.
    Ok(Network::new(vec![Member::new(c.d_model, Some(0.0)), resid], modules))
}

/// (v, x) -> (norm x, x), or (x) -> (x, x) without a norm; `keep` tells whether x passes by.
fn norm_out(c: &super::config::TransformerConfig, normed: bool, affine: Option<&Affine>, keep: bool) -> Vec<Stage> {
    let resid = Member::new(c.d_model, Some(1.0));
    if !normed {
        return vec![Stage::Linear(vec![pass(resid, 0), pass(resid, 0)])];
    }
    let mut stages = Vec::new();
    if keep {
        stages.push(Stage::Linear(vec![pass(Member::new(1, None), 0), pass(resid, 1), pass(resid, 1)]));
    }
    stages.push(Stage::Normalise { eps: c.eps });
    stages.extend(affine.map(|a| Stage::Linear(vec![affine_out(c.d_model, a), pass(resid, 1)])));
    stages
}

fn attention_in(w: &Block, heads: usize, d_head: usize, resid: Member) -> Stage {
    let flat = Member::new(heads * d_head, None);
    let values = Member { groups: heads, width: d_head, constant: Some(1.0) };
    Stage::Linear(vec![
        dense(flat, 0, &w.w_q, &w.b_q, 0.0),
        dense(flat, 0, &w.w_k, &w.b_k, 0.0),
        // Attention rows sum to 1, so a constant behind each head's values arrives at the output.
        dense(values, 0, &w.w_v, &w.b_v, 1.0),
        pass(resid, 1),
    ])
}

/// The modules `layers.i` of an MLP: linear, then the activation on all but the last.
pub fn mlp(m: &Mlp, fold: bool) -> Result<Network> {
    let act = activation(m.config.act);
    let unit = if fold { constant_neuron(act)? } else { act.unit_point().unwrap_or(1.0) };
    let last = m.layers.len() - 1;
    let modules = m.layers.iter().enumerate().map(|(i, (w, b))| {
        let stages = if i == last {
            vec![Stage::Linear(vec![dense(Member::new(w.cols, None), 0, w, b, 0.0)])]
        } else {
            vec![Stage::Linear(vec![dense(Member::new(w.cols, Some(unit)), 0, w, b, unit)]), Stage::Act(act)]
        };
        (format!("layers.{i}"), stages)
    });
    Ok(Network::new(vec![Member::new(m.config.input_size, Some(1.0))], modules.collect()))
}
