//! Writes the page of an N2G run: one HTML file with a list of all neurons, and scripts with what is known
//! of each, [`CHUNK`] neurons a file, that the page loads as they are asked for. Nothing of it needs a network.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Table;
use super::html::{escape, facts, fill, short, table};
use crate::n2g::graph::{Graph, Node, visible};
use crate::n2g::record::{Exemplar, Line, Record, Scores, Status};

/// Neurons of a layer in a script: those of number `CHUNK * C` to `CHUNK * C + CHUNK - 1` are in script C.
pub const CHUNK: usize = 64;

const TEMPLATE: &str = include_str!("neurons.html");
const STYLE: &str = concat!(include_str!("page.css"), include_str!("neurons.css"));
const SCRIPT: &str = concat!(include_str!("dom.js"), include_str!("neurons.js"), include_str!("neuron.js"));
/// By [`Row::status`].
const STATUSES: [&str; 3] = ["done", "not positive", "failed"];

/// Everything the HTML file shows.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub title: String,
    /// What was run on what, as (name, value).
    pub facts: Vec<(String, String)>,
    pub tables: Vec<Table>,
    /// The neurons, by layer and number.
    pub rows: Vec<Row>,
}

/// A neuron in the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    layer: usize,
    neuron: usize,
    status: usize,
    a_max: f32,
    firing_rate: f32,
    /// Precision, recall and F1 of the trie, F1 of tokens and n-grams, F1 of the trie on unselected text.
    scores: [Option<f64>; 6],
}

impl Row {
    /// The row of a record.
    pub fn of(record: &Record) -> Self {
        let scores = record.scores.as_ref().map_or([None; 6], |s| {
            let trie = s.held_out;
            let held_out = [trie.precision(), trie.recall(), trie.f1(), s.token.f1(), s.ngram.f1()].map(Some);
            let [p, r, f1, token, ngram] = held_out;
            [p, r, f1, token, ngram, s.text.as_ref().map(|t| t.trie.f1())]
        });
        let status = match record.status {
            Status::Done => 0,
            Status::NotPositive => 1,
            Status::Failed(_) => 2,
        };
        let &Record { layer, neuron, a_max, firing_rate, .. } = record;
        Self { layer, neuron, status, a_max, firing_rate, scores }
    }
}

/// What the script lists.
#[derive(Serialize)]
struct Data {
    count: usize,
    chunk: usize,
    statuses: [&'static str; 3],
    columns: serde_json::Map<String, serde_json::Value>,
}

/// The HTML file. Names are escaped wherever they stand.
pub fn html(page: &Page) -> String {
    let data = Data { count: page.rows.len(), chunk: CHUNK, statuses: STATUSES, columns: columns(&page.rows) };
    fill(
        TEMPLATE,
        &[
            ("title", &escape(&page.title)),
            ("css", STYLE),
            ("facts", &facts(&page.facts)),
            ("tables", &page.tables.iter().map(table).collect::<String>()),
            ("data", &json(&data)),
            ("js", SCRIPT),
        ],
    )
}

/// The columns of the list, from left to right: title, explanation and values of each.
fn columns(rows: &[Row]) -> serde_json::Map<String, serde_json::Value> {
    let number = |x: usize| Some(x as f64);
    type Value = Box<dyn Fn(&Row) -> Option<f64>>;
    let score = |i: usize| -> Value { Box::new(move |r: &Row| r.scores[i]) };
    let all: [(&str, &str, &str, Value); 11] = [
        ("layer", "layer", "number of the layer", Box::new(move |r| number(r.layer))),
        ("neuron", "neuron", "number in the layer", Box::new(move |r| number(r.neuron))),
        ("status", "status", "how far it came", Box::new(move |r| number(r.status))),
        ("a_max", "maximum", "largest activation", Box::new(|r| Some(f64::from(r.a_max)))),
        ("firing_rate", "fires", "share of tokens at half of the maximum or more", Box::new(|r| Some(f64::from(r.firing_rate)))),
        ("precision", "precision", "of the trie, held-out windows", score(0)),
        ("recall", "recall", "of the trie, held-out windows", score(1)),
        ("f1", "F1", "of the trie, held-out windows", score(2)),
        ("token_f1", "token F1", "of the token lookup, held-out windows", score(3)),
        ("ngram_f1", "n-gram F1", "of the n-gram lookup, held-out windows", score(4)),
        ("text_f1", "text F1", "of the trie, unselected text", score(5)),
    ];
    let column = |(key, title, about, value): (&str, &str, &str, Value)| {
        let values: Vec<Option<f64>> = rows.iter().map(|r| value(r).filter(|x| x.is_finite()).map(short)).collect();
        (key.to_string(), serde_json::json!({"title": title, "about": about, "values": values}))
    };
    all.into_iter().map(column).collect()
}

/// Plain data as JSON that may stand in a script, in HTML or in a file. `<` and the line separators stand only
/// inside strings: escaped, no text can end the script or open a comment.
fn json(data: &impl Serialize) -> String {
    let json = serde_json::to_string(data).expect("plain data with string keys");
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// The path, from the HTML file, of the script of some neurons of a layer.
pub fn chunk_file(layer: usize, chunk: usize) -> String {
    format!("data/neurons-{layer:04}-{chunk:04}.js")
}

/// What a script holds.
#[derive(Serialize)]
struct Chunk<'a> {
    /// Texts of the ids that the exemplars hold, with nothing hidden in them.
    texts: BTreeMap<u32, String>,
    neurons: Vec<Shown<'a>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    neuron: usize,
    status: String,
    a_max: f32,
    firing_rate: f32,
    exemplars: Vec<Window<'a>>,
    train: &'a [usize],
    test: &'a [usize],
    graph: Option<Drawn<'a>>,
    scores: Option<Vec<Score>>,
}

#[derive(Serialize)]
struct Window<'a> {
    window: usize,
    position: usize,
    value: f32,
    duplicate_of: Option<usize>,
    start: usize,
    tokens: &'a [u32],
    /// `[tokens]`: activations in thousandths of the neuron's maximum, which is what a tint can show.
    levels: Vec<i64>,
}

