//! Fused operations: one file each, with its arguments and shapes, the launcher of each backend, and
//! tests against plain references.
//!
//! Activations are rows `[n, d]`. The tangents or cotangents of `R` probes are stacked probe-major:
//! row `r * n + i` belongs to row `i` of the activations.

pub mod activation;
mod activation_cuda;
mod activation_wgpu;
pub mod attention;
mod attention_cuda;
pub mod attention_edges;
mod attention_edges_cuda;
mod attention_edges_wgpu;
mod attention_layer;
mod attention_math;
pub mod attention_moments;
mod attention_moments_cuda;
mod attention_moments_wgpu;
#[cfg(test)]
mod attention_reference;
mod attention_tiles;
mod attention_tiles_cuda;
mod attention_tiles_wgpu;
mod attention_wgpu;
mod check;
pub mod copy;
mod copy_cuda;
mod copy_wgpu;
pub mod edge_squares;
mod edge_squares_cuda;
mod edge_squares_wgpu;
mod edge_sums_cuda;
mod edge_sums_wgpu;
mod elementary;
pub mod embed;
mod embed_cuda;
mod embed_wgpu;
mod extents;
#[cfg(test)]
mod fixture;
pub mod forest;
pub mod gated;
mod gated_cuda;
mod gated_wgpu;
pub mod gather;
mod gather_cuda;
mod gather_wgpu;
pub mod gram;
mod gram_cuda;
mod gram_fold_wgpu;
pub mod gram_wgpu;
pub mod linear;
mod linear_cuda;
mod linear_panels;
pub mod linear_wgpu;
pub mod loss;
mod loss_cuda;
mod loss_wgpu;
pub mod mask;
mod mask_cuda;
mod mask_wgpu;
pub mod moments;
mod moments_cuda;
mod moments_wgpu;
pub mod norm;
mod norm_cuda;
pub mod norm_moments;
mod norm_moments_cuda;
mod norm_moments_wgpu;
mod norm_passes;
mod norm_wgpu;
pub mod offload;
pub mod operands;
mod outputs;
pub mod packing;
mod parts;
pub mod peaks;
mod peaks_cuda;
mod peaks_wgpu;
mod pieces;
pub mod probes;
mod probes_cuda;
mod probes_wgpu;
mod product_cuda;
mod product_wgpu;
pub mod rope;
mod rope_cuda;
mod rope_wgpu;
mod rows;
pub mod scratch;
pub mod sdpa;
pub mod softcap;
pub mod token_embed;
pub mod trie_match;
mod trie_match_cuda;
mod trie_match_wgpu;

pub use attention_math::Attention;

use crate::device::{Arena, IntBuffer, Program, Real};

macro_rules! launches {
    ($($name:ident($args:ty) => $cpu:path;)*) => {
        /// One step of a [`Program`].
        #[derive(Clone, Debug)]
        pub enum Launch {
            $($name($args),)*
            /// Runs `launches` with `index` = 0, 1, .. `count - 1`.
            Repeat { count: usize, index: IntBuffer, launches: Vec<Launch> },
        }

        impl Launch {
            /// The operation's name: that of its variant.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Launch::$name(_) => stringify!($name),)*
                    Launch::Repeat { .. } => "Repeat",
                }
            }
        }

        fn launch<T: Real>(l: &Launch, m: &mut Arena<T>) {
            match l {
                $(Launch::$name(a) => $cpu(a, m),)*
                Launch::Repeat { count, index, launches } => {
                    for i in 0..*count {
                        m.int_mut(*index)[0] = i as u32;
                        launches.iter().for_each(|l| launch(l, m));
                    }
                }
            }
        }
    };
}

launches! {
    Activation(activation::Args) => activation::cpu;
    ActivationTangent(activation::TangentArgs) => activation::cpu_tangent;
    Attention(attention::Args) => attention::cpu;
    AttentionTangent(attention::Tangent) => attention::cpu_tangent;
    AttentionCotangent(attention::Cotangent) => attention::cpu_cotangent;
    AttentionMoments(attention_moments::Args) => attention_moments::cpu;
    AttentionEdges(attention_edges::Args) => attention_edges::cpu;
    Basis(probes::BasisArgs) => probes::cpu_basis;
    Chunk(probes::ChunkArgs) => probes::cpu_chunk;
    Copy(copy::Args) => copy::cpu;
    Cross(gram::CrossArgs) => gram::cpu_cross;
    EdgeSquares(edge_squares::Args) => edge_squares::cpu;
    EdgeRankOne(edge_squares::RankOneArgs) => edge_squares::cpu_rank_one;
    EdgeCotangents(edge_squares::CotangentArgs) => edge_squares::cpu_cotangent;
    EdgeTangents(edge_squares::TangentArgs) => edge_squares::cpu_tangent;
    Embed(embed::Args) => embed::cpu;
    Features(probes::FeatureArgs) => probes::cpu_feature;
    Fill(copy::FillArgs) => copy::cpu_fill;
    Gated(gated::Args) => gated::cpu;
    GatedTangent(gated::TangentArgs) => gated::cpu_tangent;
    Gather(gather::Args) => gather::cpu;
    Gram(gram::Args) => gram::cpu;
    GramAdd(gram::AddArgs) => gram::cpu_add;
    Linear(linear::Args) => linear::cpu;
    Loss(loss::Args) => loss::cpu;
    ProbeLoss(loss::ProbeArgs) => loss::cpu_probes;
    Mask(mask::Args) => mask::cpu;
    Moments(moments::Args) => moments::cpu;
    Norm(norm::Args) => norm::cpu;
    NormTangent(norm::Tangent) => norm::cpu_tangent;
    NormCotangent(norm::Cotangent) => norm::cpu_cotangent;
    NormMoments(norm_moments::Args) => norm_moments::cpu;
    NormRows(norm_moments::RowArgs) => norm_moments::cpu_rows;
    Normalise(norm::NormaliseArgs) => norm::cpu_normalise;
    NormaliseTangent(norm::NormaliseTangent) => norm::cpu_normalise_tangent;
    NormaliseCotangent(norm::NormaliseCotangent) => norm::cpu_normalise_cotangent;
    Peaks(peaks::Args) => peaks::cpu;
    Probes(probes::Args) => probes::cpu;
    Readout(mask::ReadoutArgs) => mask::cpu_readout;
    Rope(rope::Args) => rope::cpu;
    Scale(copy::ScaleArgs) => copy::cpu_scale;
    Scatter(gather::ScatterArgs) => gather::cpu_scatter;
    Sdpa(sdpa::Args) => sdpa::cpu;
    SdpaTangent(sdpa::Tangent) => sdpa::cpu_tangent;
    SdpaCotangent(sdpa::Cotangent) => sdpa::cpu_cotangent;
    Softcap(softcap::Args) => softcap::cpu;
    TokenEmbed(token_embed::Args) => token_embed::cpu;
    TrieMatch(trie_match::Args) => trie_match::cpu;
    Variance(norm::VarianceArgs) => norm::cpu_variance;
    VarianceTangent(norm::VarianceTangent) => norm::cpu_variance_tangent;
    VarianceCotangent(norm::VarianceCotangent) => norm::cpu_variance_cotangent;
}

/// Runs a program on one CPU thread: zeroes the accumulators, then walks the launches.
pub fn run_cpu<T: Real>(program: &Program<Launch>, arena: &mut Arena<T>) {
    for b in &program.zeroed {
        arena.real_mut(*b).fill(T::ZERO);
    }
    program.launches.iter().for_each(|l| launch(l, arena));
}
