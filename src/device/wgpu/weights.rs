//! Weights and tables on a device: uploaded when they are first asked for, and kept as long as the host has them.
//!
//! A weight of which every element is a bf16 or an f16 number, as in most published models, may lie there as such: half
//! the memory and half the reads, and kernels widen it to the very f32 that it came from.

use std::any::Any;
use std::sync::{Arc, PoisonError};

use super::{Wgpu, WgpuBuffer};
use crate::device::{Stored, Tensor};
use crate::error::Result;

/// A weight on the device, in the forms that were asked for.
#[derive(Debug)]
pub(super) struct Weight {
    /// Kept, so that no other can take its address.
    host: Tensor,
    wide: Option<WgpuBuffer>,
    narrow: Option<Narrow>,
}

/// What became of the question for a narrow form.
#[derive(Clone, Debug)]
enum Narrow {
    /// Elements would be rounded.
    Lossy,
    Lossless(WgpuBuffer, Stored),
}

impl Wgpu {
    /// The buffer that holds a tensor's elements as f32, row-major.
    pub fn tensor(&self, tensor: &Tensor) -> Result<WgpuBuffer> {
        self.with_weight(tensor, |weight| match &weight.wide {
            Some(buffer) => Ok(buffer.clone()),
            None => Ok(weight.wide.insert(self.buffer_of(&tensor.raw())?).clone()),
        })
    }

    /// The buffer that holds a tensor's elements, row-major, and what they are: bf16 or f16, two a word, where that
    /// changes none of them; else f32. For kernels that read all three.
    pub fn weight(&self, tensor: &Tensor) -> Result<(WgpuBuffer, Stored)> {
        let narrow = |weight: &mut Weight| match &weight.narrow {
            Some(narrow) => Ok(narrow.clone()),
            None => {
                let narrow = match tensor.halves() {
                    Some((stored, mut bytes)) => {
                        if !bytes.len().is_multiple_of(4) {
                            bytes.to_mut().extend([0, 0]);
                        }
                        Narrow::Lossless(self.buffer_of(&bytes)?, stored)
                    }
                    None => Narrow::Lossy,
                };
                Ok(weight.narrow.insert(narrow).clone())
            }
        };
        if self.options.narrow_weights
            && let Narrow::Lossless(buffer, stored) = self.with_weight(tensor, narrow)?
        {
            return Ok((buffer, stored));
        }
        Ok((self.tensor(tensor)?, Stored::F32))
    }

    fn with_weight<R>(&self, tensor: &Tensor, f: impl FnOnce(&mut Weight) -> Result<R>) -> Result<R> {
        let mut tensors = self.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        if !tensors.contains_key(&tensor.key()) {
            // What the host has let go nobody can ask for again; launches recorded with it hold its buffer.
            tensors.retain(|_, kept| kept.host.is_shared());
        }
        let new = || Weight { host: tensor.clone(), wide: None, narrow: None };
        f(tensors.entry(tensor.key()).or_insert_with(new))
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
    fn a_weight_is_narrow_where_that_changes_none_of_its_elements() {
        let Ok(device) = Wgpu::open(Some("llvmpipe")) else {
            println!("skipped: wgpu llvmpipe is absent");
            return;
        };
        let ulp = f64::from(f32::EPSILON);
        for (data, stored, words) in [
            (vec![1.0, -0.0, f32::from_bits(0x7f62_0000).into()], Stored::BF16, vec![0x8000_3f80, 0x7f62]),
            (vec![1.0009765625, -5.960464477539063e-8], Stored::F16, vec![0x8001_3c01]),
            (vec![1.0009765625, 7e4], Stored::F32, vec![0x3f80_2000, 0x4788_b800]),
            (vec![1.0 + ulp], Stored::F32, vec![0x3f80_0001]),
        ] {
            let tensor = Tensor::row(DType::F32, data);
            for _ in 0..2 {
                let (buffer, found) = device.weight(&tensor).unwrap();
                let bytes = device.download(&buffer, 0..buffer.bytes()).unwrap();
                assert_eq!((found, bytemuck::pod_collect_to_vec::<u8, u32>(&bytes)), (stored, words.clone()));
            }
            let wide = device.tensor(&tensor).unwrap();
            assert_eq!(device.download(&wide, 0..wide.bytes()).unwrap(), *tensor.raw());
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