#[derive(Serialize)]
struct Drawn<'a> {
    nodes: Vec<Shape<'a>>,
    edges: Vec<(usize, usize)>,
}

#[derive(Serialize)]
struct Shape<'a> {
    label: String,
    depth: usize,
    fill: &'a str,
    dark: bool,
    end: bool,
}

impl<'a> Shape<'a> {
    fn of(node: &'a Node) -> Self {
        Self { label: node.label(), depth: node.depth, fill: &node.fill, dark: node.is_dark, end: node.is_end }
    }
}

#[derive(Serialize)]
struct Score {
    what: &'static str,
    precision: f64,
    recall: f64,
    f1: f64,
    interval: Option<(f64, f64)>,
    fires: u64,
    predicted: u64,
    tokens: u64,
}

/// The script of some neurons of a layer; `text` gives the text of a token by its id.
pub fn chunk(layer: usize, chunk: usize, records: &[Record], text: impl Fn(u32) -> String) -> String {
    let ids = records.iter().flat_map(|r| &r.exemplars).flat_map(|e| e.tokens.iter().copied());
    let texts = ids.map(|id| (id, visible(&text(id)))).collect();
    let content = Chunk { texts, neurons: records.iter().map(shown).collect() };
    format!("mechgraphNeurons({layer},{chunk},{});\n", json(&content))
}

fn shown(record: &Record) -> Shown<'_> {
    let status = match &record.status {
        Status::Done => "Done".into(),
        Status::NotPositive => "Its maximum is not positive".into(),
        Status::Failed(why) => format!("Failed: {}", visible(why)),
    };
    Shown {
        neuron: record.neuron,
        status,
        a_max: record.a_max,
        firing_rate: record.firing_rate,
        exemplars: record.exemplars.iter().map(|e| window(e, record.a_max)).collect(),
        train: &record.train,
        test: &record.test,
        graph: record.graph.as_ref().map(drawn),
        scores: record.scores.as_ref().map(scores),
    }
}

fn window(exemplar: &Exemplar, a_max: f32) -> Window<'_> {
    let level = |a: &f32| (1000.0 * f64::from(*a) / f64::from(a_max)).round() as i64;
    let Exemplar { window, position, value, duplicate_of, start, ref tokens, ref activations } = *exemplar;
    let levels = activations.iter().map(|a| if a_max > 0.0 { level(a) } else { 0 }).collect();
    Window { window, position, value, duplicate_of, start, tokens, levels }
}

/// The graph, without edges that name no node.
fn drawn(graph: &Graph) -> Drawn<'_> {
    let count = graph.nodes.len();
    let edges = graph.edges.iter().copied().filter(|&(a, b)| a < count && b < count).collect();
    Drawn { nodes: graph.nodes.iter().map(Shape::of).collect(), edges }
}

