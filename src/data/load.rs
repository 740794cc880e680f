//! Reading a data set and checking it against the model it is for.

use std::path::{Path, PathBuf};

use super::text::text_of;
use super::windows::{Cut, windows};
use super::{DataSet, Labels, Samples};
use crate::demo;
use crate::error::{Error, Result};
use crate::model::checkpoint::index;
use crate::model::{Checkpoint, Loaded, Mlp, Model, in_range};
use crate::ops::loss::SKIPPED;

/// The label of what is not to be predicted, as the field's libraries write it.
const IGNORED: i64 = -100;

/// As [`load`]; takes also text, a file whose name ends in .txt or .jsonl in any case, which it cuts
/// into windows of tokens by the tokenizer in the model's folder (see [`windows`]).
pub fn load_or_cut(spec: &str, loaded: &Loaded, cut: Cut) -> Result<DataSet> {
    match text_of(spec)? {
        Some((path, kind)) => windows(path, kind, loaded, cut),
        None => load(spec, &loaded.model),
    }
}

/// Loads `FILE` or `FILE#NAME`, where FILE is a safetensors file or `demo:NAME`.
///
/// Transformers: `tokens` `[N, T]` integers and, if present, `labels` `[N]` or `[N, T]`. MLPs: `inputs`
/// `[N, ...]` floats, flattened to the model's input width, and `labels` `[N]`. With NAME the tensors are
/// `NAME.tokens` and so on; without it a file that holds a single NAME needs none. Where the model reads
/// only the last position, of labels `[N, T]` the last column is kept. The label -100 marks what is not to
/// be predicted. An encoder takes an `attention_mask` `[N, T]`, 0 where a token is hidden.
///
/// Fails with one sentence on a missing tensor, an empty data set, sequences longer than the context, ids
/// outside the vocabulary, inputs of another width or not finite, labels outside the classes or of another
/// number, an `attention_mask` of a decoder that hides a token, `token_type_ids` other than 0, and on text.
pub fn load(spec: &str, model: &Model) -> Result<DataSet> {
    let (file, name, shown) = open(spec)?;
    let kind = match model {
        Model::Transformer(_) | Model::Lm(_) => "tokens",
        Model::Mlp(_) => "inputs",
    };
    let name = match name {
        Some(n) => Some(n),
        None => only_name(&file, kind)?,
    };
    let key = |s: &str| name.as_ref().map_or(s.to_string(), |n| format!("{n}.{s}"));
    let tensor = key(kind);
    if file.shape(&tensor).is_none() {
        let needs = match model {
            Model::Transformer(_) | Model::Lm(_) => "token ids [N, T], as the model is a transformer",
            Model::Mlp(_) => "input vectors [N, d], as the model is an mlp",
        };
        return Err(Error::tensor(file.path(), &tensor, format!("not in the file, which holds {}", file.contents()), needs));
    }
    let sequences = |d_vocab, n_ctx| {
        let (ids, n, t) = tokens(&file, &tensor, (d_vocab, "the model's vocabulary"), n_ctx)?;
        Ok((Samples::Tokens { ids, n, t }, vec![vec![n], vec![n, t]]))
    };
    let (samples, label_shapes) = match model {
        Model::Transformer(m) => sequences(m.config.d_vocab, m.config.n_ctx)?,
        Model::Lm(lm) => sequences(lm.d_vocab, lm.n_ctx)?,
        Model::Mlp(m) => {
            let (x, n) = inputs(&file, &tensor, m)?;
            (Samples::Inputs { x, n, width: m.config.input_size }, vec![vec![n]])
        }
    };
    let mask = mask(&file, &key("attention_mask"), &samples, model.is_encoder())?;
    check_segments(&file, &key("token_type_ids"))?;
    let labels = match file.shape(&key("labels")) {
        None => None,
        Some(_) => Some(labels(&file, &key("labels"), &label_shapes, model.reads_last(), model.classes())?),
    };
    let shown = name.map_or(shown.clone(), |n| format!("{shown}#{n}"));
    Ok(DataSet { samples, labels, mask, text: None, name: shown, sha256: file.sha256() })
}

