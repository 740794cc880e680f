//! The interpreter's own tests: instructions against hand-computed vectors, fragments against plain products, every
//! kind of defect beside a correct twin.

mod floats;
mod integers;
mod support;
mod whole_kernels;
