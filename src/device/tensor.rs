//! Immutable matrices: weights and the small matrices a pass is given, in memory of their own or in a
//! mapped file at the dtype of the file.

use std::borrow::Cow;
use std::sync::Arc;

use super::convert;
use super::mapped::Elements;
use super::real::{DType, Real, Stored};

/// Elements that are looked at together.
const PART: usize = 1 << 16;

/// The elements of a tensor.
#[derive(Clone, Debug)]
enum Storage {
    F32(Arc<[f32]>),
    F64(Arc<[f64]>),
    /// Of programs that compute in `dtype`.
    Mapped {
        dtype: DType,
        elements: Arc<Elements>,
    },
}

/// A cheap, typed handle to an immutable row-major matrix `[rows, cols]`. A vector is a matrix of one
/// row.
#[derive(Clone)]
pub struct Tensor {
    pub rows: usize,
    pub cols: usize,
    storage: Storage,
}

impl std::fmt::Debug for Tensor {
    /// Shape and dtype: the elements would fill the terminal.
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let kind = if self.is_mapped() { "mapped " } else { "" };
        write!(f, "Tensor [{}, {}] {kind}{}", self.rows, self.cols, self.stored().name())
    }
}

impl Tensor {
    /// Rounds `data` (row-major, `rows * cols` elements) to `dtype`.
    pub fn from_f64(dtype: DType, rows: usize, cols: usize, data: Vec<f64>) -> Self {
        assert_eq!(data.len(), rows * cols, "tensor [{rows}, {cols}] from {} elements", data.len());
        let storage = match dtype {
            DType::F32 => Storage::F32(data.iter().map(|&x| x as f32).collect()),
            DType::F64 => Storage::F64(data.into()),
        };
        Self { rows, cols, storage }
    }
    /// A vector as a matrix of one row.
    pub fn row(dtype: DType, data: Vec<f64>) -> Self {
        Self::from_f64(dtype, 1, data.len(), data)
    }
    /// A matrix of programs that compute in `dtype`, its elements left in their file: `rows * cols` of
    /// them, row-major, each finite in `dtype` ([`Elements::find_unfit`]). Only operations that say so
    /// read such a matrix. For one matrix in several places clone the handle: devices tell tensors
    /// apart by their handles and upload two for two calls.
    pub fn mapped(dtype: DType, rows: usize, cols: usize, elements: Elements) -> Self {
        assert_eq!(elements.len(), rows * cols, "tensor [{rows}, {cols}] from {} elements", elements.len());
        Self { rows, cols, storage: Storage::Mapped { dtype, elements: elements.into() } }
    }
    /// The dtype of the programs that read it.
    pub fn dtype(&self) -> DType {
        match self.storage {
            Storage::F32(_) => DType::F32,
            Storage::F64(_) => DType::F64,
            Storage::Mapped { dtype, .. } => dtype,
        }
    }
    /// The dtype that its elements are stored in.
    pub fn stored(&self) -> Stored {
        match &self.storage {
            Storage::F32(_) => Stored::F32,
            Storage::F64(_) => Stored::F64,
            Storage::Mapped { elements, .. } => elements.stored(),
        }
    }
    /// Whether its elements lie in a mapped file.
    pub fn is_mapped(&self) -> bool {
        matches!(self.storage, Storage::Mapped { .. })
    }
    /// Bytes of memory of its own: none where the elements lie in a mapped file.
    pub fn bytes(&self) -> u64 {
        if self.is_mapped() { 0 } else { self.raw_bytes() }
    }
    /// Bytes of [`Tensor::raw`].
    pub fn raw_bytes(&self) -> u64 {
        (self.rows * self.cols * self.dtype().bytes()) as u64
    }
    /// Whether there is another handle to the same elements.
    pub fn is_shared(&self) -> bool {
        match &self.storage {
            Storage::F32(x) => Arc::strong_count(x) > 1,
            Storage::F64(x) => Arc::strong_count(x) > 1,
            Storage::Mapped { elements, .. } => Arc::strong_count(elements) > 1,
        }
    }
    /// A number that no tensor has that is no clone of this one, as long as there is this handle.
    pub fn key(&self) -> usize {
        match &self.storage {
            Storage::F32(x) => Arc::as_ptr(x).cast::<u8>() as usize,
            Storage::F64(x) => Arc::as_ptr(x).cast::<u8>() as usize,
            Storage::Mapped { elements, .. } => Arc::as_ptr(elements) as usize,
        }
    }
    /// The bytes of the elements in the dtype of the programs, row-major; a copy unless they are stored so.
    pub fn raw(&self) -> Cow<'_, [u8]> {
        match self.dtype() {
            DType::F32 => self.raw_as::<f32>(),
            DType::F64 => self.raw_as::<f64>(),
        }
    }
    fn raw_as<T: Real>(&self) -> Cow<'_, [u8]> {
        match self.try_slice::<T>() {
            Some(x) => Cow::Borrowed(bytemuck::cast_slice(x)),
            None => Cow::Owned(bytemuck::pod_collect_to_vec(&self.to_vec::<T>())),
        }
    }
    /// The bytes of the elements as bf16 or f16, row-major, of a matrix of programs in f32 that loses nothing by it; `None`
    /// for others. A copy unless they are stored so.
    pub fn halves(&self) -> Option<(Stored, Cow<'_, [u8]>)> {
        if self.dtype() != DType::F32 {
            return None;
        }
        match &self.storage {
            Storage::Mapped { elements, .. } if elements.stored().bytes() == 2 && !elements.is_rounded() => {
                Some((elements.stored(), Cow::Borrowed(elements.bytes())))
            }
            _ => {
                let parts = (0..self.rows * self.cols).step_by(PART).map(|first| {
                    let mut part = vec![0.0f32; PART.min(self.rows * self.cols - first)];
                    self.read_into(first, &mut part);
                    part
                });
                let (stored, bytes) = convert::halves(parts)?;
                Some((stored, Cow::Owned(bytes)))
            }
        }
    }
    /// The elements as f64, row-major.
    pub fn to_f64(&self) -> Vec<f64> {
        self.to_vec()
    }
    fn to_vec<T: Real>(&self) -> Vec<T> {
        let mut out = vec![T::ZERO; self.rows * self.cols];
        self.read_into(0, &mut out);
        out
    }
    /// The elements in the program's dtype. Programs are built from tensors of one dtype, and mapped
    /// ones are given to no operation that reads slices, so a mismatch is a bug of the builder and panics.
    pub fn slice<T: Real>(&self) -> &[T] {
        self.try_slice().unwrap_or_else(|| {
            let kind = if self.is_mapped() { "mapped " } else { "" };
            panic!("tensor is {kind}{}, program is {}", self.stored().name(), T::DTYPE.name())
        })
    }
    /// The elements where they lie; `None` if they are not stored as `T`, or mapped and not aligned or
    /// to be rounded.
    pub fn try_slice<T: Real>(&self) -> Option<&[T]> {
        match &self.storage {
            Storage::F32(x) => (T::DTYPE == DType::F32).then(|| bytemuck::cast_slice(x)),
            Storage::F64(x) => (T::DTYPE == DType::F64).then(|| bytemuck::cast_slice(x)),
            Storage::Mapped { elements, .. } => elements.try_slice(),
        }
    }
    /// Converts `out.len()` elements, counted row-major from `first` on, to `T`: exact where `T` is
    /// wider than they are stored, else to nearest. Panics beyond the last element.
    pub fn read_into<T: Real>(&self, first: usize, out: &mut [T]) {
        match &self.storage {
            Storage::F32(x) => each(&x[first..][..out.len()], out, T::of_f32),
            Storage::F64(x) => each(&x[first..][..out.len()], out, T::of),
            Storage::Mapped { elements, .. } => elements.read_into(first, out),
        }
    }
}

