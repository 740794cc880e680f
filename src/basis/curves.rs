//! `ablation-*.json`: the curves of an ablation, inside the RUN that was ablated.
//!
//! Beside `schema_version` and what was computed from what (as in `run.json`), with `accuracy` or
//! `loss` for METRIC and `node` or `edge` for KIND: `unablated_METRIC`; `KIND_ablation_METRIC`, by
//! node layer the metric by the number kept, falling; and of a bisection `KINDs_required`. Edges are
//! listed under the node layer they start from.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::schedule::{Curve, Metric};
use crate::error::{Error, Result};
use crate::manifest::Fingerprint;

/// The names that result files may have inside a RUN.
pub const FILES: [&str; 3] = ["ablation-node.json", "ablation-node-pca.json", "ablation-edge.json"];
const SCHEMA_VERSION: u32 = 1;

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Directions of a node layer.
    Node,
    /// Edges of a section.
    Edge,
}

/// The content of a result file.
#[derive(Clone, Debug)]
pub struct Ablation {
    pub fingerprint: Fingerprint,
    pub kind: Kind,
    pub metric: Metric,
    /// The metric of the model as it is.
    pub unablated: f64,
    /// By node layer, in the model's order.
    pub curves: Vec<(String, Curve)>,
}

/// The names of the fields.
struct Fields {
    unablated: String,
    curves: String,
    required: String,
}

fn fields(kind: Kind, metric: Metric) -> Fields {
    let (kind, metric) = (kind.name(), metric.name());
    Fields {
        unablated: format!("unablated_{metric}"),
        curves: format!("{kind}_ablation_{metric}"),
        required: format!("{kind}s_required"),
    }
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::Edge => "edge",
        }
    }
}

impl Metric {
    pub fn name(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::Loss => "loss",
        }
    }
}

impl Ablation {
    /// The text of the file.
    pub fn to_json(&self) -> Result<String> {
        let wrong = |e: serde_json::Error| Error::numeric("ablation", e.to_string(), "values that JSON can hold");
        let names = fields(self.kind, self.metric);
        let mut all = Map::from_iter([("schema_version".to_string(), json!(SCHEMA_VERSION))]);
        if let Value::Object(fingerprint) = serde_json::to_value(&self.fingerprint).map_err(wrong)? {
            all.extend(fingerprint);
        }
        let points = |c: &Curve| c.points.iter().rev().map(|(kept, value)| (kept.to_string(), json!(value))).collect::<Value>();
        all.insert(names.unablated, json!(self.unablated));
        all.insert(names.curves, self.curves.iter().map(|(layer, c)| (layer.clone(), points(c))).collect());
        if self.curves.iter().any(|(_, c)| c.required.is_some()) {
            let required = self.curves.iter().filter_map(|(layer, c)| Some((layer.clone(), json!(c.required?))));
            all.insert(names.required, required.collect());
        }
        serde_json::to_string_pretty(&Value::Object(all)).map(|text| text + "\n").map_err(wrong)
    }

    /// Reads a result file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, "reading", e))?;
        let wrong = |found: String| Error::file(path, found, "a result that mechgraph ablate wrote");
        let all: Value = serde_json::from_str(&text).map_err(|e| wrong(format!("no JSON ({e})")))?;
        match all["schema_version"].as_u64() {
            Some(v) if v == u64::from(SCHEMA_VERSION) => {}
            found => return Err(wrong(format!("schema_version {}", found.map_or("missing".into(), |v| v.to_string())))),
        }
        let fingerprint = Fingerprint::deserialize(&all).map_err(|e| wrong(format!("malformed fields ({e})")))?;
        let choices = [Kind::Node, Kind::Edge].into_iter().flat_map(|k| [(k, Metric::Accuracy), (k, Metric::Loss)]);
        let found = choices.filter_map(|(k, m)| Some((k, m, all[&fields(k, m).curves].as_object()?))).next();
        let (kind, metric, stored) = found.ok_or_else(|| wrong("no curves".into()))?;
        let names = fields(kind, metric);
        let curve = |layer: &String, points: &Value| {
            let point = |(kept, value): (&String, &Value)| Some((kept.parse().ok()?, value.as_f64()?));
            let points = points.as_object()?.iter().map(point).collect::<Option<_>>()?;
            let required = all[&names.required][layer].as_u64().map(|n| n as usize);
            Some((layer.clone(), Curve { points, required }))
        };
        let curves = stored.iter().map(|(layer, points)| curve(layer, points)).collect::<Option<_>>();
        let numbers = curves.zip(all[&names.unablated].as_f64());
        let (curves, unablated) = numbers.ok_or_else(|| wrong("curves that are not numbers by the number kept".into()))?;
        Ok(Self { fingerprint, kind, metric, unablated, curves })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::example;

