//! Builds a model from a [`Spec`] and a checkpoint. Matrices stay where they are, in the mapped file at
//! their stored dtype; vectors are read into the compute dtype.

use std::collections::BTreeMap;

use super::spec::{Masked, Names, Qkv, Spec};
use crate::device::{DType, Tensor};
use crate::error::{Error, Result};
use crate::model::lm::{Attention, Block, Embedding, Head, Linear, Lm, Mlp, Norm, Order, Projections};
use crate::model::reader::Reader;
use crate::model::site::{ANY_LAYER, Site};
use crate::ops::linear::Matrix;

/// The model of `spec` with the weights of `reader`'s checkpoint, computing in `dtype`.
///
/// Fails on a tensor that is missing, of another shape or dtype, not finite, or surplus, and where the
/// configuration ties the unembedding to the embedding and the file holds two that differ.
pub fn build(spec: &Spec, mut reader: Reader, dtype: DType) -> Result<Lm> {
    let names = &spec.names;
    let fits = |p: &&&str| reader.has(&format!("{p}{}.weight", names.tokens));
    let prefix = names.prefixes.iter().find(fits).unwrap_or(&names.prefixes[0]).to_string();
    let mut p = Parts { spec, reader: &mut reader, dtype, prefix };
    let embedding = p.embedding()?;
    let blocks = (0..spec.layers.len()).map(|l| p.block(l)).collect::<Result<_>>()?;
    let final_norm = names.final_norm.map(|n| p.norm(&p.of_model(n), spec.d_model)).transpose()?;
    let head = match &names.masked {
        Some(m) => p.masked_head(m, &embedding.tokens)?,
        None => p.head(&embedding.tokens)?,
    };
    let is_end = |name: &str, end: &str| name.strip_suffix(end).is_some_and(|front| front.is_empty() || front.ends_with('.'));
    reader.finish(|name| names.ignored.iter().any(|end| is_end(name, end)))?;
    Ok(Lm {
        family: spec.family,
        dtype,
        d_model: spec.d_model,
        n_ctx: spec.n_ctx,
        d_vocab: spec.d_vocab,
        embedding,
        rotary: spec.rotary.clone(),
        blocks,
        final_norm,
        head,
        is_causal: spec.is_causal,
        reads_last: false,
        paths: paths(spec),
    })
}

struct Parts<'a, 'b> {
    spec: &'a Spec,
    reader: &'a mut Reader<'b>,
    dtype: DType,
    prefix: String,
}

