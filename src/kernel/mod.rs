//! Kernel texts: their registry, the expander, parameter blocks, and the choice of configurations.
//! Nothing here touches a device.

pub mod activation;
pub mod budget;
pub mod column_sums;
pub mod count;
pub mod derivatives;
pub mod edges;
pub mod element;
pub mod gram;
pub mod linear;
pub mod norm_terms;
pub mod params;
pub mod probe;
pub mod product;
pub mod ptx;
pub mod registry;
pub mod sheet;
mod sources;
pub mod template;
pub mod tuning;
pub mod wgsl;

pub use params::{Field, Params};
pub use registry::{Configuration, Kernel, Language};
pub use template::{Constants, Value};
