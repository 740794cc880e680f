use std::path::Path;

use serde_json::json;
use tempfile::tempdir;

use super::*;
use crate::model::fixture::{Stored, Tensors, write};
use crate::n2g::lines::{Element, Line};
use crate::n2g::trie::{START, Style, WILDCARD};
use crate::n2g::vocabulary::Fold;

fn trie(patterns: &[(&[u32], f64)]) -> Trie {
    let mut trie = Trie::new();
    for (i, (keys, value)) in patterns.iter().enumerate() {
        let element = |key: &u32| Element { key: *key, importance: 0.25 * i as f64, activation: -0.5, activates: i % 2 == 0 };
        trie.insert(&Line { elements: keys.iter().map(element).collect(), value: *value });
    }
    trie
}

fn vocabulary() -> Arc<Vocabulary> {
    let texts = [" Cat", "cat", "", "é\n", "\u{fffd}", "\u{fffd}"].map(String::from).to_vec();
    Arc::new(Vocabulary::new(texts, Fold::Normalised))
}

fn originals() -> Vec<(Neuron, Trie)> {
    let first = trie(&[(&[2, 1], 1.0), (&[0, WILDCARD, 3], 0.75), (&[0, 2], -2.0), (&[0, 1, 0], 4.0), (&[2], 0.5)]);
    vec![((0, 3), first), ((0, 9), trie(&[])), ((2, 0), trie(&[(&[WILDCARD, START], 3.0), (&[WILDCARD, 1], 1.0), (&[3], 7.5)]))]
}

fn made() -> Tries {
    let origin = Origin { mode: "default".into(), model_sha256: "aa".into(), tokenizer_sha256: "bb".into() };
    Tries::new(origin, Choice::Largest, vocabulary(), originals()).unwrap()
}

/// All that a file keeps.
#[track_caller]
fn assert_equal(a: &Tries, b: &Tries) {
    assert_eq!((&a.vocabulary, &a.origin, &a.neurons), (&b.vocabulary, &b.origin, &b.neurons));
    assert_eq!(a.forest.choice, b.forest.choice);
    (0..a.neurons.len()).for_each(|i| assert_eq!(a.trie(i), b.trie(i)));
}

#[test]
fn tries_come_back_in_their_canonical_form() {
    let tries = made();
    for (i, (neuron, trie)) in originals().into_iter().enumerate() {
        assert_eq!(tries.trie(i), trie.canonical());
        assert_eq!(tries.find(neuron.0, neuron.1), Some(i));
        assert_eq!(tries.trie(i).nested(&vocabulary(), Style::Reference), trie.nested(&vocabulary(), Style::Reference));
    }
    assert_eq!((tries.find(0, 4), tries.find(1, 0), tries.forest.depth), (None, None, 3));
}

#[test]
fn what_is_saved_is_loaded() {
    let dir = tempdir().unwrap();
    let path = dir.path().join(FILE);
    let none = Tries::new(Origin::default(), Choice::Deepest, Arc::new(Vocabulary::new(vec![], Fold::Exact)), []).unwrap();
    for tries in [made(), none] {
        let bytes = tries.to_bytes().unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let loaded = Tries::load(&path).unwrap();
        assert_equal(&loaded, &tries);
        assert_eq!(loaded.to_bytes().unwrap(), bytes);
    }
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let message =
        |tries: Vec<(Neuron, Trie)>| Tries::new(Origin::default(), Choice::Deepest, vocabulary(), tries).unwrap_err().to_string();
    let one = || trie(&[(&[0], 1.0)]);
    let order = "expected neurons by rising layer and number";
    assert_eq!(message(vec![((1, 2), one()), ((0, 3), one())]), format!("tries: neuron 0:3 behind 1:2; {order}"));
    assert_eq!(message(vec![((1, 2), one()), ((1, 2), one())]), format!("tries: neuron 1:2 behind 1:2; {order}"));
    let finite = "expected numbers that are finite in single precision";
    assert_eq!(message(vec![((1, 2), trie(&[(&[0], f64::NAN)]))]), format!("trie of neuron 1:2: the number NaN; {finite}"));
    assert!(message(vec![((1, 2), trie(&[(&[0], 1e300)]))]).ends_with(finite));
    let long = trie(&[(&[0; LONGEST + 1], 1.0)]);
    assert_eq!(message(vec![((1, 2), long)]), "trie of neuron 1:2: a pattern of 4097 elements; expected at most 4096");
    assert_eq!(message(vec![((1, 2), trie(&[(&[4], 1.0)]))]), "tries: key 4 below node 0; expected keys below 4");
    assert!(message(vec![((1, 2), trie(&[(&[START], 1.0)]))]).contains("a pattern without a token"));
}

