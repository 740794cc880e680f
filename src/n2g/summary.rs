//! Means over the neurons of each layer, by an honest rule and by the published one, and the table of all
//! neurons.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::evaluate::mean_interval;
use super::record::{Counts, Record, Scores, Status};

/// The file's name inside a RUN.
pub const FILE: &str = "summary.json";
/// The table of all neurons inside a RUN.
pub const TABLE: &str = "scores.csv";

/// Precision, recall and F1, each a mean over neurons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Means {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

/// The neurons of a layer, or of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// `None` of all layers together.
    pub layer: Option<usize>,
    pub neurons: usize,
    /// Of those: with scores; without, as their maximum is not positive; and failed.
    pub scored: usize,
    pub not_positive: usize,
    pub failed: usize,
    /// Scored neurons for which nothing is predicted to fire on what was held out.
    pub silent: usize,
    /// Over all scored neurons, 0 where a score is undefined: on the held-out windows.
    pub held_out: Means,
    /// 95 % bootstrap interval of the mean F1, over neurons.
    pub f1_interval: (f64, f64),
    pub not_firing: Means,
    pub r2: f64,
    /// As published: neurons that neither fire nor are predicted to are left out, and precision is 1 where
    /// nothing is predicted.
    pub published: Means,
    pub token: Means,
    pub ngram: Means,
    /// Held-out windows that repeat no training window.
    pub unique: Means,
    /// Held-out windows, where any value says that a token fires; only of raw values.
    pub any: Option<Means>,
    /// Unselected text; absent where the run ended before.
    pub text: Option<Means>,
    pub text_f1_interval: Option<(f64, f64)>,
    pub text_token: Option<Means>,
    pub text_ngram: Option<Means>,
}

/// All layers, and all neurons together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub schema_version: u32,
    pub layers: Vec<Layer>,
    pub all: Layer,
    /// Tokens of forward passes, those over the text included, a neuron.
    pub tokens_per_neuron: f64,
}

/// What a summary keeps of a record.
#[derive(Clone, Debug)]
struct Row {
    layer: usize,
    status: Status,
    scores: Option<Scores>,
}

/// Collects records into a summary.
#[derive(Clone, Debug, Default)]
pub struct Collector(Vec<Row>);

impl Collector {
    pub fn add(&mut self, record: &Record) {
        self.0.push(Row { layer: record.layer, status: record.status.clone(), scores: record.scores.clone() });
    }
    /// The summary of what was added.
    pub fn finish(&self, tokens_per_neuron: f64, seed: u64) -> Summary {
        let mut layers: Vec<usize> = self.0.iter().map(|r| r.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        let of = |layer| summarise(layer, self.0.iter().filter(|r| layer.is_none_or(|l| l == r.layer)), seed);
        Summary { schema_version: 1, layers: layers.into_iter().map(|l| of(Some(l))).collect(), all: of(None), tokens_per_neuron }
    }
}

fn means<'a>(counts: impl Iterator<Item = &'a Counts>) -> Means {
    let (mut sum, mut n) = (Means::default(), 0.0);
    for c in counts {
        (sum.precision, sum.recall, sum.f1) = (sum.precision + c.precision(), sum.recall + c.recall(), sum.f1 + c.f1());
        n += 1.0;
    }
    let mean = |x: f64| if n > 0.0 { x / n } else { 0.0 };
    Means { precision: mean(sum.precision), recall: mean(sum.recall), f1: mean(sum.f1) }
}

/// The published rule: see [`Layer::published`].
fn published<'a>(counts: impl Iterator<Item = &'a Counts>) -> Means {
    let kept: Vec<&Counts> = counts.filter(|c| c.tp + c.fp + c.fn_ > 0).collect();
    let silent = kept.iter().filter(|c| c.tp + c.fp == 0).count() as f64;
    let means = means(kept.iter().copied());
    Means { precision: means.precision + silent / (kept.len() as f64).max(1.0), ..means }
}

