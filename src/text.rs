//! Reading the small text files that people and programs write for us: configurations and manifests.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// The most bytes that such a file may have. Devices and pipes without end stop here too.
const MAX_BYTES: u64 = 16 << 20;

/// The content of `path`; `expected` names what should be there. Fails if the file is missing, a
/// folder, larger than 16 MiB, or cannot be read.
pub fn read(path: &Path, expected: &str) -> Result<Vec<u8>> {
    read_up_to(path, expected, MAX_BYTES)
}

/// As [`read`], with at most `max` bytes.
pub fn read_up_to(path: &Path, expected: &str, max: u64) -> Result<Vec<u8>> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(Error::file(path, "no such file", expected)),
        Ok(m) if m.is_dir() => return Err(Error::file(path, "a folder", expected)),
        _ => {}
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|f| f.take(max + 1).read_to_end(&mut bytes));
    read.map_err(|e| Error::io(path, "reading", e))?;
    if bytes.len() as u64 > max {
        return Err(Error::file(path, format!("more than {max} bytes"), expected));
    }
    Ok(bytes)
}

/// As [`read`]; fails also on what is not UTF-8.
pub fn read_utf8(path: &Path, expected: &str) -> Result<String> {
    String::from_utf8(read(path, expected)?)
        .map_err(|e| Error::file(path, format!("text that is not UTF-8 ({})", e.utf8_error()), expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_small_text_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.json");
        let message = |p: &Path| read_utf8(p, "a configuration").unwrap_err().to_string();
        assert!(message(&path).ends_with("f.json: no such file; expected a configuration"));
        assert!(message(dir.path()).ends_with(": a folder; expected a configuration"));
        std::fs::write(&path, b"a\xffb").unwrap();
        assert!(message(&path).contains("f.json: text that is not UTF-8 (invalid utf-8 sequence"), "{}", message(&path));
        assert_eq!(read(&path, "bytes").unwrap(), b"a\xffb");
        File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(message(&path).contains("more than 16777216 bytes"));
        File::create(&path).unwrap().set_len(MAX_BYTES).unwrap();
        assert_eq!(read(&path, "bytes").unwrap().len() as u64, MAX_BYTES);
        if Path::new("/dev/zero").exists() {
            assert!(message(Path::new("/dev/zero")).contains("more than 16777216 bytes"));
        }
    }
}