#[test]
fn the_longest_pattern_can_be_shown() {
    let tries = Tries::new(Origin::default(), Choice::Deepest, vocabulary(), [((0, 0), trie(&[(&[0; LONGEST], 1.0)]))]).unwrap();
    let text = tries.trie(0).nested(&vocabulary(), Style::Reference).to_string();
    assert_eq!(text.matches("cat").count(), LONGEST);
}

/// A tensor of u32.
fn ints(shape: &[usize], values: &[u32]) -> Stored {
    ("U32", shape.to_vec(), bytemuck::cast_slice(values).to_vec())
}

/// Saves tries with a change to their tensors; the sentence with which loading fails, without the path.
fn refusal(change: impl FnOnce(&mut Tensors)) -> String {
    let dir = tempdir().unwrap();
    let path = dir.path().join(FILE);
    let bytes = made().to_bytes().unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let dtype = |t: &safetensors::tensor::TensorView| match t.dtype() {
        safetensors::Dtype::F32 => "F32",
        safetensors::Dtype::U32 => "U32",
        _ => "U8",
    };
    let mut tensors: Tensors =
        file.iter().map(|(name, t)| (name.to_string(), (dtype(&t), t.shape().to_vec(), t.data().to_vec()))).collect();
    change(&mut tensors);
    write(&path, &tensors);
    // The same metadata.
    let changed = std::fs::read(&path).unwrap();
    let header = |bytes: &[u8]| -> serde_json::Map<String, serde_json::Value> {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        serde_json::from_slice(&bytes[8..8 + length]).unwrap()
    };
    let length = u64::from_le_bytes(changed[..8].try_into().unwrap()) as usize;
    let mut with = header(&changed);
    with.insert("__metadata__".into(), header(&bytes)["__metadata__"].clone());
    put(&path, &json!(with).to_string(), &changed[8 + length..]);
    message(&path)
}

fn put(path: &Path, header: &str, data: &[u8]) {
    std::fs::write(path, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()).unwrap();
}

fn message(path: &Path) -> String {
    match Tries::load(path) {
        Ok(_) => "loaded".into(),
        Err(e) => e.to_string().replace(&format!("{}: ", path.display()), ""),
    }
}

fn u32s(t: &mut Tensors, name: &str, change: impl FnOnce(&mut Vec<u32>)) {
    let (_, shape, bytes) = t.get_mut(name).unwrap();
    let mut values: Vec<u32> = bytemuck::pod_collect_to_vec(bytes);
    change(&mut values);
    if shape.len() == 1 {
        *shape = vec![values.len()];
    }
    *bytes = bytemuck::cast_slice(&values).to_vec();
}

