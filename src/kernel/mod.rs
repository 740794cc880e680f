//! Kernel texts: their registry, the expander, parameter blocks, and the choice of configurations.
//! Nothing here touches a device.

pub mod activation;
pub mod attention;
pub mod attention_tiles;
pub mod budget;
pub mod count;
pub mod element;
pub mod gram;
pub mod linear;
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