/// The sequences of `tokens` `[N, T]` in `FILE` or `FILE#NAME`, for a vocabulary of `size` ids and no model: any other
/// tensor of the file is passed over. Fails as [`load`] does.
pub fn load_tokens(spec: &str, size: usize) -> Result<Vec<Vec<u32>>> {
    let (file, name, _) = open(spec)?;
    let name = name.map_or_else(|| only_name(&file, "tokens"), |n| Ok(Some(n)))?;
    let tensor = name.map_or("tokens".into(), |n| format!("{n}.tokens"));
    if file.shape(&tensor).is_none() {
        let found = format!("not in the file, which holds {}", file.contents());
        return Err(Error::tensor(file.path(), &tensor, found, "token ids [N, T]"));
    }
    let (ids, _, t) = tokens(&file, &tensor, (size, "the tokenizer's vocabulary"), usize::MAX)?;
    Ok(ids.chunks_exact(t).map(<[u32]>::to_vec).collect())
}

/// The file of a specification, its NAME if one is given, and how the file is called in a manifest.
fn open(spec: &str) -> Result<(Checkpoint, Option<String>, String)> {
    // A file whose own name has a '#' is taken as it is.
    let (file, name) = match spec.rsplit_once('#') {
        Some((file, name)) if !Path::new(spec).exists() => (file, Some(name)),
        _ => (spec, None),
    };
    if name == Some("") {
        return Err(Error::flag("--data", spec, "FILE or FILE#NAME with a NAME that is not empty"));
    }
    let name = name.map(String::from);
    if let Some(demo) = demo::name_of(file) {
        return match demo::find(demo)?.data {
            demo::Data::Splits(splits) => {
                let path = Path::new(file).join("dataset.safetensors");
                Ok((Checkpoint::from_static(&path, splits)?, name, file.into()))
            }
            demo::Data::Text { .. } => Err(Error::file(Path::new(file), "text", "a safetensors file")),
        };
    }
    let path = PathBuf::from(file);
    if text_of(spec)?.is_some() {
        return Err(Error::file(&path, "text", "a safetensors file"));
    }
    let shown = path.file_name().map_or_else(|| file.into(), |n| n.to_string_lossy().into_owned());
    Ok((Checkpoint::open(&path)?, name, shown))
}

/// The NAME to take where none is given: none if the file has the bare tensor, else the only one there is.
fn only_name(file: &Checkpoint, kind: &str) -> Result<Option<String>> {
    if file.shape(kind).is_some() {
        return Ok(None);
    }
    let suffix = format!(".{kind}");
    let found: Vec<&str> = file.names().filter_map(|n| n.strip_suffix(&suffix)).collect();
    match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one.into())),
        _ => Err(Error::file(
            file.path(),
            format!("several data sets: {}", found.join(", ")),
            format!("a choice, such as FILE#{}", found[0]),
        )),
    }
}

/// The ids of a tensor, below a size that is said to be `whose`, and its shape.
fn tokens(file: &Checkpoint, name: &str, (d_vocab, whose): (usize, &str), n_ctx: usize) -> Result<(Vec<u32>, usize, usize)> {
    let wrong = |found: String, expected: String| Error::tensor(file.path(), name, found, expected);
    let shape = file.shape(name).unwrap_or_default();
    let &[n, t] = shape else {
        return Err(wrong(format!("shape {shape:?}"), "[N, T]: sequences of T token ids".into()));
    };
    if n == 0 || t == 0 {
        return Err(wrong(format!("shape {shape:?}, an empty data set"), "at least one sequence of at least one token".into()));
    }
    if t > n_ctx {
        return Err(wrong(format!("sequences of {t} tokens"), format!("at most {n_ctx}, the model's context n_ctx")));
    }
    let ids = file.tensor_i64(name)?.into_iter().enumerate().map(|(i, id)| {
        let fit = u32::try_from(id).ok().filter(|&id| (id as usize) < d_vocab);
        fit.ok_or_else(|| {
            let found = format!("token id {id} in row {}, position {}", i / t, i % t);
            wrong(found, format!("ids from 0 to {}, {whose}", d_vocab - 1))
        })
    });
    Ok((ids.collect::<Result<_>>()?, n, t))
}

