//! An interpreter of a subset of PTX.
