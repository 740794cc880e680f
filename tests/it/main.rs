//! One binary for all integration tests, a module a promise.

mod ablation;
mod backends;
mod bad_input;
mod bench;
mod capture;
mod cli;
mod closed_forms;
mod command;
mod common;
mod determinism;
mod edge_cases;
mod eval;
mod fuzz;
mod identities;
mod jvp;
mod kernels;
mod kernels_ptx;
mod naive;
mod nothing_to_find;
mod oracle;
mod paper;
mod ptxas;
mod reference_checks;
mod shaders;
mod text;
mod wgpu;
