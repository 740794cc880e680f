//! Immutable matrices on the device: weights and the small matrices a pass is given.

use std::sync::Arc;

use super::real::{DType, Real};

/// The elements of a tensor.
#[derive(Clone, Debug)]
pub enum Storage {
    F32(Arc<[f32]>),
    F64(Arc<[f64]>),
}

/// A cheap, typed handle to an immutable row-major matrix `[rows, cols]` that owns its allocation.
/// A vector is a matrix of one row.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub rows: usize,
    pub cols: usize,
    storage: Storage,
}

impl Tensor {
    /// Rounds `data` (row-major, `rows * cols` elements) to `dtype`.
    pub fn from_f64(dtype: DType, rows: usize, cols: usize, data: Vec<f64>) -> Self {
        assert_eq!(data.len(), rows * cols, "tensor [{rows}, {cols}] from {} elements", data.len());
        let storage = match dtype {
            DType::F32 => Storage::F32(data.iter().map(|&x| x as f32).collect()),
            DType::F64 => Storage::F64(data.into()),
        };
        Self { rows, cols, storage }
    }
    /// A vector as a matrix of one row.
    pub fn row(dtype: DType, data: Vec<f64>) -> Self {
        Self::from_f64(dtype, 1, data.len(), data)
    }
    pub fn dtype(&self) -> DType {
        match self.storage {
            Storage::F32(_) => DType::F32,
            Storage::F64(_) => DType::F64,
        }
    }
    pub fn bytes(&self) -> u64 {
        (self.rows * self.cols * self.dtype().bytes()) as u64
    }
    /// Whether there is another handle to the same elements.
    pub fn is_shared(&self) -> bool {
        match &self.storage {
            Storage::F32(x) => Arc::strong_count(x) > 1,
            Storage::F64(x) => Arc::strong_count(x) > 1,
        }
    }
    /// The elements' bytes, row-major.
    pub fn raw(&self) -> &[u8] {
        match &self.storage {
            Storage::F32(x) => bytemuck::cast_slice(x),
            Storage::F64(x) => bytemuck::cast_slice(x),
        }
    }
    /// The elements as f64, row-major.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.storage {
            Storage::F32(x) => x.iter().map(|&x| f64::from(x)).collect(),
            Storage::F64(x) => x.to_vec(),
        }
    }
    /// The elements in the program's dtype. Programs are built from tensors of one dtype, so a
    /// mismatch is a bug of the builder and panics.
    pub fn slice<T: Real>(&self) -> &[T] {
        T::slice(&self.storage).unwrap_or_else(|| panic!("tensor is {}, program is {}", self.dtype().name(), T::DTYPE.name()))
    }
}
