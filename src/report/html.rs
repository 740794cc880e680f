//! Writes a [`Page`] as one HTML file that needs no network: the template, its style and its script are compiled in,
//! the graph travels as JSON. Text, facts and tables are plain markup, so they can be read without the script.

use std::collections::HashMap;
use std::fmt::Write;

use serde::Serialize;

use super::{Curve, Edges, Layer, Page, Table};

/// Most edges embedded per layer pair; the page says how many there were. Keeps a graph of 75 layers of 770 nodes,
/// 44 million edges, at a few megabytes.
pub const MAX_EDGES: usize = 4000;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = concat!(include_str!("dom.js"), include_str!("page.js"), include_str!("charts.js"));

/// What the script draws. Numbers that are not finite become `null`.
#[derive(Serialize)]
struct Data<'a> {
    layers: Vec<LayerData<'a>>,
    edges: Vec<EdgeData>,
    curves: Vec<CurveData<'a>>,
}

#[derive(Serialize)]
struct LayerData<'a> {
    name: &'a str,
    width: usize,
    constant: bool,
    /// What ranks the nodes, `[width]`: Lambda, or the sum of |E| where the layer has none.
    rank: Vec<Option<f64>>,
    rank_name: &'static str,
}

/// The strongest edges of one layer pair, in descending order of |E|.
#[derive(Serialize)]
struct EdgeData {
    /// Indices into the layers.
    from: usize,
    to: usize,
    cols: usize,
    /// Position `row * cols + col` of each embedded edge, and its value.
    at: Vec<usize>,
    value: Vec<f64>,
    /// Sum and maximum of |E| over the whole pair: of all edges, and of those that touch no constant node.
    sum: [f64; 2],
    max: [f64; 2],
    /// Finite entries that are not zero; entries that are not finite.
    nonzero: usize,
    skipped: usize,
}

#[derive(Serialize)]
struct CurveData<'a> {
    title: &'a str,
    x_label: &'a str,
    y_label: &'a str,
    log_x: bool,
    series: &'a [(String, Vec<(f64, f64)>)],
}

/// One self-contained HTML page: facts, interaction graph, curves, tables.
///
/// Of every layer pair the [`MAX_EDGES`] strongest edges (by |E|, ties by position) are embedded, with 5 significant
/// digits. Edges that do not fit the layers are left out and a sentence on the page says why. Names are escaped
/// wherever they stand.
pub fn html(page: &Page) -> String {
    let (pairs, notes) = pairs(page);
    let data = Data {
        layers: page.layers.iter().enumerate().map(|(i, l)| layer(l, i, &pairs)).collect(),
        edges: pairs.iter().map(|pair| strongest(page, pair)).collect(),
        curves: page.curves.iter().map(curve).collect(),
    };
    // `<` stands in JSON only inside strings: escaped, no name can end the script element or open a comment.
    let json = serde_json::to_string(&data).expect("plain data with string keys").replace('<', "\\u003c");
    let notes: String = notes.iter().map(|n| format!("<p class=\"note\">{}</p>\n", escape(n))).collect();
    fill(
        TEMPLATE,
        &[
            ("title", &escape(&page.title)),
            ("css", STYLE),
            ("facts", &facts(&page.facts)),
            ("notes", &notes),
            ("embedded", &embedded(&data)),
            ("tables", &page.tables.iter().map(table).collect::<String>()),
            ("data", &json),
            ("js", SCRIPT),
        ],
    )
}

/// Replaces every `{{name}}` of the template in one pass, so that inserted text is never searched for markers.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len() + values.iter().map(|v| v.1.len()).sum::<usize>());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, tail) = after.split_once("}}").expect("markers of the compiled-in template are closed");
        out += before;
        out += values.iter().find(|v| v.0 == name).expect("every marker of the compiled-in template has a value").1;
        rest = tail;
    }
    out + rest
}

/// Text as HTML content or attribute value.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            _ => out.push(c),
        }
    }
    out
}

/// A pair of layers by index, and its edges.
type Pair<'a> = (usize, usize, &'a Edges);

/// The pairs that fit the layers, and a sentence for every one that does not.
fn pairs(page: &Page) -> (Vec<Pair<'_>>, Vec<String>) {
    let index: HashMap<&str, usize> = page.layers.iter().enumerate().map(|(i, l)| (l.name.as_str(), i)).collect();
    let (mut fit, mut notes) = (Vec::new(), Vec::new());
    for edges in &page.edges {
        match place(page, &index, edges) {
            Ok((from, to)) => fit.push((from, to, edges)),
            Err(why) => notes.push(format!("The edges {} → {} are not drawn: {why}.", edges.from, edges.to)),
        }
    }
    (fit, notes)
}

