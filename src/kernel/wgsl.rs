//! The WGSL kernels and their fragments.

use super::registry::Kernel;

/// Every WGSL kernel, in the order of `mechgraph kernels --list`.
pub static KERNELS: &[Kernel] = &[];

/// The text of an included fragment.
pub fn fragment(_file: &str) -> Option<&'static str> {
    None
}
