//! Token and position embedding.

use super::{check, outputs::Outputs, rows};
use crate::device::{Arena, IntBuffer, Real, Tensor, View};
use crate::error::{Error, Result};

/// `y = W_E[token] + W_pos[position]`, and the two parts on their own where asked. Position `t` of
/// sequence `b` is row `b * seq + t`.
#[derive(Clone, Debug)]
pub struct Args {
    /// `[batch * seq]` token ids, each below the rows of `w_e`: whoever fills the buffer has checked them.
    pub tokens: IntBuffer,
    /// Tokens of one sequence.
    pub seq: usize,
    /// `[vocabulary, d]`.
    pub w_e: Tensor,
    /// `[positions, d]`, at least `seq` positions.
    pub w_pos: Tensor,
    /// Output `[batch * seq, d]`: `W_E[token]`.
    pub token_out: Option<View>,
    /// Output `[batch * seq, d]`: `W_pos[position]`.
    pub pos_out: Option<View>,
    /// Output `[batch * seq, d]`.
    pub y: View,
}

impl Args {
    /// Whether the shapes agree.
    pub fn check(&self) -> Result<()> {
        let (op, n, d) = ("embed", self.tokens.len, self.w_e.cols);
        if self.seq == 0 || !n.is_multiple_of(self.seq) {
            return Err(Error::shape(op, format!("{n} tokens"), format!("whole sequences of {} tokens", self.seq)));
        }
        if self.w_pos.rows < self.seq {
            let found = format!("w_pos of {} positions", self.w_pos.rows);
            return Err(Error::shape(op, found, format!("at least {} positions", self.seq)));
        }
        check::tensor(op, "w_pos", &self.w_pos, self.w_pos.rows, d)?;
        check::view(op, "y", &self.y, n, d)?;
        self.token_out.iter().try_for_each(|v| check::view(op, "token_out", v, n, d))?;
        self.pos_out.iter().try_for_each(|v| check::view(op, "pos_out", v, n, d))
    }
}

/// Runs [`Args`].
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [Some(&a.y), a.token_out.as_ref(), a.pos_out.as_ref()].into_iter().flatten());
    let (d, w_e, w_pos) = (a.w_e.cols, a.w_e.slice::<T>(), a.w_pos.slice::<T>());
    for (i, &token) in m.int(a.tokens).iter().enumerate() {
        let token = &w_e[token as usize * d..][..d];
        let position = &w_pos[i % a.seq * d..][..d];
        rows::add(token, position, out.row(&a.y, i));
        if let Some(v) = &a.token_out {
            out.row(v, i).copy_from_slice(token);
        }
        if let Some(v) = &a.pos_out {
            out.row(v, i).copy_from_slice(position);
        }
    }
    out.put(m);
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, numbers, part, read};
    use super::*;
    use crate::device::DType;

    const TOKENS: [u32; 6] = [4, 0, 4, 2, 1, 3];

    #[test]
    fn rows_are_sums_of_the_two_tables() {
        let (seq, d) = (3, 5);
        let (w_e, w_pos) = (numbers(5 * d, 1), numbers(4 * d, 2));
        let mut f = Fixture::default();
        // The two parts are columns of one buffer.
        let parts = f.output(6, 2 * d);
        let a = Args {
            tokens: f.ints(&TOKENS),
            seq,
            w_e: Tensor::from_f64(DType::F64, 5, d, w_e.clone()),
            w_pos: Tensor::from_f64(DType::F64, 4, d, w_pos.clone()),
            token_out: Some(parts.columns(0, d)),
            pos_out: Some(parts.columns(d, d)),
            y: f.output(6, d),
        };
        a.check().unwrap();
        let mut m = f.arena::<f64>();
        cpu(&a, &mut m);
        let (y, token, position) = (read(&m, &a.y), part(&m, &parts.columns(0, d)), part(&m, &parts.columns(d, d)));
        read(&m, &parts);
        for i in 0..6 {
            for j in 0..d {
                let (e, p) = (w_e[TOKENS[i] as usize * d + j], w_pos[i % seq * d + j]);
                assert_eq!((y[i * d + j], token[i * d + j], position[i * d + j]), (e + p, e, p));
            }
        }
        let mut m = f.arena::<f64>();
        cpu(&Args { token_out: None, pos_out: None, ..a.clone() }, &mut m);
        assert_eq!(read(&m, &a.y), y);
        assert!(part(&m, &parts).iter().all(|x| x.is_nan()));
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let mut f = Fixture::default();
        let table = |rows, cols| Tensor::from_f64(DType::F64, rows, cols, vec![0.0; rows * cols]);
        let (tokens, y) = (f.ints(&TOKENS), f.output(6, 2));
        let good = Args { tokens, seq: 3, w_e: table(5, 2), w_pos: table(3, 2), token_out: None, pos_out: None, y };
        assert!(good.check().is_ok());
        assert!(Args { seq: 4, w_pos: table(4, 2), ..good.clone() }.check().is_err());
        assert!(Args { seq: 0, ..good.clone() }.check().is_err());
        assert!(Args { w_pos: table(3, 4), ..good.clone() }.check().is_err());
        assert!(Args { pos_out: Some(f.output(6, 3)), ..good.clone() }.check().is_err());
        let error = Args { w_pos: table(2, 2), ..good }.check().unwrap_err();
        assert_eq!(error.to_string(), "operation embed: found w_pos of 2 positions; expected at least 3 positions");
    }
}
