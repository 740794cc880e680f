//! From Gram matrix and M' to the basis of a node layer (`lib.md` 1.5 and 1.7).

use faer::{Mat, MatRef};

use super::host::{congruence, eigen, from_lower, product, symmetrise};
use super::plan::Node;
use crate::error::{Error, Result};
use crate::model::sections::{coordinate_map, coords};

/// Cut-off of eigenvalues, strict: a direction is kept if its eigenvalue is above it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    Absolute(f64),
    /// Times the largest eigenvalue but the constant's.
    Relative(f64),
}

impl Threshold {
    fn resolve(self, values: impl Iterator<Item = f64>) -> f64 {
        match self {
            Threshold::Absolute(t) => t,
            Threshold::Relative(r) => r * values.fold(0.0, f64::max),
        }
    }
}

/// Mean and centred second moment of a node layer's values.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Number of rows.
    pub n: f64,
    pub mean: Vec<f64>,
    /// Sum of (x - mean)'(x - mean), lower triangle, row-major.
    pub m2: Vec<f64>,
}

impl Moments {
    /// Mean over all coordinates, constants included.
    pub fn full_mean(&self, node: &Node) -> Vec<f64> {
        coordinate_map(&node.members).iter().map(|c| c.map_or_else(|c| c, |i| self.mean[i])).collect()
    }
    /// The Gram matrix over all coordinates: centred but for the last coordinate, or raw.
    pub fn gram(&self, node: &Node, centre: bool) -> Mat<f64> {
        let (map, mean) = (coordinate_map(&node.members), self.full_mean(node));
        let (d, values) = (map.len(), self.mean.len());
        let m2 = from_lower(values, &self.m2);
        Mat::from_fn(d, d, |i, j| {
            let covariance = match (map[i], map[j]) {
                (Ok(a), Ok(b)) => m2[(a, b)] / self.n,
                _ => 0.0,
            };
            let keeps_mean = !centre || (i + 1 == d && j + 1 == d && map[i].is_err());
            covariance + if keeps_mean { mean[i] * mean[j] } else { 0.0 }
        })
    }
}

/// Principal directions of a node layer.
#[derive(Clone, Debug)]
pub struct Pca {
    /// Eigenvalues kept, the masked ones first.
    pub values: Vec<f64>,
    /// `[d, p]` and `[p, d]`
    pub w: Mat<f64>,
    pub w_pinv: Mat<f64>,
    /// How many leading directions keep to themselves: the constant, the LayerNorm variance.
    pub masked: usize,
    /// Whether the first of them is the constant.
    pub constant: bool,
}

/// Options of the principal directions.
#[derive(Clone, Copy, Debug)]
pub struct PcaOptions {
    pub centre: bool,
    pub isolate_variance: bool,
    pub threshold: Threshold,
}

/// Eigenvectors of the Gram matrix, behind the constant and the isolated variance.
pub fn pca(node: &Node, moments: &Moments, o: PcaOptions) -> Result<Pca> {
    let d = coords(&node.members);
    let map = coordinate_map(&node.members);
    if o.centre && !matches!(map.last(), Some(Err(c)) if (c.abs() - 1.0).abs() < 1e-6) {
        let found = format!("'{}', whose last coordinate is not the constant 1", node.name);
        return Err(Error::flag(
            "--node-layers",
            found,
            "a node layer that can be centred (use --no-center, or leave the output unrotated)",
        ));
    }
    let gram = moments.gram(node, o.centre);
    // With centring the constant coordinates have no variance: they cannot carry a direction.
    let isolated = usize::from(o.isolate_variance && node.variance);
    let kept: Vec<usize> = (isolated..d).filter(|&i| !o.centre || map[i].is_ok()).collect();
    let block = Mat::from_fn(kept.len(), kept.len(), |i, j| gram[(kept[i], kept[j])]);
    let (values, vectors) = eigen(block.as_ref(), &node.name)?;
    let mut columns: Vec<(f64, Vec<f64>)> = Vec::new();
    let unit = |at: usize| (0..d).map(|i| f64::from(u8::from(i == at))).collect::<Vec<_>>();
    if isolated == 1 {
        columns.push((gram[(0, 0)], unit(0)));
    }
    for (j, &value) in values.iter().enumerate() {
        let mut u = vec![0.0; d];
        for (i, &at) in kept.iter().enumerate() {
            u[at] = vectors[(i, j)];
        }
        columns.push((value, u));
    }
    let cut = o.threshold.resolve(columns.iter().map(|c| c.0));
    let isolated = isolated.min(columns.iter().take(isolated).filter(|c| c.0 > cut).count());
    columns.retain(|c| c.0 > cut);
    if o.centre {
        columns.insert(0, (gram[(d - 1, d - 1)], unit(d - 1)));
    }
    let u = Mat::from_fn(d, columns.len(), |i, j| columns[j].1[i]);
    // Y subtracts the mean from all coordinates but the last; its inverse puts it back.
    let mean = moments.full_mean(node);
    let (mut w, mut w_pinv) = (u.clone(), u.transpose().to_owned());
    if o.centre {
        for j in 0..columns.len() {
            w[(d - 1, j)] -= (0..d - 1).map(|i| mean[i] * u[(i, j)]).sum::<f64>();
            for i in 0..d - 1 {
                w_pinv[(j, i)] += u[(d - 1, j)] * mean[i];
            }
        }
    }
    let masked = usize::from(o.centre) + isolated;
    Ok(Pca { values: columns.into_iter().map(|c| c.0).collect(), w, w_pinv, masked, constant: o.centre })
}

