//! The `index.html` of an N2G run and the scripts in `data` beside it, made from the files of the RUN: the
//! manifest, the records and the tokenizer.

use std::collections::BTreeMap;

use super::neuron::{text_of, texts};
use super::run_dir::RunDir;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::n2g::record::{self, Record, Scores, Status};
use crate::n2g::records::Records;
use crate::report::Table;
use crate::report::neurons::{CHUNK, Page, Row, chunk, chunk_file, html};

/// The page's name inside a RUN.
const FILE: &str = "index.html";
/// Means in the table of layers.
const MEANS: [&str; 6] = ["precision", "recall", "F1", "token F1", "n-gram F1", "text F1"];

/// A layer as the page sums it up.
#[derive(Clone, Debug, Default, PartialEq)]
struct Layer {
    neurons: usize,
    /// With a trie.
    done: usize,
    /// By [`MEANS`]: how many neurons count, and the sum of what they have.
    sums: [(usize, f64); 6],
}

/// Writes the page of the run that `manifest` describes. Records are read one by one; those of one script
/// are in memory at a time.
///
/// Fails on a RUN without records or tokenizer, and on records that are not in the order of layer and neuron.
pub fn write(dir: &RunDir, manifest: &Manifest) -> Result<()> {
    let texts = texts(dir)?;
    let (mut rows, mut layers) = (Vec::new(), BTreeMap::<usize, Layer>::new());
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
        layers.entry(record.layer).or_default().add(&record);
        rows.push(Row::of(&record));
        held.push(record);
    }
    put(&mut held)?;
    let title = format!("Neurons of {}", manifest.fingerprint.model.name);
    let page = Page { title, facts: facts(manifest), tables: vec![table(&layers)], rows };
    dir.write(FILE, html(&page).as_bytes())
}

impl Layer {
    /// Means are over neurons that fire or are predicted to; of others precision and recall are undefined.
    fn add(&mut self, record: &Record) {
        self.neurons += 1;
        self.done += usize::from(record.status == Status::Done);
        let Some(Scores { held_out, token, ngram, text, .. }) = &record.scores else { return };
        let text = text.as_ref().map(|t| t.trie);
        let has_class = |c: &record::Counts| c.tp + c.fp + c.fn_ > 0;
        let held = [held_out.precision(), held_out.recall(), held_out.f1(), token.f1(), ngram.f1()];
        let held = held.map(|x| has_class(held_out).then_some(x));
        let values = held.into_iter().chain([text.filter(has_class).map(|c| c.f1())]);
        for ((count, sum), value) in self.sums.iter_mut().zip(values) {
            if let Some(value) = value {
                (*count, *sum) = (*count + 1, *sum + value);
            }
        }
    }
}

/// Means of each layer.
fn table(layers: &BTreeMap<usize, Layer>) -> Table {
    let head = ["layer", "neurons", "with a trie", "scored"].into_iter().chain(MEANS).map(String::from).collect();
    let row = |(number, layer): (&usize, &Layer)| {
        let mean = |&(count, sum): &(usize, f64)| if count == 0 { String::new() } else { format!("{:.3}", sum / count as f64) };
        let counts = [*number, layer.neurons, layer.done, layer.sums[0].0].map(|n| n.to_string());
        counts.into_iter().chain(layer.sums.iter().map(mean)).collect()
    };
    Table { title: "Layers: means over scored neurons".into(), head, rows: layers.iter().map(row).collect() }
}

/// What the head of the page says.
fn facts(manifest: &Manifest) -> Vec<(String, String)> {
    let f = &manifest.fingerprint;
    let times: Vec<String> = manifest.times_seconds.iter().map(|(name, s)| format!("{name} {s:.2} s")).collect();
    let option = |key: &str| f.config.get(key).cloned();
    let rows = [
        ("Model", Some(f.model.name.clone())),
        ("Data", f.data.as_ref().map(|d| d.name.clone())),
        ("Held out", option("held-out")),
        ("Site", option("site")),
        ("Mode", option("mode")),
        ("Windows a neuron", option("top-k")),
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
    use crate::n2g::record::Counts;

    #[test]
    fn the_page_and_its_scripts_are_written() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = run_of(tmp.path(), &[(0, 1), (0, 63), (0, 64), (2, 64), (2, 300)]);
        write(&dir, &example()).unwrap();
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
        assert!(page.contains("<tr><td>2</td><td>2</td><td>2</td><td>2</td><td>0.750</td><td>0.750</td><td>0.750</td><td>0.571</td><td>0.400</td><td>0.333</td></tr>"), "{page}");
    }

    #[test]
    fn means_are_over_neurons_that_have_something_to_predict() {
        let mut layer = Layer::default();
        layer.add(&record(0, 0));
        let mut silent = record(0, 1);
        silent.scores.as_mut().unwrap().held_out = Counts { tokens: 100, ..Counts::default() };
        silent.scores.as_mut().unwrap().text = None;
        layer.add(&silent);
        layer.add(&Record { status: Status::NotPositive, scores: None, ..record(0, 2) });
        assert_eq!((layer.neurons, layer.done, layer.sums[2], layer.sums[5].0), (3, 2, (1, 0.75), 1));
    }

    #[test]
    fn records_out_of_order_are_refused() {
        let tmp = tempfile::tempdir().unwrap();
        for neurons in [[(0, 1), (0, 1)], [(1, 0), (0, 9)]] {
            let dir = run_of(tmp.path(), &neurons);
            let e = write(&dir, &example()).unwrap_err().to_string();
            let (layer, neuron) = neurons[1];
            let want =
                format!("neurons.jsonl: neuron {layer}:{neuron} out of order; expected each neuron once, by layer and number");
            assert!(e.ends_with(&want), "{e}");
        }
    }
}