fn each<S: Copy, T>(x: &[S], y: &mut [T], f: impl Fn(S) -> T) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y = f(*x));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use half::{bf16, f16};

    use super::super::mapped::MappedFile;
    use super::*;

    /// 2^-24, the smallest f16.
    const TINY: f64 = 1.0 / 16_777_216.0;
    const VALUES: [f64; 9] = [0.0, -0.0, 1.0, -1.5, 3.140625, 2.0625, -6.103515625e-5, TINY, 61440.0];

    /// `x` in a file after `skip` bytes, stored as asked.
    fn elements(x: &[f64], stored: Stored, skip: usize) -> Elements {
        let mut bytes = vec![0xff; skip];
        for &x in x {
            match stored {
                Stored::F64 => bytes.extend(x.to_le_bytes()),
                Stored::F32 => bytes.extend((x as f32).to_le_bytes()),
                Stored::F16 => bytes.extend(f16::from_f64(x).to_le_bytes()),
                Stored::BF16 => bytes.extend(bf16::from_f64(x).to_le_bytes()),
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, bytes).unwrap();
        Elements::new(&MappedFile::open(&path, "numbers").unwrap(), skip, x.len(), stored)
    }
    fn bits(x: &[f64]) -> Vec<u64> {
        x.iter().map(|x| x.to_bits()).collect()
    }

    #[test]
    fn every_stored_dtype_reads_exactly_from_any_byte() {
        for stored in [Stored::F64, Stored::F32, Stored::F16, Stored::BF16] {
            for skip in [0, 1, 8] {
                // 1000 elements are several blocks of the conversion.
                let x: Vec<f64> = (0..1000).map(|i| VALUES[i % 9]).collect();
                let t = Tensor::mapped(DType::F64, 10, 100, elements(&x, stored, skip));
                assert_eq!(bits(&t.to_f64()), bits(&x), "{stored:?} from byte {skip}");
                let mut part = vec![7f32; 400];
                t.read_into(301, &mut part);
                assert_eq!(part, x[301..701].iter().map(|x| *x as f32).collect::<Vec<_>>());
                assert_eq!(bytemuck::pod_collect_to_vec::<u8, f64>(&t.raw()), x);
                assert_eq!((t.stored(), t.dtype(), t.bytes(), t.raw_bytes()), (stored, DType::F64, 0, 8000));
                assert_eq!(t.try_slice::<f64>().is_some(), stored == Stored::F64 && skip != 1);
                assert_eq!(t.try_slice::<f32>().is_some(), stored == Stored::F32 && skip != 1);
            }
        }
    }

    #[test]
    fn owned_elements_convert_too() {
        let t = Tensor::row(DType::F32, vec![0.1, -2.0, 3.0]);
        let mut wide = [0f64; 2];
        t.read_into(1, &mut wide);
        assert_eq!((wide, t.to_f64()[0], t.bytes(), t.stored()), ([-2.0, 3.0], f64::from(0.1f32), 12, Stored::F32));
        assert_eq!((t.try_slice::<f32>(), t.try_slice::<f64>()), (Some(&[0.1f32, -2.0, 3.0][..]), None));
        let mut narrow = [0f32; 1];
        Tensor::row(DType::F64, vec![0.1]).read_into(0, &mut narrow);
        assert_eq!(narrow, [0.1]);
    }

    #[test]
    fn rounding_to_bf16_goes_to_the_nearest_and_of_two_to_the_even() {
        let ulp = 2f64.powi(-7);
        // Ties go to the even neighbour; what lies beside a tie by less than an f32 can tell does not.
        let tie = 1.0 + ulp / 2.0;
        let above = tie + 2f64.powi(-50);
        let cases = [
            (tie, 1.0),
            (1.0 + 1.5 * ulp, 1.0 + 2.0 * ulp),
            (above, 1.0 + ulp),
            (-above, -1.0 - ulp),
            (tie - 2f64.powi(-50), 1.0),
            (1e-60, 0.0),
            (9.5e-41, 2f64.powi(-133)),
            (-3.0, -3.0),
        ];
        let (x, want): (Vec<f64>, Vec<f64>) = cases.into_iter().unzip();
        let t = Tensor::mapped(DType::F32, 1, x.len(), elements(&x, Stored::F64, 0).rounded());
        assert_eq!(t.to_f64(), want);
        let x: Vec<f64> = (0..4096).map(|i| f64::from(f32::from_bits((i * 1_048_583) & 0xff7f_ffff))).collect();
        for stored in [Stored::F64, Stored::F32] {
            let e = elements(&x, stored, 0).rounded();
            assert!(e.try_slice::<f32>().is_none() && e.try_slice::<f64>().is_none());
            let want: Vec<f64> = x.iter().map(|x| bf16::from_f32(*x as f32).to_f64()).collect();
            assert_eq!(bits(&Tensor::mapped(DType::F64, 64, 64, e).to_f64()), bits(&want));
        }
        let halves: Vec<f64> = (0..0x7c00).map(|i| f16::from_bits(i).to_f64()).collect();
        let want: Vec<f64> = halves.iter().map(|x| bf16::from_f32(*x as f32).to_f64()).collect();
        let e = elements(&halves, Stored::F16, 0).rounded();
        assert_eq!(Tensor::mapped(DType::F32, 0x7c, 256, e).to_f64(), want);
        assert!(!elements(&halves, Stored::BF16, 0).rounded().is_rounded());
    }

    #[test]
    fn the_first_number_that_does_not_fit_is_found() {
        let n = 700_001;
        let at = |stored, dtype, rounded: bool, place: usize, value: f64| {
            let mut x = vec![0.5; n];
            x[place] = value;
            let e = elements(&x, stored, 3);
            if rounded { e.rounded() } else { e }.find_unfit(dtype)
        };
        for stored in [Stored::F64, Stored::F32, Stored::F16, Stored::BF16] {
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                for place in [0, 524_288, n - 1] {
                    assert_eq!(at(stored, DType::F64, false, place, value), Some(place), "{stored:?} {value}");
                }
            }
            assert_eq!(at(stored, DType::F32, true, 5, 6e4), None);
        }
        let (tie, below) = (f64::from(f32::MAX) + 2f64.powi(103), (f64::from(f32::MAX) + 2f64.powi(103)).next_down());
        assert_eq!((tie as f32, below as f32), (f32::INFINITY, f32::MAX));
        assert_eq!(at(Stored::F64, DType::F32, false, 9, tie), Some(9));
        assert_eq!(at(Stored::F64, DType::F32, false, 9, -below), None);
        assert_eq!(at(Stored::F64, DType::F64, false, 9, 1e300), None);
        let tie = f64::from(f32::from_bits(0x7f7f_8000));
        for stored in [Stored::F64, Stored::F32] {
            assert_eq!(at(stored, DType::F64, true, 2, tie), Some(2));
            assert_eq!(at(stored, DType::F64, true, 2, f64::from((tie as f32).next_down())), None);
            assert_eq!(at(stored, DType::F64, false, 2, tie), None);
        }
    }

    #[test]
    fn handles_tell_tensors_apart() {
        static BYTES: [u8; 16] = [0; 16];
        let file = MappedFile::from_static(Path::new("x"), &BYTES);
        let of = |len| Tensor::mapped(DType::F32, 1, len, Elements::new(&file, 0, len, Stored::BF16));
        let (a, b) = (of(4), of(4));
        assert!(!a.is_shared() && a.key() != b.key() && a.key() != of(0).key());
        let c = a.clone();
        assert!(a.is_shared() && a.key() == c.key() && !b.is_shared());
        drop(c);
        assert!(!a.is_shared());
    }

    #[test]
    #[should_panic(expected = "tensor is mapped bf16, program is f32")]
    fn a_mapped_matrix_has_no_slice_of_another_dtype() {
        let _ = Tensor::mapped(DType::F32, 1, 1, elements(&[1.0], Stored::BF16, 0)).slice::<f32>();
    }
}