impl Parts<'_, '_> {
    fn of_model(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
    fn of_block(&self, layer: usize, name: &str) -> String {
        format!("{}{}.{layer}.{name}", self.prefix, self.spec.names.block)
    }
    fn embedding(&mut self) -> Result<Embedding> {
        let (s, names) = (self.spec, &self.spec.names);
        let table = |p: &mut Self, name: &str, rows: usize| {
            let name = format!("{}.weight", p.of_model(name));
            p.reader.mapped(&name, &[rows, s.d_model])
        };
        let tokens = table(self, names.tokens, s.d_vocab)?;
        let positions = names.positions.map(|n| table(self, n, s.n_ctx)).transpose()?;
        let row = names.types.map(|n| {
            let mut values = self.reader.tensor(&format!("{}.weight", self.of_model(n)), &[s.n_types, s.d_model])?;
            values.truncate(s.d_model);
            Ok(Tensor::row(self.dtype, values))
        });
        let norm = names.embedding_norm.map(|n| self.norm(&self.of_model(n), s.d_model));
        Ok(Embedding { tokens, scale: s.embedding_scale, positions, row: row.transpose()?, norm: norm.transpose()? })
    }
    fn block(&mut self, l: usize) -> Result<Block> {
        let (s, names) = (self.spec, self.spec.names);
        let norm1 = Some(self.norm(&self.of_block(l, names.norm1), s.d_model)?);
        let attention = self.attention(l)?;
        let mut norm = |name: Option<&str>| name.map(|n| self.norm(&self.of_block(l, n), s.d_model)).transpose();
        let (attention_norm, norm2, mlp_norm) = (norm(names.attention_norm)?, norm(names.norm2)?, norm(names.mlp_norm)?);
        let mut linear = |name: &str, from, to| self.linear(&self.of_block(l, name), from, to, s.bias.mlp);
        let mlp = Mlp {
            gate: names.gate.map(|g| linear(g, s.d_model, s.d_mlp)).transpose()?,
            up: linear(names.up, s.d_model, s.d_mlp)?,
            act: s.act,
            norm: None,
            down: linear(names.down, s.d_mlp, s.d_model)?,
        };
        Ok(Block { order: s.order, norm1, attention, attention_norm, norm2, mlp, mlp_norm })
    }
    fn attention(&mut self, l: usize) -> Result<Attention> {
        let (s, names) = (self.spec, self.spec.names);
        let (width, kv_width) = (s.heads * s.d_head, s.kv_heads * s.d_head);
        let projections = match names.qkv {
            Qkv::Separate([q, k, v]) => {
                let mut linear = |name: &str, to| self.linear(&self.of_block(l, name), s.d_model, to, s.bias.qkv);
                let (q, k, v) = (linear(q, width)?, linear(k, kv_width)?, linear(v, kv_width)?);
                let mut norm = |name: &str| self.norm(&self.of_block(l, name), s.d_head);
                let norms = names.qk_norms.map(|(q, k)| Ok((norm(q)?, norm(k)?))).transpose()?;
                Projections::Separate { q, k, v, norms }
            }
            Qkv::Fused(name) => {
                let linear = self.linear(&self.of_block(l, name), s.d_model, 3 * width, s.bias.qkv)?;
                Projections::Fused { linear, k: width, v: 2 * width, pitch: s.d_head }
            }
            Qkv::FusedByHead(name) => {
                let linear = self.linear(&self.of_block(l, name), s.d_model, 3 * width, s.bias.qkv)?;
                Projections::Fused { linear, k: s.d_head, v: 2 * s.d_head, pitch: 3 * s.d_head }
            }
        };
        Ok(Attention {
            projections,
            heads: s.heads,
            kv_heads: s.kv_heads,
            d_head: s.d_head,
            scale: s.layers[l].scale,
            softcap: s.attention_softcap,
            window: s.layers[l].window,
            o: self.linear(&self.of_block(l, names.o), width, s.d_model, s.bias.o)?,
        })
    }
    /// The unembedding of a decoder; `None` of a file without one.
    fn head(&mut self, tokens: &Tensor) -> Result<Option<Head>> {
        let s = self.spec;
        if !s.is_tied && !self.reader.has(&format!("{}.weight", s.names.unembed)) {
            return Ok(None);
        }
        let w = self.unembedding(tokens)?;
        let bias = if s.bias.unembed { Some(self.vector(&[&format!("{}.bias", s.names.unembed)], s.d_vocab)?) } else { None };
        let unembed = Linear { w, transpose: true, bias };
        Ok(Some(Head { dense: None, unembed, softcap: s.logit_softcap }))
    }
    /// The head of a masked language model; `None` of a file without one.
    fn masked_head(&mut self, m: &Masked, tokens: &Tensor) -> Result<Option<Head>> {
        let s = self.spec;
        if !self.reader.has(&format!("{}.weight", m.dense)) {
            return Ok(None);
        }
        let dense = self.linear(m.dense, s.d_model, s.d_model, true)?;
        let norm = self.norm(m.norm, s.d_model)?;
        let w = self.unembedding(tokens)?;
        // The bias is stored under one of two names, or under both.
        let double = format!("{}.bias", s.names.unembed);
        let bias = self.vector(&[m.bias, &double], s.d_vocab)?;
        if double != m.bias && self.reader.has(&double) {
            self.vector(&[&double], s.d_vocab)?;
        }
        let unembed = Linear { w, transpose: true, bias: Some(bias) };
        Ok(Some(Head { dense: Some((dense, s.act, norm)), unembed, softcap: None }))
    }
    /// The matrix of the unembedding, or the embedding that it is tied to. A file that holds both must not
    /// contradict itself.
    fn unembedding(&mut self, tokens: &Tensor) -> Result<Matrix> {
        let name = format!("{}.weight", self.spec.names.unembed);
        if self.spec.is_tied && !self.reader.has(&name) {
            return Ok(Matrix::whole(tokens));
        }
        let own = self.reader.mapped(&name, &[tokens.rows, tokens.cols])?;
        if !self.spec.is_tied {
            return Ok(Matrix::whole(&own));
        }
        if own.stored() != tokens.stored() || own.raw() != tokens.raw() {
            let found = format!("a matrix other than {}{}.weight", self.prefix, self.spec.names.tokens);
            return Err(Error::tensor(self.reader.path_of(&name), &name, found, "the same, as config.json ties the two"));
        }
        Ok(Matrix::whole(tokens))
    }
    fn linear(&mut self, name: &str, from: usize, to: usize, bias: bool) -> Result<Linear> {
        let transpose = !self.spec.is_conv1d;
        let shape = if transpose { [to, from] } else { [from, to] };
        let w = Matrix::whole(&self.reader.mapped(&format!("{name}.weight"), &shape)?);
        let bias = if bias { Some(self.vector(&[&format!("{name}.bias")], to)?) } else { None };
        Ok(Linear { w, transpose, bias })
    }
    fn norm(&mut self, name: &str, width: usize) -> Result<Norm> {
        let s = self.spec.norm;
        // The first BERT files call gain and bias gamma and beta.
        let gain = [format!("{name}.weight"), format!("{name}.gamma")];
        let mut w = self.reader.tensor(self.reader.either(&[&gain[0], &gain[1]]), &[width])?;
        if s.plus_one {
            w.iter_mut().for_each(|w| *w += 1.0);
        }
        let b = match s.bias {
            true => Some(self.vector(&[&format!("{name}.bias"), &format!("{name}.beta")], width)?),
            false => None,
        };
        Ok(Norm { kind: s.kind, eps: s.eps, w: Some(Tensor::row(self.dtype, w)), b })
    }
    /// The first of `names` that the file has.
    fn vector(&mut self, names: &[&str], width: usize) -> Result<Tensor> {
        self.reader.vector(self.reader.either(names), &[width])
    }
}

/// The module paths whose outputs are sites, and with `.input` behind them those whose inputs are.
fn paths(spec: &Spec) -> BTreeMap<String, Site> {
    let n: &Names = &spec.names;
    let prefix = n.prefixes[0];
    let mut paths = BTreeMap::new();
    let mut add = |name: &str, site: Site| {
        paths.insert(format!("{prefix}{}.{ANY_LAYER}.{name}", n.block), site);
    };
    for name in [n.attention, n.o] {
        if n.attention_norm.is_none() {
            add(name, Site::AttnOut);
        }
    }
    for name in [n.mlp, n.down] {
        // The second half of a BERT layer adds and normalises in the module of its own name.
        if n.mlp_norm.is_none() {
            add(name, Site::MlpOut);
        }
    }
    n.attention_norm.iter().for_each(|name| add(name, Site::AttnOut));
    n.mlp_norm.iter().for_each(|name| add(name, Site::MlpOut));
    if let Qkv::Separate([q, k, v]) = n.qkv {
        [(q, Site::Q), (k, Site::K), (v, Site::V)].into_iter().for_each(|(name, site)| add(name, site));
    }
    add(n.gate.unwrap_or(n.up), Site::MlpPre);
    n.act.iter().for_each(|name| add(name, Site::MlpAct));
    add(&format!("{}.input", n.down), Site::MlpAct);
    add(&format!("{}.input", n.o), Site::Z);
    if spec.order == Order::PostNorm {
        add(n.norm1, Site::ResidMid);
    }
    paths.insert(format!("{prefix}{}.{ANY_LAYER}", n.block), Site::ResidPost);
    if spec.logit_softcap.is_none() {
        paths.insert(n.unembed.to_string(), Site::Logits);
    }
    paths
}