fn summarise<'a>(layer: Option<usize>, rows: impl Iterator<Item = &'a Row>, seed: u64) -> Layer {
    let rows: Vec<&Row> = rows.collect();
    let scores: Vec<&Scores> = rows.iter().filter(|r| r.status == Status::Done).filter_map(|r| r.scores.as_ref()).collect();
    let count = |f: fn(&Status) -> bool| rows.iter().filter(|r| f(&r.status)).count();
    let f1: Vec<f64> = scores.iter().map(|s| s.held_out.f1()).collect();
    let texts: Vec<_> = scores.iter().filter_map(|s| s.text.as_ref()).collect();
    let text_f1: Vec<f64> = texts.iter().map(|t| t.trie.f1()).collect();
    let not_firing: Vec<Counts> = scores.iter().map(|s| s.held_out.negated()).collect();
    let has_text = !texts.is_empty();
    Layer {
        layer,
        neurons: rows.len(),
        scored: scores.len(),
        not_positive: count(|s| *s == Status::NotPositive),
        failed: count(|s| matches!(s, Status::Failed(_))),
        silent: scores.iter().filter(|s| s.held_out.tp + s.held_out.fp == 0).count(),
        held_out: means(scores.iter().map(|s| &s.held_out)),
        f1_interval: mean_interval(&f1, seed),
        not_firing: means(not_firing.iter()),
        r2: scores.iter().map(|s| s.r2).sum::<f64>() / (scores.len() as f64).max(1.0),
        published: published(scores.iter().map(|s| &s.held_out)),
        token: means(scores.iter().map(|s| &s.token)),
        ngram: means(scores.iter().map(|s| &s.ngram)),
        unique: means(scores.iter().map(|s| &s.unique).filter(|c| c.tokens > 0)),
        any: scores.iter().any(|s| s.any.is_some()).then(|| means(scores.iter().filter_map(|s| s.any.as_ref()))),
        text: has_text.then(|| means(texts.iter().map(|t| &t.trie))),
        text_f1_interval: has_text.then(|| mean_interval(&text_f1, !seed)),
        text_token: has_text.then(|| means(texts.iter().map(|t| &t.token))),
        text_ngram: has_text.then(|| means(texts.iter().map(|t| &t.ngram))),
    }
}

impl Summary {
    /// The table of layers, for people.
    pub fn table(&self) -> String {
        let f1 = |m: &Option<Means>| m.map_or("    -".into(), |m| format!("{:.3}", m.f1));
        let any = |l: &Layer| self.all.any.map(|_| format!(" | any value {}", f1(&l.any))).unwrap_or_default();
        let mut out = String::from(
            "layer  neurons  scored  silent  not positive  failed |  P     R     F1    95 %         | token F1  5-gram F1 | text F1  token  5-gram\n",
        );
        for l in self.layers.iter().chain([&self.all]) {
            let name = l.layer.map_or("all".into(), |l| l.to_string());
            let _ = writeln!(
                out,
                "{name:>5}  {:>7}  {:>6}  {:>6}  {:>12}  {:>6} |  {:.3} {:.3} {:.3} {:.3}..{:.3} | {:>8.3}  {:>9.3} | {:>7}  {}  {:>6}{}",
                l.neurons,
                l.scored,
                l.silent,
                l.not_positive,
                l.failed,
                l.held_out.precision,
                l.held_out.recall,
                l.held_out.f1,
                l.f1_interval.0,
                l.f1_interval.1,
                l.token.f1,
                l.ngram.f1,
                f1(&l.text),
                f1(&l.text_token),
                f1(&l.text_ngram),
                any(l),
            );
        }
        out
    }
}

/// The first line of the table of neurons.
pub fn head() -> String {
    let names = "layer,neuron,status,fires,a_max,firing_rate,precision,recall,f1,f1_low,f1_high,non_firing_precision,non_firing_recall,\
        non_firing_f1,r2,token_f1,ngram_f1,any_f1,unique_f1,repeated,text_fires,text_precision,text_recall,text_f1,text_f1_low,text_f1_high,\
        text_r2,text_token_f1,text_ngram_f1\n";
    names.replace([' '], "")
}

