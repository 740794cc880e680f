//! `graph.safetensors`: the numbers of a LIB run.
//!
//! All tensors are f64. For node layer L: `mean.L` [d], `gram.L` [d, d] (centred, unless the run was
//! not), `L.C` [d, k], `L.C_pinv` [k, d], `L.W` [d, p], `L.W_pinv` [p, d], `L.eigenvalues` [p] of the
//! Gram matrix, and for Jacobian bases `L.V` [p, p] and `L.Lambda` [p]. `edges.L->M` [k_M, k_L].
//! Which layers there are, in the model's order, is told by the manifest.

use std::path::Path;

use faer::{Mat, MatRef};
use safetensors::tensor::{Dtype, TensorView, serialize};

use super::host::{from_rows, to_rows};
use super::{Graph, Layer};
use crate::error::{Error, Result};
use crate::manifest::NodeLayer;
use crate::model::Checkpoint;

/// The file's name inside a RUN.
pub const FILE: &str = "graph.safetensors";
/// The layout that this build writes.
const SCHEMA_VERSION: &str = "1";

impl Graph {
    /// What the manifest says of the layers.
    pub fn node_layers(&self) -> Vec<NodeLayer> {
        let layer = |l: &Layer| NodeLayer {
            name: l.node.name.clone(),
            width: l.node.width(),
            features: l.k(),
            rotated: l.basis.is_some(),
            constant: l.basis.as_ref().is_some_and(|b| b.constant),
        };
        self.layers.iter().map(layer).collect()
    }
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

/// The graph of a finished run; matrices are read when asked for.
#[derive(Debug)]
pub struct Stored {
    file: Checkpoint,
    /// In the model's order.
    pub layers: Vec<NodeLayer>,
}

impl Stored {
    /// Opens `graph.safetensors` at `path`, whose layers the manifest lists.
    pub fn open(path: &Path, layers: Vec<NodeLayer>) -> Result<Self> {
        Ok(Self { file: Checkpoint::open(path)?, layers })
    }
    /// C `[d, k]` and C+ `[k, d]` of layer `l`; `None` where it is not rotated.
    pub fn basis(&self, l: usize) -> Result<Option<(Mat<f64>, Mat<f64>)>> {
        self.pair(l, "C", self.layers[l].features)
    }
    /// W `[d, p]` and W+ `[p, d]` of layer `l`; `None` where it is not rotated.
    pub fn principal(&self, l: usize) -> Result<Option<(Mat<f64>, Mat<f64>)>> {
        let shape = self.file.shape(&format!("{}.W", self.layers[l].name));
        self.pair(l, "W", shape.and_then(|s| s.get(1)).copied().unwrap_or(0))
    }
    /// Importance of the features of layer `l`, `[k]`; empty where it is not rotated.
    pub fn importance(&self, l: usize) -> Result<Vec<f64>> {
        let layer = &self.layers[l];
        if !layer.rotated {
            return Ok(Vec::new());
        }
        let names = ["Lambda", "eigenvalues"].map(|part| format!("{}.{part}", layer.name));
        let name = names.iter().find(|n| self.file.shape(n).is_some()).unwrap_or(&names[1]);
        let shape = self.file.shape(name).unwrap_or_default().to_vec();
        let mut values = self.file.tensor_f64(name, &shape)?;
        values.truncate(layer.features);
        Ok(values)
    }
    /// E `[k_(l+1), k_l]` between layer `l` and the next; `None` where the run has no edges.
    pub fn edges(&self, l: usize) -> Result<Option<Mat<f64>>> {
        let Some([from, to]) = self.layers.get(l..l + 2) else { return Ok(None) };
        let name = format!("edges.{}->{}", from.name, to.name);
        if self.file.shape(&name).is_none() {
            return Ok(None);
        }
        self.matrix(&name, to.features, from.features).map(Some)
    }
    fn pair(&self, l: usize, part: &str, directions: usize) -> Result<Option<(Mat<f64>, Mat<f64>)>> {
        let NodeLayer { name, width, rotated, .. } = &self.layers[l];
        if !rotated {
            return Ok(None);
        }
        let forth = self.matrix(&format!("{name}.{part}"), *width, directions)?;
        Ok(Some((forth, self.matrix(&format!("{name}.{part}_pinv"), directions, *width)?)))
    }
    fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Mat<f64>> {
        Ok(from_rows(rows, cols, &self.file.tensor_f64(name, &[rows, cols])?))
    }
}
