//! An interpreter of the subset of PTX that the kernels of this project use. It runs the text the driver would run,
//! on the CPU, and looks for what a GPU would let pass: races, missing waits and barriers, memory never written,
//! addresses out of bounds. It depends on nothing of the project and knows nothing of what kernels compute.

mod fault;
mod machine;
mod memory;
mod module;
mod schedule;
mod shadow;
mod statistics;

pub use fault::{Fault, FaultKind, MemoryError, ParseError};
pub use machine::{Completion, Launch, Machine, Options, Rounding};
pub use module::{Kernel, Module, Param};
pub use statistics::{Class, Statistics};
