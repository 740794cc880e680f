//! Memory that operations take on a CPU thread beside a program's buffers, so that plans can count it.

use super::{Launch, linear, linear_panels, sdpa};
use crate::device::{DType, Program};

/// The most bytes that a launch of `program` takes beside its buffers, on each thread that runs it: parts
/// of weights, tiles of attention scores, rows of logits. What is a row or two of an
/// activation is not counted.
pub fn bytes(program: &Program<Launch>) -> u64 {
    program.launches.iter().map(|l| of_launch(l, program.dtype)).max().unwrap_or(0)
}

fn of_launch(l: &Launch, dtype: DType) -> u64 {
    let size = dtype.bytes();
    let bytes = match l {
        Launch::Repeat { launches, .. } => return launches.iter().map(|l| of_launch(l, dtype)).max().unwrap_or(0),
        Launch::Linear(a) => weights(a, dtype),
        Launch::Loss(a) => a.logits.cols * size,
        Launch::Sdpa(a) => sdpa::TILE * a.primal.packing.rows() * size,
        Launch::SdpaTangent(sdpa::Tangent { primal, .. }) | Launch::SdpaCotangent(sdpa::Cotangent { primal, .. }) => {
            tiles(&primal.shape) * primal.packing.rows() * size
        }
        _ => 0,
    };
    bytes as u64
}

/// Numbers a key: the pattern, the derivatives of capped scores, and scores.
fn tiles(s: &sdpa::Shape) -> usize {
    sdpa::TILE * if s.softcap.is_some() { 3 } else { 2 }
}

/// What of a weight is converted, and what a product copies of it.
fn weights(a: &linear::Args, dtype: DType) -> usize {
    let w = &a.w.tensor;
    let (k, m) = if a.transpose { (a.w.cols, a.w.rows) } else { (a.w.rows, a.w.cols) };
    let as_it_lies = match dtype {
        DType::F32 => w.try_slice::<f32>().is_some(),
        DType::F64 => w.try_slice::<f64>().is_some(),
    };
    match as_it_lies {
        true => linear_panels::packed_bytes(k, m, dtype.bytes()),
        false => linear_panels::bytes(k, m, dtype.bytes(), a.x.rows == 1),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::device::{Builder, Elements, MappedFile, Stored, Tensor};
    use crate::ops::linear::Matrix;

    #[test]
    fn products_count_what_they_convert_and_copy() {
        let (k, m) = (700, 900);
        let file = MappedFile::from_static(Path::new("w"), vec![0u8; 4 * k * m].leak());
        for (stored, converted) in [(Stored::BF16, true), (Stored::F32, false)] {
            let w = Tensor::mapped(DType::F32, k, m, Elements::new(&file, 0, k * m, stored));
            let mut b = Builder::new(DType::F32);
            let (x, y) = (b.matrix(5, k), b.matrix(5, m));
            b.push(Launch::Linear(linear::Args::new(x, Matrix::whole(&w), y)));
            let bytes = bytes(&b.finish());
            // Of 700 rows a panel has 300 columns; a product copies 512 of the rows.
            let expected = if converted { (700 + 512) * 300 * 4 } else { 512 * 900 * 4 };
            assert_eq!(bytes, expected, "{stored:?}");
        }
    }
}
