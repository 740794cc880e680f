//! Scratch memory of a program: typed handles, and the CPU arena behind them.
//!
//! A program's buffers are laid out once, when it is built; nothing is allocated while it runs.
//! Handles are plain numbers, so that the same program can be bound to a GPU arena.

use faer::MatRef;

use super::real::Real;

/// A block of scratch memory of one program: `len` elements of the program's dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    slot: usize,
    pub len: usize,
}

impl Buffer {
    /// The place of the buffer in the layout.
    pub(crate) fn slot(self) -> usize {
        self.slot
    }
}

/// A block of `len` u32 values (token ids, labels, counters).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntBuffer {
    slot: usize,
    pub len: usize,
}

impl IntBuffer {
    /// The place of the buffer in the layout.
    pub(crate) fn slot(self) -> usize {
        self.slot
    }
}

/// A row-major matrix `[rows, cols]` inside a buffer; row `i` starts at `offset + i * stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub buffer: Buffer,
    pub offset: usize,
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
}

impl View {
    /// The columns `from .. from + cols`.
    pub fn columns(self, from: usize, cols: usize) -> Self {
        assert!(from + cols <= self.cols, "columns {from}..{} of {}", from + cols, self.cols);
        Self { offset: self.offset + from, cols, ..self }
    }
    /// The rows `from .. from + rows`.
    pub fn slice_rows(self, from: usize, rows: usize) -> Self {
        assert!(from + rows <= self.rows, "rows {from}..{} of {}", from + rows, self.rows);
        Self { offset: self.offset + from * self.stride, rows, ..self }
    }
    /// Every `step`-th row, beginning with row `from`: the last position of each sequence, say.
    pub fn every(self, from: usize, step: usize) -> Self {
        assert_eq!(self.rows % step, 0, "every {step}-th of {} rows", self.rows);
        Self { offset: self.offset + from * self.stride, rows: self.rows / step, stride: self.stride * step, ..self }
    }
    /// The range of row `i` inside the buffer.
    pub fn range(&self, i: usize) -> std::ops::Range<usize> {
        let start = self.offset + i * self.stride;
        start..start + self.cols
    }
    /// Whether the rows follow each other without gaps.
    pub fn is_contiguous(&self) -> bool {
        self.stride == self.cols || self.rows <= 1
    }
    /// A contiguous view under another shape of as many elements.
    pub fn reshape(self, rows: usize, cols: usize) -> Self {
        assert!(self.is_contiguous() && rows * cols == self.rows * self.cols, "reshape {self:?} to [{rows}, {cols}]");
        Self { rows, cols, stride: cols, ..self }
    }
}

/// The sizes of a program's buffers.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    slots: Vec<Slot>,
}

/// What lies in a slot of a layout: a buffer of numbers of the program's dtype, or of u32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub len: usize,
    pub ints: bool,
}

impl Slot {
    /// Bytes, for numbers of `element` bytes.
    pub fn bytes(self, element: usize) -> u64 {
        (self.len as u64).saturating_mul(if self.ints { 4 } else { element as u64 })
    }
}

impl Layout {
    pub fn buffer(&mut self, len: usize) -> Buffer {
        self.slots.push(Slot { len, ints: false });
        Buffer { slot: self.slots.len() - 1, len }
    }
    pub fn ints(&mut self, len: usize) -> IntBuffer {
        self.slots.push(Slot { len, ints: true });
        IntBuffer { slot: self.slots.len() - 1, len }
    }
    /// What lies in every slot.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }
    /// Bytes that an arena of this layout holds, for elements of `element` bytes.
    pub fn bytes(&self, element: usize) -> u64 {
        self.slots.iter().fold(0, |sum: u64, slot| sum.saturating_add(slot.bytes(element)))
    }
}

/// The CPU's arena: one allocation per buffer of the layout, made once and reused for every batch.
#[derive(Debug)]
pub struct Arena<T> {
    /// By slot; empty where the other kind lies.
    reals: Vec<Vec<T>>,
    ints: Vec<Vec<u32>>,
    /// Buffers handed out for writing since the flags were last cleared, by slot.
    written: Vec<bool>,
}

