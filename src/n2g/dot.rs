//! The graph of a neuron as Graphviz draws it: the drawing of the paper.

use std::fmt::Write;

use super::graph::{Graph, Node};

/// DOT text of a graph called `name`. Text is read from left to right into the token that fires; each
/// depth is a column. Graphviz takes it whatever the tokens hold.
pub fn dot(graph: &Graph, name: &str) -> String {
    let mut columns: Vec<usize> = graph.nodes.iter().map(|n| n.cluster).collect();
    columns.sort_unstable();
    columns.dedup();
    let mut dot = format!("digraph {} {{\n", quoted(name));
    dot += "  rankdir=RL;\n  splines=spline;\n  ranksep=1.5;\n  nodesep=0.2;\n";
    dot += "  node [shape=box, style=filled, fixedsize=true, width=2, height=0.75];\n  edge [penwidth=3, dir=back];\n";
    for column in columns {
        // Writing to a string cannot fail.
        let _ = writeln!(dot, "  subgraph cluster_{column} {{\n    color=white;");
        for (i, n) in graph.nodes.iter().enumerate().filter(|(_, n)| n.cluster == column) {
            let _ = writeln!(dot, "    n{} [{}];", i + 1, attributes(n));
        }
        dot += "  }\n";
    }
    for (parent, child) in &graph.edges {
        let _ = writeln!(dot, "  n{} -> n{};", parent + 1, child + 1);
    }
    dot + "}\n"
}

fn attributes(node: &Node) -> String {
    let label = node.label();
    let size = if label.chars().count() < 12 { 25 } else { 18 };
    let font = if node.is_dark { "white" } else { "black" };
    let (fill, border) = (&node.fill, node.border());
    format!("label={}, fillcolor=\"{fill}\", fontcolor={font}, fontsize={size}, penwidth={border}", quoted(&label))
}

/// A quoted string that stands for just this text: Graphviz reads escapes and HTML entities in it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '&' => quoted += "&amp;",
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::n2g::fixture::{line, vocabulary};
    use crate::n2g::graph::Thresholds;

    #[test]
    fn the_drawing_is_that_of_the_paper() {
        let v = vocabulary(&["cat", "black", "a rather long token"]);
        let lines = [
            line(&v, &[("cat", 1.0, 1.0), ("black", 0.9, 0.0)]),
            line(&v, &[("cat", 1.0, 1.0), ("a rather long token", 0.8, 0.0)]),
        ];
        let graph = Graph::new(&lines, &v, Thresholds { activation: 0.5, importance: 0.75 });
        let want = r##"digraph "0:1" {
  rankdir=RL;
  splines=spline;
  ranksep=1.5;
  nodesep=0.2;
  node [shape=box, style=filled, fixedsize=true, width=2, height=0.75];
  edge [penwidth=3, dir=back];
  subgraph cluster_1 {
    color=white;
    n2 [label="black", fillcolor="#3939ff", fontcolor=white, fontsize=25, penwidth=7];
    n3 [label="a rather long token", fillcolor="#7272ff", fontcolor=white, fontsize=18, penwidth=7];
  }
  subgraph cluster_2 {
    color=white;
    n1 [label="cat", fillcolor="#ff0000", fontcolor=black, fontsize=25, penwidth=3];
  }
  n1 -> n2;
  n1 -> n3;
}
"##;
        assert_eq!(dot(&graph, "0:1"), want);
        assert!(dot(&Graph::default(), "").starts_with("digraph \"\" {\n"));
    }

    #[test]
    fn any_token_is_a_string_in_one_line() {
        for (text, want) in [
            ("\"", r#"label="\"","#),
            ("\\", r#"label="\\\\","#),
            ("\n", r#"label="\\n","#),
            ("\\\"", r#"label="\\\\\"","#),
            ("<b>&lt;</b>", r#"label="<b>&amp;lt;</b>","#),
            ("\0\u{202e}", r#"label="\\u0000\\u202e","#),
            (" ", r#"label="' '","#),
            ("];}", r#"label="];}","#),
        ] {
            let v = vocabulary(&[text]);
            let graph = Graph::new(&[line(&v, &[(text, 1.0, 1.0)])], &v, Thresholds { activation: 0.5, importance: 0.75 });
            let dot = dot(&graph, text);
            let node = dot.lines().find(|l| l.contains("n1 [")).unwrap();
            assert!(node.contains(want), "{node}");
        }
    }
}
