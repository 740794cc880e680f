//! Embedding of tokens at given positions, from tables at the dtype they are stored in.

use super::{check, outputs::Outputs};
use crate::device::{Arena, IntBuffer, Real, Tensor, View};
use crate::error::{Error, Result};

/// `y_i = scale * W_E[token_i] + W_pos[position_i] + row`, without the parts that are absent, added in
/// this order. The tables may lie in mapped files; `scale` is rounded to the program's dtype first.
#[derive(Clone, Debug)]
pub struct Args {
    /// `[n]` token ids, each below `V`: whoever fills the buffer has checked them.
    pub tokens: IntBuffer,
    /// `[n]`, each below `P`, likewise; not read without `w_pos`.
    pub positions: IntBuffer,
    /// `[V, d]`.
    pub w_e: Tensor,
    pub scale: Option<f64>,
    /// `[P, d]`.
    pub w_pos: Option<Tensor>,
    /// `[1, d]`: added to every row, such as the embedding of token type 0.
    pub row: Option<Tensor>,
    /// Output `[n, d]`.
    pub y: View,
}

impl Args {
    /// Whether the shapes agree.
    pub fn check(&self) -> Result<()> {
        let (op, n, d) = ("token embed", self.tokens.len, self.w_e.cols);
        if self.positions.len != n {
            return Err(Error::shape(op, format!("{} positions", self.positions.len), format!("{n} positions")));
        }
        self.w_pos.iter().try_for_each(|w| check::tensor(op, "w_pos", w, w.rows, d))?;
        self.row.iter().try_for_each(|row| check::tensor(op, "row", row, 1, d))?;
        check::view(op, "y", &self.y, n, d)
    }
}

/// Runs [`Args`].
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.y]);
    let d = a.w_e.cols;
    let (scale, row) = (a.scale.map(T::of), a.row.as_ref().map(Tensor::slice::<T>));
    let mut position = vec![T::ZERO; d];
    for (i, (&token, &at)) in m.int(a.tokens).iter().zip(m.int(a.positions)).enumerate() {
        let y = out.row(&a.y, i);
        a.w_e.read_into(token as usize * d, y);
        if let Some(scale) = scale {
            y.iter_mut().for_each(|y| *y *= scale);
        }
        if let Some(w_pos) = &a.w_pos {
            w_pos.read_into(at as usize * d, &mut position);
            add(y, &position);
        }
        if let Some(row) = row {
            add(y, row);
        }
    }
    out.put(m);
}

fn add<T: Real>(y: &mut [T], x: &[T]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += *x);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::fixture::{Fixture, numbers, read};
    use super::*;
    use crate::device::{DType, Elements, MappedFile, Stored};

    const TOKENS: [u32; 6] = [4, 0, 4, 2, 1, 3];
    const POSITIONS: [u32; 6] = [0, 1, 2, 0, 1, 3];

    fn run<T: Real>(f: &mut Fixture, a: &Args) -> Vec<f64> {
        a.check().unwrap();
        let mut m = f.arena::<T>();
        cpu(a, &mut m);
        read(&m, &a.y)
    }

    #[test]
    fn rows_are_the_sums_of_the_parts_there_are() {
        let d = 5;
        let (w_e, w_pos, row, scale) = (numbers(5 * d, 1), numbers(4 * d, 2), numbers(d, 3), 2.25);
        let table = |rows: usize, x: &[f64]| Tensor::from_f64(DType::F64, rows, d, x.to_vec());
        for parts in 0..8u32 {
            let [has_scale, has_position, has_row] = [0, 1, 2].map(|bit| parts >> bit & 1 == 1);
            let mut f = Fixture::default();
            let a = Args {
                tokens: f.ints(&TOKENS),
                positions: f.ints(&POSITIONS),
                w_e: table(5, &w_e),
                scale: has_scale.then_some(scale),
                w_pos: has_position.then(|| table(4, &w_pos)),
                row: has_row.then(|| table(1, &row)),
                y: f.output(6, d),
            };
            let y = run::<f64>(&mut f, &a);
            for i in 0..6 {
                for j in 0..d {
                    let token = w_e[TOKENS[i] as usize * d + j];
                    let mut want = if has_scale { scale * token } else { token };
                    want += if has_position { w_pos[POSITIONS[i] as usize * d + j] } else { 0.0 };
                    want += if has_row { row[j] } else { 0.0 };
                    assert_eq!(y[i * d + j], want, "parts {parts}, row {i}, column {j}");
                }
            }
        }
    }

    #[test]
    fn tables_in_files_give_the_bits_of_tables_converted_beforehand() {
        let (d, scale) = (7, 24f64.sqrt());
        let brain: Vec<u8> = numbers(5 * d, 1).iter().flat_map(|x| half::bf16::from_f64(*x).to_le_bytes()).collect();
        let halves: Vec<u8> = numbers(4 * d, 2).iter().flat_map(|x| half::f16::from_f64(*x).to_le_bytes()).collect();
        let mapped = |rows: usize, bytes: Vec<u8>, stored| {
            let file = MappedFile::from_static(Path::new("w"), bytes.leak());
            Tensor::mapped(DType::F32, rows, d, Elements::new(&file, 0, rows * d, stored))
        };
        let mut f = Fixture::default();
        let a = Args {
            tokens: f.ints(&TOKENS),
            positions: f.ints(&POSITIONS),
            w_e: mapped(5, brain, Stored::BF16),
            scale: Some(scale),
            w_pos: Some(mapped(4, halves, Stored::F16)),
            row: Some(Tensor::row(DType::F32, numbers(d, 3))),
            y: f.output(6, d),
        };
        let owned = |t: &Tensor| Tensor::from_f64(DType::F32, t.rows, t.cols, t.to_f64());
        let converted = Args { w_e: owned(&a.w_e), w_pos: a.w_pos.as_ref().map(owned), ..a.clone() };
        let got = run::<f32>(&mut f, &a);
        assert_eq!(got, run::<f32>(&mut f, &converted));
        let (e, p, row) = (a.w_e.to_f64(), a.w_pos.unwrap().to_f64(), a.row.unwrap().to_f64());
        let want = scale as f32 * e[4 * d] as f32 + p[0] as f32 + row[0] as f32;
        assert_eq!(got[0], f64::from(want));
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let mut f = Fixture::default();
        let table = |rows, cols| Tensor::from_f64(DType::F64, rows, cols, vec![0.0; rows * cols]);
        let (tokens, positions, y) = (f.ints(&TOKENS), f.ints(&POSITIONS), f.output(6, 2));
        let good = Args { tokens, positions, w_e: table(5, 2), scale: None, w_pos: Some(table(4, 2)), row: None, y };
        assert!(good.check().is_ok());
        assert!(Args { w_pos: Some(table(4, 3)), ..good.clone() }.check().is_err());
        assert!(Args { row: Some(table(2, 2)), ..good.clone() }.check().is_err());
        assert!(Args { y: f.output(5, 2), ..good.clone() }.check().is_err());
        let error = Args { positions: f.ints(&[0; 5]), ..good }.check().unwrap_err();
        assert_eq!(error.to_string(), "operation token embed: found 5 positions; expected 6 positions");
    }
}
