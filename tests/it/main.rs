//! The integration tests: one binary, a module a promise.

mod bad_input;
mod cli;
mod command;
mod degenerate;
mod fuzz;
