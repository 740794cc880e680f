//! The buffers an operation writes, taken out of the arena while it runs. Several outputs may be
//! views of one buffer, say the columns of a row `(v, r)`.

use crate::device::{Arena, Buffer, Real, View};

/// Output buffers, each taken once.
pub(super) struct Outputs<T>(Vec<(Buffer, Vec<T>)>);

impl<T: Real> Outputs<T> {
    pub fn take<'a>(m: &mut Arena<T>, views: impl IntoIterator<Item = &'a View>) -> Self {
        let mut taken: Vec<(Buffer, Vec<T>)> = Vec::new();
        for v in views {
            if taken.iter().all(|(b, _)| *b != v.buffer) {
                taken.push((v.buffer, m.take(v.buffer)));
            }
        }
        Self(taken)
    }
    /// The elements of the buffer behind one of the views that were taken.
    pub fn of(&mut self, v: &View) -> &mut [T] {
        let taken = self.0.iter_mut().find(|(b, _)| *b == v.buffer);
        &mut taken.expect("the view is one of those taken").1
    }
    /// Row `i` of one of the views that were taken.
    pub fn row(&mut self, v: &View, i: usize) -> &mut [T] {
        &mut self.of(v)[v.range(i)]
    }
    pub fn put(self, m: &mut Arena<T>) {
        for (b, data) in self.0 {
            m.put(b, data);
        }
    }
}
