//! Scratch memory of a program of either dtype, filled from a data set and read as numbers or bytes.

use std::borrow::Cow;
use std::ops::Range;

use super::packed::Packed;
use super::stream::{Input, Pass};
use super::{DataSet, Samples};
use crate::device::{Arena, DType, Device, IntBuffer, Program, Real, View};
use crate::error::{Error, Result};
use crate::model::lm::forward::Inputs;
use crate::ops::offload::Mirror;
use crate::ops::{self, Launch, offload};

/// The arena of a program, with what mirrors it on a GPU.
#[derive(Debug)]
pub(crate) struct AnyArena {
    host: Host,
    mirror: Option<Mirror>,
}

#[derive(Debug)]
enum Host {
    F32(Arena<f32>),
    F64(Arena<f64>),
}

macro_rules! each {
    ($arena:expr, $a:ident => $body:expr) => {
        match $arena {
            Host::F32($a) => $body,
            Host::F64($a) => $body,
        }
    };
}

impl AnyArena {
    /// The arena in which `device` runs `program`.
    pub fn new(device: &Device, program: &Program<Launch>) -> Result<Self> {
        let host = match program.dtype {
            DType::F32 => Host::F32(Arena::new(&program.layout)),
            DType::F64 => Host::F64(Arena::new(&program.layout)),
        };
        Ok(Self { host, mirror: Mirror::new(device, program)? })
    }
    /// The same, with a note of where the operations of the program run.
    pub fn noted(device: &Device, program: &Program<Launch>) -> Result<Self> {
        offload::note(device, program);
        Self::new(device, program)
    }
    /// Puts the samples `range`, their labels and the index of the first where `pass` wants them.
    pub fn load(&mut self, pass: &Pass, data: &DataSet, range: Range<usize>) -> Result<()> {
        match (&data.samples, pass.input) {
            (Samples::Tokens { ids, t, .. }, Input::Tokens(b)) => {
                self.put(b, &ids[range.start * t..range.end * t]);
            }
            (Samples::Tokens { ids, t, .. }, Input::Packed(inputs)) => {
                let rows = range.start * t..range.end * t;
                let mut packed = Packed::new(ids[rows.clone()].chunks_exact(*t));
                if let Some(mask) = &data.mask {
                    packed.hide(&mask[rows]);
                }
                if inputs.queries.is_some() {
                    packed.read_last();
                }
                self.pack(&inputs, &packed)?;
            }
            (Samples::Inputs { x, width, .. }, Input::Values(v)) => self.fill(&v, &x[range.start * width..range.end * width]),
            _ => {
                let expected = "tokens for a transformer, inputs for an MLP";
                return Err(Error::shape("stream", "samples of another kind than the model's input", expected));
            }
        }
        if let (Some(b), Some(labels)) = (pass.labels, &data.labels) {
            let each_sample = labels.values.len() / data.samples.count();
            let values = &labels.values[range.start * each_sample..range.end * each_sample];
            self.put(b, values);
        }
        if let Some(b) = pass.first {
            self.put(b, &[range.start as u32]);
        }
        Ok(())
    }
    /// Puts packed sequences where `inputs` wants them. Fails if their number of rows is another.
    pub fn pack(&mut self, inputs: &Inputs, packed: &Packed) -> Result<()> {
        for (buffer, values) in packed.contents(inputs)? {
            self.put(buffer, values);
        }
        Ok(())
    }
    /// Puts numbers where a program reads them: as many as the buffer has.
    pub fn put(&mut self, b: IntBuffer, values: &[u32]) {
        each!(&mut self.host, a => a.int_mut(b)).copy_from_slice(values);
    }
    /// Brings what a device has computed of a buffer to the host.
    fn fetch(&mut self, slot: usize) -> Result<()> {
        match &mut self.mirror {
            None => Ok(()),
            Some(mirror) => each!(&mut self.host, a => mirror.fetch(slot, a)),
        }
    }
    /// Runs the program that the arena was made for.
    pub fn run(&mut self, program: &Program<Launch>) -> Result<()> {
        match &mut self.mirror {
            None => each!(&mut self.host, a => ops::run_cpu(program, a)),
            Some(mirror) => each!(&mut self.host, a => mirror.run(program, a))?,
        }
        Ok(())
    }
    /// Rounds `x` into the buffer of `v`, which is the whole of it.
    pub fn fill(&mut self, v: &View, x: &[f64]) {
        each!(&mut self.host, a => a.real_mut(v.buffer).iter_mut().zip(x).for_each(|(y, x)| *y = Real::of(*x)))
    }
    /// The buffer of `v`.
    pub fn read(&mut self, v: &View) -> Result<Vec<f64>> {
        self.fetch(v.buffer.slot())?;
        Ok(each!(&self.host, a => a.real(v.buffer).iter().map(|x| x.to_f64()).collect()))
    }
    /// The numbers of a buffer.
    pub fn ints(&mut self, b: IntBuffer) -> Result<&[u32]> {
        self.fetch(b.slot())?;
        Ok(each!(&self.host, a => a.int(b)))
    }
    /// The rows of `v` back to back.
    pub fn read_rows(&mut self, v: &View) -> Result<Vec<f64>> {
        self.fetch(v.buffer.slot())?;
        Ok(each!(&self.host, a => (0..v.rows).flat_map(|i| a.row(v, i)).map(|x| x.to_f64()).collect()))
    }
    /// Single elements of `v`, by row and column.
    pub fn read_elements(&mut self, v: &View, at: &[(usize, usize)]) -> Result<Vec<f64>> {
        self.fetch(v.buffer.slot())?;
        Ok(each!(&self.host, a => at.iter().map(|&(row, column)| a.row(v, row)[column].to_f64()).collect()))
    }
    /// Columns of some rows of `v`, row by row.
    pub fn read_part(&mut self, v: &View, rows: Range<usize>, columns: &[usize]) -> Result<Vec<f64>> {
        self.fetch(v.buffer.slot())?;
        Ok(each!(&self.host, a => rows.flat_map(|i| columns.iter().map(move |&j| a.row(v, i)[j].to_f64())).collect()))
    }
    /// Of `v`, the rows of `samples` equal parts, of each part those of `rows`; back to back.
    pub fn rows(&mut self, v: &View, samples: usize, rows: &[usize]) -> Result<Vec<u8>> {
        self.fetch(v.buffer.slot())?;
        let each_sample = v.rows / samples.max(1);
        let rows = (0..samples).flat_map(|s| rows.iter().map(move |r| s * each_sample + r));
        Ok(each!(&self.host, a => rows.flat_map(|i| bytemuck::cast_slice::<_, u8>(a.row(v, i))).copied().collect()))
    }
    /// The rows of `v` back to back, as they lie in memory.
    pub fn bytes(&mut self, v: &View) -> Result<Cow<'_, [u8]>> {
        self.fetch(v.buffer.slot())?;
        Ok(each!(&self.host, a => {
            if v.is_contiguous() {
                return Ok(Cow::Borrowed(bytemuck::cast_slice(&a.real(v.buffer)[v.offset..v.offset + v.rows * v.cols])));
            }
            let rows = (0..v.rows).flat_map(|i| bytemuck::cast_slice::<_, u8>(a.row(v, i)));
            Cow::Owned(rows.copied().collect())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Builder, Cpu};

    fn numbers<T: Real>(bytes: &[u8]) -> Vec<f64> {
        bytes.chunks_exact(size_of::<T>()).map(|c| bytemuck::pod_read_unaligned::<T>(c).to_f64()).collect()
    }

    #[test]
    fn bytes_follow_the_view() {
        for dtype in [DType::F32, DType::F64] {
            let mut b = Builder::<Launch>::new(dtype);
            let v = b.matrix(6, 4);
            let device = Device::Cpu(Cpu::new(1).unwrap());
            let mut arena = AnyArena::new(&device, &b.finish()).unwrap();
            arena.fill(&v, &(0..24).map(f64::from).collect::<Vec<_>>());
            let whole = arena.read(&v).unwrap();
            let mut read = |v: View| match dtype {
                DType::F32 => numbers::<f32>(&arena.bytes(&v).unwrap()),
                DType::F64 => numbers::<f64>(&arena.bytes(&v).unwrap()),
            };
            assert_eq!(read(v), whole);
            assert_eq!(read(v.slice_rows(1, 2)), [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
            assert_eq!(read(v.columns(1, 2).every(2, 3)), [9.0, 10.0, 21.0, 22.0]);
            assert_eq!(read(v.slice_rows(5, 1).columns(2, 2)), [22.0, 23.0]);
        }
    }
}
