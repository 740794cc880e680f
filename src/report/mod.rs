//! The report of a run: what a page shows, as plain data, and [`html`], which turns it into one self-contained file.
//!
//! Nothing here computes a basis or reads a run; callers fill a [`Page`] and write the returned text.

mod html;
pub mod neurons;

pub use html::{MAX_EDGES, html};

/// A node layer: one column of the interaction graph.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// Name of the node layer, unique within the page; [`Edges::from`] and [`Edges::to`] refer to it.
    pub name: String,
    /// Number of nodes `k`, the kept directions of the basis.
    pub width: usize,
    /// Importance Lambda of each node, `[k]`, the mean square of its feature; entries past `k` are ignored. Empty where
    /// the basis gives none: nodes are then ranked by the sum of |E| over all their edges.
    pub importance: Vec<f64>,
    /// Whether node 0 is the constant direction of a centred basis.
    pub constant: bool,
}

/// The edges between two node layers: `E[i, j]` joins input feature `j` and output feature `i`.
#[derive(Clone, Debug, Default)]
pub struct Edges {
    /// Name of the node layer of the input features.
    pub from: String,
    /// Name of the node layer of the output features.
    pub to: String,
    /// Number of output features, `k` of `to`.
    pub rows: usize,
    /// Number of input features, `k` of `from`.
    pub cols: usize,
    /// E, row-major `[rows, cols]`. Never negative for squared edges, of either sign for functional ones.
    pub values: Vec<f64>,
}

/// A line chart, for example the accuracy over the number of nodes kept.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    /// Lines as (name, points (x, y)); points with a non-finite coordinate are left out.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
    /// Whether the x axis is logarithmic; points with x <= 0 cannot be placed there and are left out.
    pub log_x: bool,
}

/// A table of text.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub title: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// Everything one page shows.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub title: String,
    /// What was run on what, as (name, value): model, data, basis, device, time.
    pub facts: Vec<(String, String)>,
    /// Node layers in the order of the network, drawn left to right.
    pub layers: Vec<Layer>,
    /// Edges between those layers.
    pub edges: Vec<Edges>,
    pub curves: Vec<Curve>,
    pub tables: Vec<Table>,
}
