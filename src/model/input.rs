//! The front of a model: its network, and how samples enter a program.

use super::forward::{Batch, First, Value};
use super::sections::Network;
use super::{Lm, Model, Transformer, network};
use crate::data::stream::Input;
use crate::device::Builder;
use crate::error::{Error, Result};
use crate::ops::{Launch, embed};

impl Model {
    /// The modules of the model. With `fold`, an activation that cannot carry the constant (see
    /// [`network::constant_neuron`]) is an error.
    pub fn network(&self, fold: bool) -> Result<Network> {
        match self {
            Model::Transformer(t) => network::transformer(t, fold),
            Model::Mlp(m) => network::mlp(m, fold),
            Model::Lm(lm) => Err(no_network(lm)),
        }
    }
    /// The node layers of a run that names none: the residual stream in front of each half block and
    /// of the unembedding, or every layer of an MLP; the output last.
    pub fn default_node_layers(&self) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Model::Transformer(t) => (0..t.config.n_layers).flat_map(|b| [format!("ln1.{b}"), format!("ln2.{b}")]).collect(),
            Model::Lm(lm) => (0..lm.blocks.len()).flat_map(|b| [format!("ln1.{b}"), format!("ln2.{b}")]).collect(),
            Model::Mlp(m) => (0..m.layers.len()).map(|i| format!("layers.{i}")).collect(),
        };
        if !matches!(self, Model::Mlp(_)) {
            names.push("unembed".into());
        }
        names.push("output".into());
        names
    }
    /// Emits the model's first tuple for a batch, and says where its samples go.
    pub fn input(&self, b: &mut Builder<Launch>, net: &Network, batch: Batch) -> Result<(Input, First)> {
        match self {
            Model::Transformer(t) => Ok(t.input(b, net, batch)),
            Model::Mlp(m) => {
                let view = b.matrix(batch.rows(), m.config.input_size);
                Ok((Input::Values(view), First { tuple: vec![Value { view, member: net.tuple(0).0[0] }], sum: None }))
            }
            Model::Lm(lm) => Err(no_network(lm)),
        }
    }
}

/// The form of modules and node layers is made of the layouts that the basis is computed for.
fn no_network(lm: &Lm) -> Error {
    let found = format!("a Hugging Face model of the family {}", lm.family);
    Error::flag("MODEL", found, "a transformer_lens or mlp model: the interaction basis of others is not in this build")
}

impl Transformer {
    /// As [`Model::input`].
    pub fn input(&self, b: &mut Builder<Launch>, net: &Network, batch: Batch) -> (Input, First) {
        let members = net.tuple(0).0;
        let tokens = b.ints(batch.rows());
        let width = self.config.d_model;
        let [token, position, y] = [(); 3].map(|()| b.matrix(batch.rows(), width));
        b.push(Launch::Embed(embed::Args {
            tokens,
            seq: batch.positions,
            w_e: self.w_e.clone(),
            w_pos: self.w_pos.clone(),
            token_out: Some(token),
            pos_out: Some(position),
            y,
        }));
        let value = |view, i: usize| Value { view, member: members[i] };
        let tuple = vec![value(token, 0), value(position, 1)];
        (Input::Tokens(tokens), First { tuple, sum: Some(y) })
    }
}
