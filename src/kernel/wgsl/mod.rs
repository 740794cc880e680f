//! The WGSL kernels, their fragments, and what all of them share: how parameters reach them and which
//! of their constants are set when a pipeline is made.
//!
//! A kernel is a text in `shaders/`, a file here with its parameter block and its few configurations, and a launcher
//! `ops::NAME_wgpu` that the table of `ops::offload` names: `fits` says whether the kernel serves a launch and what scratch
//! memory it takes, `bind` records it. The rules of the texts:
//!
//! - Binding 0 is the parameter block `p` (`frag/params_uniform.wgsl`); storage follows from 1 on, eight buffers at most,
//!   inputs `read`, outputs `read_write`, every one used by the text, absent ones standing in (`Storage::read_if`).
//! - WebGPU refuses a launch that binds a buffer twice where one of the two is written. The host's operations allow only
//!   two such cases, and the text has a configuration for each: an output that is its input ([`in_place`]) and outputs that
//!   are views of one buffer ([`joint`]). It then declares one binding, and names the other operand by a word.
//! - Offsets and strides of views are parameters in elements; the offset is what `Storage` returns, since a binding
//!   begins where its alignment lets it. Bindings above the adapter's limit are cut by rows (`ops::pieces`).
//! - Workgroups are numbered by `frag/unit.wgsl` (`frag/sheet.wgsl` for matrices element by element), because a grid above
//!   65,535 has two dimensions and may hold more workgroups than asked for. An invocation without work leaves before or
//!   after every barrier, a workgroup as a whole.
//! - Numbers of a workgroup are joined by `frag/reduce_*.wgsl`, along one tree whether an adapter has subgroups or not
//!   ([`reduce`]). No other text has subgroup operations, and none assumes how large a subgroup is or which invocations it
//!   has. naga 30 takes them without the `enable subgroups;` that a browser asks for, and refuses that line.
//! - No f16 but in `linear_coop_f32`, which no run takes unless it is told to; no f64. Divisions, roots and exponentials of WGSL may be wrong by several units in the last place: the
//!   fragments `exp_below`, `logistic`, `act_*` and `accurate` are not.

pub mod activation;
pub mod affine;
pub mod attention;
pub mod attention_shape;
pub mod attention_tiles;
pub mod chunk;
pub mod count;
pub mod edge_sums;
pub mod edges;
pub mod embed;
pub mod gather;
pub mod gram;
pub mod gram_fold;
pub mod linear;
pub mod linear_coop;
pub mod loss;
pub mod norm;
pub mod norm_terms;
pub mod peak;
pub mod peaks;
pub mod probe;
pub mod probes;
pub mod product;
pub mod reduce;
pub mod rope;
pub mod softmax;
pub mod sums;
pub mod trie_match;

use super::registry::{Configuration, Kernel};
use super::template::Value;
use super::tuning;

/// Every WGSL kernel, in the order of `mechgraph kernels --list`.
pub static KERNELS: &[&Kernel] = &[
    &activation::ACTIVATION,
    &activation::TANGENT,
    &affine::AFFINE,
    &attention_tiles::CENTRE,
    &attention_tiles::CONTRACT,
    &attention_tiles::DIRECTIONS,
    &attention::FORWARD,
    &attention::KEYS,
    &attention_tiles::OMEGA,
    &attention::PATTERN,
    &attention::QUERIES,
    &attention::SPANS_TABLE,
    &attention_tiles::SQUARES,
    &attention::TANGENT,
    &attention_tiles::VALUES,
    &gram::CENTRE,
    &gram::CENTRE_FOLD,
    &chunk::CHUNK,
    &sums::COLUMN_SUMS,
    &count::COUNT,
    &sums::DERIVATIVES,
    &edge_sums::COTANGENTS,
    &edge_sums::TANGENTS,
    &edges::EDGES,
    &edges::RANK_ONE,
    &embed::EMBED,
    &gather::GATHER,
    &gram::GRAM,
    &gram_fold::GRAM_FOLD,
    &linear::LINEAR,
    &linear_coop::LINEAR_COOP,
    &linear_coop::MAGNITUDE,
    &loss::FOLD,
    &loss::ROWS,
    &norm::NORM,
    &norm::HALF,
    &norm::SLOPE,
    &norm_terms::TERMS,
    &norm_terms::WEIGH,
    &peak::PEAK,
    &peaks::LISTS,
    &peaks::PEAKS,
    &probe::PROBE,
    &probe::REDUCE,
    &probes::PROBE_ROWS,
    &probes::PROBE_SUMS,
    &product::PRODUCT,
    &chunk::READOUT,
    &rope::ROPE,
    &gather::SCATTER,
    &softmax::SOFTMAX,
    &softmax::TANGENT,
    &trie_match::TRIE_MATCH,
];

/// What an adapter offers to a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most invocations of a workgroup.
    pub invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Bytes of parameters that can travel as immediates; 0 without them.
    pub immediates: u32,
    /// The most 4-byte elements of a binding, wherever they start in their buffer.
    pub binding: usize,
    /// Whether TwoSum is exact, and so sums over many rows are.
    pub exact_sums: bool,
    /// Whether subgroups join numbers as barriers do.
    pub subgroups: bool,
}

