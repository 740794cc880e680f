//! `mma.sync`: fragment layouts as in the PTX ISA, and the product. With g = lane / 4 and t = lane % 4, rows of A and C
//! are g (and g + 8), columns of B are g; `Shape` says which k each register holds.

use crate::lanes::{Lanes, WARP};
use crate::machine::Rounding;
use crate::rounding::{self, Mode};

/// A supported `mma` shape with its element types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// m8n8k4, all f64.
    F64,
    /// m16n8k4, tf32 to f32.
    Tf32K4,
    /// m16n8k8, tf32 to f32.
    Tf32K8,
    /// m16n8k8, bf16 to f32.
    Bf16K8,
    /// m16n8k16, bf16 to f32.
    Bf16K16,
    /// m16n8k8, f16 to f32.
    F16K8,
    /// m16n8k16, f16 to f32.
    F16K16,
}

/// Registers of the fragments of A, B and C.
pub(crate) struct Fragments {
    pub a: usize,
    pub b: usize,
    pub c: usize,
}

const M: usize = 16;
const N: usize = 8;
const K: usize = 16;

impl Shape {
    pub fn fragments(self) -> Fragments {
        let (a, b, c) = match self {
            Self::F64 => (1, 1, 2),
            Self::Tf32K4 | Self::Bf16K8 | Self::F16K8 => (2, 1, 4),
            Self::Tf32K8 | Self::Bf16K16 | Self::F16K16 => (4, 2, 4),
        };
        Fragments { a, b, c }
    }

    /// The extent of k.
    pub fn k(self) -> usize {
        match self {
            Self::F64 | Self::Tf32K4 => 4,
            Self::Tf32K8 | Self::Bf16K8 | Self::F16K8 => 8,
            Self::Bf16K16 | Self::F16K16 => 16,
        }
    }

    /// The values in one register of an operand, and how many there are.
    fn values(self, bits: u64) -> ([f64; 2], usize) {
        let bf16 = |half: u64| f64::from(f32::from_bits((half as u32) << 16));
        let f16 = |half: u64| half::f16::from_bits(half as u16).to_f64();
        match self {
            Self::F64 => ([f64::from_bits(bits), 0.0], 1),
            // The hardware reads the upper 19 bits only.
            Self::Tf32K4 | Self::Tf32K8 => ([f32::from_bits(bits as u32 & 0xFFFF_E000).into(), 0.0], 1),
            Self::Bf16K8 | Self::Bf16K16 => ([bf16(bits & 0xFFFF), bf16(bits >> 16)], 2),
            Self::F16K8 | Self::F16K16 => ([f16(bits & 0xFFFF), f16(bits >> 16)], 2),
        }
    }
}

/// The operands of an `mma` as plain matrices: a[row][k], b[k][column].
struct Operands {
    a: [[f64; K]; M],
    b: [[f64; N]; K],
}

/// Unpacks the fragments. Register r of A holds row g + 8 (r % 2), and k from the (r / 2)-th group of columns; register
/// r of B the r-th group. A group is t for one value a register, 2t and 2t + 1 for two.
fn unpack(shape: Shape, a: &[Lanes; 4], b: &[Lanes; 2]) -> Operands {
    let mut operands = Operands { a: [[0.0; K]; M], b: [[0.0; N]; K] };
    let fragments = shape.fragments();
    for lane in 0..WARP {
        let (g, t) = (lane / 4, lane % 4);
        for (r, register) in a[..fragments.a].iter().enumerate() {
            let (values, count) = shape.values(register[lane]);
            for (v, &value) in values[..count].iter().enumerate() {
                operands.a[g + 8 * (r % 2)][4 * count * (r / 2) + count * t + v] = value;
            }
        }
        for (r, register) in b[..fragments.b].iter().enumerate() {
            let (values, count) = shape.values(register[lane]);
            for (v, &value) in values[..count].iter().enumerate() {
                operands.b[4 * count * r + count * t + v][g] = value;
            }
        }
    }
    operands
}

/// The f32 nearest to x towards zero.
fn towards_zero(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest).abs() > x.abs() {
        return f32::from_bits(rounding::round_f64(x, Mode::Zero, rounding::F32) as u32);
    }
    nearest
}

/// D = A B + C on fragments.
pub(crate) fn multiply(shape: Shape, a: &[Lanes; 4], b: &[Lanes; 2], c: &[Lanes; 4], accumulation: Rounding) -> [Lanes; 4] {
    let operands = unpack(shape, a, b);
    let mut d = [[0; WARP]; 4];
    if shape == Shape::F64 {
        for lane in 0..WARP {
            let (g, t) = (lane / 4, lane % 4);
            for j in 0..2 {
                let mut sum = f64::from_bits(c[j][lane]);
                for k in 0..4 {
                    sum = operands.a[g][k].mul_add(operands.b[k][2 * t + j], sum);
                }
                d[j][lane] = sum.to_bits();
            }
        }
        return d;
    }
    for row in 0..M {
        let mut sums: [f64; N] = std::array::from_fn(|column| {
            let (register, lane) = accumulator(row, column);
            f32::from_bits(c[register][lane] as u32).into()
        });
        let mut singles = [0f32; N];
        let chunk = if accumulation == Rounding::Exact { shape.k() } else { shape.k().min(8) };
        for first in (0..shape.k()).step_by(chunk) {
            for k in first..first + chunk {
                for (sum, y) in sums.iter_mut().zip(operands.b[k]) {
                    *sum += operands.a[row][k] * y;
                }
            }
            for (sum, single) in sums.iter_mut().zip(&mut singles) {
                *single = if accumulation == Rounding::Exact { *sum as f32 } else { towards_zero(*sum) };
                *sum = f64::from(*single);
            }
        }
        for (column, single) in singles.iter().enumerate() {
            let (register, lane) = accumulator(row, column);
            d[register][lane] = if single.is_nan() { 0x7FFF_FFFF } else { u64::from(single.to_bits()) };
        }
    }
    d
}

/// Register and lane of an element of a 16 x 8 accumulator.
fn accumulator(row: usize, column: usize) -> (usize, usize) {
    (2 * (row / 8) + column % 2, 4 * (row % 8) + column / 2)
}