/// The layers of a pair, or why it cannot be drawn.
fn place(page: &Page, index: &HashMap<&str, usize>, edges: &Edges) -> Result<(usize, usize), String> {
    let end = |name: &str, count: usize, what: &str| match index.get(name) {
        None => Err(format!("the page has no node layer {name}")),
        Some(&i) if page.layers[i].width != count => {
            Err(format!("found {count} {what}, expected the {} nodes of {name}", page.layers[i].width))
        }
        Some(&i) => Ok(i),
    };
    let ends = (end(&edges.from, edges.cols, "columns")?, end(&edges.to, edges.rows, "rows")?);
    if edges.rows.checked_mul(edges.cols) != Some(edges.values.len()) {
        return Err(format!("found {} values, expected {} × {}", edges.values.len(), edges.rows, edges.cols));
    }
    Ok(ends)
}

fn strongest(page: &Page, &(from, to, edges): &Pair) -> EdgeData {
    let (mut at, mut skipped, mut sum, mut max) = (Vec::new(), 0, [0.0; 2], [0.0; 2]);
    for (i, value) in edges.values.iter().map(|v| v.abs()).enumerate() {
        if !value.is_finite() {
            skipped += 1;
        } else if value > 0.0 {
            let constant = page.layers[from].constant && i % edges.cols == 0 || page.layers[to].constant && i < edges.cols;
            for scope in 0..if constant { 1 } else { 2 } {
                sum[scope] += value;
                max[scope] = value.max(max[scope]);
            }
            at.push(i);
        }
    }
    let nonzero = at.len();
    let order = |a: &usize, b: &usize| edges.values[*b].abs().total_cmp(&edges.values[*a].abs()).then(a.cmp(b));
    if nonzero > MAX_EDGES {
        at.select_nth_unstable_by(MAX_EDGES, order);
        at.truncate(MAX_EDGES);
    }
    at.sort_unstable_by(order);
    let value = at.iter().map(|&i| short(edges.values[i])).collect();
    EdgeData { from, to, cols: edges.cols, at, value, sum: sum.map(short), max: max.map(short), nonzero, skipped }
}

/// A layer with what ranks its nodes.
fn layer<'a>(layer: &'a Layer, index: usize, pairs: &[Pair]) -> LayerData<'a> {
    let touched = pairs.iter().any(|&(from, to, _)| from == index || to == index);
    let (rank, rank_name) = match layer.importance.is_empty() && touched {
        true => (strength(index, layer.width, pairs), "Σ|E|"),
        false => (layer.importance.clone(), "Λ"),
    };
    let mut rank: Vec<_> = rank.into_iter().map(|v| v.is_finite().then(|| short(v))).collect();
    rank.resize(layer.width, None);
    LayerData { name: &layer.name, width: layer.width, constant: layer.constant, rank, rank_name }
}

/// Sum of |E| over all edges of each node of a layer, `[width]`.
fn strength(index: usize, width: usize, pairs: &[Pair]) -> Vec<f64> {
    let mut sums = vec![0.0; width];
    for &(from, to, edges) in pairs {
        for (i, value) in edges.values.iter().enumerate().filter(|(_, v)| v.is_finite()) {
            if to == index {
                sums[i / edges.cols] += value.abs();
            }
            if from == index {
                sums[i % edges.cols] += value.abs();
            }
        }
    }
    sums
}

fn curve(curve: &Curve) -> CurveData<'_> {
    let Curve { title, x_label, y_label, series, log_x } = curve;
    CurveData { title, x_label, y_label, log_x: *log_x, series }
}

