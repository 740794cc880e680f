//! What one launch of a WGSL kernel binds beside its parameters: the storage of bindings 1, 2, .. in the order of its text.
//!
//! WebGPU refuses a launch that binds a buffer twice where one of the two is written. So a buffer that is written is bound
//! once: views that lie in one buffer share a binding ([`Storage::write_all`], [`Storage::write_in_place`]), and the
//! kernel's text has a configuration for each way in which its operands may lie together. A launcher that binds them
//! otherwise gets an error from [`Storage::finish`].

use std::ops::Range;

use super::wgpu::WgpuPlace;
use crate::device::wgpu::{Binding, WgpuBuffer};
use crate::device::{IntBuffer, Stored, Tensor, View};
use crate::error::{Error, Result};

/// The bindings so far.
#[derive(Debug)]
pub(in crate::ops) struct Storage<'a> {
    place: &'a WgpuPlace<'a>,
    bound: Vec<Bound>,
}

#[derive(Debug)]
struct Bound {
    binding: Binding,
    /// `None` for what stands in for an operand that is absent.
    buffer: Option<WgpuBuffer>,
    written: bool,
}

/// The elements of a buffer from the first to the last that views in it have.
fn hull<'a>(views: impl IntoIterator<Item = &'a View>) -> Range<usize> {
    let spans = views.into_iter().filter(|v| v.rows > 0 && v.cols > 0).map(|v| v.offset..v.range(v.rows - 1).end);
    spans.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..1)
}