fn inputs(file: &Checkpoint, name: &str, model: &Mlp) -> Result<(Vec<f64>, usize)> {
    let wrong = |found: String, expected: String| Error::tensor(file.path(), name, found, expected);
    let width = model.config.input_size;
    let shape = file.shape(name).unwrap_or_default();
    let n = shape.first().copied().unwrap_or(0);
    if shape.len() < 2 {
        return Err(wrong(format!("shape {shape:?}"), format!("[N, {width}]: input vectors of the model's width")));
    }
    if n == 0 {
        return Err(wrong(format!("shape {shape:?}, an empty data set"), "at least one input vector".into()));
    }
    let x = file.tensor_f64(name, shape)?;
    if x.len() / n != width {
        return Err(wrong(
            format!("shape {shape:?}, vectors of width {}", x.len() / n),
            format!("width {width}, the model's input_size"),
        ));
    }
    in_range(&x, model.dtype).map_err(|i| {
        wrong(format!("{:?} at index {:?}", x[i], index(i, shape)), format!("values within the range of {}", model.dtype.name()))
    })?;
    Ok((x, n))
}

/// The mask of an encoder. A decoder reads every token: a mask that hides some would ask for another model.
fn mask(file: &Checkpoint, name: &str, samples: &Samples, is_encoder: bool) -> Result<Option<Vec<u32>>> {
    let Some(shape) = file.shape(name) else { return Ok(None) };
    let &Samples::Tokens { n, t, .. } = samples else { return Ok(None) };
    let wrong = |found: String, expected: &str| Err(Error::tensor(file.path(), name, found, expected));
    if shape != [n, t] {
        return wrong(format!("shape {shape:?}"), &format!("shape [{n}, {t}], by the tokens"));
    }
    let mask = file.tensor_i64(name)?;
    if !is_encoder {
        return match mask.iter().position(|&x| x != 1) {
            None => Ok(None),
            Some(i) => {
                let found = format!("a hidden token at index {:?}", index(i, shape));
                wrong(found, "all ones, or no mask: only encoders can hide tokens")
            }
        };
    }
    if let Some(i) = mask.iter().position(|x| ![0, 1].contains(x)) {
        return wrong(format!("{} at index {:?}", mask[i], index(i, shape)), "0 for a hidden token, 1 for any other");
    }
    match mask.chunks_exact(t).position(|row| !row.contains(&1)) {
        None => Ok(Some(mask.into_iter().map(|x| x as u32).collect())),
        Some(i) => wrong(format!("every token hidden in row {i}"), "at least one that is not"),
    }
}

/// Every token is of segment 0: embeddings of other segments are not read.
fn check_segments(file: &Checkpoint, name: &str) -> Result<()> {
    let Some(shape) = file.shape(name) else { return Ok(()) };
    let ids = file.tensor_i64(name)?;
    match ids.iter().position(|&x| x != 0) {
        None => Ok(()),
        Some(i) => {
            let found = format!("segment {} at index {:?}", ids[i], index(i, shape));
            Err(Error::tensor(file.path(), name, found, "all zeros, or no such tensor: texts of one segment"))
        }
    }
}

