//! The `index.html` of a LIB run, made from the files of the RUN: the manifest, the graph, and the
//! ablations that there are.

use super::run_dir::RunDir;
use crate::basis::curves::{Ablation, FILES, Kind};
use crate::basis::host::to_rows;
use crate::basis::store::{self, Stored};
use crate::error::Result;
use crate::manifest::Manifest;
use crate::report::{Curve, Edges, Layer, Page, Table, html};

/// The page's name inside a RUN.
const FILE: &str = "index.html";

/// Writes the page of the run that `manifest` describes.
pub fn write(dir: &RunDir, manifest: &Manifest) -> Result<()> {
    let graph = Stored::open(&dir.file(store::FILE), manifest.node_layers.clone())?;
    let (mut layers, mut edges) = (Vec::new(), Vec::new());
    for (l, layer) in graph.layers.iter().enumerate() {
        let (name, width, constant) = (layer.name.clone(), layer.features, layer.constant);
        layers.push(Layer { name, width, importance: graph.importance(l)?, constant });
        if let Some(e) = graph.edges(l)? {
            let (from, to) = (layer.name.clone(), graph.layers[l + 1].name.clone());
            edges.push(Edges { from, to, rows: e.nrows(), cols: e.ncols(), values: to_rows(e.as_ref()) });
        }
    }
    let (mut curves, mut tables) = (Vec::new(), Vec::new());
    for path in FILES.map(|name| dir.file(name)).into_iter().filter(|path| path.exists()) {
        let ablation = Ablation::read(&path)?;
        curves.push(curve(&ablation));
        tables.extend(required(&ablation));
    }
    let title = format!("Interaction graph of {}", manifest.fingerprint.model.name);
    let page = Page { title, facts: facts(manifest), layers, edges, curves, tables };
    dir.write(FILE, html(&page).as_bytes())
}

/// What the head of the page says.
fn facts(manifest: &Manifest) -> Vec<(String, String)> {
    let f = &manifest.fingerprint;
    let sizes: Vec<String> = manifest.node_layers.iter().map(|l| format!("{} {}", l.name, l.features)).collect();
    let times: Vec<String> = manifest.times_seconds.iter().map(|(name, s)| format!("{name} {s:.2} s")).collect();
    let rows = [
        ("Model", f.model.name.clone()),
        ("Data", f.data.as_ref().map_or(String::new(), |d| d.name.clone())),
        ("Basis", f.config.get("basis").cloned().unwrap_or_default()),
        ("Features", sizes.join(", ")),
        ("Precision", f.dtype.name().into()),
        ("Device", format!("{} ({})", manifest.device.backend, manifest.device.name)),
        ("Time", times.join(", ")),
        ("Version", f.version.clone()),
    ];
    rows.into_iter().map(|(k, v)| (k.to_string(), v)).collect()
}

fn curve(ablation: &Ablation) -> Curve {
    let what = match (ablation.kind, ablation.fingerprint.config.get("basis").map(String::as_str)) {
        (Kind::Edge, _) => "Edge ablation",
        (Kind::Node, Some("pca")) => "Node ablation, principal directions",
        (Kind::Node, _) => "Node ablation",
    };
    let data = ablation.fingerprint.data.as_ref().map_or(String::new(), |d| format!(" on {}", d.name));
    let metric = ablation.metric.name();
    let points = |c: &crate::basis::schedule::Curve| c.points.iter().map(|(&kept, &value)| (kept as f64, value)).collect();
    Curve {
        title: format!("{what}{data}; without: {metric} {:.5}", ablation.unablated),
        x_label: if ablation.kind == Kind::Edge { "edges kept" } else { "directions kept" }.into(),
        y_label: metric.into(),
        series: ablation.curves.iter().map(|(layer, c)| (layer.clone(), points(c))).collect(),
        log_x: ablation.kind == Kind::Edge,
    }
}

/// What the bisections found.
fn required(ablation: &Ablation) -> Option<Table> {
    let (kind, metric) = (ablation.kind.name(), ablation.metric.name());
    let rows: Vec<Vec<String>> = ablation
        .curves
        .iter()
        .filter_map(|(layer, c)| {
            let at = c.points.get(&c.required?).copied().unwrap_or(ablation.unablated);
            Some(vec![layer.clone(), c.required?.to_string(), format!("{at:.5}")])
        })
        .collect();
    let head = ["node layer".into(), format!("{kind}s required"), metric.into()].into();
    (!rows.is_empty()).then(|| Table { title: format!("Fewest {kind}s that keep the {metric}"), head, rows })
}