fn scores(scores: &Scores) -> Vec<Score> {
    let score = |line: Line| {
        let c = line.counts;
        Score {
            what: line.what,
            precision: short(c.precision()),
            recall: short(c.recall()),
            f1: short(c.f1()),
            interval: line.f1_interval.map(|(low, high)| (short(low), short(high))),
            fires: c.tp + c.fn_,
            predicted: c.tp + c.fp,
            tokens: c.tokens,
        }
    };
    scores.lines().into_iter().map(score).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::n2g::fixture::record;

    fn embedded(page: &str) -> Value {
        let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
        serde_json::from_str(rest.split_once("</script").unwrap().0).unwrap()
    }
    fn content(script: &str) -> Value {
        serde_json::from_str(script.strip_prefix("mechgraphNeurons(3,1,").unwrap().strip_suffix(");\n").unwrap()).unwrap()
    }

    #[test]
    fn the_list_has_a_row_for_every_neuron() {
        let silent = Record { status: Status::NotPositive, a_max: f32::NAN, scores: None, ..record(1, 2) };
        let page = Page { rows: vec![Row::of(&record(0, 70)), Row::of(&silent)], ..Page::default() };
        let data = embedded(&html(&page));
        assert_eq!((&data["count"], &data["chunk"]), (&json!(2), &json!(64)));
        let values = |key: &str| data["columns"][key]["values"].clone();
        assert_eq!(
            (values("layer"), values("neuron"), values("status")),
            (json!([0.0, 1.0]), json!([70.0, 2.0]), json!([0.0, 1.0]))
        );
        assert_eq!((values("a_max"), values("f1")), (json!([4.0, null]), json!([0.75, null])));
        assert_eq!(
            (values("token_f1"), values("ngram_f1"), values("text_f1")),
            (json!([0.57143, null]), json!([0.4, null]), json!([0.33333, null]))
        );
    }

    #[test]
    fn scripts_hold_what_is_known_of_their_neurons() {
        let content = content(&chunk(3, 1, &[record(3, 64), record(3, 70)], |id| ["the", " cat", "\n"][id as usize].into()));
        assert_eq!(content["texts"], json!({"0": "the", "1": " cat", "2": "\\n"}));
        let one = &content["neurons"][1];
        assert_eq!(
            (&one["neuron"], &one["status"], &one["exemplars"][1]["duplicate_of"]),
            (&json!(70), &json!("Done"), &json!(0))
        );
        assert_eq!(one["graph"]["nodes"][1], json!({"label": "the", "depth": 1, "fill": "#3939ff", "dark": true, "end": true}));
        assert_eq!(one["graph"]["edges"], json!([[0, 1], [0, 2]]));
        assert_eq!((&one["exemplars"][1]["levels"], &one["exemplars"][1]["tokens"]), (&json!([-63, 875, 0]), &json!([0, 1, 2])));
        assert_eq!(one["scores"][0]["interval"], json!([0.5, 1.0]));
        assert_eq!((&one["scores"][0]["fires"], one["scores"].as_array().unwrap().len()), (&json!(4), 7));
        assert_eq!(
            (chunk_file(3, 1), chunk_file(0, 12345)),
            ("data/neurons-0003-0001.js".into(), "data/neurons-0000-12345.js".into())
        );
    }

    #[test]
    fn hostile_tokens_are_harmless() {
        let evil = "</script><!--{{js}}\u{202e}\u{2028}\0\"'&";
        let mut record = record(3, 64);
        record.status = Status::Failed(evil.into());
        record.graph.as_mut().unwrap().nodes[0].text = evil.into();
        record.graph.as_mut().unwrap().edges.push((0, 99));
        let script = chunk(3, 1, std::slice::from_ref(&record), |_| evil.into());
        assert!(!script.contains('<') && !script.contains(['\u{2028}', '\u{202e}', '\0']) && script.lines().count() == 1);
        let found = content(&script);
        let want = "</script><!--{{js}}\\u202e\\u2028\\u0000\"'&";
        assert_eq!((&found["texts"]["0"], &found["neurons"][0]["graph"]["nodes"][0]["label"]), (&json!(want), &json!(want)));
        assert_eq!(found["neurons"][0]["graph"]["edges"].as_array().unwrap().len(), 2);
        let page = Page {
            title: evil.into(),
            facts: vec![(evil.into(), evil.into())],
            tables: vec![Table { title: evil.into(), head: vec![evil.into()], rows: vec![vec![evil.into()]] }],
            rows: vec![Row::of(&record)],
        };
        let text = html(&page);
        assert_eq!((text.matches("</script").count(), text.matches("<script").count(), text.matches("<!--").count()), (2, 2, 0));
        assert_eq!(embedded(&text)["columns"]["status"]["values"], json!([2.0]));
    }

    #[test]
    fn the_page_asks_for_nothing_from_outside() {
        let text = html(&Page::default());
        // The one address is the name of the SVG namespace, which is never fetched.
        assert_eq!(text.matches("://").count(), text.matches("http://www.w3.org/2000/svg").count());
        assert!(!text.contains(" src=") && text.starts_with("<!doctype html>") && text.ends_with("</html>\n"));
    }
}
