//! Element types: the two that the CPU backend computes in, and those that numbers are stored in.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// Element type of a tensor or of a whole program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    F32,
    F64,
}

impl DType {
    /// Size of one element in bytes.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F64 => 8,
        }
    }
    /// The name used on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
        }
    }
}

/// Element type of numbers in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stored {
    F64,
    F32,
    F16,
    BF16,
}

impl Stored {
    /// Size of one element in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Stored::F64 => 8,
            Stored::F32 => 4,
            Stored::F16 | Stored::BF16 => 2,
        }
    }
    /// The name used in messages and reports.
    pub fn name(self) -> &'static str {
        match self {
            Stored::F64 => "f64",
            Stored::F32 => "f32",
            Stored::F16 => "f16",
            Stored::BF16 => "bf16",
        }
    }
}

impl From<DType> for Stored {
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Stored::F32,
            DType::F64 => Stored::F64,
        }
    }
}

/// A floating point type in which every operation of [`crate::ops`] is available on the CPU.
pub trait Real:
    faer::traits::RealField
    + bytemuck::Pod
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
    + std::fmt::Debug
{
    const DTYPE: DType;
    const ZERO: Self;
    const ONE: Self;
    fn of(x: f64) -> Self;
    fn of_f32(x: f32) -> Self;
    fn to_f64(self) -> f64;
    fn exp(self) -> Self;
    fn tanh(self) -> Self;
    fn sqrt(self) -> Self;
    /// The error function, accurate to the last bits of the type.
    fn erf(self) -> Self;
    fn max(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
}

macro_rules! real {
    ($t:ty, $variant:ident, $erf:path) => {
        impl Real for $t {
            const DTYPE: DType = DType::$variant;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            fn of(x: f64) -> Self {
                x as $t
            }
            fn of_f32(x: f32) -> Self {
                x as $t
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn exp(self) -> Self {
                <$t>::exp(self)
            }
            fn tanh(self) -> Self {
                <$t>::tanh(self)
            }
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            fn erf(self) -> Self {
                $erf(self)
            }
        }
    };
}
real!(f32, F32, libm::erff);
real!(f64, F64, libm::erf);
