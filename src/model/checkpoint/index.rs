//! A checkpoint in several files: an index that maps each tensor to the shard that holds it, and the
//! shards beside it. The two must agree in full.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::TensorInfo;
use serde_json::Value;

use super::header::header;
use super::{Checkpoint, Place};
use crate::device::MappedFile;
use crate::error::{Error, Result};

/// A shard whose header has been checked.
struct Shard {
    file: Arc<MappedFile>,
    name: String,
    start: usize,
    tensors: BTreeMap<String, TensorInfo>,
}

/// Opens an index and its shards.
pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    let index = MappedFile::open(path, EXPECTED)?;
    let listed = weight_map(path, index.bytes())?;
    let mut names: Vec<&String> = listed.values().collect();
    names.sort_unstable();
    names.dedup();
    let mut shards = Vec::new();
    for name in names {
        let file = MappedFile::open(&path.with_file_name(name), &format!("a shard that {} names", super::INDEX))?;
        let (start, tensors) = header(file.path(), file.bytes())?;
        shards.push(Shard { file, name: name.clone(), start, tensors });
    }
    let files = [index].into_iter().chain(shards.iter().map(|s| Arc::clone(&s.file))).collect();
    Ok(Checkpoint { files, tensors: places(path, &listed, shards)? })
}

const EXPECTED: &str = "a weight_map of tensors to shards";

/// Tensor to shard, as the index has it.
fn weight_map(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    let wrong = |found: String| Error::file(path, found, EXPECTED);
    let index: Value = serde_json::from_slice(bytes).map_err(|e| wrong(format!("an index that is no JSON ({e})")))?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let map =
        map.filter(|map| !map.is_empty()).ok_or_else(|| wrong("an index without a weight_map that lists tensors".into()))?;
    let entry = |(tensor, shard): (&String, &Value)| match shard.as_str() {
        Some(name) if is_plain(name) => Ok((tensor.clone(), name.to_string())),
        _ => {
            let found = format!("weight_map entry {shard}");
            Err(Error::tensor(path, &tensor.escape_debug().to_string(), found, "the plain name of a file in the same folder"))
        }
    };
    map.iter().map(entry).collect()
}

/// Whether a name stays in its folder on every system.
fn is_plain(name: &str) -> bool {
    !["", ".", ".."].contains(&name) && !name.chars().any(|c| matches!(c, '/' | '\\' | ':') || c.is_control())
}

