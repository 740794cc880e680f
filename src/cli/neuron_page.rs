//! The `index.html` of an N2G run and the scripts in `data` beside it, made from the files of the RUN: the
//! manifest, the records and the tokenizer.

use serde_json::Value;

use super::neuron::{text_of, texts};
use super::run_dir::RunDir;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::n2g::record::{self, Record};
use crate::n2g::records::Records;
use crate::n2g::summary::{Layer, Means, Summary};
use crate::report::Table;
use crate::report::neurons::{CHUNK, Page, Row, chunk, chunk_file, html};

/// The page's name inside a RUN.
const FILE: &str = "index.html";
/// Writes the page of the run that `manifest` describes and `summary` sums up, where it has scores. Records are read one by one; those of one script
/// are in memory at a time.
///
/// Fails on a RUN without records or tokenizer, and on records that are not in the order of layer and neuron.
pub fn write(dir: &RunDir, manifest: &Manifest, summary: Option<&Summary>) -> Result<()> {
    let texts = texts(dir)?;
    let mut rows = Vec::new();
    let mut held: Vec<Record> = Vec::new();
    let mut last = None;
    let put = |held: &mut Vec<Record>| match held.first() {
        None => Ok(()),
        Some(first) => {
            let (layer, number) = (first.layer, first.neuron / CHUNK);
            let script = chunk(layer, number, held, |id| text_of(&texts, id));
            held.clear();
            dir.write(&chunk_file(layer, number), script.as_bytes())
        }
    };
    for record in Records::open(&dir.file(record::FILE))? {
        let record = record?;
        let name = (record.layer, record.neuron);
        if last.is_some_and(|last| last >= name) {
            let found = format!("neuron {}:{} out of order", name.0, name.1);
            return Err(Error::file(&dir.file(record::FILE), found, "each neuron once, by layer and number"));
        }
        last = Some(name);
        if held.first().is_some_and(|h| (h.layer, h.neuron / CHUNK) != (name.0, name.1 / CHUNK)) {
            put(&mut held)?;
        }
        rows.push(Row::of(&record));
        held.push(record);
    }
    put(&mut held)?;
    let title = format!("Neurons of {}", manifest.fingerprint.model.name);
    let page = Page { title, facts: facts(manifest), tables: summary.into_iter().map(table).collect(), rows };
    dir.write(FILE, html(&page).as_bytes())
}

/// Means of each layer and of all neurons: F1 with its interval first, and the published way last.
fn table(summary: &Summary) -> Table {
    let head = [
        "layer",
        "neurons",
        "scored",
        "precision",
        "recall",
        "F1",
        "95 % interval of F1",
        "token F1",
        "n-gram F1",
        "text precision",
        "text recall",
        "text F1",
        "F1 as published",
    ];
    let row = |layer: &Layer| {
        let name = layer.layer.map_or_else(|| "all".into(), |l| l.to_string());
        let number = |x: f64| format!("{x:.3}");
        let text = |of: fn(&Means) -> f64| layer.text.as_ref().map_or_else(String::new, |t| number(of(t)));
        let (low, high) = layer.f1_interval;
        let Means { precision, recall, f1 } = layer.held_out;
        vec![
            name,
            layer.neurons.to_string(),
            layer.scored.to_string(),
            number(precision),
            number(recall),
            number(f1),
            format!("{low:.3} to {high:.3}"),
            number(layer.token.f1),
            number(layer.ngram.f1),
            text(|t| t.precision),
            text(|t| t.recall),
            text(|t| t.f1),
            number(layer.published.f1),
        ]
    };
    let rows = summary.layers.iter().chain([&summary.all]).map(row).collect();
    Table { title: "Layers: means over scored neurons".into(), head: head.map(String::from).into(), rows }
}

/// What the head of the page says.
fn facts(manifest: &Manifest) -> Vec<(String, String)> {
    let f = &manifest.fingerprint;
    let times: Vec<String> = manifest.times_seconds.iter().map(|(name, s)| format!("{name} {s:.2} s")).collect();
    let setting = |key: &str| match manifest.settings.as_ref()?.get(key)? {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let rows = [
        ("Model", Some(f.model.name.clone())),
        ("Data", f.data.as_ref().map(|d| d.name.clone())),
        ("Unselected text", f.held_out.as_ref().map(|d| d.name.clone())),
        ("Site", setting("site")),
        ("Mode", f.config.get("mode").cloned()),
        ("Windows a neuron", setting("top_k")),
        ("Precision", Some(f.dtype.name().into())),
        ("Device", Some(format!("{} ({})", manifest.device.backend, manifest.device.name))),
        ("Time", Some(times.join(", "))),
        ("Version", Some(f.version.clone())),
    ];
    rows.into_iter().filter_map(|(key, value)| Some((key.to_string(), value.filter(|v| !v.is_empty())?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::neuron::tests::run_of;
    use crate::manifest::tests::example;
    use crate::n2g::fixture::record;
    use crate::n2g::summary::Collector;

    #[test]
    fn the_page_and_its_scripts_are_written() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = run_of(tmp.path(), &[(0, 1), (0, 63), (0, 64), (2, 64), (2, 300)]);
        let mut collector = Collector::default();
        [(0, 1), (0, 63), (2, 64)].iter().for_each(|&(l, n)| collector.add(&record(l, n)));
        let mut manifest = example();
        manifest.settings = Some(serde_json::json!({"site": "mlp_mid", "top_k": 20}));
        write(&dir, &manifest, Some(&collector.finish(7.0, 0))).unwrap();
        let mut names: Vec<String> =
            std::fs::read_dir(dir.file("data")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["neurons-0000-0000.js", "neurons-0000-0001.js", "neurons-0002-0001.js", "neurons-0002-0004.js"]);
        let read = |name: &str| std::fs::read_to_string(dir.file(name)).unwrap();
        let head = r#"mechgraphNeurons(0,0,{"texts":{"0":"\u003cunk>","1":"the","2":"cat"},"neurons":[{"neuron":1,"#;
        assert!(read("data/neurons-0000-0000.js").starts_with(head));
        assert_eq!(read("data/neurons-0000-0000.js").matches("\"neuron\":").count(), 2);
        let page = read("index.html");
        assert!(page.contains("<title>Neurons of modadd</title>"));
        assert!(page.contains("<dt>Site</dt><dd>mlp_mid</dd>") && page.contains("<dt>Windows a neuron</dt><dd>20</dd>"));
        for (name, neurons) in [("0", 2), ("2", 1), ("all", 3)] {
            let row =
                format!("<tr><td>{name}</td><td>{neurons}</td><td>{neurons}</td><td>0.750</td><td>0.750</td><td>0.750</td>");
            assert!(page.contains(&row), "{page}");
        }
        // Without scores there is nothing to sum up.
        write(&dir, &example(), None).unwrap();
        assert!(!read("index.html").contains("Layers: means"));
    }

    #[test]
    fn records_out_of_order_are_refused() {
        let tmp = tempfile::tempdir().unwrap();
        for neurons in [[(0, 1), (0, 1)], [(1, 0), (0, 9)]] {
            let dir = run_of(tmp.path(), &neurons);
            let e = write(&dir, &example(), None).unwrap_err().to_string();
            let (layer, neuron) = neurons[1];
            let want =
                format!("neurons.jsonl: neuron {layer}:{neuron} out of order; expected each neuron once, by layer and number");
            assert!(e.ends_with(&want), "{e}");
        }
    }
}
