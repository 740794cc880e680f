//! The one test binary: a module a promise.

mod closed_forms;
mod common;
mod degenerate;
mod determinism;
mod identities;
mod oracle;
mod paper;
mod reference_checks;
