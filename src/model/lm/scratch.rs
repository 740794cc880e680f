//! Buffers of a program that later launches use again: a deep model needs memory for one block.

use std::collections::HashMap;

use crate::device::{Buffer, Builder, View};
use crate::ops::Launch;

/// Hands out matrices, and takes those back that nobody reads any more.
#[derive(Debug, Default)]
pub struct Scratch {
    free: HashMap<usize, Vec<Buffer>>,
    /// Handed out since the last [`Scratch::release`].
    lent: Vec<Buffer>,
}

impl Scratch {
    /// A contiguous matrix, whose content is left over from before.
    pub fn matrix(&mut self, b: &mut Builder<Launch>, rows: usize, cols: usize) -> View {
        let len = rows.saturating_mul(cols);
        let buffer = self.free.get_mut(&len).and_then(Vec::pop).unwrap_or_else(|| b.matrix(rows, cols).buffer);
        self.lent.push(buffer);
        View { buffer, offset: 0, rows, cols, stride: cols }
    }
    /// Takes back what was handed out since the last call, but for the buffers of `kept`.
    pub fn release(&mut self, kept: &[View]) {
        for buffer in self.lent.drain(..) {
            if !kept.iter().any(|v| v.buffer == buffer) {
                self.free.entry(buffer.len).or_default().push(buffer);
            }
        }
    }
    /// Takes back one matrix that a former call had kept.
    pub fn give(&mut self, v: View) {
        self.lent.push(v.buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;

    #[test]
    fn released_buffers_are_used_again_and_kept_ones_are_not() {
        let mut b = Builder::new(DType::F32);
        let mut s = Scratch::default();
        let (x, y) = (s.matrix(&mut b, 2, 3), s.matrix(&mut b, 3, 2));
        assert_ne!(x.buffer, y.buffer);
        s.release(&[x]);
        let z = s.matrix(&mut b, 6, 1);
        assert_eq!((z.buffer, z.cols), (y.buffer, 1));
        assert!(![x.buffer, y.buffer].contains(&s.matrix(&mut b, 6, 1).buffer));
        s.release(&[]);
        s.give(x);
        s.release(&[]);
        let all: Vec<Buffer> = (0..3).map(|_| s.matrix(&mut b, 1, 6).buffer).collect();
        assert!(all.contains(&x.buffer));
        assert_eq!(b.finish().layout.slots().iter().map(|slot| slot.len).collect::<Vec<_>>(), [6, 6, 6]);
    }
}
