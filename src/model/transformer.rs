//! The weights of a decoder-only transformer, and TransformerLens' file layout of them.
//!
//! Row-vector convention throughout: `y = x W + b`.

use super::Numbers;
use super::checkpoint::Checkpoint;
use super::config::{ActFn, Norm, TransformerConfig};
use super::reader::{Reader, Source};
use crate::device::{DType, Tensor};
use crate::error::Result;

/// Gain and bias of a LayerNorm, both `[1, width]`.
#[derive(Clone, Debug)]
pub struct Affine {
    pub w: Tensor,
    pub b: Tensor,
}

/// One block. `H` heads of width `dh` are laid side by side: columns `h * dh .. (h + 1) * dh` of
/// `w_q`, `w_k`, `w_v` and the same rows of `w_o` belong to head `h`. Biases are rows `[1, width]`.
#[derive(Clone, Debug)]
pub struct Block {
    /// `None` unless the norm has weights; likewise `ln2`.
    pub ln1: Option<Affine>,
    /// `[D, H * dh]`, as are `w_k` and `w_v`.
    pub w_q: Tensor,
    pub b_q: Tensor,
    pub w_k: Tensor,
    pub b_k: Tensor,
    pub w_v: Tensor,
    pub b_v: Tensor,
    /// `[H * dh, D]`.
    pub w_o: Tensor,
    pub b_o: Tensor,
    pub ln2: Option<Affine>,
    /// `[D, d_mlp]`.
    pub w_in: Tensor,
    pub b_in: Tensor,
    /// Weights of the LayerNorm after a SoLU; `None` if that norm has none, or there is no such norm.
    pub mid_ln: Option<Affine>,
    /// `[d_mlp, D]`.
    pub w_out: Tensor,
    pub b_out: Tensor,
}

/// A transformer with its weights in the compute dtype.
#[derive(Clone, Debug)]
pub struct Transformer {
    pub config: TransformerConfig,
    pub dtype: DType,
    /// Token embedding `[d_vocab, D]`.
    pub w_e: Tensor,
    /// Position embedding `[n_ctx, D]`.
    pub w_pos: Tensor,
    pub blocks: Vec<Block>,
    /// `None` unless the norm has weights.
    pub ln_final: Option<Affine>,
    /// Unembedding `[D, d_vocab_out]`.
    pub w_u: Tensor,
    pub b_u: Tensor,
}

