//! Models: configuration, weights, loading and saving.

pub mod block_jvp;
pub mod capture;
pub mod chain;
pub mod checkpoint;
pub mod config;
pub mod evaluate;
#[cfg(test)]
pub(crate) mod fixture;
pub mod forward;
pub mod hf;
mod input;
pub mod lm;
mod mlp;
pub mod network;
mod random;
mod reader;
mod save;
pub mod sections;
pub mod site;
mod tokenizer;
mod transformer;
mod weight_bytes;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

pub use checkpoint::Checkpoint;
pub use config::{ActFn, Config, MlpConfig, Norm, TransformerConfig};
pub use lm::Lm;
pub use mlp::Mlp;
pub use random::{random_mlp, random_transformer};
pub use reader::Reader;
pub(crate) use reader::in_range;
pub use save::save;
pub use tokenizer::{Frame, Tokenizer};
pub use transformer::{Affine, Block, Transformer};
pub use weight_bytes::WeightBytes;

use crate::demo;
use crate::device::DType;
use crate::error::{Error, Result};
use crate::text;

#[expect(clippy::large_enum_variant, reason = "a run holds one model")]
/// A model in memory, its weights in the compute dtype.
#[derive(Clone, Debug)]
pub enum Model {
    /// In TransformerLens' layout.
    Transformer(Transformer),
    Mlp(Mlp),
    /// Of a Hugging Face family.
    Lm(Lm),
}

/// What a model computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Of activations and arithmetic.
    pub dtype: DType,
    /// Weights are rounded to bf16 (to nearest, ties to even) before they are used.
    pub bf16_weights: bool,
}

impl From<DType> for Numbers {
    fn from(dtype: DType) -> Self {
        Self { dtype, bf16_weights: false }
    }
}

impl Numbers {
    /// As `--dtype` calls it: bf16 stands for weights of that dtype and arithmetic in f32.
    pub fn name(self) -> &'static str {
        if self.bf16_weights { "bf16" } else { self.dtype.name() }
    }
}

/// A loaded model and what a manifest says of it.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub model: Model,
    pub numbers: Numbers,
    /// The folder's name, or `demo:NAME`.
    pub name: String,
    /// SHA-256, in hexadecimal, of the bytes of `config.json` followed by those of `model.safetensors`, or
    /// of the index and the shards in the order of their names.
    pub sha256: String,
    /// `config.json` as it stands.
    pub config_json: serde_json::Value,
    /// The folder, or `demo:NAME`.
    folder: PathBuf,
}

impl Loaded {
    /// Opens the tokenizer in the model's folder, or that of a demo. Fails if there is none, or if it knows more tokens than
    /// the model embeds; a model that embeds more than that is fine, as vocabularies are often padded.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let tokenizer = match self.folder.to_str().and_then(demo::text_of) {
            Some((_, file)) => Tokenizer::embedded(&self.folder, file, &self.config_json)?,
            None => Tokenizer::open(&self.folder, &self.config_json)?,
        };
        match self.model.d_vocab() {
            Some(d_vocab) if tokenizer.size() > d_vocab => {
                let found = format!("a vocabulary of {} tokens", tokenizer.size());
                let expected = format!("at most {d_vocab}, as many as the model embeds");
                Err(Error::file(&self.folder.join(tokenizer::FILE), found, expected))
            }
            _ => Ok(tokenizer),
        }
    }
    /// The names and bytes of the files behind [`Loaded::tokenizer`], for a copy that [`Tokenizer::open`]
    /// reads in another folder.
    pub fn tokenizer_files(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        match self.folder.to_str().and_then(demo::text_of) {
            Some((_, file)) => Ok(vec![(tokenizer::FILE, file.to_vec())]),
            None => tokenizer::files(&self.folder),
        }
    }
}