/// Five significant digits: enough to read, a third of the bytes.
pub(super) fn short(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

pub(super) fn facts(facts: &[(String, String)]) -> String {
    if facts.is_empty() {
        return String::new();
    }
    let mut out = String::from("<dl class=\"facts\">\n");
    for (name, value) in facts {
        let _ = writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
    }
    out + "</dl>\n"
}

pub(super) fn table(table: &Table) -> String {
    format!("<section>\n<h2>{}</h2>\n{}</section>\n", escape(&table.title), grid(&table.head, &table.rows))
}

/// A scrolling table; the region takes the focus so that it can be scrolled from the keyboard.
fn grid(head: &[String], rows: &[Vec<String>]) -> String {
    let cells =
        |row: &[String], tag: &str| -> String { row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect() };
    let mut out =
        format!("<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n", cells(head, "th"));
    for row in rows {
        let _ = writeln!(out, "<tr>{}</tr>", cells(row, "td"));
    }
    out + "</tbody>\n</table></div>\n"
}

/// What the page holds of each layer pair, and what it leaves out.
fn embedded(data: &Data) -> String {
    if data.edges.is_empty() {
        return String::new();
    }
    let head = ["layer pair", "embedded", "Σ|E|", "max|E|", "not finite"].map(String::from);
    let name = |i: usize| data.layers[i].name;
    let rows: Vec<_> = data
        .edges
        .iter()
        .map(|e| {
            let held = format!("strongest {} of {} embedded", grouped(e.at.len()), grouped(e.nonzero));
            let pair = format!("{} → {}", name(e.from), name(e.to));
            vec![pair, held, format!("{:e}", e.sum[0]), format!("{:e}", e.max[0]), grouped(e.skipped)]
        })
        .collect();
    let (held, all) = data.edges.iter().fold((0, 0), |n, e| (n.0 + e.at.len(), n.1 + e.nonzero));
    format!(
        "<details id=\"embedded\"><summary>Strongest {} of {} non-zero edges embedded, at most {} per layer pair</summary>\n{}</details>\n",
        grouped(held),
        grouped(all),
        grouped(MAX_EDGES),
        grid(&head, &rows)
    )
}

/// `14841` as `14,841`.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The embedded JSON of a page, read back the way a browser finds it: up to the first end of the script element.
    fn json(page: &str) -> Value {
        let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
        serde_json::from_str(rest.split_once("</script").unwrap().0).unwrap()
    }

    fn layer(name: &str, width: usize, importance: &[f64]) -> Layer {
        Layer { name: name.into(), width, importance: importance.into(), constant: false }
    }

    fn pair(rows: usize, cols: usize, values: Vec<f64>) -> Page {
        let layers = vec![layer("a", cols, &[]), layer("b", rows, &[])];
        let edges = vec![Edges { from: "a".into(), to: "b".into(), rows, cols, values }];
        Page { layers, edges, ..Page::default() }
    }

    #[test]
    fn strongest_edges_come_first_and_the_rest_is_counted() {
        // 83 × 61 distinct magnitudes in scrambled order and of both signs: 5,063 edges, one of them zero.
        let n = 83 * 61;
        let values: Vec<f64> = (0..n).map(|i| (i * 1009 % n) as f64 * if i % 3 == 0 { -1.0 } else { 1.0 }).collect();
        let text = html(&pair(83, 61, values.clone()));
        let e = &json(&text)["edges"][0];
        let mut expected: Vec<usize> = (0..n).collect();
        expected.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()));
        expected.truncate(MAX_EDGES);
        assert_eq!(e["at"], serde_json::to_value(&expected).unwrap());
        for (k, &i) in expected.iter().enumerate() {
            assert_eq!(e["value"][k].as_f64().unwrap(), values[i], "edge {k}");
        }
        assert_eq!((e["nonzero"].as_u64(), e["cols"].as_u64()), (Some(n as u64 - 1), Some(61)));
        assert!(text.contains("strongest 4,000 of 5,062 embedded"));
    }

    #[test]
    fn sums_and_maxima_are_also_given_without_the_constant_node() {
        let mut page = pair(3, 2, vec![100.0, 50.0, 20.0, -1.0, 10.0, 2.0]);
        page.layers.iter_mut().for_each(|l| l.constant = true);
        let e = json(&html(&page))["edges"][0].clone();
        assert_eq!((&e["sum"], &e["max"]), (&serde_json::json!([183.0, 3.0]), &serde_json::json!([100.0, 2.0])));
        page.layers.iter_mut().for_each(|l| l.constant = false);
        assert_eq!(json(&html(&page))["edges"][0]["sum"], serde_json::json!([183.0, 183.0]));
    }

    #[test]
    fn layers_without_importance_are_ranked_by_their_edges() {
        let mut page = pair(2, 3, vec![1.0, -2.0, 4.0, 8.0, 16.0, f64::NAN]);
        page.layers[1].importance = vec![0.25, f64::INFINITY, 9.0];
        let layers = json(&html(&page))["layers"].clone();
        assert_eq!((&layers[0]["rank"], &layers[0]["rank_name"]), (&serde_json::json!([9.0, 18.0, 4.0]), &"Σ|E|".into()));
        assert_eq!((&layers[1]["rank"], &layers[1]["rank_name"]), (&serde_json::json!([0.25, null]), &"Λ".into()));
    }

    #[test]
    fn hostile_names_are_escaped() {
        let evil = "</script><b>{{js}}<!--\"'&";
        let mut page = pair(1, 1, vec![1.0]);
        page.title = evil.into();
        page.layers[0].name = evil.into();
        page.edges[0].from = evil.into();
        page.edges.push(Edges { from: evil.into(), to: "nowhere".into(), ..Edges::default() });
        page.facts = vec![(evil.into(), evil.into())];
        let series = vec![(evil.to_string(), vec![(1.0, 2.0)])];
        page.curves = vec![Curve { title: evil.into(), x_label: evil.into(), y_label: evil.into(), series, log_x: false }];
        page.tables = vec![Table { title: evil.into(), head: vec![evil.into()], rows: vec![vec![evil.into()]] }];
        let text = html(&page);
        let data = json(&text);
        assert_eq!((&data["layers"][0]["name"], &data["curves"][0]["series"][0][0]), (&evil.into(), &evil.into()));
        assert!(!text.contains("<b>"));
        assert_eq!((text.matches("</script").count(), text.matches("<script").count()), (2, 2));
        assert_eq!(text.matches("&lt;/script&gt;&lt;b&gt;{{js}}&lt;!--&quot;&#39;&amp;").count(), 10);
    }

    #[test]
    fn numbers_that_are_not_finite_are_skipped_or_null() {
        let mut page = pair(2, 2, vec![f64::NAN, 3.0, f64::NEG_INFINITY, -5.0]);
        let series = vec![("s".to_string(), vec![(1.0, f64::NAN), (f64::INFINITY, 2.0)])];
        page.curves = vec![Curve { series, ..Curve::default() }];
        let data = json(&html(&page));
        let e = &data["edges"][0];
        assert_eq!((&e["at"], &e["value"]), (&serde_json::json!([3, 1]), &serde_json::json!([-5.0, 3.0])));
        assert_eq!((&e["skipped"], &e["sum"]), (&2.into(), &serde_json::json!([8.0, 8.0])));
        assert_eq!(data["curves"][0]["series"][0][1], serde_json::json!([[1.0, null], [null, 2.0]]));
    }

    #[test]
    fn edges_that_do_not_fit_are_named_and_left_out() {
        let mut page = pair(2, 3, vec![1.0; 5]);
        page.edges.push(Edges { from: "a".into(), to: "c".into(), rows: 1, cols: 3, values: vec![1.0; 3] });
        page.edges.push(Edges { from: "a".into(), to: "b".into(), rows: 4, cols: 3, values: vec![1.0; 12] });
        page.edges.push(Edges { from: "a".into(), to: "b".into(), rows: 2, cols: 3, values: vec![1.0; 6] });
        let text = html(&page);
        assert!(text.contains("The edges a → b are not drawn: found 5 values, expected 2 × 3."));
        assert!(text.contains("The edges a → c are not drawn: the page has no node layer c."));
        assert!(text.contains("The edges a → b are not drawn: found 4 rows, expected the 2 nodes of b."));
        assert_eq!(json(&text)["edges"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn an_empty_page_is_valid() {
        let text = html(&Page { title: "nothing".into(), layers: vec![layer("a", 0, &[])], ..Page::default() });
        assert!(text.starts_with("<!doctype html>") && text.ends_with("</html>\n"));
        assert!(text.contains("<title>nothing</title>"));
        assert_eq!(json(&text)["edges"], serde_json::json!([]));
        assert_eq!(json(&html(&Page::default()))["layers"], serde_json::json!([]));
        assert_eq!(json(&html(&pair(0, 3, vec![])))["edges"][0]["at"], serde_json::json!([]));
    }

    #[test]
    fn the_page_asks_for_nothing_from_outside() {
        let text = html(&Page::default());
        // The one address is the name of the SVG namespace, which is never fetched.
        assert_eq!(text.matches("://").count(), text.matches("http://www.w3.org/2000/svg").count());
        assert!(!text.contains(" src=") && !text.contains("url("));
    }

    #[test]
    fn numbers_are_grouped_and_shortened() {
        assert_eq!([0, 999, 1000, 14841, 1234567].map(grouped), ["0", "999", "1,000", "14,841", "1,234,567"]);
        assert_eq!([short(1.234567e-9), short(-99999.6), short(0.0)], [1.2346e-9, -1e5, 0.0]);
    }
}
