//! How much memory the weights of a model take: none where they are read from their file as they lie.

use super::Model;
use super::lm::{Block, Linear, Lm, Norm, Projections};
use crate::device::Tensor;

/// Bytes of a model's weights; tied ones count once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightBytes {
    /// Left in the file, at the dtype they are stored in.
    pub mapped: u64,
    /// Copied into memory: vectors, and matrices of layouts that are not computed with as they lie.
    pub copied: u64,
}

impl Model {
    /// Where the weights are.
    pub fn weight_bytes(&self) -> WeightBytes {
        let mut tensors = Vec::new();
        match (self, self.lm()) {
            (Model::Mlp(m), _) => tensors.extend(m.layers.iter().flat_map(|(w, b)| [w.clone(), b.clone()])),
            (_, Some(lm)) => each(&lm, &mut |t| tensors.push(t.clone())),
            (_, None) => {}
        }
        tensors.sort_unstable_by_key(Tensor::key);
        tensors.dedup_by_key(|t| t.key());
        tensors.iter().fold(WeightBytes::default(), |sum, t| match t.is_mapped() {
            true => WeightBytes { mapped: sum.mapped + (t.rows * t.cols * t.stored().bytes()) as u64, ..sum },
            false => WeightBytes { copied: sum.copied + t.bytes(), ..sum },
        })
    }
}

/// Calls `f` with every tensor of a language model.
fn each(lm: &Lm, f: &mut impl FnMut(&Tensor)) {
    let e = &lm.embedding;
    [Some(&e.tokens), e.positions.as_ref(), e.row.as_ref()].into_iter().flatten().for_each(&mut *f);
    norms([&e.norm, &lm.final_norm], f);
    lm.blocks.iter().for_each(|b| block(b, f));
    if let Some(head) = &lm.head {
        linears([Some(&head.unembed), head.dense.as_ref().map(|(dense, ..)| dense)], f);
        head.dense.iter().for_each(|(_, _, norm)| of_norm(norm, f));
    }
}

fn block(b: &Block, f: &mut impl FnMut(&Tensor)) {
    norms([&b.norm1, &b.attention_norm, &b.norm2, &b.mlp_norm, &b.mlp.norm], f);
    match &b.attention.projections {
        Projections::Separate { q, k, v, norms } => {
            linears([Some(q), Some(k), Some(v)], f);
            norms.iter().for_each(|(q, k)| [q, k].into_iter().for_each(|n| of_norm(n, f)));
        }
        Projections::Fused { linear, .. } => linears([Some(linear)], f),
    }
    linears([Some(&b.attention.o), b.mlp.gate.as_ref(), Some(&b.mlp.up), Some(&b.mlp.down)], f);
}

fn linears<const N: usize>(all: [Option<&Linear>; N], f: &mut impl FnMut(&Tensor)) {
    all.into_iter().flatten().flat_map(|l| [Some(&l.w.tensor), l.bias.as_ref()]).flatten().for_each(f);
}

fn norms<const N: usize>(all: [&Option<Norm>; N], f: &mut impl FnMut(&Tensor)) {
    all.into_iter().flatten().for_each(|n| of_norm(n, f));
}

fn of_norm(n: &Norm, f: &mut impl FnMut(&Tensor)) {
    [&n.w, &n.b].into_iter().flatten().for_each(f);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;
    use crate::model::fixture::{mlp_config, shared, transformer_config};
    use crate::model::{ActFn, Norm, random_mlp, random_transformer};

    #[test]
    fn copied_layouts_count_every_number_once() {
        for act in [ActFn::Gelu, ActFn::SoluLn] {
            let t = random_transformer(transformer_config(Norm::Ln, act), DType::F32, 1).unwrap();
            let numbers: usize = t.to_file().iter().map(|(.., x)| x.len()).sum();
            let bytes = Model::Transformer(t).weight_bytes();
            assert_eq!(bytes, WeightBytes { mapped: 0, copied: 4 * numbers as u64 });
        }
        let m = random_mlp(mlp_config(true), DType::F64, 1).unwrap();
        let numbers: usize = m.to_file().iter().map(|(.., x)| x.len()).sum();
        assert_eq!(Model::Mlp(m).weight_bytes(), WeightBytes { mapped: 0, copied: 8 * numbers as u64 });
    }

    #[test]
    fn matrices_of_hugging_face_folders_stay_in_their_file() {
        let Some(shared) = shared() else { return };
        for family in ["llama", "gpt2", "gemma2", "qwen3"] {
            let folder = shared.join("fixtures/hf").join(family);
            let file = std::fs::metadata(folder.join("model.safetensors")).unwrap().len();
            let bytes = Model::load(folder.to_str().unwrap(), DType::F32).unwrap().model.weight_bytes();
            // Beside the weights the file has a header of some kilobytes.
            let (all, header) = (bytes.mapped + bytes.copied, 16 << 10);
            assert!(all <= file && file - all < header, "{family}: {bytes:?} of {file}");
            assert!(bytes.copied > 0 && 20 * bytes.copied < bytes.mapped, "{family}: {bytes:?}");
        }
    }
}