/// The line of a neuron; what it does not have is empty.
pub fn line(record: &Record) -> String {
    let status = match &record.status {
        Status::Done => "done",
        Status::NotPositive => "not-positive",
        Status::Failed(_) => "failed",
    };
    let mut cells: Vec<String> = vec![record.layer.to_string(), record.neuron.to_string(), status.into()];
    let number = |x: f64| format!("{x:.6}");
    match &record.scores {
        None => {
            cells.push(String::new());
            cells.extend([f64::from(record.a_max), f64::from(record.firing_rate)].map(number));
            cells.extend(std::iter::repeat_n(String::new(), 23));
        }
        Some(s) => {
            let (c, n) = (&s.held_out, s.held_out.negated());
            cells.push((c.tp + c.fn_).to_string());
            cells.extend([f64::from(record.a_max), f64::from(record.firing_rate)].map(number));
            let held =
                [c.precision(), c.recall(), c.f1(), s.f1_interval.0, s.f1_interval.1, n.precision(), n.recall(), n.f1(), s.r2];
            cells.extend(held.map(number));
            cells.extend([s.token.f1(), s.ngram.f1()].map(number));
            cells.push(s.any.map_or(String::new(), |any| number(any.f1())));
            cells.push(number(s.unique.f1()));
            cells.push(((c.tokens - s.unique.tokens) * record.test.len() as u64).checked_div(c.tokens).unwrap_or(0).to_string());
            match &s.text {
                None => cells.extend(std::iter::repeat_n(String::new(), 9)),
                Some(t) => {
                    cells.push((t.trie.tp + t.trie.fn_).to_string());
                    let text = [t.trie.precision(), t.trie.recall(), t.trie.f1(), t.f1_interval.0, t.f1_interval.1, t.r2];
                    cells.extend(text.map(number));
                    cells.extend([t.token.f1(), t.ngram.f1()].map(number));
                }
            }
        }
    }
    cells.join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::fixture::record;
    use super::*;

    fn scored(layer: usize, neuron: usize, held_out: Counts) -> Record {
        let mut record = record(layer, neuron);
        record.scores = Some(Scores { held_out, ..Scores::default() });
        record
    }
    fn counts(tp: u64, fp: u64, fn_: u64) -> Counts {
        Counts { tp, fp, fn_, tokens: 100 }
    }

    #[test]
    fn both_averaging_rules_count_every_neuron_that_they_should() {
        let mut all = Collector::default();
        all.add(&scored(1, 0, counts(8, 2, 2)));
        // Nothing is predicted; and nothing fires either.
        all.add(&scored(1, 1, counts(0, 0, 4)));
        all.add(&scored(1, 2, counts(0, 0, 0)));
        all.add(&Record { status: Status::NotPositive, scores: None, ..scored(1, 3, counts(0, 0, 0)) });
        all.add(&Record { status: Status::Failed("x".into()), scores: None, ..scored(4, 0, counts(0, 0, 0)) });
        let summary = all.finish(7.0, 1);
        let layer = &summary.layers[0];
        assert_eq!((layer.layer, layer.neurons, layer.scored, layer.silent), (Some(1), 4, 3, 2));
        assert_eq!((layer.not_positive, summary.layers[1].failed, summary.all.neurons), (1, 1, 5));
        let third = |m: Means| [m.precision, m.recall, m.f1].map(|x| (x * 3.0 * 1e9).round() / 1e9);
        assert_eq!(third(layer.held_out), [0.8, 0.8, 0.8]);
        // As published, the second neuron has precision 1 and the third is not there.
        assert_eq!([layer.published.precision, layer.published.recall, layer.published.f1], [0.9, 0.4, 0.4]);
        assert_eq!((layer.text, summary.layers[1].held_out), (None, Means::default()));
        assert_eq!(summary.table().lines().count(), 4);
    }

    #[test]
    fn every_line_of_the_table_has_the_columns_of_its_head() {
        let mut records = vec![scored(0, 0, counts(1, 2, 3)), record(0, 1), record(0, 2)];
        records[1].scores = None;
        if let Some(s) = &mut records[2].scores {
            (s.any, s.text) = (Some(counts(1, 1, 1)), Some(super::super::record::TextScores::default()));
        }
        let columns = head().split(',').count();
        for record in &records {
            let line = line(record);
            assert_eq!(line.matches(',').count() + 1, columns, "{line}");
            assert!(line.starts_with(&format!("0,{},", record.neuron)) && line.ends_with('\n'));
        }
    }
}
