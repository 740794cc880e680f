//! What was measured, as a table and as JSON. Rates are worked out here alone.

use std::collections::BTreeMap;

use serde::Serialize;

use super::work::{Op, Work};
pub use crate::device::driver::Counts;

/// Version of the JSON's layout.
const SCHEMA: u32 = 1;

/// All of a run of `mechgraph bench`.
#[derive(Debug, Serialize)]
pub struct Report {
    pub schema_version: u32,
    pub version: &'static str,
    pub backend: &'static str,
    pub device: String,
    /// `None` where nothing is timed.
    pub ceilings: Option<Ceilings>,
    pub rows: Vec<Row>,
}

/// The fastest that the device was seen to do in this run.
#[derive(Debug, Serialize)]
pub struct Ceilings {
    /// How they were measured.
    pub note: String,
    /// Bytes a second of a copy, counting bytes read and bytes written.
    pub copy: f64,
    /// Floating point operations a second by dtype.
    pub peaks: BTreeMap<&'static str, f64>,
}

impl Ceilings {
    pub fn new(note: String, copy: f64) -> Self {
        Self { note, copy, peaks: BTreeMap::new() }
    }
    /// Lifts the peaks to the fastest row of each dtype: what was reached is no ceiling.
    pub fn raise(&mut self, rows: &[Row]) {
        for row in rows {
            if let (Outcome::Timed(t), Some(peak)) = (&row.outcome, self.peaks.get_mut(row.dtype))
                && t.tflops * 1e12 > *peak
            {
                *peak = t.tflops * 1e12;
                self.note += &format!("; {} peak: {} {}", row.dtype, row.op.name(), row.shape);
            }
        }
    }
}

/// One operation at one shape.
#[derive(Debug, Serialize)]
pub struct Row {
    pub op: Op,
    pub shape: String,
    pub dtype: &'static str,
    pub backend: &'static str,
    /// What computed it: `kernel@configuration`, or the library.
    pub kernel: String,
    /// Relative Frobenius error against f64 on the rows sampled.
    pub error: f64,
    /// Useful floating point operations.
    pub flops: f64,
    /// The fewest bytes that can be moved.
    pub bytes: f64,
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Row {
    pub fn new(work: &Work, backend: &'static str, kernel: String, error: f64, outcome: Outcome) -> Self {
        let (op, shape, dtype) = (work.op, work.shape(), work.dtype.name());
        Self { op, shape, dtype, backend, kernel, error, flops: work.flops(), bytes: work.bytes(), outcome }
    }
}

/// What a device can tell of a run.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    Timed(Timing),
    Counted(Counts),
}

/// Who measured the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    Host,
    Device,
}

/// Times of the repeats and the rates that follow from their median.
#[derive(Debug, Serialize)]
pub struct Timing {
    pub clock: Clock,
    pub repeats: usize,
    pub median_ms: f64,
    pub fastest_ms: f64,
    pub slowest_ms: f64,
    /// Useful floating point operations a second, in 10^12.
    pub tflops: f64,
    /// The fewest bytes over the median, in 10^9 a second.
    pub gbs: f64,
}

impl Timing {
    /// `seconds` of each repeat; at least one.
    pub fn of(work: &Work, clock: Clock, seconds: Vec<f64>) -> Self {
        let ends = seconds.iter().fold((f64::INFINITY, 0.0f64), |(low, high), &s| (low.min(s), high.max(s)));
        let repeats = seconds.len();
        let middle = median(seconds);
        Self {
            clock,
            repeats,
            median_ms: 1e3 * middle,
            fastest_ms: 1e3 * ends.0,
            slowest_ms: 1e3 * ends.1,
            tflops: work.flops() / middle / 1e12,
            gbs: work.bytes() / middle / 1e9,
        }
    }
}

/// The middle of an odd number of values, the mean of the two middle ones of an even number; NaN of none.
pub fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    match (x.len(), x.len() / 2) {
        (0, _) => f64::NAN,
        (n, i) if n % 2 == 1 => x[i],
        (_, i) => (x[i - 1] + x[i]) / 2.0,
    }
}

