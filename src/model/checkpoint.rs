//! Reading safetensors: the header is checked in full before a tensor is touched, so that a broken
//! file gives one sentence and never a panic or a huge allocation.
//!
//! Layout: 8 bytes of little-endian header length, a JSON header of `dtype`, `shape` and
//! `data_offsets` per tensor, then the tensors back to back without gaps.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

#[cfg(target_endian = "big")]
compile_error!("safetensors are little-endian, and so are the reads of this module");

#[derive(Debug)]
enum Bytes {
    Map(Mmap),
    Static(&'static [u8]),
}

/// An open safetensors file whose header has been checked.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    bytes: Bytes,
    /// Where the tensors begin in the file.
    start: usize,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Checkpoint {
    /// Maps a file into memory. Fails if it is missing, no regular file, or no valid safetensors.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::file(path, "no such file", "a safetensors file"));
            }
            Err(e) => return Err(Error::io(path, "reading", e)),
            Ok(m) => m,
        };
        if !metadata.is_file() {
            return Err(Error::file(path, "no regular file", "a safetensors file"));
        }
        let file = File::open(path).map_err(|e| Error::io(path, "opening", e))?;
        // SAFETY: the map is private and read-only, and this process never writes to a file it has
        // opened as a checkpoint. The remaining condition, that no other process shortens or rewrites
        // the file meanwhile, is the user's: it holds for finished model and data files.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, "mapping into memory", e))?;
        Self::check(path.into(), Bytes::Map(map))
    }
    /// Opens embedded bytes; `name` stands for the path in errors.
    pub fn from_static(name: &Path, bytes: &'static [u8]) -> Result<Self> {
        Self::check(name.into(), Bytes::Static(bytes))
    }
    fn check(path: PathBuf, bytes: Bytes) -> Result<Self> {
        let (start, tensors) = header(&path, bytes.get())?;
        Ok(Self { path, bytes, start, tensors })
    }
    /// The path, or the name that stands for it.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// All tensor names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
    /// The shape of a tensor; `None` if there is no tensor of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|t| t.shape.as_slice())
    }
    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get()
    }
    /// SHA-256 of the whole file, in hexadecimal.
    pub fn sha256(&self) -> String {
        format!("{:x}", Sha256::digest(self.bytes()))
    }
    /// A floating point tensor of the given shape, row-major. Fails if it is missing, of another
    /// shape, not f16, bf16, f32 or f64, or holds a value that is not finite.
    pub fn tensor_f64(&self, name: &str, want_shape: &[usize]) -> Result<Vec<f64>> {
        let info = self.info(name, &format!("a tensor of shape {want_shape:?}"))?;
        if info.shape != want_shape {
            let (found, expected) = (format!("shape {:?}", info.shape), format!("shape {want_shape:?}"));
            return Err(Error::tensor(&self.path, name, found, expected));
        }
        self.part_f64(name, 0..want_shape.iter().product())
    }
    /// The elements `range`, counted row-major, of a floating point tensor that has them. Fails as
    /// [`Checkpoint::tensor_f64`] does, on the values of the range alone.
    pub fn part_f64(&self, name: &str, range: Range<usize>) -> Result<Vec<f64>> {
        let info = self.info(name, "a floating point tensor")?;
        let element = info.dtype.bitsize() / 8;
        let raw = &self.raw(info)[range.start * element..range.end * element];
        let values: Vec<f64> = match info.dtype {
            Dtype::F64 => decode(raw, |x: f64| x),
            Dtype::F32 => decode(raw, |x: f32| f64::from(x)),
            Dtype::F16 => decode(raw, half::f16::to_f64),
            Dtype::BF16 => decode(raw, half::bf16::to_f64),
            other => return Err(Error::tensor(&self.path, name, format!("dtype {other:?}"), "F64, F32, F16 or BF16")),
        };
        match values.iter().position(|x| !x.is_finite()) {
            None => Ok(values),
            Some(i) => {
                let found = format!("{:?} at index {:?}", values[i], index(range.start + i, &info.shape));
                Err(Error::tensor(&self.path, name, found, "finite values"))
            }
        }
    }
    /// An integer tensor of any shape, row-major; truth values are 0 and 1. Fails if it is missing, not
    /// of an integer dtype, or holds a u64 above the i64 range.
    pub fn tensor_i64(&self, name: &str) -> Result<Vec<i64>> {
        let info = self.info(name, "an integer tensor")?;
        let raw = self.raw(info);
        Ok(match info.dtype {
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
                    let found = || format!("a value above {} at index {:?}", i64::MAX, index(i, &info.shape));
                    x.map_err(|_| Error::tensor(&self.path, name, found(), "values of at most 63 bits"))
                })
                .collect::<Result<_>>()?,
            other => return Err(Error::tensor(&self.path, name, format!("dtype {other:?}"), "integers such as I32 or I64")),
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
    fn info(&self, name: &str, expected: &str) -> Result<&TensorInfo> {
        let missing = || Error::tensor(&self.path, name, format!("not in the file, which holds {}", self.contents()), expected);
        self.tensors.get(name).ok_or_else(missing)
    }
    fn raw(&self, info: &TensorInfo) -> &[u8] {
        let (from, to) = info.data_offsets;
        &self.bytes()[self.start + from..self.start + to]
    }
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Bytes::Map(m) => m,
            Bytes::Static(b) => b,
        }
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

