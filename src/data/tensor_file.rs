//! A safetensors file written piece by piece: shapes are known before data, so the header comes
//! first and every piece goes straight to its place. The file appears under its name only when it
//! is complete; until then it is `NAME.partial`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::device::DType;
use crate::error::{Error, Result};
use crate::files;

/// A file in the making; dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    partial: PathBuf,
    file: Mutex<File>,
    /// Of floating point numbers.
    dtype: DType,
    places: Vec<Place>,
    is_finished: bool,
}

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// `[n, ..]`
    pub shape: Vec<usize>,
    /// Integers of 64 bits instead of floating point numbers.
    pub is_integer: bool,
}

impl Entry {
    /// A tensor of floating point numbers.
    pub fn real(name: impl Into<String>, shape: Vec<usize>) -> Self {
        Self { name: name.into(), shape, is_integer: false }
    }
    /// A tensor of i64.
    pub fn integer(name: impl Into<String>, shape: Vec<usize>) -> Self {
        Self { name: name.into(), shape, is_integer: true }
    }
}

/// Where a tensor `[n, ..]` lies.
#[derive(Debug)]
struct Place {
    start: u64,
    /// Bytes of one sample.
    sample: u64,
}

impl TensorFile {
    /// Begins `path` with the header of `tensors`, which are stored in this order, floating point numbers
    /// as `dtype`. Fails if the file cannot be written or would have more than 2^63 bytes.
    pub fn create(path: &Path, dtype: DType, metadata: &BTreeMap<String, String>, tensors: &[Entry]) -> Result<Self> {
        let mut at = 0u64;
        let mut header = Map::from_iter([("__metadata__".to_string(), json!(metadata))]);
        let mut places = Vec::new();
        for Entry { name, shape, is_integer } in tensors {
            let (kind, element) = match is_integer {
                true => ("I64".to_string(), 8),
                false => (dtype.name().to_uppercase(), dtype.bytes() as u64),
            };
            let bytes = shape.iter().try_fold(element, |bytes, &n| bytes.checked_mul(n as u64));
            let end = bytes.and_then(|b| at.checked_add(b)).filter(|&end| i64::try_from(end).is_ok());
            let end = end.ok_or_else(|| {
                let found = format!("tensor {name} of shape {shape:?}, which goes beyond 2^63 bytes");
                Error::file(path, found, "tensors that fit into a file")
            })?;
            places.push(Place { start: at, sample: shape[1..].iter().map(|&n| n as u64).product::<u64>() * element });
            header.insert(name.clone(), json!({"dtype": kind, "shape": shape, "data_offsets": [at, end]}));
            at = end;
        }
        let mut header = Value::Object(header).to_string();
        // Tensors begin at a multiple of 8 bytes, so that readers may map them.
        header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
        places.iter_mut().for_each(|p| p.start += 8 + header.len() as u64);
        let length = (header.len() as u64).to_le_bytes();
        let end = 8 + header.len() as u64 + at;

        let partial = files::partial(path);
        let file = File::create(&partial).map_err(|e| Error::io(path, "creating the file", e))?;
        let begun = Self { path: path.into(), partial, file: Mutex::new(file), dtype, places, is_finished: false };
        begun.put(0, &[&length, header.as_bytes()].concat())?;
        begun.with(|file| file.set_len(end))?;
        Ok(begun)
    }
    /// Writes `bytes`, whole samples from `first` on, of tensor number `tensor`.
    pub fn write(&self, tensor: usize, first: usize, bytes: &[u8]) -> Result<()> {
        let place = &self.places[tensor];
        self.put(place.start + first as u64 * place.sample, bytes)
    }
    /// As [`TensorFile::write`], of a tensor of floating point numbers, rounded to the file's dtype.
    pub fn write_real(&self, tensor: usize, first: usize, values: &[f64]) -> Result<()> {
        match self.dtype {
            DType::F64 => self.write(tensor, first, bytemuck::cast_slice(values)),
            DType::F32 => {
                let narrow: Vec<f32> = values.iter().map(|x| *x as f32).collect();
                self.write(tensor, first, bytemuck::cast_slice(&narrow))
            }
        }
    }
    /// Puts the file on the disk and gives it its name.
    pub fn finish(mut self) -> Result<()> {
        self.with(|file| file.sync_all())?;
        fs::rename(&self.partial, &self.path).map_err(|e| Error::io(&self.path, "writing", e))?;
        self.is_finished = true;
        Ok(())
    }
    fn put(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.with(|file| file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(bytes)))
    }
    /// Every piece is placed by its own seek, so a thread that died inside leaves the file usable.
    fn with(&self, action: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        action(&mut file).map_err(|e| Error::io(&self.path, "writing", e))
    }
}

