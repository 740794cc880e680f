//! The PTX kernels and their fragments.

use super::registry::Kernel;
use super::{gram, linear};

/// Every PTX kernel, in the order of `mechgraph kernels --list`.
pub static KERNELS: &[&Kernel] =
    &[&gram::CENTRE_F64, &gram::CENTRE_F32, &gram::GRAM_F64, &gram::GRAM_F32, &gram::FOLD, &linear::LINEAR];

/// The text of an included fragment.
pub fn fragment(_file: &str) -> Option<&'static str> {
    None
}