impl<T: Real> Arena<T> {
    /// Numbers start as NaN, so that a result that depends on memory nobody wrote is not finite.
    pub fn new(layout: &Layout) -> Self {
        let lens = |ints: bool| layout.slots.iter().map(move |slot| if slot.ints == ints { slot.len } else { 0 });
        Self {
            reals: lens(false).map(|n| vec![T::of(f64::NAN); n]).collect(),
            ints: lens(true).map(|n| vec![0; n]).collect(),
            written: vec![false; layout.slots.len()],
        }
    }
    /// Takes a buffer out, so that it can be written while others are read. An operation may not
    /// read a buffer it has taken: it would find it empty and panic.
    pub fn take(&mut self, b: Buffer) -> Vec<T> {
        let v = std::mem::take(&mut self.reals[b.slot]);
        assert_eq!(v.len(), b.len, "buffer {} is already taken", b.slot);
        self.written[b.slot] = true;
        v
    }
    /// Puts a taken buffer back.
    pub fn put(&mut self, b: Buffer, v: Vec<T>) {
        self.reals[b.slot] = v;
    }
    pub fn real(&self, b: Buffer) -> &[T] {
        let v = &self.reals[b.slot];
        assert_eq!(v.len(), b.len, "buffer {} is read while taken", b.slot);
        v
    }
    pub fn real_mut(&mut self, b: Buffer) -> &mut [T] {
        self.written[b.slot] = true;
        &mut self.reals[b.slot]
    }
    /// Whether each buffer was handed out for writing since its flag was last cleared, by slot.
    pub(crate) fn written(&mut self) -> &mut [bool] {
        &mut self.written
    }
    /// The bytes of a buffer of either kind.
    pub(crate) fn bytes(&self, slot: usize) -> &[u8] {
        match &self.ints[slot][..] {
            [] => bytemuck::cast_slice(&self.reals[slot]),
            ints => bytemuck::cast_slice(ints),
        }
    }
    /// The bytes of a buffer of either kind, to be filled with what a device has written: this is no writing
    /// of the host's.
    pub(crate) fn bytes_mut(&mut self, slot: usize) -> &mut [u8] {
        match &mut self.ints[slot][..] {
            [] => bytemuck::cast_slice_mut(&mut self.reals[slot]),
            ints => bytemuck::cast_slice_mut(ints),
        }
    }
    pub fn int(&self, b: IntBuffer) -> &[u32] {
        &self.ints[b.slot]
    }
    pub fn int_mut(&mut self, b: IntBuffer) -> &mut [u32] {
        self.ints_of(b)
    }
    /// As [`Arena::take`].
    pub fn take_ints(&mut self, b: IntBuffer) -> Vec<u32> {
        let v = std::mem::take(self.ints_of(b));
        assert_eq!(v.len(), b.len, "buffer {} is already taken", b.slot);
        v
    }
    /// Puts taken numbers back.
    pub fn put_ints(&mut self, b: IntBuffer, v: Vec<u32>) {
        *self.ints_of(b) = v;
    }
    fn ints_of(&mut self, b: IntBuffer) -> &mut Vec<u32> {
        self.written[b.slot] = true;
        &mut self.ints[b.slot]
    }
    /// Row `i` of a view.
    pub fn row(&self, v: &View, i: usize) -> &[T] {
        &self.real(v.buffer)[v.range(i)]
    }
    /// The whole view as a matrix.
    pub fn mat(&self, v: &View) -> MatRef<'_, T> {
        mat(self.real(v.buffer), v)
    }
}

/// A view of a slice as a matrix.
pub fn mat<'a, T>(data: &'a [T], v: &View) -> MatRef<'a, T> {
    if v.rows == 0 || v.cols == 0 {
        return MatRef::from_row_major_slice(&[], v.rows, v.cols);
    }
    let end = v.offset + (v.rows - 1) * v.stride + v.cols;
    MatRef::from_row_major_slice_with_stride(&data[v.offset..end], v.rows, v.cols, v.stride)
}

/// A view of a mutable slice as a matrix.
pub fn mat_mut<'a, T>(data: &'a mut [T], v: &View) -> faer::MatMut<'a, T> {
    if v.rows == 0 || v.cols == 0 {
        return faer::MatMut::from_row_major_slice_mut(&mut [], v.rows, v.cols);
    }
    let end = v.offset + (v.rows - 1) * v.stride + v.cols;
    // faer 0.24.4 takes the stride of its row-major constructor for that of columns.
    faer::MatMut::from_column_major_slice_with_stride_mut(&mut data[v.offset..end], v.cols, v.rows, v.stride).transpose_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutable_view_is_row_major_with_its_stride() {
        let view = View { buffer: Buffer { slot: 0, len: 14 }, offset: 1, rows: 3, cols: 2, stride: 5 };
        let mut data = vec![0.0; 14];
        let mut m = mat_mut(&mut data, &view);
        for i in 0..3 {
            for j in 0..2 {
                m[(i, j)] = (10 * i + j + 1) as f64;
            }
        }
        assert_eq!(data, [0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 11.0, 12.0, 0.0, 0.0, 0.0, 21.0, 22.0, 0.0]);
    }
}