/// Where each tensor lies; fails unless each is in the one shard that the index gives it.
fn places(path: &Path, listed: &BTreeMap<String, String>, shards: Vec<Shard>) -> Result<BTreeMap<String, Place>> {
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    let (paths, names): (Vec<_>, Vec<_>) = shards.iter().map(|s| (s.file.path().to_path_buf(), s.name.clone())).unzip();
    for (number, shard) in shards.into_iter().enumerate() {
        for (tensor, info) in shard.tensors {
            if let Some(first) = places.get(&tensor) {
                let found = format!("a tensor that {} holds too", names[first.file - 1]);
                return Err(Error::tensor(&paths[number], &tensor, found, "each tensor in one shard"));
            }
            places.insert(tensor, Place { file: number + 1, start: shard.start, info });
        }
    }
    for (tensor, place) in &places {
        let number = place.file - 1;
        let found = match listed.get(tensor) {
            Some(shard) if *shard == names[number] => continue,
            Some(shard) => format!("a tensor that {} places in {shard}", super::INDEX),
            None => format!("a tensor that {} does not list", super::INDEX),
        };
        return Err(Error::tensor(&paths[number], tensor, found, "the tensors that the index gives to this shard"));
    }
    match listed.iter().find(|(tensor, _)| !places.contains_key(*tensor)) {
        None => Ok(places),
        Some((tensor, shard)) => {
            let tensor = tensor.escape_debug().to_string();
            Err(Error::tensor(path, &tensor, format!("not in {shard}"), "each tensor in the shard that the index gives it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::{Tensors, write};

    const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

    fn shard(tensors: &[(&str, f32)]) -> Tensors {
        let one = |(name, x): &(&str, f32)| (name.to_string(), ("F32", vec![1], x.to_le_bytes().to_vec()));
        tensors.iter().map(one).collect()
    }
    /// A folder of two shards with tensors a, b and c.
    fn folder(index: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join(SHARDS[0]), &shard(&[("a", 1.0), ("c", 3.0)]));
        write(&dir.path().join(SHARDS[1]), &shard(&[("b", 2.0)]));
        std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
        dir
    }
    fn list(tensors: &[(&str, &str)]) -> String {
        let map: serde_json::Map<_, _> = tensors.iter().map(|(t, s)| (t.to_string(), (*s).into())).collect();
        serde_json::json!({"metadata": {"total_size": 12}, "weight_map": map}).to_string()
    }
    fn good() -> String {
        list(&[("c", SHARDS[0]), ("b", SHARDS[1]), ("a", SHARDS[0])])
    }
    fn message(folder: &Path) -> String {
        let m = Checkpoint::open_folder(folder).unwrap_err().to_string();
        assert!(m.contains("; expected ") && !m.contains('\n'), "{m}");
        m
    }
    fn index_says(index: &str, found: &str) {
        let m = message(folder(index).path());
        assert!(m.contains(&format!("model.safetensors.index.json: {found}")), "{m}");
    }

    #[test]
    fn shards_read_like_one_file() {
        let dir = folder(&good());
        let file = Checkpoint::open_folder(dir.path()).unwrap();
        assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        let read = |name: &str| file.tensor_f64(name, &[1]).unwrap()[0];
        assert_eq!([read("a"), read("b"), read("c")], [1.0, 2.0, 3.0]);
        assert_eq!(file.path_of("b"), dir.path().join(SHARDS[1]));
        assert_eq!(file.bytes(), good().as_bytes());
        let m = file.tensor_f64("c", &[2]).unwrap_err().to_string();
        assert!(m.contains("model-00001-of-00002.safetensors: tensor c: shape [1]; expected shape [2]"), "{m}");
        let m = file.tensor_f64("d", &[2]).unwrap_err().to_string();
        assert!(m.contains("index.json: tensor d: not in the file, which holds a, b, c"), "{m}");
    }

    #[test]
    fn the_hash_is_of_the_index_and_the_shards_by_name() {
        use sha2::{Digest, Sha256};
        let dir = folder(&good());
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        let all = [b"before".to_vec(), good().into_bytes(), read(SHARDS[0]), read(SHARDS[1])].concat();
        let file = Checkpoint::open_folder(dir.path()).unwrap();
        assert_eq!(file.sha256_after(b"before"), format!("{:x}", Sha256::digest(all)));
    }

    #[test]
    fn one_file_comes_before_an_index() {
        let dir = folder("no JSON");
        write(&dir.path().join("model.safetensors"), &shard(&[("x", 9.0)]));
        let file = Checkpoint::open_folder(dir.path()).unwrap();
        assert_eq!(file.names().collect::<Vec<_>>(), ["x"]);
        let empty = tempfile::tempdir().unwrap();
        assert!(message(empty.path()).ends_with(
            "model.safetensors: no such file; expected a safetensors file, or model.safetensors.index.json and its shards"
        ));
    }

    #[test]
    fn a_broken_index_is_one_sentence() {
        index_says("", "an index that is no JSON");
        index_says("\u{1}[", "an index that is no JSON");
        for n in 1..good().len() {
            index_says(&good()[..n], "an index that is no JSON (EOF");
        }
        for index in ["[]", "3", "{}", r#"{"weight_map": []}"#, r#"{"weight_map": {}}"#] {
            index_says(index, "an index without a weight_map");
        }
    }

    #[test]
    fn entries_stay_in_the_folder() {
        let outside = ["../x.safetensors", "/etc/passwd", "a/b", "..", ".", "", "C:x", "a\\b", "a\nb"];
        for name in outside {
            let entry = serde_json::Value::from(name);
            index_says(&list(&[("a", name)]), &format!("tensor a: weight_map entry {entry}; expected the plain name"));
        }
        index_says(r#"{"weight_map": {"a": 3}}"#, "tensor a: weight_map entry 3; expected the plain name");
        index_says(r#"{"weight_map": {"a\nb": 3}}"#, "tensor a\\nb: weight_map entry 3");
    }

    #[test]
    fn an_index_and_shards_that_disagree_are_named() {
        let says = |dir: &tempfile::TempDir, shard: usize, found: &str| {
            let m = message(dir.path());
            assert!(m.contains(&format!("{}: {found}", SHARDS[shard])), "{m}");
        };
        let dir = folder(&good());
        std::fs::remove_file(dir.path().join(SHARDS[1])).unwrap();
        says(&dir, 1, "no such file; expected a shard that model.safetensors.index.json names");
        std::fs::write(dir.path().join(SHARDS[1]), "short").unwrap();
        says(&dir, 1, "5 bytes; expected a safetensors file");
        write(&dir.path().join(SHARDS[1]), &shard(&[("b", 2.0), ("a", 1.0)]));
        says(&dir, 1, "tensor a: a tensor that model-00001-of-00002.safetensors holds too");
        let dir = folder(&list(&[("c", SHARDS[0]), ("b", SHARDS[1])]));
        says(&dir, 0, "tensor a: a tensor that model.safetensors.index.json does not list");
        let dir = folder(&list(&[("a", SHARDS[1]), ("b", SHARDS[1]), ("c", SHARDS[0])]));
        says(&dir, 0, &format!("tensor a: a tensor that model.safetensors.index.json places in {}", SHARDS[1]));
        index_says(
            &list(&[("a", SHARDS[0]), ("b", SHARDS[1]), ("c", SHARDS[0]), ("d", SHARDS[1])]),
            &format!("tensor d: not in {}; expected each tensor in the shard", SHARDS[1]),
        );
    }
}
