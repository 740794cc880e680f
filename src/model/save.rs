//! Writing a model back as the folder it is loaded from.

use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

use super::Model;
use crate::device::DType;
use crate::error::{Error, Result};

/// Writes `config.json` and `model.safetensors` (in the model's dtype) into `dir`, which is made if absent.
/// Fails if the folder or a file cannot be written.
pub fn save(model: &Model, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, "making the folder", e))?;
    let (config, tensors) = match model {
        Model::Transformer(t) => (t.config.to_json(), t.to_file()),
        Model::Mlp(m) => (m.config.to_json(), m.to_file()),
        Model::Lm(lm) => {
            let found = format!("a model of the family {}", lm.family);
            return Err(Error::file(dir, found, "a transformer_lens or mlp model: others stay in the files they came in"));
        }
    };
    let dtype = match model.dtype() {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
    };
    let encode = |x: Vec<f64>| match model.dtype() {
        DType::F32 => bytemuck::cast_slice(&x.iter().map(|&x| x as f32).collect::<Vec<f32>>()).to_vec(),
        DType::F64 => bytemuck::cast_slice(&x).to_vec(),
    };
    let path = dir.join("model.safetensors");
    let wrong =
        |e: safetensors::SafeTensorError| Error::file(&path, format!("tensors that cannot be stored ({e})"), "a valid model");
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> =
        tensors.into_iter().map(|(name, shape, x)| (name, shape, encode(x))).collect();
    let views = bytes.iter().map(|(name, shape, raw)| Ok((name, TensorView::new(dtype, shape.clone(), raw).map_err(wrong)?)));
    let file = serialize(views.collect::<Result<Vec<_>>>()?, None).map_err(wrong)?;
    std::fs::write(&path, file).map_err(|e| Error::io(&path, "writing", e))?;
    let path = dir.join("config.json");
    std::fs::write(&path, format!("{config:#}\n")).map_err(|e| Error::io(&path, "writing", e))
}
