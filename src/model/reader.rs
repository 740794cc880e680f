//! Hands out a checkpoint's tensors in the shapes a configuration asks for, and keeps account of
//! them, so that a tensor nobody asked for is noticed.

use std::collections::BTreeSet;

use super::checkpoint::{Checkpoint, index};
use crate::device::DType;
use crate::error::{Error, Result};

/// Where a model's tensors come from: given the name and shape in the file layout, the elements.
pub type Source<'a> = dyn FnMut(&str, &[usize]) -> Result<Vec<f64>> + 'a;

pub struct Reader<'a> {
    file: &'a Checkpoint,
    dtype: DType,
    asked: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    pub fn new(file: &'a Checkpoint, dtype: DType) -> Self {
        Self { file, dtype, asked: BTreeSet::new() }
    }
    /// The elements of a tensor, checked to be finite in the compute dtype too.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        self.asked.insert(name.into());
        match self.file.shape(name) {
            Some(found) if found != shape => {
                let expected = format!("shape {shape:?} by config.json");
                return Err(Error::tensor(self.file.path(), name, format!("shape {found:?}"), expected));
            }
            _ => {}
        }
        let values = self.file.tensor_f64(name, shape)?;
        in_range(&values, self.dtype).map_err(|i| {
            let found = format!("{:?} at index {:?}", values[i], index(i, shape));
            Error::tensor(self.file.path(), name, found, format!("values within the range of {}", self.dtype.name()))
        })?;
        Ok(values)
    }
    /// Fails if the file holds a tensor that was neither asked for nor is one to `skip`.
    pub fn finish(self, skip: impl Fn(&str) -> bool) -> Result<()> {
        match self.file.names().find(|&n| !self.asked.contains(n) && !skip(n)) {
            None => Ok(()),
            Some(name) => Err(Error::tensor(
                self.file.path(),
                name,
                "a tensor that the model has no place for",
                "only tensors that config.json calls for",
            )),
        }
    }
}

/// Checks that no value overflows when rounded to `dtype`; fails with the first that does.
pub(crate) fn in_range(values: &[f64], dtype: DType) -> std::result::Result<(), usize> {
    match dtype {
        DType::F64 => Ok(()),
        DType::F32 => values.iter().position(|&x| !(x as f32).is_finite()).map_or(Ok(()), Err),
    }
}