fn labels(file: &Checkpoint, name: &str, shapes: &[Vec<usize>], read_last: bool, classes: usize) -> Result<Labels> {
    let shape = file.shape(name).unwrap_or_default();
    if classes == 0 {
        return Err(Error::tensor(file.path(), name, "labels for a checkpoint without an output head", "a checkpoint with one"));
    }
    if !shapes.iter().any(|s| s == shape) {
        let expected: Vec<String> = shapes.iter().map(|s| format!("{s:?}")).collect();
        let (found, expected) = (format!("shape {shape:?}"), format!("shape {}, by the samples", expected.join(" or ")));
        return Err(Error::tensor(file.path(), name, found, expected));
    }
    let checked = file.tensor_i64(name)?.into_iter().enumerate().map(|(i, label)| {
        let fit = u32::try_from(label).ok().filter(|&l| (l as usize) < classes);
        fit.or((label == IGNORED).then_some(SKIPPED)).ok_or_else(|| {
            let found = format!("label {label} at index {:?}", index(i, shape));
            let expected = format!("labels from 0 to {}, the model's classes, or -100 for none", classes - 1);
            Error::tensor(file.path(), name, found, expected)
        })
    });
    let values: Vec<u32> = checked.collect::<Result<_>>()?;
    let per_position = shape.len() == 2;
    if per_position && read_last {
        let last = values.chunks_exact(shape[1]).map(|row| row[shape[1] - 1]).collect();
        return Ok(Labels { values: last, per_position: false });
    }
    Ok(Labels { values, per_position })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;
    use crate::model::fixture::{Stored, Tensors, mlp_config, shared, transformer_config, write};
    use crate::model::{ActFn, Norm, TransformerConfig, random_mlp, random_transformer};

    /// Vocabulary 11, context 5.
    fn transformer(read_last: bool) -> Model {
        let config = TransformerConfig { read_last, d_vocab_out: 4, ..transformer_config(Norm::None, ActFn::Relu) };
        Model::Transformer(random_transformer(config, DType::F64, 1).unwrap())
    }
    /// Width 4, 3 classes.
    fn mlp(dtype: DType) -> Model {
        Model::Mlp(random_mlp(mlp_config(true), dtype, 1).unwrap())
    }
    fn ints(shape: &[usize], x: &[i64]) -> Stored {
        ("I64", shape.to_vec(), x.iter().flat_map(|v| v.to_le_bytes()).collect())
    }
    fn short(shape: &[usize], x: &[i32]) -> Stored {
        ("I32", shape.to_vec(), x.iter().flat_map(|v| v.to_le_bytes()).collect())
    }
    fn reals(shape: &[usize], x: &[f64]) -> Stored {
        ("F64", shape.to_vec(), x.iter().flat_map(|v| v.to_le_bytes()).collect())
    }
    fn load_from(tensors: &[(&str, Stored)], suffix: &str, model: &Model) -> Result<DataSet> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.safetensors");
        write(&path, &tensors.iter().map(|(n, t)| (n.to_string(), t.clone())).collect::<Tensors>());
        load(&format!("{}{suffix}", path.display()), model)
    }
    fn message(tensors: &[(&str, Stored)], suffix: &str, model: &Model) -> String {
        let m = load_from(tensors, suffix, model).unwrap_err().to_string();
        assert!(m.contains("d.safetensors: ") && m.contains("; expected ") && !m.contains('\n'), "{m}");
        m
    }

    #[test]
    fn tokens_with_and_without_a_name() {
        let m = transformer(false);
        let bare = ("tokens", ints(&[2, 3], &[0, 10, 2, 3, 4, 5]));
        let named = ("b.tokens", short(&[1, 2], &[7, 8]));
        let d = load_from(&[bare.clone(), named.clone()], "", &m).unwrap();
        assert_eq!(d.samples, Samples::Tokens { ids: vec![0, 10, 2, 3, 4, 5], n: 2, t: 3 });
        assert_eq!((d.samples.count(), d.labels, d.name.as_str(), d.sha256.len()), (2, None, "d.safetensors", 64));
        let d = load_from(&[bare, named.clone()], "#b", &m).unwrap();
        assert_eq!(d.samples, Samples::Tokens { ids: vec![7, 8], n: 1, t: 2 });
        assert_eq!(d.name, "d.safetensors#b");
        assert_eq!(load_from(&[named], "", &m).unwrap().name, "d.safetensors#b");
    }

    #[test]
    fn labels_per_sample_and_per_position() {
        let data = |l| [("tokens", ints(&[2, 3], &[1; 6])), ("labels", l)];
        let (one, each) = (ints(&[2], &[3, 0]), ints(&[2, 3], &[0, 1, 2, 3, 2, 1]));
        let labels = |values: &[u32], per_position| Some(Labels { values: values.to_vec(), per_position });
        assert_eq!(load_from(&data(one.clone()), "", &transformer(false)).unwrap().labels, labels(&[3, 0], false));
        assert_eq!(load_from(&data(one), "", &transformer(true)).unwrap().labels, labels(&[3, 0], false));
        assert_eq!(load_from(&data(each.clone()), "", &transformer(false)).unwrap().labels, labels(&[0, 1, 2, 3, 2, 1], true));
        assert_eq!(load_from(&data(each), "", &transformer(true)).unwrap().labels, labels(&[2, 1], false));
    }

    #[test]
    fn a_mask_may_hide_nothing() {
        let m = transformer(false);
        let data = |mask| [("s.tokens", ints(&[2, 3], &[1; 6])), ("s.attention_mask", mask)];
        let truth = |x: &[u8]| ("BOOL", vec![2, 3], x.to_vec());
        for mask in [ints(&[2, 3], &[1; 6]), short(&[2, 3], &[1; 6]), truth(&[1; 6])] {
            assert!(load_from(&data(mask), "#s", &m).is_ok());
        }
        let e = message(&data(ints(&[2, 3], &[1, 1, 1, 0, 1, 1])), "#s", &m);
        assert!(e.contains("tensor s.attention_mask: a hidden token at index [1, 0]; expected all ones"), "{e}");
        assert!(message(&data(truth(&[1, 1, 0, 1, 1, 1])), "#s", &m).contains("index [0, 2]"));
        assert!(message(&data(ints(&[6], &[1; 6])), "#s", &m).contains("shape [6]; expected shape [2, 3]"));
    }

    #[test]
    fn an_encoder_takes_a_mask() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.safetensors");
        let samples = Samples::Tokens { ids: vec![1; 6], n: 2, t: 3 };
        let taken = |x: &[i64]| {
            write(&path, &Tensors::from([("m".into(), ints(&[2, 3], x))]));
            mask(&Checkpoint::open(&path).unwrap(), "m", &samples, true).map_err(|e| e.to_string())
        };
        assert_eq!(taken(&[1, 1, 0, 0, 1, 0]), Ok(Some(vec![1, 1, 0, 0, 1, 0])));
        assert_eq!(mask(&Checkpoint::open(&path).unwrap(), "none", &samples, true).unwrap(), None);
        let e = taken(&[1, 1, 0, 0, 2, 0]).unwrap_err();
        assert!(e.contains("tensor m: 2 at index [1, 1]; expected 0 for a hidden token"), "{e}");
        assert!(taken(&[1, -1, 0, 0, 1, 0]).unwrap_err().contains("-1 at index [0, 1]"));
        assert!(taken(&[1, 1, 0, 0, 0, 0]).unwrap_err().contains("every token hidden in row 1"));
    }

    #[test]
    fn texts_have_one_segment() {
        let data = |x: &[i64]| [("s.tokens", ints(&[1, 2], &[1, 2])), ("s.token_type_ids", ints(&[1, 2], x))];
        assert!(load_from(&data(&[0, 0]), "#s", &transformer(false)).is_ok());
        let e = message(&data(&[0, 1]), "#s", &transformer(false));
        assert!(e.contains("tensor s.token_type_ids: segment 1 at index [0, 1]; expected all zeros"), "{e}");
    }

    #[test]
    fn labels_may_be_left_out() {
        let data = [("tokens", ints(&[2, 3], &[1; 6])), ("labels", ints(&[2, 3], &[-100, 1, 2, 3, -100, -100]))];
        let labels = |values: &[u32], per_position| Some(Labels { values: values.to_vec(), per_position });
        const S: u32 = SKIPPED;
        assert_eq!(load_from(&data, "", &transformer(false)).unwrap().labels, labels(&[S, 1, 2, 3, S, S], true));
        assert_eq!(load_from(&data, "", &transformer(true)).unwrap().labels, labels(&[2, S], false));
        for bad in [-99, -1, i64::from(S)] {
            let e = message(&[("tokens", ints(&[1, 1], &[1])), ("labels", ints(&[1], &[bad]))], "", &transformer(true));
            assert!(e.contains(&format!("label {bad} at index [0]; expected labels from 0 to 3")), "{e}");
        }
    }

    #[test]
    fn inputs_are_flattened() {
        let x: Vec<f64> = (0..12).map(f64::from).collect();
        let data = [("a.inputs", reals(&[3, 2, 2], &x)), ("a.labels", short(&[3], &[2, 0, 1]))];
        let d = load_from(&data, "#a", &mlp(DType::F64)).unwrap();
        assert_eq!(d.samples, Samples::Inputs { x, n: 3, width: 4 });
        assert_eq!(d.labels, Some(Labels { values: vec![2, 0, 1], per_position: false }));
    }

    #[test]
    fn bad_tokens_are_named() {
        let m = transformer(false);
        let tokens = |shape: &[usize], x: &[i64]| message(&[("s.tokens", ints(shape, x))], "#s", &m);
        let e = tokens(&[2, 3], &[0, 1, 2, 3, 11, 5]);
        assert!(e.contains("tensor s.tokens: token id 11 in row 1, position 1") && e.contains("0 to 10"), "{e}");
        assert!(tokens(&[1, 2], &[4, -1]).contains("token id -1 in row 0, position 1"));
        assert!(tokens(&[1, 1], &[1 << 32]).contains("token id 4294967296"));
        assert!(tokens(&[1, 6], &[0; 6]).contains("sequences of 6 tokens; expected at most 5"));
        assert!(tokens(&[0, 3], &[]).contains("empty data set"));
        assert!(tokens(&[3, 0], &[]).contains("empty data set"));
        assert!(tokens(&[3], &[0; 3]).contains("shape [3]"));
        assert!(message(&[("tokens", reals(&[1, 2], &[0.0; 2]))], "", &m).contains("dtype F64"));
    }

    #[test]
    fn bad_inputs_are_named() {
        let m = mlp(DType::F32);
        let inputs = |shape: &[usize], x: &[f64]| message(&[("inputs", reals(shape, x))], "", &m);
        assert!(inputs(&[2, 3], &[0.0; 6]).contains("vectors of width 3; expected width 4"));
        assert!(inputs(&[0, 4], &[]).contains("empty data set"));
        assert!(inputs(&[2, 0], &[]).contains("width 0"));
        assert!(inputs(&[4], &[0.0; 4]).contains("shape [4]"));
        assert!(inputs(&[], &[0.0]).contains("shape []"));
        assert!(inputs(&[2, 4], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, f64::NAN, 0.0]).contains("NaN at index [1, 2]"));
        assert!(inputs(&[1, 4], &[0.0, f64::INFINITY, 0.0, 0.0]).contains("inf at index [0, 1]"));
        assert!(inputs(&[1, 4], &[0.0, 0.0, 0.0, 1e39]).contains("range of f32"));
        assert!(message(&[("inputs", ints(&[1, 4], &[0; 4]))], "", &m).contains("dtype I64"));
        let huge = ("F32", vec![0, 1 << 40, 1 << 40], vec![]);
        assert!(message(&[("inputs", huge)], "", &m).contains("empty data set"));
    }

    #[test]
    fn bad_labels_are_named() {
        let data = |l| [("tokens", ints(&[2, 3], &[1; 6])), ("labels", l)];
        let m = transformer(true);
        let e = message(&data(ints(&[2], &[0, 4])), "", &m);
        assert!(e.contains("tensor labels: label 4 at index [1]; expected labels from 0 to 3"), "{e}");
        assert!(message(&data(ints(&[2, 3], &[0, 0, 0, -1, 0, 0])), "", &m).contains("label -1 at index [1, 0]"));
        assert!(message(&data(ints(&[3], &[0; 3])), "", &m).contains("shape [3]; expected shape [2] or [2, 3]"));
        assert!(message(&data(reals(&[2], &[0.0; 2])), "", &m).contains("dtype F64"));
        let inputs = [("inputs", reals(&[1, 4], &[0.0; 4])), ("labels", ints(&[1, 4], &[0; 4]))];
        assert!(message(&inputs, "", &mlp(DType::F64)).contains("shape [1, 4]; expected shape [1]"));
        let inputs = [("inputs", reals(&[1, 4], &[0.0; 4])), ("labels", ints(&[1], &[3]))];
        assert!(message(&inputs, "", &mlp(DType::F64)).contains("label 3"));
    }

    #[test]
    fn missing_tensors_and_names() {
        let inputs = [("inputs", reals(&[1, 4], &[0.0; 4]))];
        let tokens = [("tokens", ints(&[1, 1], &[0]))];
        let e = message(&inputs, "", &transformer(false));
        assert!(e.contains("tensor tokens: not in the file, which holds inputs") && e.contains("transformer"), "{e}");
        let e = message(&tokens, "", &mlp(DType::F64));
        assert!(e.contains("tensor inputs: not in the file, which holds tokens") && e.contains("mlp"), "{e}");
        let e = message(&tokens, "#train", &transformer(false));
        assert!(e.contains("tensor train.tokens: not in the file, which holds tokens"), "{e}");
        let two = [("a.tokens", ints(&[1, 1], &[0])), ("b.tokens", ints(&[1, 1], &[0]))];
        assert!(message(&two, "", &transformer(false)).contains("several data sets: a, b"));
        let e = load_from(&two, "#", &transformer(false)).unwrap_err().to_string();
        assert!(e.contains("--data"), "{e}");
    }

    #[test]
    fn other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.txt", "a.jsonl", "a.TXT"] {
            let path = dir.path().join(name);
            std::fs::write(&path, "text").unwrap();
            let e = load(path.to_str().unwrap(), &transformer(false)).unwrap_err().to_string();
            assert!(e.contains(&format!("{name}: text; expected a safetensors file")), "{e}");
        }
        let e = load(dir.path().join("none.safetensors#x").to_str().unwrap(), &transformer(false)).unwrap_err().to_string();
        assert!(e.contains("none.safetensors: no such file"), "{e}");
        let e = load(dir.path().to_str().unwrap(), &transformer(false)).unwrap_err().to_string();
        assert!(e.contains("no regular file"), "{e}");
    }

    #[test]
    fn a_hash_sign_in_a_file_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run#3.safetensors");
        write(&path, &Tensors::from([("v.tokens".into(), ints(&[1, 1], &[2]))]));
        let d = load(path.to_str().unwrap(), &transformer(false)).unwrap();
        assert_eq!(d.name, "run#3.safetensors#v");
        assert_eq!(load(&format!("{}#v", path.display()), &transformer(false)).unwrap().name, "run#3.safetensors#v");
    }

    #[test]
    fn the_demo_has_two_splits() {
        let model = Model::load("demo:modadd", DType::F32).unwrap().model;
        for (split, rows) in [("train", 3830), ("test", 8939)] {
            let d = load(&format!("demo:modadd#{split}"), &model).unwrap();
            let Samples::Tokens { ids, n, t } = &d.samples else { panic!("no tokens") };
            assert_eq!((*n, *t, d.name), (rows, 3, format!("demo:modadd#{split}")));
            let labels = d.labels.unwrap();
            assert!(!labels.per_position);
            for (row, label) in ids.chunks_exact(3).zip(&labels.values) {
                assert_eq!((row[0] + row[1]) % 113, *label);
            }
        }
        let e = load("demo:modadd", &model).unwrap_err().to_string();
        assert!(e.contains("test, train"), "{e}");
        assert_eq!(load("demo:lm", &model).unwrap_err().to_string(), "demo:lm: text; expected a safetensors file");
        let e = load("demo:other#train", &model).unwrap_err().to_string();
        assert!(e.contains("demo:modadd"), "{e}");
    }

    #[test]
    fn fixture_data_loads() {
        let Some(shared) = shared() else { return };
        let dir = shared.join("fixtures/lib-paper/seed0");
        let model = Model::load(dir.to_str().unwrap(), DType::F64).unwrap().model;
        let d = load(&format!("{}#train", dir.join("dataset.safetensors").display()), &model).unwrap();
        assert_eq!((d.samples.count(), d.labels.unwrap().values.len()), (3830, 3830));
        let dir = shared.join("fixtures/transformer-lens/solu_ln");
        let model = Model::load(dir.to_str().unwrap(), DType::F64).unwrap().model;
        let d = load(dir.join("goldens.safetensors").to_str().unwrap(), &model).unwrap();
        assert!(matches!(d.samples, Samples::Tokens { n: 3, t: 23, .. }) && d.labels.is_none());
    }
}
