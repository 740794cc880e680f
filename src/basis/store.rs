//! `graph.safetensors`: the numbers of a LIB run.
//!
//! All tensors are f64. For node layer L: `mean.L` [d], `gram.L` [d, d] (centred, unless the run was
//! not), `L.C` [d, k], `L.C_pinv` [k, d], `L.W` [d, p], `L.W_pinv` [p, d], `L.eigenvalues` [p] of the
//! Gram matrix, and for Jacobian bases `L.V` [p, p] and `L.Lambda` [p]. `edges.L->M` [k_M, k_L].

use std::collections::BTreeMap;
use std::path::Path;

use faer::{Mat, MatRef};
use safetensors::tensor::{Dtype, TensorView, serialize};

use super::Graph;
use super::host::{from_rows, to_rows};
use crate::error::{Error, Result};
use crate::model::Checkpoint;

/// The file's name inside a RUN.
pub const FILE: &str = "graph.safetensors";
/// The layout that this build writes.
const SCHEMA_VERSION: &str = "1";

impl Graph {
    /// The bytes of `graph.safetensors`.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let mut tensors: Vec<(String, Vec<usize>, Vec<f64>)> = Vec::new();
        let mut matrix = |name: String, a: MatRef<'_, f64>| tensors.push((name, vec![a.nrows(), a.ncols()], to_rows(a)));
        for layer in &self.layers {
            let name = &layer.node.name;
            if let Some(b) = &layer.basis {
                let parts = [("C", &b.c), ("C_pinv", &b.c_pinv), ("W", &b.w), ("W_pinv", &b.w_pinv)];
                parts.iter().for_each(|(part, a)| matrix(format!("{name}.{part}"), a.as_ref()));
                b.v.iter().for_each(|v| matrix(format!("{name}.V"), v.as_ref()));
            }
            if let Some(m) = &layer.moments {
                matrix(format!("gram.{name}"), m.gram(&layer.node, self.centred).as_ref());
            }
        }
        for (i, e) in self.edges.iter().enumerate() {
            matrix(format!("edges.{}->{}", self.layers[i].node.name, self.layers[i + 1].node.name), e.as_ref());
        }
        let mut vector = |name: String, x: Vec<f64>| tensors.push((name, vec![x.len()], x));
        for layer in &self.layers {
            let name = &layer.node.name;
            layer.moments.iter().for_each(|m| vector(format!("mean.{name}"), m.full_mean(&layer.node)));
            if let Some(b) = &layer.basis {
                vector(format!("{name}.eigenvalues"), b.eigenvalues.clone());
                b.v.iter().for_each(|_| vector(format!("{name}.Lambda"), b.lambda.clone()));
            }
        }
        let wrong = |e: safetensors::SafeTensorError| Error::numeric(FILE, e.to_string(), "tensors that can be stored");
        let views = tensors.iter().map(|(name, shape, x)| {
            let view = TensorView::new(Dtype::F64, shape.clone(), bytemuck::cast_slice(x)).map_err(wrong)?;
            Ok((name, view))
        });
        let meta = [("schema_version".to_string(), SCHEMA_VERSION.to_string())].into();
        serialize(views.collect::<Result<Vec<_>>>()?, Some(meta)).map_err(wrong)
    }
}

/// The bases and edges of a finished run, read back.
#[derive(Clone, Debug)]
pub struct Stored {
    /// By node layer: (C, C+).
    pub bases: BTreeMap<String, (Mat<f64>, Mat<f64>)>,
    /// By node layer: (W, W+).
    pub principal: BTreeMap<String, (Mat<f64>, Mat<f64>)>,
    /// By the node layer they start from.
    pub edges: BTreeMap<String, Mat<f64>>,
}

/// Reads `graph.safetensors` at `path`.
pub fn read(path: &Path) -> Result<Stored> {
    let file = Checkpoint::open(path)?;
    let matrix = |name: &str| -> Result<Mat<f64>> {
        let shape = file.shape(name).unwrap_or_default().to_vec();
        let [rows, cols] = shape[..] else {
            return Err(Error::tensor(path, name, format!("shape {shape:?}"), "a matrix, as mechgraph lib writes it"));
        };
        Ok(from_rows(rows, cols, &file.tensor_f64(name, &shape)?))
    };
    let mut stored = Stored { bases: BTreeMap::new(), principal: BTreeMap::new(), edges: BTreeMap::new() };
    let names: Vec<String> = file.names().map(String::from).collect();
    for name in names {
        if let Some(layer) = name.strip_suffix(".C") {
            stored.bases.insert(layer.into(), (matrix(&name)?, matrix(&format!("{layer}.C_pinv"))?));
        } else if let Some(layer) = name.strip_suffix(".W") {
            stored.principal.insert(layer.into(), (matrix(&name)?, matrix(&format!("{layer}.W_pinv"))?));
        } else if let Some((from, _)) = name.strip_prefix("edges.").and_then(|n| n.split_once("->")) {
            stored.edges.insert(from.into(), matrix(&name)?);
        }
    }
    Ok(stored)
}
