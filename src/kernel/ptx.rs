//! The PTX kernels and their fragments: the files of `kernels/`.

use super::registry::Kernel;
use super::{gram, linear, probe};

/// Every PTX kernel, in the order of `mechgraph kernels --list`.
pub static KERNELS: &[&Kernel] = &[
    &gram::CENTRE_F64,
    &gram::CENTRE_F32,
    &gram::GRAM_F64,
    &gram::GRAM_F32,
    &gram::FOLD,
    &linear::LINEAR,
    &probe::PEAK_F64,
    &probe::PEAK_F32,
    &probe::ROUNDING,
];

macro_rules! fragments {
    ($($name:literal,)*) => {
        /// The fragments' files and texts.
        const FRAGMENTS: &[(&str, &str)] =
            &[$((concat!("frag/", $name, ".ptxh"), include_str!(concat!("../../kernels/frag/", $name, ".ptxh"))),)*];
    };
}
fragments! {
    "across_begin",
    "across_copy",
    "act_gelu",
    "act_gelu_new",
    "act_identity",
    "act_relu",
    "act_sigmoid",
    "act_silu",
    "act_tanh",
    "along_begin",
    "along_copy",
    "centre",
    "exp",
    "gram_begin",
    "gram_copy",
    "gram_next",
    "lanes_4x8",
    "linear_add",
    "linear_bias",
    "linear_copy",
    "linear_store",
    "linear_tangent",
    "linear_w_nn",
    "linear_w_nt",
    "linear_write",
    "linear_write_quads",
    "linear_write_singles",
    "logistic",
    "reciprocal",
    "triangle",
}

/// The text of an included fragment.
pub fn fragment(file: &str) -> Option<&'static str> {
    FRAGMENTS.iter().find(|(name, _)| *name == file).map(|(_, text)| *text)
}
