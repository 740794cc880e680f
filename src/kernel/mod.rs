//! Kernel texts: their registry, the expander, parameter blocks, and the choice of configurations.
//! Nothing here touches a device.

pub mod activation;
pub mod affine;
pub mod attention;
pub mod attention_tiles;
pub mod budget;
pub mod chunk;
pub mod column_sums;
pub mod count;
pub mod derivatives;
pub mod edge_sums;
pub mod edges;
pub mod element;
pub mod embed;
pub mod gather;
pub mod gram;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod norm_terms;
pub mod params;
pub mod peaks;
pub mod probe;
pub mod probes;
pub mod product;
pub mod ptx;
pub mod registry;
pub mod rope;
pub mod sheet;
pub mod softmax;
mod sources;
pub mod template;
pub mod trie_match;
pub mod tuning;
pub mod wgsl;

pub use params::{Field, Params};
pub use registry::{Configuration, Kernel, Language};
pub use template::{Constants, Value};