    fn ablation(kind: Kind, metric: Metric, required: Option<usize>) -> Ablation {
        let points = [(0, 0.0625), (7, 0.375), (10, 0.875), (129, 1.0)].into();
        let curves = ["unembed", "ln1.0"].map(|layer| (layer.to_string(), Curve { points: Clone::clone(&points), required }));
        Ablation { fingerprint: example().fingerprint, kind, metric, unablated: 0.96875, curves: curves.into() }
    }

    #[test]
    fn the_file_has_the_fields_of_the_papers_artefacts() {
        // Text, as a reader of JSON may round the last digit.
        let paper = Ablation { unablated: 8935.0 / 8939.0, ..ablation(Kind::Edge, Metric::Accuracy, Some(82)) };
        assert!(paper.to_json().unwrap().contains("\"unablated_accuracy\": 0.9995525226535407,\n"));
        let text = ablation(Kind::Edge, Metric::Accuracy, Some(82)).to_json().unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&json["unablated_accuracy"], &json["edge_ablation_accuracy"]["ln1.0"]["7"]),
            (&json!(0.96875), &json!(0.375))
        );
        assert_eq!((&json["edges_required"]["ln1.0"], &json["schema_version"]), (&json!(82), &json!(1)));
        assert_eq!((&json["config"]["basis"], &json["data"]["name"]), (&json!("jacobian"), &json!("pairs")));
        let kept: Vec<&String> = json["edge_ablation_accuracy"]["unembed"].as_object().unwrap().keys().collect();
        assert_eq!(kept, ["129", "10", "7", "0"]);
        let node: Value = serde_json::from_str(&ablation(Kind::Node, Metric::Loss, None).to_json().unwrap()).unwrap();
        assert!(node["node_ablation_loss"].is_object() && node["unablated_loss"].is_f64());
        assert!(node.get("nodes_required").is_none() && node.get("edges_required").is_none());
    }

    #[test]
    fn survives_a_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ablation-node.json");
        for (kind, metric, required) in [(Kind::Node, Metric::Loss, None), (Kind::Edge, Metric::Accuracy, Some(3))] {
            let before = ablation(kind, metric, required);
            std::fs::write(&path, before.to_json().unwrap()).unwrap();
            let after = Ablation::read(&path).unwrap();
            assert_eq!((after.kind, after.metric, after.unablated), (kind, metric, before.unablated));
            assert_eq!(after.curves, before.curves);
            assert!(after.fingerprint.differences(&before.fingerprint).is_empty());
        }
    }

    #[test]
    fn refuses_what_is_no_result() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ablation-node.json");
        let text = ablation(Kind::Node, Metric::Accuracy, None).to_json().unwrap();
        let newer = text.replace("\"schema_version\": 1", "\"schema_version\": 2");
        let other = text.replace("node_ablation", "head_ablation");
        let (keys, values) = (text.replace("\"129\"", "\"all\""), text.replace("0.875,", "\"high\","));
        let bare = text.replace("\"command\"", "\"order\"");
        for (content, part) in [
            ("{", "no JSON"),
            ("{}", "schema_version missing"),
            (&newer, "schema_version 2"),
            (&other, "no curves"),
            (&keys, "not numbers"),
            (&values, "not numbers"),
            (&bare, "malformed fields"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = Ablation::read(&path).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("ablation-node.json: ") && !error.contains('\n'), "{error}");
        }
        assert!(Ablation::read(&dir.path().join("none")).unwrap_err().to_string().contains("reading failed"));
    }
}
