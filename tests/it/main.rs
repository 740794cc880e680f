//! One binary for all integration tests, a module a promise.

mod capture;
mod eval;
mod jvp;
mod naive;