impl Model {
    /// Loads a model folder (`config.json`, and `model.safetensors` or shards with their index) or
    /// `demo:NAME`, its weights in the dtype of `numbers`; those of Hugging Face families stay in their
    /// files at their own. Fails with one sentence on a missing or broken file, an unsupported
    /// configuration, or weights that contradict it.
    pub fn load(spec: &str, numbers: impl Into<Numbers>) -> Result<Loaded> {
        let numbers = numbers.into();
        if let Some(name) = demo::name_of(spec) {
            let demo = demo::find(name)?;
            let dir = Path::new(spec);
            let weights = || Checkpoint::from_static(&dir.join("model.safetensors"), demo.model);
            return Self::assemble(&dir.join("config.json"), demo.config, weights, numbers, spec.into());
        }
        if spec.is_empty() {
            return Err(Error::flag("MODEL", "nothing", FOLDER));
        }
        let dir = Path::new(spec);
        const FOLDER: &str = "a folder with config.json and model.safetensors, or demo:NAME";
        if !dir.is_dir() {
            return Err(Error::file(dir, if dir.exists() { "no folder" } else { "no such folder" }, FOLDER));
        }
        let path = dir.join("config.json");
        let config = text::read(&path, FOLDER)?;
        // "." and ".." have no name of their own.
        let full = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.into());
        let name = full.file_name().map_or_else(|| spec.into(), |n| n.to_string_lossy().into_owned());
        Self::assemble(&path, &config, || Checkpoint::open_folder(dir), numbers, name)
    }
    fn assemble(
        path: &Path,
        config: &[u8],
        weights: impl FnOnce() -> Result<Checkpoint>,
        numbers: Numbers,
        name: String,
    ) -> Result<Loaded> {
        let (parsed, config_json) = Config::parse(path, config)?;
        let file = weights()?;
        let model = match parsed {
            Config::Transformer(c) => Model::Transformer(Transformer::load(c, &file, numbers)?),
            Config::Mlp(c) => Model::Mlp(Mlp::load(c, &file, numbers)?),
            Config::HuggingFace(spec) => Model::Lm(hf::build(&spec, Reader::new(&file, numbers), numbers.dtype)?),
        };
        let sha256 = file.sha256_after(config);
        let folder = path.parent().unwrap_or(path).into();
        Ok(Loaded { model, numbers, name, sha256, config_json, folder })
    }
    /// The dtype of the weights.
    pub fn dtype(&self) -> DType {
        match self {
            Model::Transformer(t) => t.dtype,
            Model::Mlp(m) => m.dtype,
            Model::Lm(lm) => lm.dtype,
        }
    }
    /// Width of the output: the number of classes a label can name.
    pub fn classes(&self) -> usize {
        match self {
            Model::Transformer(t) => t.config.d_vocab_out,
            Model::Mlp(m) => m.config.output_size,
            Model::Lm(lm) => lm.d_vocab_out(),
        }
    }
    /// Number of token ids that the model embeds; `None` if it reads vectors.
    pub fn d_vocab(&self) -> Option<usize> {
        match self {
            Model::Transformer(t) => Some(t.config.d_vocab),
            Model::Lm(lm) => Some(lm.d_vocab),
            Model::Mlp(_) => None,
        }
    }
    /// The longest sequence of tokens; `None` if the model reads vectors.
    pub fn n_ctx(&self) -> Option<usize> {
        match self {
            Model::Transformer(t) => Some(t.config.n_ctx),
            Model::Lm(lm) => Some(lm.n_ctx),
            Model::Mlp(_) => None,
        }
    }
    /// Whether every position may read every other one, so that tokens can be hidden by a mask.
    pub fn is_encoder(&self) -> bool {
        match self {
            Model::Transformer(_) | Model::Mlp(_) => false,
            Model::Lm(lm) => !lm.is_causal,
        }
    }
    /// Whether only the last position of a sequence is read out.
    pub fn reads_last(&self) -> bool {
        match self {
            Model::Transformer(t) => t.config.read_last,
            Model::Mlp(_) => true,
            Model::Lm(lm) => lm.reads_last,
        }
    }
    /// The model as a language model, whichever layout it came in; `None` if it reads vectors.
    pub fn lm(&self) -> Option<Cow<'_, Lm>> {
        match self {
            Model::Transformer(t) => Some(Cow::Owned(t.into())),
            Model::Mlp(_) => None,
            Model::Lm(lm) => Some(Cow::Borrowed(lm)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use sha2::{Digest, Sha256};

    use super::fixture::{edit, max_diff, mlp_config, shared, transformer_config, write};
    use super::*;

    fn folder(model: &Model) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        save(model, dir.path()).unwrap();
        dir
    }
    fn transformer(norm: Norm, act: ActFn) -> Model {
        Model::Transformer(random_transformer(transformer_config(norm, act), DType::F64, 3).unwrap())
    }
    fn load(dir: &Path) -> Result<Loaded> {
        Model::load(dir.to_str().unwrap(), DType::F64)
    }
    fn message(dir: &Path) -> String {
        let m = load(dir).unwrap_err().to_string();
        assert!(m.contains("; expected ") && !m.contains('\n'), "{m}");
        m
    }
    /// Writes a random model with one change to its tensors, and returns the error of loading it.
    fn broken(model: &Model, change: impl FnOnce(&mut fixture::Tensors)) -> String {
        let dir = folder(model);
        edit(&dir.path().join("model.safetensors"), change);
        message(dir.path())
    }

    #[test]
    fn saved_models_load_back() {
        for (norm, act) in
            [(Norm::None, ActFn::Relu), (Norm::LnPre, ActFn::SoluLn), (Norm::Ln, ActFn::Gelu), (Norm::Ln, ActFn::SoluLn)]
        {
            let before = transformer(norm, act);
            let after = load(folder(&before).path()).unwrap().model;
            let (Model::Transformer(a), Model::Transformer(b)) = (&before, &after) else { panic!("not transformers") };
            assert_eq!(a.config, b.config);
            let (a, b) = (a.to_file(), b.to_file());
            assert_eq!(a.len(), b.len());
            for (x, y) in a.iter().zip(&b) {
                assert_eq!((&x.0, &x.1), (&y.0, &y.1));
                assert_eq!(max_diff(&x.2, &y.2), 0.0, "{}", x.0);
            }
        }
        for bias in [true, false] {
            let before = random_mlp(mlp_config(bias), DType::F32, 5).unwrap();
            let dir = folder(&Model::Mlp(before.clone()));
            let Model::Mlp(after) = Model::load(dir.path().to_str().unwrap(), DType::F32).unwrap().model else {
                panic!("no mlp")
            };
            assert_eq!(after.config, before.config);
            assert_eq!(after.layers.len(), 3);
            for ((w, b), (v, c)) in before.layers.iter().zip(&after.layers) {
                assert_eq!((w.rows, w.cols, b.rows, b.cols), (v.rows, v.cols, 1, v.cols));
                assert_eq!((max_diff(&w.to_f64(), &v.to_f64()), max_diff(&b.to_f64(), &c.to_f64())), (0.0, 0.0));
                assert_eq!(b.to_f64().iter().all(|&x| x == 0.0), !bias);
            }
        }
    }

    #[test]
    fn heads_lie_side_by_side() {
        let c = transformer_config(Norm::Ln, ActFn::SoluLn);
        let (d, h, dh) = (c.d_model, c.n_heads, c.d_head);
        // Every element is its own flat index, so that a misplaced one is seen.
        let count = |_: &str, shape: &[usize]| Ok((0..shape.iter().product()).map(|i: usize| i as f64).collect());
        let m = Transformer::build(c, DType::F64, &mut { count }).unwrap();
        let b = &m.blocks[1];
        for w in [&b.w_q, &b.w_k, &b.w_v] {
            assert_eq!((w.rows, w.cols), (d, h * dh));
            let x = w.to_f64();
            for (i, j, k) in (0..h).flat_map(|i| (0..d).flat_map(move |j| (0..dh).map(move |k| (i, j, k)))) {
                assert_eq!(x[j * h * dh + i * dh + k], ((i * d + j) * dh + k) as f64, "head {i}, row {j}, column {k}");
            }
        }
        assert_eq!((b.w_o.rows, b.w_o.cols), (h * dh, d));
        assert_eq!(b.w_o.to_f64(), (0..h * dh * d).map(|i| i as f64).collect::<Vec<_>>());
        assert_eq!((b.b_q.rows, b.b_q.cols), (1, h * dh));
        assert_eq!((b.b_v.rows, b.b_v.cols), (1, h * dh));
        assert_eq!(b.mid_ln.as_ref().map(|a| (a.w.cols, a.b.cols)), Some((7, 7)));
        assert_eq!(b.ln2.as_ref().map(|a| (a.w.cols, a.b.cols)), Some((d, d)));
    }

    #[test]
    fn norms_have_weights_only_where_the_layout_has_them() {
        for (norm, act, ln, mid) in [
            (Norm::None, ActFn::SoluLn, false, false),
            (Norm::LnPre, ActFn::SoluLn, false, false),
            (Norm::Ln, ActFn::Relu, true, false),
            (Norm::Ln, ActFn::SoluLn, true, true),
        ] {
            let Model::Transformer(m) = transformer(norm, act) else { panic!("not a transformer") };
            let b = &m.blocks[0];
            assert_eq!([b.ln1.is_some(), b.ln2.is_some(), m.ln_final.is_some(), b.mid_ln.is_some()], [ln, ln, ln, mid]);
        }
    }

    #[test]
    fn contradicting_weights_are_named() {
        let model = transformer(Norm::Ln, ActFn::SoluLn);
        let m = broken(&model, |t| drop(t.remove("blocks.1.attn.W_V")));
        assert!(m.contains("tensor blocks.1.attn.W_V: not in the file") && m.contains("[2, 6, 3]"), "{m}");
        let m = broken(&model, |t| t.get_mut("blocks.0.mlp.W_in").unwrap().1 = vec![7, 6]);
        assert!(m.contains("tensor blocks.0.mlp.W_in: shape [7, 6]; expected shape [6, 7]"), "{m}");
        let m = broken(&model, |t| drop(t.insert("blocks.0.attn.extra".into(), ("F64", vec![1], vec![0; 8]))));
        assert!(m.contains("tensor blocks.0.attn.extra"), "{m}");
        let m = broken(&model, |t| drop(t.insert("blocks.2.attn.mask".into(), ("BOOL", vec![1], vec![0]))));
        assert!(m.contains("tensor blocks.2.attn.mask"), "{m}");
        let m = broken(&model, |t| t.get_mut("unembed.b_U").unwrap().2[8..16].copy_from_slice(&f64::NAN.to_le_bytes()));
        assert!(m.contains("tensor unembed.b_U: NaN at index [1]"), "{m}");
        let m = broken(&model, |t| t.get_mut("embed.W_E").unwrap().2[56..64].copy_from_slice(&f64::NEG_INFINITY.to_le_bytes()));
        assert!(m.contains("tensor embed.W_E: -inf at index [1, 1]"), "{m}");
        let m = broken(&model, |t| t.get_mut("embed.W_E").unwrap().0 = "I64");
        assert!(m.contains("tensor embed.W_E: dtype I64") && m.contains("F16"), "{m}");
        let mlp = Model::Mlp(random_mlp(mlp_config(false), DType::F64, 1).unwrap());
        let m = broken(&mlp, |t| drop(t.insert("layers.0.b".into(), ("F64", vec![5], vec![0; 40]))));
        assert!(m.contains("tensor layers.0.b"), "{m}");
    }

    #[test]
    fn a_config_that_lies_about_sizes_allocates_nothing() {
        let dir = folder(&transformer(Norm::None, ActFn::Relu));
        let path = dir.path().join("config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        for (key, from) in [("n_layers", 2), ("d_vocab", 11), ("d_model", 6), ("n_ctx", 5), ("d_mlp", 7)] {
            let max = if key == "n_layers" { config::MAX_LAYERS } else { config::MAX_SIZE };
            let (old, new) = (format!("\"{key}\": {from}"), format!("\"{key}\": {max}"));
            assert!(text.contains(&old), "{text}");
            std::fs::write(&path, text.replace(&old, &new)).unwrap();
            let m = message(dir.path());
            assert!(m.contains("model.safetensors: tensor ") && m.contains("expected"), "{m}");
        }
    }

    #[test]
    fn buffers_are_skipped_and_every_float_type_is_read() {
        let Model::Transformer(before) = transformer(Norm::None, ActFn::Gelu) else { panic!("not a transformer") };
        for (kind, tolerance) in [("F32", 1e-6), ("F16", 2e-3), ("BF16", 2e-2)] {
            let dir = folder(&Model::Transformer(before.clone()));
            edit(&dir.path().join("model.safetensors"), |t| {
                for (dtype, _, raw) in t.values_mut() {
                    *dtype = kind;
                    *raw = raw
                        .chunks_exact(8)
                        .flat_map(|c| {
                            let x = f64::from_le_bytes(c.try_into().unwrap());
                            match kind {
                                "F32" => (x as f32).to_le_bytes().to_vec(),
                                "F16" => half::f16::from_f64(x).to_le_bytes().to_vec(),
                                _ => half::bf16::from_f64(x).to_le_bytes().to_vec(),
                            }
                        })
                        .collect();
                }
                t.insert("blocks.1.attn.mask".into(), ("BOOL", vec![2, 3], vec![1; 6]));
                t.insert("blocks.0.attn.IGNORE".into(), ("F32", vec![], f32::NEG_INFINITY.to_le_bytes().to_vec()));
            });
            let Model::Transformer(after) = load(dir.path()).unwrap().model else { panic!("not a transformer") };
            for (x, y) in before.to_file().iter().zip(after.to_file()) {
                let e = max_diff(&x.2, &y.2);
                assert!(e < tolerance * 4.0, "{kind} {}: {e}", x.0);
                assert!(e > 0.0, "{kind} {}: was not rounded", x.0);
            }
        }
    }

    #[test]
    fn values_beyond_the_compute_dtype_are_named() {
        let dir = folder(&transformer(Norm::None, ActFn::Relu));
        edit(&dir.path().join("model.safetensors"), |t| {
            t.get_mut("unembed.b_U").unwrap().2[16..24].copy_from_slice(&1e300f64.to_le_bytes())
        });
        assert!(load(dir.path()).is_ok());
        let m = Model::load(dir.path().to_str().unwrap(), DType::F32).unwrap_err().to_string();
        assert!(m.contains("tensor unembed.b_U") && m.contains("index [2]") && m.contains("f32"), "{m}");
    }

    #[test]
    fn missing_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(message(&dir.path().join("absent")).contains("absent: no such folder"));
        assert!(message(dir.path()).contains("config.json: no such file"));
        let file = dir.path().join("plain");
        std::fs::write(&file, "x").unwrap();
        assert!(message(&file).contains("plain: no folder"));
        let full = folder(&transformer(Norm::None, ActFn::Relu));
        std::fs::remove_file(full.path().join("model.safetensors")).unwrap();
        assert!(message(full.path()).contains("model.safetensors: no such file"));
        std::fs::create_dir(full.path().join("model.safetensors")).unwrap();
        assert!(message(full.path()).contains("model.safetensors: no regular file"));
        let m = Model::load("demo:absent", DType::F64).unwrap_err().to_string();
        assert!(m.contains("demo:absent") && m.contains("demo:modadd"), "{m}");
    }

    #[test]
    fn the_demo_loads_like_its_folder() {
        let demo = Model::load("demo:modadd", DType::F64).unwrap();
        let folder = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("demos/modadd")).unwrap();
        assert_eq!((demo.name.as_str(), folder.name.as_str()), ("demo:modadd", "modadd"));
        assert_eq!(demo.sha256, folder.sha256);
        assert_eq!(demo.config_json["d_mlp"], 512);
        let (Model::Transformer(a), Model::Transformer(b)) = (demo.model, folder.model) else { panic!("not transformers") };
        assert!(a.config.read_last);
        assert_eq!(max_diff(&a.blocks[0].w_q.to_f64(), &b.blocks[0].w_q.to_f64()), 0.0);
        assert!(a.w_u.to_f64().iter().any(|&x| x != 0.0));
    }

    #[test]
    fn the_demo_of_text_has_its_tokenizer() {
        let demo = Model::load("demo:lm", DType::F32).unwrap();
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("demos/lm");
        let folder = Model::load(dir.to_str().unwrap(), DType::F32).unwrap();
        assert_eq!((demo.name.as_str(), &demo.sha256), ("demo:lm", &folder.sha256));
        let (a, b) = (demo.tokenizer().unwrap(), folder.tokenizer().unwrap());
        assert_eq!((a.sha256(), a.size(), a.bos().unwrap()), (b.sha256(), 2048, Some(0)));
        assert_eq!(a.encode("Call me Ishmael.").unwrap(), b.encode("Call me Ishmael.").unwrap());
        let files = demo.tokenizer_files().unwrap();
        assert_eq!((&files, files[0].0, files.len()), (&folder.tokenizer_files().unwrap(), "tokenizer.json", 1));
        let e = Model::load("demo:modadd", DType::F32).unwrap().tokenizer().unwrap_err().to_string();
        assert!(e.ends_with("tokenizer.json: no such file; expected the tokenizer.json of a model"), "{e}");
    }

    #[test]
    fn a_model_in_shards_is_the_one_in_a_single_file() {
        let dir = folder(&transformer(Norm::Ln, ActFn::Gelu));
        let path = |name: &str| dir.path().join(name);
        let whole = load(dir.path()).unwrap();
        let mut parts = [fixture::Tensors::new(), fixture::Tensors::new()];
        let mut map = serde_json::Map::new();
        edit(&path("model.safetensors"), |all| {
            for (i, (name, tensor)) in all.iter().enumerate() {
                map.insert(name.clone(), ["a.safetensors", "b.safetensors"][i % 2].into());
                parts[i % 2].insert(name.clone(), tensor.clone());
            }
        });
        write(&path("a.safetensors"), &parts[0]);
        write(&path("b.safetensors"), &parts[1]);
        std::fs::write(path("model.safetensors.index.json"), serde_json::json!({"weight_map": map}).to_string()).unwrap();
        std::fs::remove_file(path("model.safetensors")).unwrap();
        let shards = load(dir.path()).unwrap();
        assert_eq!(format!("{:?}", shards.model), format!("{:?}", whole.model));
        let files = ["config.json", "model.safetensors.index.json", "a.safetensors", "b.safetensors"];
        let bytes: Vec<u8> = files.iter().flat_map(|f| std::fs::read(path(f)).unwrap()).collect();
        assert_eq!(shards.sha256, format!("{:x}", Sha256::digest(&bytes)));
        edit(&path("b.safetensors"), |t| drop(t.insert("surplus".into(), ("F64", vec![1], vec![0; 8]))));
        assert!(
            message(dir.path()).contains("b.safetensors: tensor surplus: a tensor that model.safetensors.index.json does not")
        );
    }

    #[test]
    fn the_hash_covers_both_files() {
        let dir = folder(&Model::Mlp(random_mlp(mlp_config(true), DType::F64, 1).unwrap()));
        let first = load(dir.path()).unwrap().sha256;
        let config = dir.path().join("config.json");
        let text = std::fs::read_to_string(&config).unwrap();
        let weights = dir.path().join("model.safetensors");
        let both = [text.as_bytes(), &std::fs::read(&weights).unwrap()].concat();
        assert_eq!(first, format!("{:x}", Sha256::digest(&both)));
        std::fs::write(&config, text + " ").unwrap();
        let second = load(dir.path()).unwrap().sha256;
        edit(&weights, |t| t.get_mut("layers.0.b").unwrap().2[0] ^= 1);
        let third = load(dir.path()).unwrap().sha256;
        assert!(first != second && second != third && first != third);
    }

    #[test]
    fn f16_values_have_their_meaning() {
        let dir = tempfile::tempdir().unwrap();
        let path: PathBuf = dir.path().join("x.safetensors");
        let tensors = fixture::Tensors::from([("h".into(), ("F16", vec![3], vec![0x00, 0x3c, 0x00, 0xc1, 0x01, 0x00]))]);
        write(&path, &tensors);
        assert_eq!(Checkpoint::open(&path).unwrap().tensor_f64("h", &[3]).unwrap(), [1.0, -2.5, 2f64.powi(-24)]);
    }

    #[test]
    fn every_fixture_loads() {
        let Some(shared) = shared() else { return };
        for kind in ["solu_ln_full", "relu_nonorm", "solu_ln", "gelu_lnpre"] {
            let loaded = load(&shared.join("fixtures/transformer-lens").join(kind)).unwrap();
            let Model::Transformer(m) = loaded.model else { panic!("{kind} is no transformer") };
            assert_eq!((m.blocks.len(), m.w_e.rows, m.w_u.cols, loaded.name.as_str()), (3, 101, 101, kind));
            assert_eq!((m.ln_final.is_some(), m.blocks[2].mid_ln.is_some()), (kind == "solu_ln_full", kind == "solu_ln_full"));
        }
        for seed in ["seed0", "seed1"] {
            let Model::Transformer(m) = load(&shared.join("fixtures/lib-paper").join(seed)).unwrap().model else {
                panic!("{seed}")
            };
            assert_eq!((m.config.read_last, m.w_pos.rows, m.blocks[0].w_in.cols), (true, 3, 512));
        }
        let Model::Mlp(m) = load(&shared.join("fixtures/mlp-mnist")).unwrap().model else { panic!("mnist is no mlp") };
        assert_eq!(m.layers.iter().map(|(w, _)| (w.rows, w.cols)).collect::<Vec<_>>(), [(784, 100), (100, 100), (100, 10)]);
        let loaded = load(&shared.join("fixtures/hf/gpt2")).unwrap();
        let Model::Lm(lm) = loaded.model else { panic!("gpt2 is of no family") };
        assert_eq!((lm.family, lm.blocks.len(), lm.d_vocab, loaded.name.as_str()), ("gpt2", 3, 97, "gpt2"));
    }
}
