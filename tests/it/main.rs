//! All integration tests, one module a promise.

mod ablation;
