//! The interpreter's own tests: instructions against hand-computed vectors, fragments against plain products, every
//! kind of defect beside a correct twin.

mod barriers;
mod collectives;
mod copies;
mod divergence;
mod floats;
mod integers;
mod launches;
mod matrices;
mod memory;
mod races;
mod support;
mod syntax;
mod whole_kernels;
