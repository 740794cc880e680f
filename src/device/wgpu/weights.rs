//! Weights on a device: uploaded when they are first asked for, and kept.

use std::sync::PoisonError;

use super::{Wgpu, WgpuBuffer};
use crate::device::Tensor;
use crate::error::Result;

impl Wgpu {
    /// The buffer that holds a tensor's elements, row-major.
    pub fn tensor(&self, tensor: &Tensor) -> Result<WgpuBuffer> {
        let data = tensor.raw();
        let key = data.as_ptr() as usize;
        let mut tensors = self.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, buffer)) = tensors.get(&key) {
            return Ok(buffer.clone());
        }
        let buffer = self.buffer_of(data)?;
        // The tensor is kept, so that no other can take its address.
        tensors.insert(key, (tensor.clone(), buffer.clone()));
        Ok(buffer)
    }
}