impl Report {
    /// Rows without ceilings.
    pub fn new(backend: &'static str, device: String, rows: Vec<Row>) -> Self {
        Self { schema_version: SCHEMA, version: env!("CARGO_PKG_VERSION"), backend, device, ceilings: None, rows }
    }
    /// Lines for people: the ceilings, then a row an operation.
    pub fn table(&self) -> String {
        let mut text = format!("{}: {}\n", self.backend, self.device);
        if let Some(ceilings) = &self.ceilings {
            let peaks = ceilings.peaks.iter().map(|(dtype, rate)| format!(", {dtype} {:.3} TFLOP/s", rate / 1e12));
            text += &format!("ceilings: copy {:.1} GB/s{} ({})\n", ceilings.copy / 1e9, peaks.collect::<String>(), ceilings.note);
        }
        let timed = ["op", "shape", "dtype", "ms", "TFLOP/s", "of peak", "GB/s", "of copy", "error", "kernel"].map(String::from);
        let counted =
            ["op", "shape", "dtype", "instructions", "mma", "barriers", "conflicts", "sectors", "least", "error", "kernel"];
        let (mut times, mut counts) = (vec![timed.to_vec()], vec![counted.map(String::from).to_vec()]);
        for row in &self.rows {
            let head = [row.op.name().to_string(), row.shape.clone(), row.dtype.to_string()];
            let tail = [format!("{:.1e}", row.error), row.kernel.clone()];
            match &row.outcome {
                Outcome::Timed(t) => {
                    let rates = [format!("{:.3}", t.median_ms), format!("{:.3}", t.tflops), self.share(row, t.tflops * 1e12)];
                    let bytes = [format!("{:.1}", t.gbs), self.share_of_copy(t.gbs * 1e9)];
                    times.push([&head[..], &rates, &bytes, &tail].concat());
                }
                Outcome::Counted(c) => {
                    let numbers = [c.instructions, c.matrix_products, c.barriers, c.bank_conflicts, c.sectors, c.sectors_least];
                    counts.push([&head[..], &numbers.map(|n| n.to_string()), &tail].concat());
                }
            }
        }
        [times, counts].iter().filter(|rows| rows.len() > 1).fold(text, |text, rows| text + &columns(rows))
    }
    fn share(&self, row: &Row, rate: f64) -> String {
        let peak = self.ceilings.as_ref().and_then(|c| c.peaks.get(row.dtype));
        peak.map_or_else(|| "-".into(), |peak| percent(rate / peak))
    }
    fn share_of_copy(&self, rate: f64) -> String {
        self.ceilings.as_ref().map_or_else(|| "-".into(), |c| percent(rate / c.copy))
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Rows with their cells right-aligned but the last, two spaces between.
fn columns(rows: &[Vec<String>]) -> String {
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let line = |r: &Vec<String>| {
        let Some((last, cells)) = r.split_last() else { return String::new() };
        cells.iter().enumerate().map(|(c, cell)| format!("{cell:>0$}  ", width(c))).collect::<String>() + last + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    fn report(outcome: impl Fn(&Work) -> Outcome, ceilings: Option<Ceilings>) -> Report {
        let work = Work::new(Op::Linear, DType::F32, &"1000x500x200".parse().unwrap()).unwrap().unwrap();
        let rows = vec![Row::new(&work, "cuda", "linear_f32_sm80@c".into(), 1.5e-7, outcome(&work))];
        Report { ceilings, ..Report::new("cuda", "D".into(), rows) }
    }

    #[test]
    fn rates_and_shares_follow_from_the_median() {
        let mut ceilings = Ceilings::new("note".into(), 1e11);
        ceilings.peaks.insert("f32", 8e11);
        // 2e8 operations and 3,200,800 bytes in half a millisecond.
        let report = report(|w| Outcome::Timed(Timing::of(w, Clock::Device, vec![1e-3, 5e-4, 4e-4])), Some(ceilings));
        let table = report.table();
        let words: Vec<&str> = table.lines().last().unwrap().split_whitespace().collect();
        let expected =
            ["linear", "1000x500x200", "f32", "0.500", "0.400", "50.0", "%", "6.4", "6.4", "%", "1.5e-7", "linear_f32_sm80@c"];
        assert_eq!(words, expected, "{table}");
        assert!(table.contains("ceilings: copy 100.0 GB/s, f32 0.800 TFLOP/s (note)"), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        let row = &json["rows"][0];
        assert_eq!(
            (row["op"].as_str(), row["repeats"].as_u64(), row["fastest_ms"].as_f64()),
            (Some("linear"), Some(3), Some(0.4))
        );
    }

    #[test]
    fn a_row_above_the_ceiling_is_the_ceiling() {
        let mut ceilings = Ceilings::new("note".into(), 1e11);
        ceilings.peaks.insert("f32", 3e11);
        ceilings.peaks.insert("f64", 3e11);
        let timed = report(|w| Outcome::Timed(Timing::of(w, Clock::Device, vec![5e-4])), None);
        ceilings.raise(&timed.rows);
        assert_eq!((ceilings.peaks["f32"], ceilings.peaks["f64"]), (4e11, 3e11));
        assert_eq!(ceilings.note, "note; f32 peak: linear 1000x500x200");
        ceilings.raise(&timed.rows);
        assert_eq!(ceilings.note, "note; f32 peak: linear 1000x500x200");
    }

    #[test]
    fn counts_stand_where_nothing_is_timed() {
        let counts = |_: &Work| {
            Outcome::Counted(Counts {
                instructions: 11,
                matrix_products: 12,
                barriers: 13,
                bank_conflicts: 14,
                sectors: 15,
                sectors_least: 16,
            })
        };
        let report = report(counts, None);
        let table = report.table();
        let words: Vec<&str> = table.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(words[2..9], ["f32", "11", "12", "13", "14", "15", "16"], "{table}");
        assert!(!table.contains("TFLOP") && !table.contains("ceilings"), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["rows"][0]["instructions"] == 11 && json["rows"][0].get("median_ms").is_none(), "{json}");
    }
}