impl Drop for TensorFile {
    fn drop(&mut self) {
        if !self.is_finished {
            // What went wrong has been told already; a piece that cannot be removed adds nothing.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Checkpoint;

    fn bytes(x: &[f32]) -> Vec<u8> {
        x.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    #[test]
    fn pieces_in_any_order_make_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.safetensors");
        let tensors = [
            Entry::real("a", vec![3, 2]),
            Entry::real("empty", vec![3, 0]),
            Entry::real("\"b\"", vec![3]),
            Entry::integer("i", vec![3]),
        ];
        let file = TensorFile::create(&path, DType::F32, &[("model".into(), "M \"1\"".into())].into(), &tensors).unwrap();
        file.write(2, 1, &bytes(&[8.0, 9.0])).unwrap();
        file.write(0, 2, &bytes(&[5.0, 6.0])).unwrap();
        file.write_real(0, 0, &[1.0, 2.0, 3.0, 4.0]).unwrap();
        file.write(2, 0, &bytes(&[7.0])).unwrap();
        file.write(3, 1, &[-2i64, 3].map(i64::to_le_bytes).concat()).unwrap();
        assert!(!path.exists());
        file.finish().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let read = Checkpoint::open(&path).unwrap();
        assert_eq!(read.tensor_f64("a", &[3, 2]).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(read.tensor_f64("\"b\"", &[3]).unwrap(), [7.0, 8.0, 9.0]);
        assert_eq!(read.tensor_i64("i").unwrap(), [0, -2, 3]);
        // An independent reader agrees, on metadata too.
        let raw = fs::read(&path).unwrap();
        let (header, metadata) = safetensors::SafeTensors::read_metadata(&raw).unwrap();
        assert_eq!((header % 8, metadata.metadata().as_ref().unwrap()["model"].as_str()), (0, "M \"1\""));
        assert_eq!(safetensors::SafeTensors::deserialize(&raw).unwrap().tensor("a").unwrap().shape(), [3, 2]);
    }

    #[test]
    fn an_unfinished_file_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "old").unwrap();
        let file = TensorFile::create(&path, DType::F64, &BTreeMap::new(), &[Entry::real("a", vec![4])]).unwrap();
        assert!(dir.path().join("f.partial").exists());
        drop(file);
        assert_eq!((fs::read_dir(dir.path()).unwrap().count(), fs::read(&path).unwrap()), (1, b"old".to_vec()));
    }

    #[test]
    fn refusals_are_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let create = |path: &Path, shape: &[usize]| {
            TensorFile::create(path, DType::F32, &BTreeMap::new(), &[Entry::real("a", shape.to_vec())]).unwrap_err().to_string()
        };
        let absent = create(&dir.path().join("no/f"), &[1]);
        assert!(absent.contains("no/f: creating the file failed"), "{absent}");
        let huge = create(&dir.path().join("f"), &[1 << 40, 1 << 22]);
        assert!(huge.contains("tensor a of shape [1099511627776, 4194304], which goes beyond 2^63 bytes"), "{huge}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
