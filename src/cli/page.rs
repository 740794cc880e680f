//! The `index.html` of a RUN, from its graph.

use crate::basis::Graph;
use crate::basis::host::to_rows;
use crate::report::{Edges, Layer, Page, html};

/// The page's name inside a RUN.
pub const FILE: &str = "index.html";

/// The page of a LIB run.
pub fn lib_page(graph: &Graph, model: &str, facts: Vec<(String, String)>) -> String {
    let layer = |l: &crate::basis::Layer| Layer {
        name: l.node.name.clone(),
        width: l.k(),
        importance: l.basis.as_ref().map_or(Vec::new(), |b| b.lambda[..b.k()].to_vec()),
        constant: l.basis.as_ref().is_some_and(|b| b.constant),
    };
    let edges = graph.edges.iter().zip(graph.layers.windows(2)).map(|(e, ends)| Edges {
        from: ends[0].node.name.clone(),
        to: ends[1].node.name.clone(),
        rows: e.nrows(),
        cols: e.ncols(),
        values: to_rows(e.as_ref()),
    });
    html(&Page {
        title: format!("Interaction graph of {model}"),
        facts,
        layers: graph.layers.iter().map(layer).collect(),
        edges: edges.collect(),
        ..Page::default()
    })
}