/// Parses and checks the header: where the tensors begin, and what they are.
fn header(path: &Path, bytes: &[u8]) -> Result<(usize, BTreeMap<String, TensorInfo>)> {
    let wrong = |found: String, expected: &str| Error::file(path, found, expected);
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(wrong(format!("{} bytes", bytes.len()), "a safetensors file of at least 8 bytes"));
    };
    let length = u64::from_le_bytes(*length);
    let Some((head, data)) = usize::try_from(length).ok().and_then(|n| rest.split_at_checked(n)) else {
        let found = format!("a header length of {length} bytes in a file of {} bytes", bytes.len());
        return Err(wrong(found, "a complete safetensors file"));
    };
    let text = std::str::from_utf8(head).map_err(|e| wrong(format!("a header that is not UTF-8 ({e})"), "a safetensors file"))?;
    let entries: Map<String, Value> =
        serde_json::from_str(text).map_err(|e| wrong(format!("a header that is no JSON object ({e})"), "a safetensors file"))?;
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries.into_iter().filter(|(name, _)| name != "__metadata__") {
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(wrong(format!("a tensor named {name:?}"), "names that are not empty, without control characters"));
        }
        let wrong = |found: String, expected: &str| Error::tensor(path, &name, found, expected);
        let info: TensorInfo = serde_json::from_value(entry)
            .map_err(|e| wrong(format!("a header entry that cannot be read ({e})"), "dtype, shape and data_offsets"))?;
        let (from, to) = info.data_offsets;
        if from > to || to > data.len() {
            let found = format!("data_offsets [{from}, {to}] in a file with {} bytes of tensors", data.len());
            return Err(wrong(found, "offsets inside the file (was it cut short?)"));
        }
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |a, &n| a.checked_mul(n));
        if bits != (to - from).checked_mul(8) {
            let found = format!("{} bytes for dtype {:?} and shape {:?}", to - from, info.dtype, info.shape);
            return Err(wrong(found, "as many bytes as dtype and shape need"));
        }
        tensors.insert(name, info);
    }
    let mut spans: Vec<(usize, usize)> = tensors.values().map(|t: &TensorInfo| t.data_offsets).collect();
    spans.sort_unstable();
    let covered = spans.iter().try_fold(0, |at, &(from, to)| (from == at).then_some(to));
    if covered != Some(data.len()) {
        let found = "tensors that overlap or leave bytes unused".to_string();
        return Err(wrong(found, "tensors back to back up to the end of the file"));
    }
    Ok((8 + head.len(), tensors))
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
    fn message(bytes: &[u8]) -> String {
        let m = open(bytes).unwrap_err().to_string();
        assert!(m.contains("f.safetensors: ") && m.contains("; expected ") && !m.contains('\n'), "{m}");
        m
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
    fn broken_files_are_one_sentence() {
        assert!(message(b"").contains("0 bytes"));
        assert!(message(&[1, 2, 3]).contains("3 bytes"));
        assert!(message(&[&(1u64 << 43).to_le_bytes()[..], b"{}"].concat()).contains("header length of 8796093022208"));
        assert!(message(&[0xff; 24]).contains("header length of 18446744073709551615"));
        assert!(message(&[&4u64.to_le_bytes()[..], b"{\"\xff\xfe"].concat()).contains("not UTF-8"));
        assert!(message(&raw("[1, 2]", b"")).contains("no JSON object"));
        assert!(message(&raw("{\"x\": ", b"")).contains("no JSON object"));
        assert!(message(&raw(&"[".repeat(100_000), b"")).contains("no JSON object"));
        assert!(message(&raw(&entry("F99", "[2]", 0, 8), &[0; 8])).contains("tensor x: a header entry"));
        assert!(message(&raw(&entry("F32", "[-2]", 0, 8), &[0; 8])).contains("tensor x: a header entry"));
        assert!(message(&raw(&entry("F32", "[2]", 8, 0), &[0; 8])).contains("tensor x: data_offsets [8, 0]"));
        assert!(message(&raw(&entry("F32", "[2]", 0, 8), &[0; 7])).contains("tensor x: data_offsets [0, 8]"));
        assert!(message(&raw(&entry("U8", "[2305843009213693951]", 0, u64::MAX), &[0; 8])).contains("tensor x: data_offsets"));
        assert!(message(&raw(&entry("F32", "[3]", 0, 8), &[0; 8])).contains("8 bytes for dtype F32 and shape [3]"));
        assert!(message(&raw(&entry("F32", "[4294967296, 4294967296, 4]", 0, 8), &[0; 8])).contains("8 bytes for dtype F32"));
        assert!(message(&raw(&entry("F32", "[2]", 0, 8), &[0; 9])).contains("leave bytes unused"));
        assert!(message(&raw(&entry("F32", "[1]", 4, 8), &[0; 8])).contains("leave bytes unused"));
        assert!(message(&raw(&entry("F32", "[1]", 0, 4).replace("\"x\"", "\"x\\ny\""), &[0; 4])).contains("control characters"));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = raw(&entry("F32", "[2]", 0, 8), &[0; 8]);
        assert!(open(&whole).is_ok());
        for n in 0..whole.len() {
            message(&whole[..n]);
        }
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
