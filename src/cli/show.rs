//! `mechgraph show`: what an N2G run says of one neuron, as text or JSON. Nothing is computed.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::common::{print, print_json};
use super::neuron::{Neuron, Opened, text_of};
use crate::error::{Error, Result};
use crate::n2g::forest::Tries;
use crate::n2g::graph::{Graph, START_TEXT, label, visible};
use crate::n2g::record::{Exemplar, Record, Scores, Status};
use crate::n2g::trie::{START, Style, Trie, WILDCARD};
use crate::n2g::vocabulary::Vocabulary;

/// Tokens of an exemplar on either side of its maximum.
const AROUND: usize = 12;

/// Show a neuron of an N2G run: facts, scores, graph and exemplars
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder of the run
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The neuron, as in 3:17
    #[arg(value_name = "LAYER:NEURON")]
    pub neuron: Neuron,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs `mechgraph show`.
pub fn run(args: Args) -> Result<()> {
    let run = Opened::new(&args.run)?;
    let (record, texts, tries) = (run.record(args.neuron)?, run.texts()?, run.tries()?);
    if args.json {
        return print_json(&with_texts(&record, &texts, tries.as_ref())?);
    }
    print(&shown(&record, &texts, tries.as_ref()))
}

/// The trie of the neuron of a record.
fn trie_of(record: &Record, tries: &Tries) -> Option<Trie> {
    let number = tries.find(record.layer.try_into().ok()?, record.neuron.try_into().ok()?)?;
    Some(tries.trie(number))
}

/// A record as JSON, with the texts of its exemplars' and prompts' tokens beside their ids, and with its trie,
/// where it has one, as nested objects.
pub fn with_texts(record: &Record, texts: &[String], tries: Option<&Tries>) -> Result<Value> {
    // By way of text, which gives numbers in single precision their shortest decimals.
    let json = serde_json::to_string(record).and_then(|text| serde_json::from_str::<Value>(&text));
    let mut json = json.map_err(|e| Error::numeric("a record", e.to_string(), "values that JSON can hold"))?;
    let texts_of = |ids: &[u32]| -> Value { ids.iter().map(|id| text_of(texts, *id)).collect() };
    for (i, exemplar) in record.exemplars.iter().enumerate() {
        json["exemplars"][i]["texts"] = texts_of(&exemplar.tokens);
    }
    for (i, prompt) in record.prompts.iter().enumerate() {
        json["prompts"][i]["texts"] = texts_of(&prompt.tokens);
    }
    if let Some((tries, trie)) = tries.and_then(|t| Some((t, trie_of(record, t)?))) {
        let style = if tries.origin.mode == "openai" { Style::OpenAi } else { Style::Reference };
        json["trie"] = trie.nested(&tries.vocabulary, style);
    }
    json["schema_version"] = json!(1);
    Ok(json)
}

/// The record as text.
fn shown(record: &Record, texts: &[String], tries: Option<&Tries>) -> String {
    let status = match &record.status {
        Status::Done => "done".into(),
        Status::NotPositive => "its maximum is not positive".into(),
        Status::Failed(why) => format!("failed: {}", visible(why)),
    };
    let repeats = record.exemplars.iter().filter(|e| e.duplicate_of.is_some()).count();
    let (all, train, test) = (record.exemplars.len(), record.train.len(), record.test.len());
    let lines = [
        ("neuron", format!("{}:{}", record.layer, record.neuron)),
        ("status", status),
        ("maximum", record.a_max.to_string()),
        ("fires", format!("at {:.4} % of all tokens, at half of the maximum or more", 100.0 * record.firing_rate)),
        ("exemplars", format!("{all}: {train} train, {test} held out; {repeats} nearly repeat another")),
    ];
    let mut text = lines.map(|(key, value)| format!("{key:<12}{value}\n")).concat();
    if let Some(scores) = &record.scores {
        text += &table(scores);
    }
    match (tries.and_then(|t| Some((t, trie_of(record, t)?))), &record.graph) {
        (Some((tries, trie)), _) => {
            text += "\npatterns, from the token that fires backwards, with their values\n";
            text += &patterns(&trie, &tries.vocabulary);
        }
        (None, Some(graph)) => {
            text += "\npatterns, from the token that fires backwards; * begins one\n";
            text += &tree(graph);
        }
        (None, None) => {}
    }
    text += "\n";
    for (number, exemplar) in record.exemplars.iter().enumerate() {
        let role = match (record.train.contains(&number), record.test.contains(&number)) {
            (true, _) => "train",
            (false, true) => "held out",
            (false, false) => "unused",
        };
        let mark = if exemplar.duplicate_of.is_some() { "~" } else { " " };
        let _ = writeln!(text, "{:>10.4}  {role:<8} {mark} {}", exemplar.value, line(exemplar, texts));
    }
    text
}

fn table(scores: &Scores) -> String {
    let mut text = format!("\n{:<40}precision  recall      F1\n", "");
    for line in scores.lines() {
        let c = line.counts;
        let interval = line.f1_interval.map_or_else(String::new, |(low, high)| format!("  [{low:.3}, {high:.3}]"));
        let _ = writeln!(text, "{:<40}{:>9.3}{:>8.3}{:>8.3}{interval}", line.what, c.precision(), c.recall(), c.f1());
    }
    text
}

