//! The header of a safetensors file, checked in full before a tensor is touched, so that a broken file
//! gives one sentence and never a panic or a huge allocation.
//!
//! Layout: 8 bytes of little-endian header length, a JSON header of `dtype`, `shape` and
//! `data_offsets` per tensor, then the tensors back to back without gaps.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Parses and checks the header: where the tensors begin, and what they are.
pub(super) fn header(path: &Path, bytes: &[u8]) -> Result<(usize, BTreeMap<String, TensorInfo>)> {
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

    fn open(bytes: &[u8]) -> Result<(usize, BTreeMap<String, TensorInfo>)> {
        header(Path::new("f.safetensors"), bytes)
    }
    fn raw(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }
    fn message(bytes: &[u8]) -> String {
        let m = open(bytes).unwrap_err().to_string();
        assert!(m.starts_with("f.safetensors: ") && m.contains("; expected ") && !m.contains('\n'), "{m}");
        m
    }
    fn entry(dtype: &str, shape: &str, from: u64, to: u64) -> String {
        format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
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
}
