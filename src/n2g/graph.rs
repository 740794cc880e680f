//! The condensed graph of a neuron: what a reader sees of its patterns. Wildcards are left out, so that
//! depth counts tokens that matter, and tokens of one depth and text are one node.
//!
//! Built from the lines and not from the trie: the merge of wildcards has no part in it.

use std::collections::{HashMap, HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::lines::Line;
use super::trie::{START, WILDCARD};
use super::vocabulary::Vocabulary;

/// The text of a node that only the beginning of a text matches.
pub const START_TEXT: &str = "⟨start of text⟩";

/// The thresholds of the run; colours begin 0.2 below them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Normalised activation from which on a token fires.
    pub activation: f64,
    /// Importance from which on a token matters to one that fires.
    pub importance: f64,
}

/// A graph to draw. Node and edge are named by their place in `nodes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// By depth, those of one depth in the order in which they came.
    pub nodes: Vec<Node>,
    /// From a token to one that stands before it in the text.
    pub edges: Vec<(usize, usize)>,
}

/// A token of patterns at a depth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The name of its key, or [`START_TEXT`].
    pub text: String,
    /// Tokens that matter between this one and the one that fires, that one included.
    pub depth: usize,
    /// Number of its column, counted from the left of the drawing.
    pub cluster: usize,
    /// Whether a pattern begins with it.
    pub is_end: bool,
    /// `#rrggbb`: red by activation at depth 0, blue by importance elsewhere.
    pub fill: String,
    /// Whether its text is legible in white only.
    pub is_dark: bool,
}

impl Node {
    /// Width of the border, in points.
    pub fn border(&self) -> u32 {
        if self.is_end { 7 } else { 3 }
    }
    /// The text in one line that hides nothing; see [`label`].
    pub fn label(&self) -> String {
        label(&self.text)
    }
}

/// A node of the tree that the lines make once wildcards are left out.
struct Branch {
    key: u32,
    depth: usize,
    shade: u8,
    is_end: bool,
    children: Vec<usize>,
}

impl Graph {
    /// The graph of lines, in their order: the first one to come to a node decides its colour and border.
    pub fn new(lines: &[Line], vocabulary: &Vocabulary, thresholds: Thresholds) -> Self {
        let (tree, roots) = tree(lines, thresholds);
        // Columns count all tokens of the longest line, as the reference's do.
        let columns = lines.iter().map(|l| l.elements.len()).max().unwrap_or(0);
        let node = |b: &Branch| Node {
            text: if b.key == START { START_TEXT.into() } else { vocabulary.name(b.key).into() },
            depth: b.depth,
            cluster: columns - b.depth,
            is_end: b.is_end,
            fill: if b.depth == 0 { format!("#ff{0:02x}{0:02x}", b.shade) } else { format!("#{0:02x}{0:02x}ff", b.shade) },
            is_dark: b.depth > 0 && b.shade < 130,
        };
        let (mut graph, mut places, mut known) = (Self::default(), HashMap::new(), HashSet::new());
        let mut queue: VecDeque<(Option<usize>, usize)> = roots.into_iter().map(|root| (None, root)).collect();
        while let Some((parent, at)) = queue.pop_front() {
            let branch = &tree[at];
            let place = *places.entry((branch.depth, branch.key)).or_insert_with(|| {
                graph.nodes.push(node(branch));
                graph.nodes.len() - 1
            });
            if let Some(edge) = parent.map(|parent| (parent, place))
                && known.insert(edge)
            {
                graph.edges.push(edge);
            }
            queue.extend(branch.children.iter().map(|child| (Some(place), *child)));
        }
        graph
    }
}

/// The lines without their wildcards, joined at their heads, and which branches begin them.
fn tree(lines: &[Line], thresholds: Thresholds) -> (Vec<Branch>, Vec<usize>) {
    let (mut tree, mut roots): (Vec<Branch>, Vec<usize>) = (Vec::new(), Vec::new());
    for line in lines {
        let kept: Vec<_> = line.elements.iter().filter(|e| e.key != WILDCARD).collect();
        let mut parent: Option<usize> = None;
        for (depth, element) in kept.iter().enumerate() {
            let siblings = parent.map_or(&roots, |p| &tree[p].children);
            let known = siblings.iter().copied().find(|b| tree[*b].key == element.key);
            let place = known.unwrap_or_else(|| {
                let shade = match depth {
                    0 => shade(element.activation, (thresholds.activation - 0.2).max(0.0)),
                    _ => shade(element.importance, (thresholds.importance - 0.2).max(0.1)),
                };
                tree.push(Branch { key: element.key, depth, shade, is_end: depth + 1 == kept.len(), children: Vec::new() });
                let place = tree.len() - 1;
                parent.map_or(&mut roots, |p| &mut tree[p].children).push(place);
                place
            });
            parent = Some(place);
        }
    }
    (tree, roots)
}

/// The two channels that fade as a value rises from `least` to 1.
fn shade(value: f64, least: f64) -> u8 {
    // Towards zero, as the reference rounds.
    let faded = (255.0 * (value - least) / (1.0 - least)) as i64;
    255i64.saturating_sub(faded).clamp(0, 255) as u8
}

