//! Hugging Face folders on a backend against the CPU: operations without kernels run on the host.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::Value;

use super::commands::{same_tensors, works};
use super::{Backend, on_every_backend};
use crate::command::{Tensors, ints, write};
use crate::families::restored;
use crate::naive::shared;

/// Folders of fixtures, stored as they are and in bf16.
fn folders(names: &[&str], dir: &Path) -> Vec<PathBuf> {
    let Some(shared) = shared() else { return Vec::new() };
    let of = |name: &&str| {
        let path = shared.join("fixtures").join(name);
        let to = dir.join(name.replace('/', "-"));
        std::fs::create_dir_all(&to).unwrap();
        let narrow = restored(&path, Dtype::BF16, &to);
        std::fs::copy(path.join("goldens.safetensors"), narrow.join("goldens.safetensors")).unwrap();
        [path, narrow]
    };
    names.iter().flat_map(of).collect()
}

const DECODERS: [&str; 3] = ["hf/llama", "hf/gpt2", "hf/gemma2"];

on_every_backend! {
    fn capture_of_language_models_writes_the_cpus_activations(backend: Backend) {
        let dir = tempfile::tempdir().unwrap();
        for folder in folders(&[&DECODERS[..], &["masked-lm/bert"]].concat(), dir.path()) {
            let data = folder.join("goldens.safetensors");
            let sites = "--sites resid_post,z,mlp_act,logits --layers 0,1";
            same_tensors(backend, &format!("capture {} --data {} {sites}", folder.display(), data.display()), dir.path(), 7);
            std::fs::remove_file(dir.path().join("expected")).unwrap();
            std::fs::remove_file(dir.path().join("found")).unwrap();
        }
    }
    fn jvp_of_language_models_writes_the_cpus_products(backend: Backend) {
        let dir = tempfile::tempdir().unwrap();
        for folder in folders(&DECODERS, dir.path()) {
            let data = folder.join("goldens.safetensors");
            let count = if folder.display().to_string().contains("gemma2") { 8 } else { 6 };
            same_tensors(backend, &format!("jvp {} --data {}", folder.display(), data.display()), dir.path(), count);
            std::fs::remove_file(dir.path().join("expected")).unwrap();
            std::fs::remove_file(dir.path().join("found")).unwrap();
        }
    }
    fn eval_of_language_models_finds_the_cpus_scores(backend: Backend) {
        let dir = tempfile::tempdir().unwrap();
        for folder in folders(&[&DECODERS[..], &["masked-lm/bert"]].concat(), dir.path()) {
            let data = dir.path().join("data");
            let label = |i: usize| if i % 3 == 0 { (i % 90) as i64 } else { -100 };
            let mask = |i: usize| i64::from(i % 9 != 4);
            let mut tensors = Tensors::from([("tokens".to_string(), ints(&[5, 11], |i| (i * i % 91) as i64))]);
            if folder.display().to_string().contains("bert") {
                tensors.insert("labels".into(), ints(&[5, 11], label));
                tensors.insert("attention_mask".into(), ints(&[5, 11], mask));
            }
            write(&data, &tensors);
            let score = |backend| -> Value {
                let command = format!("eval {} --data {} --json", folder.display(), data.display());
                serde_json::from_str(&works(backend, &command, &[])).unwrap()
            };
            let (expected, found) = (score(Backend::Cpu), score(backend));
            assert_eq!(found["accuracy"], expected["accuracy"], "{}", folder.display());
            let loss = |score: &Value| score["loss"].as_f64().unwrap();
            assert!((loss(&found) - loss(&expected)).abs() <= 1e-5, "{backend:?}: {found} {expected}");
        }
    }
}
