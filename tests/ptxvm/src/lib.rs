//! An interpreter of the subset of PTX that the kernels of this project use. It runs the text the driver would run,
//! on the CPU, and looks for what a GPU would let pass: races, missing waits and barriers, memory never written,
//! addresses out of bounds. It depends on nothing of the project and knows nothing of what kernels compute.

mod access;
mod barrier;
mod block;
mod body;
mod collective;
mod convert;
mod copy;
mod decode;
mod execute;
mod fault;
mod float;
mod instruction;
mod integer;
mod lanes;
mod lexer;
mod machine;
mod matrix;
mod memory;
mod module;
mod operand;
mod parser;
mod rounding;
mod schedule;
mod scope;
mod shadow;
mod shared;
mod statistics;
mod traffic;
mod types;
mod warp;

pub use fault::{Fault, FaultKind, MemoryError, ParseError};
pub use machine::{Completion, Launch, Machine, Options, Rounding};
pub use module::{Kernel, Module, Param};
pub use statistics::{Class, Statistics};
