//! What a model is to predict at each of its outputs.

use std::path::Path;

use super::{DataSet, Labels, Samples};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::ops::loss::SKIPPED;

/// A label for every output of every sample, [`SKIPPED`] where there is none, and the number of those
/// that are not skipped.
///
/// Labels of the data set come first: one a sample belongs to its last output. Without them, a
/// transformer that reads every position predicts the next token of the same sample. Fails if there
/// is nothing to predict.
pub fn targets(data: &DataSet, model: &Model) -> Result<(Labels, usize)> {
    let reads_all = !model.reads_last();
    let outputs = if reads_all { data.samples.positions() } else { 1 };
    let wrong = |found: &str, expected: &str| Error::tensor(Path::new(&data.name), "labels", found, expected);
    let values = match (&data.labels, &data.samples) {
        (Some(l), _) if l.per_position || outputs == 1 => l.values.clone(),
        (Some(l), _) => {
            let row = |&label: &u32| std::iter::repeat_n(SKIPPED, outputs - 1).chain([label]);
            l.values.iter().flat_map(row).collect()
        }
        (None, Samples::Tokens { .. }) if model.is_encoder() => {
            return Err(wrong(
                "not in the file",
                "labels [N, T]: an encoder reads the whole sequence and predicts no next token",
            ));
        }
        (None, Samples::Tokens { ids, t, .. }) if reads_all => {
            let values: Vec<u32> = ids.chunks_exact(*t).flat_map(|row| row[1..].iter().copied().chain([SKIPPED])).collect();
            check_vocabulary(&values, model.classes(), data)?;
            values
        }
        (None, _) => return Err(wrong("not in the file", "labels [N]: this model gives one output a sample")),
    };
    match values.iter().filter(|&&l| l != SKIPPED).count() {
        0 if data.labels.is_some() => Err(wrong("-100 for every output", "at least one label that names a class")),
        0 => Err(wrong("not in the file, and samples of one token", "labels, or samples with a next token")),
        count => Ok((Labels { values, per_position: reads_all }, count)),
    }
}

/// Every next token must be one of the model's classes.
fn check_vocabulary(values: &[u32], classes: usize, data: &DataSet) -> Result<()> {
    match values.iter().find(|&&id| id != SKIPPED && id as usize >= classes) {
        None => Ok(()),
        Some(id) => {
            let found = format!("token id {id} as a next token");
            let expected = format!("ids from 0 to {}, the model's outputs, or labels", classes - 1);
            Err(Error::tensor(Path::new(&data.name), "tokens", found, expected))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;
    use crate::model::fixture::{mlp_config, transformer_config};
    use crate::model::{ActFn, Norm, TransformerConfig, random_mlp, random_transformer};

    const S: u32 = SKIPPED;

    fn transformer(read_last: bool) -> Model {
        let config = TransformerConfig { read_last, d_vocab_out: 9, ..transformer_config(Norm::None, ActFn::Relu) };
        Model::Transformer(random_transformer(config, DType::F64, 1).unwrap())
    }
    fn data(t: usize, ids: &[u32], labels: Option<(&[u32], bool)>) -> DataSet {
        let samples = Samples::Tokens { ids: ids.to_vec(), n: ids.len() / t, t };
        let labels = labels.map(|(values, per_position)| Labels { values: values.to_vec(), per_position });
        DataSet { samples, labels, mask: None, text: None, name: "d".into(), sha256: String::new() }
    }
    fn found(data: &DataSet, model: &Model) -> std::result::Result<(Vec<u32>, usize), String> {
        targets(data, model).map(|(l, n)| (l.values, n)).map_err(|e| e.to_string())
    }

    #[test]
    fn labels_go_before_next_tokens() {
        let ids = [1, 2, 3, 4, 5, 6];
        let (all, last) = (transformer(false), transformer(true));
        assert_eq!(found(&data(3, &ids, None), &all), Ok((vec![2, 3, S, 5, 6, S], 4)));
        assert_eq!(found(&data(3, &ids, Some((&[7, 8], false))), &all), Ok((vec![S, S, 7, S, S, 8], 2)));
        assert_eq!(found(&data(3, &ids, Some((&[7, 8, 0, 0, 1, 2], true))), &all), Ok((vec![7, 8, 0, 0, 1, 2], 6)));
        assert_eq!(found(&data(3, &ids, Some((&[7, 8], false))), &last), Ok((vec![7, 8], 2)));
        let mlp = Model::Mlp(random_mlp(mlp_config(true), DType::F64, 1).unwrap());
        let mut inputs = data(1, &[0, 0], Some((&[2, 0], false)));
        inputs.samples = Samples::Inputs { x: vec![0.0; 8], n: 2, width: 4 };
        assert_eq!(found(&inputs, &mlp), Ok((vec![2, 0], 2)));
        inputs.labels = None;
        assert!(found(&inputs, &mlp).unwrap_err().contains("d: tensor labels: not in the file"));
    }

    #[test]
    fn nothing_to_predict_is_refused() {
        let message = |d: &DataSet, m: &Model| found(d, m).unwrap_err();
        assert!(message(&data(3, &[1; 6], None), &transformer(true)).contains("one output a sample"));
        assert!(message(&data(1, &[1; 6], None), &transformer(false)).contains("samples of one token"));
        let e = message(&data(2, &[1, 3], Some((&[S, S], true))), &transformer(false));
        assert!(e.contains("tensor labels: -100 for every output; expected at least one"), "{e}");
        let e = message(&data(2, &[1, 10], None), &transformer(false));
        assert!(e.contains("tensor tokens: token id 10 as a next token; expected ids from 0 to 8"), "{e}");
    }
}
