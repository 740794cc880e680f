//! Reading safetensors, one file or the shards that an index names. A tensor is copied out as f64 or
//! i64, or left where it lies in the memory map.

mod header;
mod index;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use sha2::{Digest, Sha256};

use crate::device::{Elements, MappedFile, Stored};
use crate::error::{Error, Result};

/// The weights of a model folder as one file.
const SINGLE: &str = "model.safetensors";
/// The list of the shards of a model folder.
const INDEX: &str = "model.safetensors.index.json";

/// Open safetensors whose headers have been checked: one file, or an index with its shards.
#[derive(Debug)]
pub struct Checkpoint {
    /// The file, or the index and the shards by name.
    files: Vec<Arc<MappedFile>>,
    tensors: BTreeMap<String, Place>,
}

/// Where a tensor lies.
#[derive(Debug)]
struct Place {
    /// Number of its file.
    file: usize,
    /// Where in the file the tensors begin.
    start: usize,
    info: TensorInfo,
}

impl Checkpoint {
    /// Maps a file into memory. Fails if it is missing, no regular file, or no valid safetensors.
    pub fn open(path: &Path) -> Result<Self> {
        Self::single(MappedFile::open(path, "a safetensors file")?)
    }
    /// Opens the weights of a model folder: `model.safetensors` if there is one, else
    /// `model.safetensors.index.json` with the shards it names, which lie beside it. Fails as
    /// [`Checkpoint::open`] does, and on an index that does not list exactly what its shards hold.
    pub fn open_folder(folder: &Path) -> Result<Self> {
        let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
        match single.exists() || !index.exists() {
            true => Self::single(MappedFile::open(&single, &format!("a safetensors file, or {INDEX} and its shards"))?),
            false => index::open(&index),
        }
    }
    /// Opens embedded bytes; `name` stands for the path in errors.
    pub fn from_static(name: &Path, bytes: &'static [u8]) -> Result<Self> {
        Self::single(MappedFile::from_static(name, bytes))
    }
    fn single(file: Arc<MappedFile>) -> Result<Self> {
        let (start, tensors) = header::header(file.path(), file.bytes())?;
        let tensors = tensors.into_iter().map(|(name, info)| (name, Place { file: 0, start, info })).collect();
        Ok(Self { files: vec![file], tensors })
    }
    /// The path of the file or of the index, or the name that stands for it.
    pub fn path(&self) -> &Path {
        self.files[0].path()
    }
    /// The path of the file that holds a tensor; [`Checkpoint::path`] if there is no such tensor.
    pub fn path_of(&self, name: &str) -> &Path {
        self.files[self.tensors.get(name).map_or(0, |t| t.file)].path()
    }
    /// All tensor names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
    /// The shape of a tensor; `None` if there is no tensor of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|t| t.info.shape.as_slice())
    }
    /// The whole of the file that [`Checkpoint::path`] names.
    pub fn bytes(&self) -> &[u8] {
        self.files[0].bytes()
    }
    /// SHA-256, in hexadecimal, of the whole file; with shards, of the index followed by the shards in
    /// the order of their file names.
    pub fn sha256(&self) -> String {
        self.sha256_after(&[])
    }
    /// As [`Checkpoint::sha256`], of `before` and what follows it.
    pub fn sha256_after(&self, before: &[u8]) -> String {
        let mut hash = Sha256::new_with_prefix(before);
        self.files.iter().for_each(|file| hash.update(file.bytes()));
        format!("{:x}", hash.finalize())
    }
    /// A floating point tensor of the given shape, row-major. Fails if it is missing, of another
    /// shape, not f16, bf16, f32 or f64, or holds a value that is not finite.
    pub fn tensor_f64(&self, name: &str, want_shape: &[usize]) -> Result<Vec<f64>> {
        self.check_shape(name, want_shape, "")?;
        self.part_f64(name, 0..want_shape.iter().product())
    }
    /// The elements `range`, counted row-major, of a floating point tensor that has them. Fails as
    /// [`Checkpoint::tensor_f64`] does, on the values of the range alone.
    pub fn part_f64(&self, name: &str, range: Range<usize>) -> Result<Vec<f64>> {
        let elements = self.elements(name)?;
        let mut values = vec![0f64; range.len()];
        elements.read_into(range.start, &mut values);
        match values.iter().position(|x| !x.is_finite()) {
            None => Ok(values),
            Some(i) => Err(self.unfit(name, values[i], range.start + i, "finite values")),
        }
    }
    /// The elements of a floating point tensor where they lie, unchecked. Fails if it is missing or not
    /// f16, bf16, f32 or f64.
    pub fn elements(&self, name: &str) -> Result<Elements> {
        let place = self.place(name, "a floating point tensor")?;
        let stored = match place.info.dtype {
            Dtype::F64 => Stored::F64,
            Dtype::F32 => Stored::F32,
            Dtype::F16 => Stored::F16,
            Dtype::BF16 => Stored::BF16,
            other => return Err(self.wrong(name, format!("dtype {other:?}"), "F64, F32, F16 or BF16")),
        };
        let (from, to) = place.info.data_offsets;
        Ok(Elements::new(&self.files[place.file], place.start + from, (to - from) / stored.bytes(), stored))
    }
    /// Fails if a tensor is missing or has another shape; `source` tells in errors who calls for it.
    pub(super) fn check_shape(&self, name: &str, want_shape: &[usize], source: &str) -> Result<()> {
        let found = &self.place(name, &format!("a tensor of shape {want_shape:?}"))?.info.shape;
        match found == want_shape {
            true => Ok(()),
            false => Err(self.wrong(name, format!("shape {found:?}"), &format!("shape {want_shape:?}{source}"))),
        }
    }
    /// The error of a value, number `i` of a tensor, in the place of an `expected` one.
    pub(super) fn unfit(&self, name: &str, value: f64, i: usize, expected: &str) -> Error {
        self.wrong(name, format!("{value:?} at index {:?}", index(i, self.shape(name).unwrap_or_default())), expected)
    }
    fn wrong(&self, name: &str, found: String, expected: &str) -> Error {
        Error::tensor(self.path_of(name), name, found, expected)
    }
    /// An integer tensor of any shape, row-major; truth values are 0 and 1. Fails if it is missing, not
    /// of an integer dtype, or holds a u64 above the i64 range.
    pub fn tensor_i64(&self, name: &str) -> Result<Vec<i64>> {
        let place = self.place(name, "an integer tensor")?;
        let raw = self.raw(place);
        Ok(match place.info.dtype {
            Dtype::U8 | Dtype::BOOL => decode(raw, |x: u8| x.into()),
            Dtype::I8 => decode(raw, |x: i8| x.into()),
            Dtype::U16 => decode(raw, |x: u16| x.into()),
            Dtype::I16 => decode(raw, |x: i16| x.into()),
            Dtype::U32 => decode(raw, |x: u32| x.into()),
            Dtype::I32 => decode(raw, |x: i32| x.into()),
            Dtype::I64 => decode(raw, |x: i64| x),
            Dtype::U64 => decode(raw, |x: u64| i64::try_from(x))
                .into_iter()
                .enumerate()
                .map(|(i, x)| {
                    let found = || format!("a value above {} at index {:?}", i64::MAX, index(i, &place.info.shape));
                    x.map_err(|_| self.wrong(name, found(), "values of at most 63 bits"))
                })
                .collect::<Result<_>>()?,
            other => return Err(self.wrong(name, format!("dtype {other:?}"), "integers such as I32 or I64")),
        })
    }
    /// The tensor names as a phrase for errors, cut after a dozen.
    pub fn contents(&self) -> String {
        let shown: Vec<&str> = self.names().take(12).collect();
        match (shown.len(), self.tensors.len()) {
            (0, _) => "no tensors".into(),
            (n, all) if all > n => format!("{} and {} more", shown.join(", "), all - n),
            _ => shown.join(", "),
        }
    }
    fn place(&self, name: &str, expected: &str) -> Result<&Place> {
        let missing = || self.wrong(name, format!("not in the file, which holds {}", self.contents()), expected);
        self.tensors.get(name).ok_or_else(missing)
    }
    fn raw(&self, place: &Place) -> &[u8] {
        let (from, to) = place.info.data_offsets;
        &self.files[place.file].bytes()[place.start + from..place.start + to]
    }
}

