//! The interpreter's own tests: instructions against hand-computed vectors, fragments against plain products, every
//! kind of defect beside a correct twin.

mod collectives;
mod divergence;
mod floats;
mod integers;
mod matrices;
mod memory;
mod support;
mod whole_kernels;