/// A token's text in one line that hides nothing: control characters and those that are not seen or turn
/// the direction of writing are escaped as in JSON, a backslash is doubled, and spaces alone are quoted.
pub fn label(text: &str) -> String {
    if !text.is_empty() && text.chars().all(|c| c == ' ') {
        return format!("'{text}'");
    }
    let mut label = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => label.push_str("\\\\"),
            '\n' => label.push_str("\\n"),
            '\r' => label.push_str("\\r"),
            '\t' => label.push_str("\\t"),
            c if is_hidden(c) => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| label.push_str(&format!("\\u{unit:04x}"))),
            c => label.push(c),
        }
    }
    label
}

/// Control characters, line separators, and what Unicode calls format characters.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::n2g::fixture::{line, published, vocabulary};

    const THRESHOLDS: Thresholds = Thresholds { activation: 0.5, importance: 0.75 };

    /// Text, fill, border and column of each node.
    fn nodes(lines: &[Line], vocabulary: &Vocabulary) -> Vec<(String, String, u32, usize)> {
        let graph = Graph::new(lines, vocabulary, THRESHOLDS);
        graph.nodes.iter().map(|n| (n.text.clone(), n.fill.clone(), n.border(), n.cluster)).collect()
    }

    #[test]
    fn colours_and_borders_are_those_of_the_reference() {
        let v = vocabulary(&["the", "black", "cat", "dark"]);
        let node = |text: &str, fill: &str, border, cluster| (text.to_string(), fill.to_string(), border, cluster);
        let a = |value| line(&v, &[("cat", 0.99, value), ("black", 0.9, 0.0)]);
        assert_eq!(nodes(&[a(1.0)], &v), [node("cat", "#ff0000", 3, 2), node("black", "#3939ff", 7, 1)]);
        let b = line(&v, &[("cat", 1.0, 1.0), ("*", 0.1, 0.0), ("the", 0.8, 0.0)]);
        assert_eq!(nodes(&[b], &v), [node("cat", "#ff0000", 3, 3), node("the", "#7272ff", 7, 2)]);
        let c = line(&v, &[("cat", 1.0, 0.8)]);
        assert_eq!(nodes(&[c], &v), [node("cat", "#ff4949", 7, 1)]);
        assert_eq!(nodes(&[a(0.6), a(1.0)], &v)[0], node("cat", "#ff9292", 3, 2));
        let h = line(&v, &[("cat", 1.0, 0.9), ("dark", 0.3, 0.0)]);
        assert_eq!(nodes(&[a(1.0), h], &v)[2], node("dark", "#ffffff", 7, 1));
        assert!(nodes(&[], &v).is_empty());
    }

    #[test]
    fn tokens_of_one_depth_are_one_node_and_edges_are_drawn_once() {
        let v = vocabulary(&["a", "b", "c", "d"]);
        let path = |texts: [&str; 3]| line(&v, &texts.map(|t| (t, 0.9, 0.9)));
        let graph = Graph::new(&[path(["a", "b", "d"]), path(["c", "b", "d"]), path(["c", "b", "a"])], &v, THRESHOLDS);
        let texts: Vec<(&str, usize)> = graph.nodes.iter().map(|n| (n.text.as_str(), n.depth)).collect();
        assert_eq!(texts, [("a", 0), ("c", 0), ("b", 1), ("d", 2), ("a", 2)]);
        assert_eq!(graph.edges, [(0, 2), (1, 2), (2, 3), (2, 4)]);
    }

    #[test]
    fn the_start_of_a_text_is_a_node() {
        let v = vocabulary(&["a"]);
        let graph = Graph::new(&[line(&v, &[("a", 1.0, 1.0), ("^", 0.9, 0.0)])], &v, THRESHOLDS);
        assert_eq!((graph.nodes[1].text.as_str(), graph.nodes[1].is_end), (START_TEXT, true));
    }

    #[test]
    fn labels_hide_nothing() {
        for (text, want) in [
            (" cat", " cat"),
            ("  ", "'  '"),
            ("", ""),
            ("\n\t\r", "\\n\\t\\r"),
            ("a\\n", "a\\\\n"),
            ("\0\u{7f}", "\\u0000\\u007f"),
            ("\u{202e}x\u{feff}", "\\u202ex\\ufeff"),
            ("\u{e0041}", "\\udb40\\udc41"),
            ("“é”<&\"", "“é”<&\""),
        ] {
            assert_eq!(label(text), want);
        }
    }

    #[test]
    fn graphs_of_the_reference_are_met() {
        let Some(published) = published() else { return };
        assert_eq!(published.len(), 30);
        for (neuron, lines, vocabulary) in published {
            let graph = Graph::new(&lines, &vocabulary, THRESHOLDS);
            let ascii = |label: String| -> String {
                let escape = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", c as u32) };
                label.chars().map(escape).collect()
            };
            let node = |(i, n): (usize, &Node)| {
                let font = if n.is_dark { "white" } else { "black" };
                serde_json::json!([i + 1, ascii(n.label()), n.fill, font, n.border(), format!("cluster_{}", n.cluster)])
            };
            let nodes: Vec<_> = graph.nodes.iter().enumerate().map(node).collect();
            let edges: Vec<_> = graph.edges.iter().map(|(a, b)| serde_json::json!([a + 1, b + 1])).collect();
            let place = format!("{}:{}", neuron["layer"], neuron["neuron"]);
            assert_eq!(serde_json::Value::from(nodes), neuron["graph"]["nodes"], "{place}");
            assert_eq!(serde_json::Value::from(edges), neuron["graph"]["edges"], "{place}");
        }
    }
}