/// Reads elements that need not be aligned.
fn decode<T: bytemuck::AnyBitPattern, U>(raw: &[u8], f: impl Fn(T) -> U) -> Vec<U> {
    raw.chunks_exact(size_of::<T>()).map(|c| f(bytemuck::pod_read_unaligned(c))).collect()
}

/// The multi-index of flat position `i` in a row-major tensor.
pub(crate) fn index(mut i: usize, shape: &[usize]) -> Vec<usize> {
    let mut out: Vec<usize> = shape.iter().rev().map(|&n| (i % n, i /= n).0).collect();
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::{Tensors, write};

    fn raw(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }
    fn open(bytes: &[u8]) -> Result<Checkpoint> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.safetensors");
        std::fs::write(&path, bytes).unwrap();
        Checkpoint::open(&path)
    }
    fn entry(dtype: &str, shape: &str, from: u64, to: u64) -> String {
        format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    }

    #[test]
    fn unaligned_tensors_are_read() {
        let mut header = entry("F64", "[2]", 0, 16);
        while header.len() % 8 != 3 {
            header.push(' ');
        }
        let data = [1.5f64.to_le_bytes(), (-2.0f64).to_le_bytes()].concat();
        let file = open(&raw(&header, &data)).unwrap();
        assert_eq!(file.tensor_f64("x", &[2]).unwrap(), [1.5, -2.0]);
        let m = file.tensor_f64("x", &[2, 1]).unwrap_err().to_string();
        assert!(m.contains("tensor x: shape [2]; expected shape [2, 1]"), "{m}");
        let m = file.tensor_f64("y", &[2]).unwrap_err().to_string();
        assert!(m.contains("tensor y: not in the file, which holds x"), "{m}");
    }

    #[test]
    fn integers_of_every_width() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i.safetensors");
        let tensors = Tensors::from([
            ("u8".into(), ("U8", vec![2], vec![255, 1])),
            ("i8".into(), ("I8", vec![2], vec![255, 1])),
            ("i16".into(), ("I16", vec![1], (-300i16).to_le_bytes().to_vec())),
            ("u16".into(), ("U16", vec![1], 65535u16.to_le_bytes().to_vec())),
            ("i32".into(), ("I32", vec![1, 1], (-70_000i32).to_le_bytes().to_vec())),
            ("u32".into(), ("U32", vec![1], u32::MAX.to_le_bytes().to_vec())),
            ("i64".into(), ("I64", vec![1], i64::MIN.to_le_bytes().to_vec())),
            ("u64".into(), ("U64", vec![1], 9u64.to_le_bytes().to_vec())),
            ("big".into(), ("U64", vec![1, 2], [5, u64::MAX].map(u64::to_le_bytes).concat())),
            ("real".into(), ("F32", vec![1], vec![0; 4])),
        ]);
        write(&path, &tensors);
        let f = Checkpoint::open(&path).unwrap();
        let get = |n: &str| f.tensor_i64(n).unwrap();
        assert_eq!((get("u8"), get("i8"), get("i16"), get("u16")), (vec![255, 1], vec![-1, 1], vec![-300], vec![65535]));
        assert_eq!(
            (get("i32"), get("u32"), get("i64"), get("u64")),
            (vec![-70_000], vec![4_294_967_295], vec![i64::MIN], vec![9])
        );
        assert!(f.tensor_i64("big").unwrap_err().to_string().contains("tensor big: a value above"));
        assert!(f.tensor_i64("big").unwrap_err().to_string().contains("[0, 1]"));
        assert!(f.tensor_i64("real").unwrap_err().to_string().contains("tensor real: dtype F32"));
        assert!(f.tensor_f64("i64", &[1]).unwrap_err().to_string().contains("tensor i64: dtype I64"));
    }

    #[test]
    fn embedded_bytes_read_like_a_file() {
        static EMPTY: &[u8] = b"\x02\0\0\0\0\0\0\0{}";
        let f = Checkpoint::from_static(Path::new("demo:none"), EMPTY).unwrap();
        assert_eq!((f.names().count(), f.contents().as_str()), (0, "no tensors"));
        assert_eq!(f.sha256(), open(EMPTY).unwrap().sha256());
        assert_eq!(
            Checkpoint::from_static(Path::new("demo:none"), b"x").unwrap_err().to_string().split(':').nth(1),
            Some("none")
        );
    }

    #[test]
    fn flat_positions_become_indices() {
        assert_eq!(index(0, &[2, 3, 4]), [0, 0, 0]);
        assert_eq!(index(23, &[2, 3, 4]), [1, 2, 3]);
        assert_eq!(index(17, &[2, 3, 4]), [1, 1, 1]);
        assert!(index(0, &[]).is_empty());
    }
}