impl Limits {
    /// What every implementation of WebGPU offers.
    pub const BASELINE: Limits = Limits {
        invocations: 256,
        workgroup_memory: 16 << 10,
        immediates: 0,
        binding: (128 << 18) - 64,
        exact_sums: true,
        subgroups: false,
    };

    /// Multiprocessors that choices assume, those of a middling GPU: WebGPU does not say how many there are.
    pub const MULTIPROCESSORS: u32 = 32;

    /// As a device of `tuning`.
    fn assumed(&self) -> tuning::Limits {
        tuning::Limits { capability: (0, 0), multiprocessors: Self::MULTIPROCESSORS, shared_per_block: self.workgroup_memory }
    }

    /// How a parameter block of `bytes` bytes travels.
    pub fn transport(&self, bytes: usize) -> Transport {
        if bytes <= self.immediates as usize { Transport::Immediates } else { Transport::Uniform }
    }
}

/// How the parameter block reaches a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a uniform buffer at binding 0.
    Uniform,
    /// In the command stream, where the adapter can.
    Immediates,
}

impl Transport {
    pub const ALL: [Transport; 2] = [Transport::Uniform, Transport::Immediates];
    /// The word in file and configuration names.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Uniform => "uniform",
            Transport::Immediates => "immediates",
        }
    }
    /// The way of a configuration: as its word `PARAMS` says, else the one that every adapter has.
    pub fn of(configuration: &Configuration) -> Self {
        let immediates = configuration.constants.get_word("PARAMS") == Some(Transport::Immediates.name());
        if immediates { Transport::Immediates } else { Transport::Uniform }
    }
}

/// The prefix of a configuration's constants that the text declares as `override`: they get their
/// values when the pipeline is made.
pub const OVERRIDE: &str = "override.";

/// The pipeline-overridable constants of a configuration.
pub fn overrides(configuration: &Configuration) -> Vec<(&str, f64)> {
    let all = configuration.constants.iter();
    all.filter_map(|(name, value)| match value {
        Value::Int(n) => Some((name.strip_prefix(OVERRIDE)?, *n as f64)),
        Value::Word(_) => None,
    })
    .collect()
}

macro_rules! fragments {
    ($($file:literal)*) => { &[$(($file, include_str!(concat!("../../../shaders/", $file)))),*] };
}

/// The included files, by their path from `shaders/`.
pub static FRAGMENTS: &[(&str, &str)] = fragments! {
    "frag/accurate.wgsl"
    "frag/act_gelu.wgsl"
    "frag/act_gelu_new.wgsl"
    "frag/act_identity.wgsl"
    "frag/act_relu.wgsl"
    "frag/act_sigmoid.wgsl"
    "frag/act_silu.wgsl"
    "frag/act_tanh.wgsl"
    "frag/add_product.wgsl"
    "frag/add_up.wgsl"
    "frag/attention_add.wgsl"
    "frag/attention_copy.wgsl"
    "frag/attention_dot.wgsl"
    "frag/attention_fold.wgsl"
    "frag/attention_follow.wgsl"
    "frag/attention_keys.wgsl"
    "frag/attention_mean.wgsl"
    "frag/attention_note.wgsl"
    "frag/attention_params.wgsl"
    "frag/attention_quad_v1.wgsl"
    "frag/attention_quad_v4.wgsl"
    "frag/attention_queries.wgsl"
    "frag/attention_scores.wgsl"
    "frag/attention_sequence.wgsl"
    "frag/attention_shown.wgsl"
    "frag/attention_slope.wgsl"
    "frag/attention_store_v1.wgsl"
    "frag/attention_store_v4.wgsl"
    "frag/attention_tile.wgsl"
    "frag/attention_zero.wgsl"
    "frag/coop_columns.wgsl"
    "frag/coop_emulated.wgsl"
    "frag/coop_keep.wgsl"
    "frag/coop_native.wgsl"
    "frag/coop_rows.wgsl"
    "frag/element_half.wgsl"
    "frag/element_wide.wgsl"
    "frag/exp_below.wgsl"
    "frag/fold_lanes.wgsl"
    "frag/largest_of.wgsl"
    "frag/linear_add.wgsl"
    "frag/linear_columns.wgsl"
    "frag/linear_rows.wgsl"
    "frag/linear_store.wgsl"
    "frag/linear_tangent.wgsl"
    "frag/log_one_plus.wgsl"
    "frag/logistic.wgsl"
    "frag/mix.wgsl"
    "frag/order.wgsl"
    "frag/own_barrier.wgsl"
    "frag/own_subgroup.wgsl"
    "frag/params_immediates.wgsl"
    "frag/params_uniform.wgsl"
    "frag/probe_params.wgsl"
    "frag/probe_signs.wgsl"
    "frag/product_stage.wgsl"
    "frag/quad_half.wgsl"
    "frag/quad_v1.wgsl"
    "frag/quad_v4.wgsl"
    "frag/reduce_barrier.wgsl"
    "frag/reduce_subgroup.wgsl"
    "frag/sheet.wgsl"
    "frag/strided_v1.wgsl"
    "frag/strided_v4.wgsl"
    "frag/sum_of.wgsl"
    "frag/tile_row.wgsl"
    "frag/two_product_fma.wgsl"
    "frag/two_product_split.wgsl"
    "frag/two_sum.wgsl"
    "frag/unit.wgsl"
    "frag/widen.wgsl"
};

