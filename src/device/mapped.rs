//! Files in memory, and matrices' elements in them at the dtype they are stored in. The one `unsafe`
//! here is the memory map; bytes become numbers in [`super::convert`].

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::convert;
use super::real::{Real, Stored};
use crate::error::{Error, Result};

#[cfg(target_endian = "big")]
compile_error!("files of numbers are little-endian, and so are the reads of them");

#[derive(Debug)]
enum Bytes {
    Map(Mmap),
    Static(&'static [u8]),
}

/// A file mapped into memory, or bytes built into the program. Neither changes while it is open.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    bytes: Bytes,
}

impl MappedFile {
    /// Maps a file. Fails if it is missing or no regular file; `expected` says in errors what is wanted.
    pub fn open(path: &Path, expected: &str) -> Result<Arc<Self>> {
        let metadata = match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(Error::file(path, "no such file", expected)),
            Err(e) => return Err(Error::io(path, "reading", e)),
            Ok(m) => m,
        };
        if !metadata.is_file() {
            return Err(Error::file(path, "no regular file", expected));
        }
        let file = File::open(path).map_err(|e| Error::io(path, "opening", e))?;
        // SAFETY: the map is private and read-only, and this process never writes to a file it has
        // mapped. The remaining condition, that no other process shortens or rewrites the file
        // meanwhile, is the user's: it holds for finished model and data files.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, "mapping into memory", e))?;
        Ok(Arc::new(Self { path: path.into(), bytes: Bytes::Map(map) }))
    }
    /// Bytes built into the program; `name` stands for the path in errors.
    pub fn from_static(name: &Path, bytes: &'static [u8]) -> Arc<Self> {
        Arc::new(Self { path: name.into(), bytes: Bytes::Static(bytes) })
    }
    /// The path, or the name that stands for it.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Map(m) => m,
            Bytes::Static(b) => b,
        }
    }
}

/// `len` floating point numbers in a mapped file, from byte `offset` on, which need not be aligned.
#[derive(Clone, Debug)]
pub struct Elements {
    file: Arc<MappedFile>,
    offset: usize,
    len: usize,
    stored: Stored,
    rounded: bool,
}

impl Elements {
    /// Panics if the file ends before them.
    pub fn new(file: &Arc<MappedFile>, offset: usize, len: usize, stored: Stored) -> Self {
        let end = len.checked_mul(stored.bytes()).and_then(|n| n.checked_add(offset));
        let size = file.bytes().len();
        assert!(end.is_some_and(|end| end <= size), "{len} elements from byte {offset} of {size}");
        Self { file: Arc::clone(file), offset, len, stored, rounded: false }
    }
    /// The same numbers, each rounded to bf16 (to nearest, ties to even) whenever it is read.
    pub fn rounded(self) -> Self {
        Self { rounded: self.stored != Stored::BF16, ..self }
    }
    /// Whether reading rounds to bf16; never for what is stored as bf16.
    pub fn is_rounded(&self) -> bool {
        self.rounded
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// The dtype in the file.
    pub fn stored(&self) -> Stored {
        self.stored
    }
    /// The bytes in the file.
    pub fn bytes(&self) -> &[u8] {
        &self.file.bytes()[self.offset..][..self.len * self.stored.bytes()]
    }
    /// The elements where they lie; `None` if they are of another dtype than `T`, not aligned, or to be
    /// rounded.
    pub fn try_slice<T: Real>(&self) -> Option<&[T]> {
        let same = self.stored == Stored::from(T::DTYPE) && !self.rounded;
        same.then(|| bytemuck::try_cast_slice(self.bytes()).ok()).flatten()
    }
    /// Converts `out.len()` elements from number `first` on to `T`: exact where `T` is wider, else to
    /// nearest. Panics beyond the last element.
    pub fn read_into<T: Real>(&self, first: usize, out: &mut [T]) {
        let size = self.stored.bytes();
        convert::read(self.stored, self.rounded, &self.bytes()[first * size..(first + out.len()) * size], out);
    }
    /// The first element that is not finite, or not once it is rounded (where that is asked for) and
    /// converted to `dtype`.
    pub fn find_unfit(&self, dtype: super::DType) -> Option<usize> {
        convert::find_unfit(self.stored, self.rounded, dtype, self.bytes())
    }
}
