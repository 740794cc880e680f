//! Weights and tables on a device: uploaded when they are first asked for, and kept as long as the host has them.

use std::any::Any;
use std::sync::{Arc, PoisonError};

use super::{Wgpu, WgpuBuffer};
use crate::device::Tensor;
use crate::error::Result;

impl Wgpu {
    /// The buffer that holds a tensor's elements, row-major.
    pub fn tensor(&self, tensor: &Tensor) -> Result<WgpuBuffer> {
        let key = tensor.key();
        let mut tensors = self.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, buffer)) = tensors.get(&key) {
            return Ok(buffer.clone());
        }
        // What the host has let go nobody can ask for again; launches recorded with it hold its buffer.
        tensors.retain(|_, (kept, _)| kept.is_shared());
        let buffer = self.buffer_of(&tensor.raw())?;
        // The tensor is kept, so that no other can take its address.
        tensors.insert(key, (tensor.clone(), buffer.clone()));
        Ok(buffer)
    }

    /// The buffer that holds what `bytes` gives, the same for every call with `owner`, as long as there is a clone of that.
    pub fn shared(&self, owner: Arc<dyn Any + Send + Sync>, bytes: impl FnOnce() -> Vec<u8>) -> Result<WgpuBuffer> {
        let key = Arc::as_ptr(&owner).cast::<()>() as usize;
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, buffer)) = tables.get(&key) {
            return Ok(buffer.clone());
        }
        tables.retain(|_, (kept, _)| Arc::strong_count(kept) > 1);
        let buffer = self.buffer_of(&bytes())?;
        tables.insert(key, (owner, buffer.clone()));
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;

    #[test]
    fn a_weight_is_kept_as_long_as_the_host_has_it() {
        let Ok(device) = Wgpu::open(Some("llvmpipe")) else {
            println!("skipped: wgpu llvmpipe is absent");
            return;
        };
        let kept = Tensor::row(DType::F32, vec![7.0; 64]);
        device.tensor(&kept).unwrap();
        for i in 0..10 {
            device.tensor(&Tensor::row(DType::F32, vec![f64::from(i); 64])).unwrap();
            let held = device.tensors.lock().unwrap();
            assert!(held.len() == 2 && held.contains_key(&kept.key()), "one of those that come and go");
        }
    }

    #[test]
    fn a_table_is_kept_as_long_as_the_host_has_its_owner() {
        let Ok(device) = Wgpu::open(Some("llvmpipe")) else {
            println!("skipped: wgpu llvmpipe is absent");
            return;
        };
        let kept = Arc::new(7u32);
        let of_kept = device.shared(kept.clone(), || vec![7; 8]).unwrap();
        for i in 0..10u32 {
            device.shared(Arc::new(i), || vec![1; 4]).unwrap();
            assert!(device.tables.lock().unwrap().len() == 2, "one of those that come and go");
        }
        assert!(device.shared(kept, || panic!("made twice")).unwrap().is(&of_kept));
    }
}