impl Transformer {
    /// Loads the weights that `config` calls for. Fails on a tensor that is missing, of another shape or
    /// dtype, not finite, or surplus (the buffers `attn.mask` and `attn.IGNORE` of a block may be there).
    pub fn load(config: TransformerConfig, file: &Checkpoint, numbers: Numbers) -> Result<Self> {
        let n_layers = config.n_layers;
        let mut reader = Reader::new(file, numbers);
        let model = Self::build(config, numbers.dtype, &mut |name, shape| reader.tensor(name, shape))?;
        reader.finish(|name| is_buffer(name, n_layers))?;
        Ok(model)
    }
    /// Assembles the model from tensors in the file layout.
    pub(super) fn build(config: TransformerConfig, dtype: DType, source: &mut Source) -> Result<Self> {
        let (d, h, dh, m) = (config.d_model, config.n_heads, config.d_head, config.d_mlp);
        let affine = config.norm == Norm::Ln;
        let mut parts = Parts { dtype, source };
        let p = &mut parts;
        let w_e = p.matrix("embed.W_E", config.d_vocab, d)?;
        let w_pos = p.matrix("pos_embed.W_pos", config.n_ctx, d)?;
        let mut blocks = Vec::new();
        for l in 0..config.n_layers {
            let name = |s: &str| format!("blocks.{l}.{s}");
            blocks.push(Block {
                ln1: p.affine(&name("ln1"), d, affine)?,
                w_q: p.heads(&name("attn.W_Q"), h, d, dh)?,
                b_q: p.vector(&name("attn.b_Q"), &[h, dh])?,
                w_k: p.heads(&name("attn.W_K"), h, d, dh)?,
                b_k: p.vector(&name("attn.b_K"), &[h, dh])?,
                w_v: p.heads(&name("attn.W_V"), h, d, dh)?,
                b_v: p.vector(&name("attn.b_V"), &[h, dh])?,
                w_o: Tensor::from_f64(dtype, h * dh, d, (p.source)(&name("attn.W_O"), &[h, dh, d])?),
                b_o: p.vector(&name("attn.b_O"), &[d])?,
                ln2: p.affine(&name("ln2"), d, affine)?,
                w_in: p.matrix(&name("mlp.W_in"), d, m)?,
                b_in: p.vector(&name("mlp.b_in"), &[m])?,
                mid_ln: p.affine(&name("mlp.ln"), m, affine && config.act == ActFn::SoluLn)?,
                w_out: p.matrix(&name("mlp.W_out"), m, d)?,
                b_out: p.vector(&name("mlp.b_out"), &[d])?,
            });
        }
        let ln_final = p.affine("ln_final", d, affine)?;
        let w_u = p.matrix("unembed.W_U", d, config.d_vocab_out)?;
        let b_u = p.vector("unembed.b_U", &[config.d_vocab_out])?;
        Ok(Self { config, dtype, w_e, w_pos, blocks, ln_final, w_u, b_u })
    }
    /// Name, shape and elements of every tensor in the file layout: what [`Transformer::build`] reads.
    pub(super) fn to_file(&self) -> Vec<(String, Vec<usize>, Vec<f64>)> {
        let (h, dh, d) = (self.config.n_heads, self.config.d_head, self.config.d_model);
        let mut out = Vec::new();
        let mut put = |name: String, shape: &[usize], x: Vec<f64>| out.push((name, shape.to_vec(), x));
        put("embed.W_E".into(), &[self.w_e.rows, d], self.w_e.to_f64());
        put("pos_embed.W_pos".into(), &[self.w_pos.rows, d], self.w_pos.to_f64());
        for (l, b) in self.blocks.iter().enumerate() {
            let name = |s: &str| format!("blocks.{l}.{s}");
            for (s, w, bias) in [("Q", &b.w_q, &b.b_q), ("K", &b.w_k, &b.b_k), ("V", &b.w_v, &b.b_v)] {
                put(name(&format!("attn.W_{s}")), &[h, d, dh], swap(&w.to_f64(), d, h, dh));
                put(name(&format!("attn.b_{s}")), &[h, dh], bias.to_f64());
            }
            put(name("attn.W_O"), &[h, dh, d], b.w_o.to_f64());
            put(name("attn.b_O"), &[d], b.b_o.to_f64());
            for (s, w, bias) in [("in", &b.w_in, &b.b_in), ("out", &b.w_out, &b.b_out)] {
                put(name(&format!("mlp.W_{s}")), &[w.rows, w.cols], w.to_f64());
                put(name(&format!("mlp.b_{s}")), &[bias.cols], bias.to_f64());
            }
            for (s, affine) in [("ln1", &b.ln1), ("ln2", &b.ln2), ("mlp.ln", &b.mid_ln)] {
                if let Some(a) = affine {
                    put(name(&format!("{s}.w")), &[a.w.cols], a.w.to_f64());
                    put(name(&format!("{s}.b")), &[a.b.cols], a.b.to_f64());
                }
            }
        }
        if let Some(a) = &self.ln_final {
            put("ln_final.w".into(), &[d], a.w.to_f64());
            put("ln_final.b".into(), &[d], a.b.to_f64());
        }
        put("unembed.W_U".into(), &[d, self.w_u.cols], self.w_u.to_f64());
        put("unembed.b_U".into(), &[self.b_u.cols], self.b_u.to_f64());
        out
    }
}

/// The tensors of one source, made matrices of the compute dtype.
struct Parts<'a, 'b> {
    dtype: DType,
    source: &'a mut Source<'b>,
}

impl Parts<'_, '_> {
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Tensor> {
        Ok(Tensor::from_f64(self.dtype, rows, cols, (self.source)(name, &[rows, cols])?))
    }
    fn vector(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::row(self.dtype, (self.source)(name, shape)?))
    }
    /// `[H, D, dh]` in the file, `[D, H * dh]` in memory: one product serves all heads.
    fn heads(&mut self, name: &str, h: usize, d: usize, dh: usize) -> Result<Tensor> {
        let data = (self.source)(name, &[h, d, dh])?;
        Ok(Tensor::from_f64(self.dtype, d, h * dh, swap(&data, h, d, dh)))
    }
    fn affine(&mut self, name: &str, width: usize, present: bool) -> Result<Option<Affine>> {
        if !present {
            return Ok(None);
        }
        Ok(Some(Affine { w: self.vector(&format!("{name}.w"), &[width])?, b: self.vector(&format!("{name}.b"), &[width])? }))
    }
}

/// `[a, b, c]` to `[b, a, c]`.
fn swap(data: &[f64], a: usize, b: usize, c: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(data.len());
    for j in 0..b {
        for i in 0..a {
            out.extend_from_slice(&data[(i * b + j) * c..][..c]);
        }
    }
    out
}

/// The causal mask and its fill value, which TransformerLens saves with each block.
fn is_buffer(name: &str, n_layers: usize) -> bool {
    let block = name.strip_prefix("blocks.").and_then(|s| s.split_once('.'));
    block.is_some_and(|(l, rest)| l.parse::<usize>().is_ok_and(|l| l < n_layers) && matches!(rest, "attn.mask" | "attn.IGNORE"))
}
