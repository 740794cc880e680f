//! The PTX kernels and their fragments: the files of `kernels/`.

use super::registry::Kernel;
use super::{gram, linear};

/// Every PTX kernel, in the order of `mechgraph kernels --list`.
pub static KERNELS: &[&Kernel] =
    &[&gram::CENTRE_F64, &gram::CENTRE_F32, &gram::GRAM_F64, &gram::GRAM_F32, &gram::FOLD, &linear::LINEAR];

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
    "gram_begin",
    "gram_copy",
    "gram_next",
    "lanes_4x8",
    "triangle",
}

/// The text of an included fragment.
pub fn fragment(file: &str) -> Option<&'static str> {
    FRAGMENTS.iter().find(|(name, _)| *name == file).map(|(_, text)| *text)
}