#[test]
fn corrupt_files_are_refused_with_a_sentence() {
    assert_eq!(refusal(|_| ()), "loaded");
    type Change = fn(&mut Tensors);
    let cases: [(Change, &str); 26] = [
        (|t| drop(t.remove("neurons")), "tensor neurons: not in the file, which holds "),
        (|t| u32s(t, "neurons", |x| x[1] = 9), "tensor neurons: neuron 0:9 behind 0:9; expected rising neurons"),
        (|t| u32s(t, "neurons", |x| x[4] = 0), "tensor neurons: neuron 0:0 behind 0:9; expected rising neurons"),
        (|t| t.get_mut("neurons").unwrap().1 = vec![6], "tensor neurons: shape [6]; expected shape [n, 2]"),
        (|t| u32s(t, "offsets", |x| x.truncate(3)), "tensor offsets: shape [3]; expected shape [4]"),
        (|t| u32s(t, "offsets", |x| x[1] = 0), "tensor offsets: 0 behind 0; expected rising offsets"),
        (|t| u32s(t, "offsets", |x| x[3] -= 1), "tensor offsets: 0 to 14; expected 0 to 15, the number of nodes"),
        (|t| u32s(t, "key", |x| x.extend([1])), "tensor children: shape [15]; expected shape [16]"),
        (|t| u32s(t, "key", |x| x[1] = 4), "tensor key: key 4 below node 0; expected keys below 4"),
        (|t| u32s(t, "key", |x| x.swap(1, 2)), "tensor key: key 0 behind key 2 below node 0; expected rising keys"),
        (|t| u32s(t, "children", |x| x[0] = 1), "tensor key: key 1 behind key 2 below node 1; expected rising keys"),
        (|t| u32s(t, "children", |x| x[0] = u32::MAX), "tensor children: children of node 0 up to node 4294967295; expected"),
        (|t| u32s(t, "children", |x| x.fill(0)), "tensor children: no parent for node 1; expected"),
        (|t| u32s(t, "value", |x| x[2] = f32::INFINITY.to_bits()), "tensor value: inf of node 2; expected finite"),
        (|t| u32s(t, "value", |x| x[0] = 0), "tensor value: 0 of node 0, a root; expected NaN"),
        (|t| drop(t.insert("value".into(), ints(&[15], &[0; 15]))), "tensor value: dtype U32; expected F64, F32"),
        (|t| u32s(t, "importance", |x| x[3] = f32::NAN.to_bits()), "tensor importance: NaN at index [3]; expected finite"),
        (|t| u32s(t, "activation", |x| drop(x.pop())), "tensor activation: shape [14]; expected shape [15]"),
        (|t| t.get_mut("activates").unwrap().2[1] = 2, "tensor activates: 2; expected 0 or 1"),
        (|t| u32s(t, "text.key", |x| x[5] = 9), "tensor text.key: keys out of order; expected"),
        (|t| u32s(t, "text.key", |x| drop(x.pop())), "tensor text.offsets: shape [7]; expected shape [6]"),
        (|t| u32s(t, "text.offsets", |x| x[6] += 1), "tensor text.offsets: offsets that do not span the bytes; expected 0 to "),
        (|t| u32s(t, "text.offsets", |x| x[4] -= 2), "tensor text.offsets: offsets that fall, or end within a character"),
        (|t| u32s(t, "name.offsets", |x| x[1] = u32::MAX), "tensor name.offsets: offsets that fall, or end"),
        (|t| u32s(t, "name.offsets", |x| x.clear()), "tensor name.offsets: offsets that do not span the bytes; expected 0 to "),
        (|t| t.get_mut("text.bytes").unwrap().2[0] = 0xff, "tensor text.bytes: no UTF-8; expected texts in UTF-8"),
    ];
    for (change, want) in cases {
        let found = refusal(change);
        assert!(found.starts_with(want), "{found}\n{want}");
    }
    // Two keys of one name.
    let twice = refusal(|t| {
        let bytes = &mut t.get_mut("name.bytes").unwrap().2;
        let len = bytes.len();
        bytes.copy_within(len - 3.., len - 5);
    });
    assert!(twice != "loaded", "{twice}");
}

#[test]
fn foreign_metadata_are_refused() {
    let dir = tempdir().unwrap();
    let path = dir.path().join(FILE);
    assert_eq!(message(&path), "no such file; expected a safetensors file");
    let bytes = made().to_bytes().unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
    let wrote = "expected a tries.safetensors that mechgraph wrote";
    for (from, to, want) in [
        ("__metadata__", "__metadata_", "tensor __metadata_: a header entry that cannot be read"),
        ("\"schema_version\":\"1\"", "\"schema_version\":\"2\"", "schema_version 2; expected schema_version 1"),
        ("\"schema_version\":\"1\"", "\"schema_version\":1", &format!("no schema_version in the metadata; {wrote}")),
        ("\"choice\":\"largest\"", "\"choice\":\"longest\"", "choice longest; expected deepest, shallowest or largest"),
        ("\"mode\"", "\"node\"", &format!("no mode in the metadata; {wrote}")),
    ] {
        assert!(header.contains(from), "{header}");
        put(&path, &header.replacen(from, to, 1), &bytes[8 + length..]);
        assert!(message(&path).starts_with(want), "{}", message(&path));
    }
    let mut plain: serde_json::Map<String, serde_json::Value> = serde_json::from_str(header).unwrap();
    plain.remove("__metadata__");
    put(&path, &json!(plain).to_string(), &bytes[8 + length..]);
    assert_eq!(message(&path), format!("no metadata; {wrote}"));
}