/// A trie as indented lines; tokens of any kind in a row are one line.
fn patterns(trie: &Trie, vocabulary: &Vocabulary) -> String {
    let mut text = String::new();
    let mut stack: Vec<(u32, usize)> = trie.nodes[0].children.iter().rev().map(|child| (*child, 1)).collect();
    while let Some((first, depth)) = stack.pop() {
        let (mut node, mut any) = (&trie.nodes[first as usize], 1);
        while let (WILDCARD, None, &[child]) = (node.key, node.end, node.children.as_slice()) {
            if trie.nodes[child as usize].key != WILDCARD {
                break;
            }
            (node, any) = (&trie.nodes[child as usize], any + 1);
        }
        let name = match node.key {
            WILDCARD if any == 1 => "(any token)".into(),
            WILDCARD => format!("(any {any} tokens)"),
            START => START_TEXT.into(),
            key => label(vocabulary.name(key)),
        };
        let end = node.end.map_or_else(String::new, |value| format!(" = {value:.4}"));
        let _ = writeln!(text, "{}{name}{end}", "  ".repeat(depth));
        stack.extend(node.children.iter().rev().map(|child| (*child, depth + 1)));
    }
    text
}

/// The graph as indented lines. A node that several lead to is followed once, and named elsewhere.
fn tree(graph: &Graph) -> String {
    let mut children = vec![Vec::new(); graph.nodes.len()];
    for &(parent, child) in &graph.edges {
        if let Some(of) = children.get_mut(parent) {
            of.push(child);
        }
    }
    let (mut text, mut known) = (String::new(), HashSet::new());
    let roots = (0..graph.nodes.len()).rev().filter(|&i| graph.nodes[i].depth == 0);
    let mut stack: Vec<usize> = roots.collect();
    while let Some(i) = stack.pop() {
        let Some(node) = graph.nodes.get(i) else { continue };
        let is_first = known.insert(i);
        let again = if is_first || children[i].is_empty() { "" } else { " ..." };
        let end = if node.is_end { " *" } else { "" };
        let _ = writeln!(text, "{}{}{end}{again}", "  ".repeat(node.depth + 1), node.label());
        if is_first {
            stack.extend(children[i].iter().rev());
        }
    }
    text
}

/// The tokens around the maximum in one line, that one in double brackets.
fn line(exemplar: &Exemplar, texts: &[String]) -> String {
    let peak = exemplar.position.saturating_sub(exemplar.start);
    let tokens = exemplar.tokens.iter().enumerate().skip(peak.saturating_sub(AROUND)).take(2 * AROUND + 1);
    let token = |(i, id): (usize, &u32)| {
        let text = visible(&text_of(texts, *id));
        if i == peak { format!("[[{text}]]") } else { text }
    };
    tokens.map(token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::neuron::tests::tries;
    use crate::n2g::fixture::record;
    use crate::n2g::graph::Node;

    fn texts() -> Vec<String> {
        ["the", " cat", "\n"].map(String::from).into()
    }

    #[test]
    fn a_neuron_is_shown_as_text() {
        let want = "neuron      0:5
status      done
maximum     4
fires       at 1.2500 % of all tokens, at half of the maximum or more
exemplars   2: 1 train, 1 held out; 1 nearly repeat another

                                        precision  recall      F1
trie, held-out windows                      0.750   0.750   0.750  [0.500, 1.000]
trie, held-out windows that repeat none     0.500   0.500   0.500
token lookup, held-out windows              0.667   0.500   0.571
n-gram lookup, held-out windows             1.000   0.250   0.400
trie, unselected text                       0.250   0.500   0.333  [0.125, 0.750]
token lookup, unselected text               0.500   0.500   0.500
n-gram lookup, unselected text              0.000   0.000   0.000

patterns, from the token that fires backwards; * begins one
   cat
    the *
    \\n *

    4.0000  train      the[[ cat]]\\n
    3.5000  held out ~ the[[ cat]]\\n
";
        assert_eq!(shown(&record(0, 5), &texts(), Some(&tries())), want);
        let failed = Record { status: Status::Failed("a\nb".into()), scores: None, graph: None, ..record(0, 5) };
        let text = shown(&failed, &texts(), None);
        assert!(text.contains("status      failed: a\\nb\n") && !text.contains("trie") && !text.contains("patterns"), "{text}");
    }

    #[test]
    fn a_trie_is_shown_with_its_values() {
        let text = shown(&record(0, 1), &texts(), Some(&tries()));
        let want = "
patterns, from the token that fires backwards, with their values
   cat
    the = 0.7500
    (any 2 tokens)
      \\n = 0.5000

";
        assert!(text.contains(want), "{text}");
    }

    #[test]
    fn a_node_that_several_lead_to_is_followed_once() {
        let node = |text: &str, depth| Node {
            text: text.into(),
            depth,
            cluster: 3 - depth,
            is_end: depth == 2,
            fill: "#ff0000".into(),
            is_dark: false,
        };
        let nodes = vec![node("a", 0), node("b", 0), node("c", 1), node("d", 2)];
        let graph = Graph { nodes, edges: vec![(0, 2), (1, 2), (2, 3), (2, 9), (8, 1)] };
        assert_eq!(tree(&graph), "  a\n    c\n      d *\n  b\n    c ...\n");
    }

    #[test]
    fn json_has_texts_beside_ids() {
        let json = with_texts(&record(0, 5), &texts()[..2], Some(&tries())).unwrap();
        assert_eq!(json["exemplars"][1]["texts"], json!(["the", " cat", "<id 2>"]));
        assert_eq!((&json["prompts"][0]["texts"], &json["layer"]), (&json!(["the", " cat"]), &json!(0)));
        assert_eq!(json["firing_rate"].to_string(), "0.0125");
        assert_eq!((&json["scores"]["held_out"]["tp"], json.get("trie")), (&json!(3), None));
        let json = with_texts(&record(0, 1), &texts(), Some(&tries())).unwrap();
        assert_eq!(json["trie"][" cat"]["the"], json!({"**END**": 0.75}));
    }
}