/// The basis of a node layer: f_hat = f C, f ~ f_hat C+.
#[derive(Clone, Debug)]
pub struct Basis {
    /// `[d, k]` and `[k, d]`
    pub c: Mat<f64>,
    pub c_pinv: Mat<f64>,
    pub w: Mat<f64>,
    pub w_pinv: Mat<f64>,
    /// `[p, p]`, of the Jacobian bases
    pub v: Option<Mat<f64>>,
    /// Importances: of all p directions for the Jacobian bases, the k kept ones first; else mean
    /// squares.
    pub lambda: Vec<f64>,
    /// Eigenvalues of the Gram matrix along the columns of W (mean squares of the neuron basis).
    pub eigenvalues: Vec<f64>,
    /// Whether feature 0 is the constant.
    pub constant: bool,
}

impl Basis {
    pub fn k(&self) -> usize {
        self.c.ncols()
    }
    /// The principal directions themselves, without scaling.
    pub fn from_pca(p: &Pca) -> Self {
        Self {
            c: p.w.clone(),
            c_pinv: p.w_pinv.clone(),
            w: p.w.clone(),
            w_pinv: p.w_pinv.clone(),
            v: None,
            lambda: p.values.clone(),
            eigenvalues: p.values.clone(),
            constant: p.constant,
        }
    }
    /// The coordinates themselves; importances are mean squares.
    pub fn neuron(node: &Node, moments: &Moments) -> Self {
        let d = coords(&node.members);
        let gram = moments.gram(node, false);
        let lambda: Vec<f64> = (0..d).map(|i| gram[(i, i)]).collect();
        Self { eigenvalues: lambda.clone(), lambda, ..Self::identity(d) }
    }
    /// The `d` coordinates themselves, with importances of 1.
    pub fn identity(d: usize) -> Self {
        let (eye, lambda) = (Mat::<f64>::identity(d, d), vec![1.0; d]);
        Self {
            c: eye.clone(),
            c_pinv: eye.clone(),
            w: eye.clone(),
            w_pinv: eye,
            v: None,
            eigenvalues: lambda.clone(),
            lambda,
            constant: false,
        }
    }
}

/// Rotates the principal directions onto the singular vectors of the Jacobian and scales them by
/// importance. `lambda_dash` is set for the older formulas, whose importances are
/// |V' R+ L' R V| instead of the eigenvalues of M.
pub fn jacobian(node: &Node, p: &Pca, m_dash: &Mat<f64>, lambda_dash: Option<&Mat<f64>>, threshold: Threshold) -> Result<Basis> {
    let dims = p.values.len();
    let root: Vec<f64> = p.values.iter().map(|d| d.sqrt()).collect();
    let inner = symmetrise(&congruence(p.w_pinv.as_ref(), m_dash.as_ref()));
    let m = Mat::from_fn(dims, dims, |i, j| root[i] * inner[(i, j)] * root[j]);
    let n = p.masked;
    let (values, vectors) = eigen(m.submatrix(n, n, dims - n, dims - n), &node.name)?;
    let v = Mat::from_fn(dims, dims, |i, j| match (i < n, j < n) {
        (false, false) => vectors[(i - n, j - n)],
        _ => f64::from(u8::from(i == j)),
    });
    let mut lambda: Vec<f64> = (0..n).map(|i| m[(i, i)].abs()).chain(values).collect();
    // R = W D^-1/2 and its inverse R+ = D^1/2 W+.
    let r = Mat::from_fn(p.w.nrows(), dims, |i, j| p.w[(i, j)] / root[j]);
    let r_pinv = Mat::from_fn(dims, p.w.nrows(), |i, j| root[i] * p.w_pinv[(i, j)]);
    let (rv, vr) = (product(r.as_ref(), v.as_ref()), product(v.transpose(), r_pinv.as_ref()));
    if let Some(l) = lambda_dash {
        let half = product(vr.as_ref(), l.as_ref());
        lambda = (0..dims).map(|j| (0..half.ncols()).map(|i| half[(j, i)] * rv[(i, j)]).sum::<f64>().abs()).collect();
    }
    let mut order: Vec<usize> = (0..dims).collect();
    order[n..].sort_by(|&a, &b| lambda[b].total_cmp(&lambda[a]).then(a.cmp(&b)));
    let constants = usize::from(p.constant);
    let cut = threshold.resolve(lambda.iter().skip(constants).copied());
    // A direction without importance has no scale: it is dropped wherever it stands.
    let keep = |j: usize| lambda[j] > 0.0 && (j < n || lambda[j] >= cut);
    let kept: Vec<usize> = order.iter().copied().filter(|&j| keep(j)).collect();
    let c = Mat::from_fn(rv.nrows(), kept.len(), |i, j| rv[(i, kept[j])] * lambda[kept[j]].sqrt());
    let c_pinv = Mat::from_fn(kept.len(), vr.ncols(), |i, j| vr[(kept[i], j)] / lambda[kept[i]].sqrt());
    let constant = p.constant && kept.first() == Some(&0);
    let dropped = order.iter().copied().filter(|&j| !keep(j));
    let sorted: Vec<usize> = kept.iter().copied().chain(dropped).collect();
    Ok(Basis {
        c,
        c_pinv,
        w: p.w.clone(),
        w_pinv: p.w_pinv.clone(),
        v: Some(columns(v.as_ref(), &sorted)),
        eigenvalues: p.values.clone(),
        lambda: sorted.iter().map(|&j| lambda[j]).collect(),
        constant,
    })
}

fn columns(a: MatRef<'_, f64>, order: &[usize]) -> Mat<f64> {
    Mat::from_fn(a.nrows(), order.len(), |i, j| a[(i, order[j])])
}