impl<'a> Storage<'a> {
    pub(super) fn new(place: &'a WgpuPlace<'a>) -> Self {
        Self { place, bound: Vec::new() }
    }
    fn bind(&mut self, buffer: &WgpuBuffer, elements: Range<usize>, written: bool) -> Result<u32> {
        let (binding, first) = self.place.device().bind(buffer, elements)?;
        self.bound.push(Bound { binding, buffer: Some(buffer.clone()), written });
        Ok(first)
    }
    /// Binds an input; the place of its first element in the binding.
    pub fn read(&mut self, v: &View) -> Result<u32> {
        self.bind(self.place.view(v).buffer, hull([v]), false)
    }
    /// [`Storage::read`], or what stands in for an input that is absent.
    pub fn read_if(&mut self, v: Option<&View>) -> Result<u32> {
        match v {
            Some(v) => self.read(v),
            None => Ok(self.absent(false)),
        }
    }
    /// Binds an output, or what is added to; the place of its first element in the binding.
    pub fn write(&mut self, v: &View) -> Result<u32> {
        self.bind(self.place.view(v).buffer, hull([v]), true)
    }
    /// [`Storage::write`], or what stands in for an output that is absent.
    pub fn write_if(&mut self, v: Option<&View>) -> Result<u32> {
        match v {
            Some(v) => self.write(v),
            None => Ok(self.absent(true)),
        }
    }
    /// Binds outputs of which several may lie in one buffer, each buffer once: the place of each one's first element in its
    /// binding. [`together`] says which of them share theirs.
    pub fn write_all<const N: usize>(&mut self, views: [&View; N]) -> Result<[u32; N]> {
        let mut places = [0; N];
        for (i, v) in views.iter().enumerate() {
            if views[..i].iter().any(|w| w.buffer == v.buffer) {
                continue;
            }
            let shared: Vec<usize> = (i..N).filter(|&j| views[j].buffer == v.buffer).collect();
            let span = hull(shared.iter().map(|&j| views[j]));
            let first = self.bind(self.place.view(v).buffer, span.clone(), true)?;
            for j in shared {
                let inside = views[j].offset.saturating_sub(span.start);
                places[j] = first + u32::try_from(inside).unwrap_or(u32::MAX);
            }
        }
        Ok(places)
    }
    /// Binds an input and an output that is the input itself, once, or in another buffer: the places of both.
    pub fn write_in_place(&mut self, x: &View, y: &View) -> Result<[u32; 2]> {
        if x.buffer == y.buffer {
            return self.write_all([x, y]);
        }
        Ok([self.read(x)?, self.write(y)?])
    }
    /// Binds a buffer of u32 as an input, whose place is given.
    pub fn ints(&mut self, b: IntBuffer) -> Result<u32> {
        self.bind(self.place.ints(b), 0..b.len.max(1), false)
    }
    /// [`Storage::ints`], or what stands in for an input that is absent.
    pub fn ints_if(&mut self, b: Option<IntBuffer>) -> Result<u32> {
        match b {
            Some(b) => self.ints(b),
            None => Ok(self.absent(false)),
        }
    }
    /// Binds a buffer of u32 that is written.
    pub fn write_ints(&mut self, b: IntBuffer) -> Result<u32> {
        self.bind(self.place.ints(b), 0..b.len.max(1), true)
    }
    /// Binds all of a weight, which begins at element 0 of the binding.
    pub fn weight(&mut self, t: &Tensor) -> Result<()> {
        let buffer = self.place.tensor(t)?;
        self.bind(&buffer, 0..(t.rows * t.cols).max(1), false)?;
        Ok(())
    }
    /// [`Storage::weight`], or what stands in for one that is absent.
    pub fn weight_if(&mut self, t: Option<&Tensor>) -> Result<()> {
        match t {
            Some(t) => self.weight(t),
            None => {
                self.absent(false);
                Ok(())
            }
        }
    }
    /// Binds rows of a weight as it lies on the device, or what stands in for one that is absent: the place of the first
    /// row's first element, and what the elements are.
    pub fn weight_rows(&mut self, t: Option<&Tensor>, rows: Range<usize>) -> Result<(u32, Stored)> {
        let Some(t) = t else { return Ok((self.absent(false), Stored::F32)) };
        let (buffer, stored) = self.place.weight(t)?;
        let elements = rows.start * t.cols..rows.end * t.cols;
        let (binding, first) = self.place.device().bind_stored(&buffer, elements, stored)?;
        self.bound.push(Bound { binding, buffer: Some(buffer), written: false });
        Ok((first, stored))
    }
    /// Binds the elements `range` of a table or a scratch buffer as an input: the place of the first.
    pub fn read_buffer(&mut self, buffer: &WgpuBuffer, range: Range<usize>) -> Result<u32> {
        self.bind(buffer, range, false)
    }
    /// Binds the elements `range` of a scratch buffer as an output: the place of the first.
    pub fn write_buffer(&mut self, buffer: &WgpuBuffer, range: Range<usize>) -> Result<u32> {
        self.bind(buffer, range, true)
    }
    fn absent(&mut self, written: bool) -> u32 {
        let device = self.place.device();
        let binding = if written { device.spare() } else { device.spare_input() };
        self.bound.push(Bound { binding, buffer: None, written });
        0
    }
    /// The bindings, none of them written and bound a second time.
    pub(super) fn finish(self, kernel: &str) -> Result<Vec<Binding>> {
        let twice = self.bound.iter().enumerate().find_map(|(i, a)| {
            let buffer = a.buffer.as_ref()?;
            let other = self.bound[i + 1..].iter().position(|b| (a.written || b.written) && b.binding.is_of(buffer))?;
            Some((i + 1, i + other + 2))
        });
        if let Some((first, second)) = twice {
            return Err(Error::Kernel {
                name: kernel.into(),
                found: format!("bindings {first} and {second} in one buffer, one of them written"),
                expected: "outputs in buffers of their own".into(),
            });
        }
        Ok(self.bound.into_iter().map(|b| b.binding).collect())
    }
}

/// Which binding of [`Storage::write_all`] each of the views has: `[0, 1]` where two lie apart, `[0, 0]` in one buffer.
pub(in crate::ops) fn together<const N: usize>(views: [&View; N]) -> [usize; N] {
    let mut found = [0; N];
    let mut next = 0;
    for i in 0..N {
        found[i] = match (0..i).find(|&j| views[j].buffer == views[i].buffer) {
            Some(j) => found[j],
            None => {
                next += 1;
                next - 1
            }
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Builder, DType};

    #[test]
    fn views_of_one_buffer_have_one_binding_from_the_first_element_to_the_last() {
        let mut b = Builder::<()>::new(DType::F32);
        let (rows, other) = (b.matrix(4, 10), b.matrix(2, 3));
        let (left, right) = (rows.columns(1, 3), rows.columns(6, 2).slice_rows(1, 2));
        assert_eq!(hull([&left]), 1..34);
        assert_eq!(hull([&right]), 16..28);
        assert_eq!(hull([&left, &right]), 1..34);
        assert_eq!(hull([&other.slice_rows(0, 0)]), 0..1);
        assert_eq!(together([&left, &other, &right]), [0, 1, 0]);
        assert_eq!(together([&other, &left, &right]), [0, 1, 1]);
        assert_eq!(together([&left, &left]), [0, 0]);
    }
}
