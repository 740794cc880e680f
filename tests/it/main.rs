//! One binary for all integration tests, a module a promise.

mod ablation;
mod bad_input;
mod capture;
mod cli;
mod command;
mod edge_cases;
mod eval;
mod fuzz;
mod jvp;
mod naive;