/// The text of an included fragment.
pub fn fragment(file: &str) -> Option<&'static str> {
    FRAGMENTS.iter().find(|(name, _)| *name == file).map(|(_, text)| *text)
}

/// Why a configuration is not the one asked for, where one of its words differs.
fn same(configuration: &Configuration, word: &str, wanted: &str, what: &str) -> std::result::Result<(), String> {
    match configuration.constants.get_word(word) {
        Some(found) if found != wanted => Err(format!("another {what}, {wanted} is asked for")),
        _ => Ok(()),
    }
}

/// What a workgroup costs that computes `each` rows and columns an invocation, `steps` products of each element, in the
/// clocks of a middling GPU: 128 products and 128 bytes of workgroup memory a clock.
fn work(ctas: u64, each: (u32, u32), invocations: (u32, u32), steps: f64, registers: u32) -> tuning::Work {
    let (rows, columns) = (f64::from(each.0 * invocations.0), f64::from(each.1 * invocations.1));
    // An invocation reads its rows and columns once a step; neighbours read the same words: a quarter of the reads remains.
    let read = f64::from(invocations.0 * invocations.1) * f64::from(each.0 + each.1) * 4.0 / 128.0 / 4.0;
    let write = (rows + columns) * 4.0 / 128.0;
    tuning::Work { ctas, registers, multiply: steps * rows * columns / 128.0, feed: steps * (read + write) }
}

/// Why an adapter cannot run a configuration's workgroups; their memory is the choice's to judge.
fn fits(configuration: &Configuration, limits: &Limits) -> std::result::Result<(), String> {
    let (asked, most) = (configuration.threads, limits.invocations);
    if asked <= most { Ok(()) } else { Err(format!("{asked} invocations, the adapter runs at most {most}")) }
}

/// The constants of a text whose output y may be its input x: `X` is the name of the input's binding, `APART` 1 where
/// there is one.
pub fn in_place(constants: super::Constants, same: bool) -> super::Constants {
    constants.int("APART", usize::from(!same)).word("X", if same { "y" } else { "x" })
}

/// The constants of a text with two outputs that may be views of one buffer: `word` is the name of the second one's
/// binding, `APART` 1 where there is one of its own.
pub fn joint(constants: super::Constants, word: &str, [first, second]: [&str; 2], same: bool) -> super::Constants {
    constants.int("APART", usize::from(!same)).word(word, if same { first } else { second })
}

/// The sum of the flags that are set.
pub fn flags<const N: usize>(all: [(bool, u32); N]) -> u32 {
    all.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum()
}

/// The constants that the width of loads, and of stores where the text has them, sets: `v4` takes rows in whole quads.
fn vector(constants: super::Constants, quads: bool) -> super::Constants {
    let (word, element) = if quads { ("v4", "vec4<f32>") } else { ("v1", "f32") };
    constants.word("VECTOR", word).word("ELEMENT", element)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::registry;

    #[test]
    fn files_and_registry_agree() {
        let names = |folder: &str| {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders").join(folder);
            let entries = std::fs::read_dir(path).unwrap().map(|e| e.unwrap());
            let files = entries.filter(|e| e.file_type().unwrap().is_file()).map(|e| e.file_name().into_string().unwrap());
            files.collect::<std::collections::BTreeSet<_>>()
        };
        let kernels = KERNELS.iter().map(|k| format!("{}.wgsl", k.name)).collect();
        assert_eq!(names(""), kernels);
        let fragments = FRAGMENTS.iter().map(|(name, _)| name.strip_prefix("frag/").unwrap().to_string()).collect();
        assert_eq!(names("frag"), fragments);
    }

    #[test]
    fn every_configuration_expands_and_fits_the_baseline() {
        for kernel in KERNELS {
            let all = (kernel.configurations)();
            let names: std::collections::BTreeSet<&str> = all.iter().map(|c| c.name.as_str()).collect();
            assert_eq!(names.len(), all.len(), "{}", kernel.name);
            for configuration in &all {
                let text = kernel.expand(configuration).unwrap();
                assert!(!["{{", "@for", "@include", "@}"].iter().any(|rest| text.contains(rest)), "{}", configuration.name);
                assert!(text.contains(&format!("fn {}(", kernel.name)));
                assert!(configuration.threads <= Limits::BASELINE.invocations, "{}", configuration.name);
                assert!(configuration.shared <= Limits::BASELINE.workgroup_memory, "{}", configuration.name);
            }
            assert!(std::ptr::eq(registry::find(kernel.name).unwrap(), *kernel));
        }
    }
}
