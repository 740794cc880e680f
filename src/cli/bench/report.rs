//! What was measured, as a table and as JSON. Rates are worked out here alone.

use std::collections::BTreeMap;

use serde::Serialize;

use super::case::Costs;
use super::check::Checked;
use super::work::{Op, Work};
use crate::cli::table::columns;
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
    /// The least time that arithmetic and bytes of a row take: its roofline (Williams et al. 2009). `None` of a dtype whose
    /// peak is not known.
    fn least_seconds(&self, row: &Row) -> Option<f64> {
        let peak = self.peaks.get(row.dtype).filter(|peak| **peak > 0.0)?;
        Some((row.flops / peak).max(row.bytes / self.copy))
    }
    /// Lifts the peaks to the fastest row of each dtype: what was reached is no ceiling.
    fn raise(&mut self, rows: &[Row]) {
        for row in rows {
            if let (Outcome::Timed(t), Some(peak)) = (&row.outcome, self.peaks.get_mut(row.dtype))
                && t.tflops * 1e12 > *peak
            {
                *peak = t.tflops * 1e12;
                self.note += &format!("; {} peak: {} {}", row.dtype, row.op.0.name, row.shape);
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
    /// What was checked before: the shape, with what was left out of it; "the reference" where there is nothing to compare
    /// with.
    pub checked: String,
    /// The largest relative Frobenius error of an output against f64; `None` of the reference itself.
    pub error: Option<f64>,
    /// Useful floating point operations.
    pub flops: f64,
    /// The fewest bytes that can be moved.
    pub bytes: f64,
    /// Share of the roofline that was reached: the least time for the arithmetic at its peak or for the bytes at the rate of
    /// a copy, over the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roofline: Option<f64>,
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Row {
    pub fn new(work: &Work, backend: &'static str, kernel: String, checked: Checked, costs: &Costs, outcome: Outcome) -> Self {
        let (op, shape, dtype) = (work.op, work.shape(), work.dtype.name());
        let (Checked { error, what }, Costs { flops, bytes, .. }) = (checked, *costs);
        Self { op, shape, dtype, backend, kernel, checked: what, error, flops, bytes, roofline: None, outcome }
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
    pub fn of(costs: &Costs, clock: Clock, seconds: Vec<f64>) -> Self {
        let ends = seconds.iter().fold((f64::INFINITY, 0.0f64), |(low, high), &s| (low.min(s), high.max(s)));
        let repeats = seconds.len();
        let middle = median(seconds);
        Self {
            clock,
            repeats,
            median_ms: 1e3 * middle,
            fastest_ms: 1e3 * ends.0,
            slowest_ms: 1e3 * ends.1,
            tflops: costs.flops / middle / 1e12,
            gbs: costs.bytes / middle / 1e9,
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
    /// Rows and the ceilings of the device, which the rows may lift.
    pub fn new(backend: &'static str, device: String, mut ceilings: Option<Ceilings>, mut rows: Vec<Row>) -> Self {
        if let Some(ceilings) = &mut ceilings {
            ceilings.raise(&rows);
            for row in &mut rows {
                let least = ceilings.least_seconds(row);
                if let Outcome::Timed(t) = &row.outcome {
                    row.roofline = least.map(|least| least / (1e-3 * t.median_ms));
                }
            }
        }
        Self { schema_version: SCHEMA, version: env!("CARGO_PKG_VERSION"), backend, device, ceilings, rows }
    }
    /// Lines for people: the ceilings, then a row an operation.
    pub fn table(&self) -> String {
        let mut text = format!("{}: {}\n", self.backend, self.device);
        if let Some(ceilings) = &self.ceilings {
            let peaks = ceilings.peaks.iter().map(|(dtype, rate)| format!(", {dtype} {:.3} TFLOP/s", rate / 1e12));
            text += &format!("ceilings: copy {:.1} GB/s{} ({})\n", ceilings.copy / 1e9, peaks.collect::<String>(), ceilings.note);
        }
        let names = |names: &[&str]| vec![names.iter().map(|name| name.to_string()).collect::<Vec<String>>()];
        let (head, tail) = (["op", "shape", "dtype"], ["error", "checked", "kernel"]);
        let timed = ["ms", "GFLOP/s", "of peak", "GB/s", "of copy", "of roofline"];
        let counted = ["instructions", "mma", "barriers", "conflicts", "sectors", "least"];
        let (mut times, mut counts) =
            (names(&[&head[..], &timed, &tail].concat()), names(&[&head[..], &counted, &tail].concat()));
        for row in &self.rows {
            let head = [row.op.0.name.to_string(), row.shape.clone(), row.dtype.to_string()];
            let error = row.error.map_or_else(|| "-".into(), |error| format!("{error:.1e}"));
            let tail = [error, row.checked.clone(), row.kernel.clone()];
            match &row.outcome {
                Outcome::Timed(t) => {
                    let rates =
                        [format!("{:.3}", t.median_ms), format!("{:.1}", 1e3 * t.tflops), self.share(row, t.tflops * 1e12)];
                    let roofline = row.roofline.map_or_else(|| "-".into(), percent);
                    let bytes = [format!("{:.1}", t.gbs), self.share_of_copy(t.gbs * 1e9), roofline];
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

    fn report(outcome: impl Fn(&Costs) -> Outcome, ceilings: Option<Ceilings>) -> Report {
        let shape = "1000x500x200".parse().unwrap();
        let work = Work::new("linear".parse().unwrap(), DType::F32, &shape).unwrap().unwrap();
        let (costs, checked) = (work.costs(), Checked { error: Some(1.5e-7), what: "1000x500x200, 256 rows".into() });
        let row = Row::new(&work, "cuda", "linear_f32_sm80@c".into(), checked, &costs, outcome(&costs));
        Report::new("cuda", "D".into(), ceilings, vec![row])
    }

    fn ceilings(copy: f64, f32: f64) -> Ceilings {
        Ceilings { peaks: [("f32", f32), ("f64", 3e11)].into(), ..Ceilings::new("note".into(), copy) }
    }

    #[test]
    fn rates_and_shares_follow_from_the_median() {
        // 2e8 operations and 3,200,800 bytes in half a millisecond.
        let timed = |c: &Costs| Outcome::Timed(Timing::of(c, Clock::Device, vec![1e-3, 5e-4, 4e-4]));
        let report = report(timed, Some(ceilings(1e11, 8e11)));
        let table = report.table();
        let words: Vec<&str> = table.lines().last().unwrap().split_whitespace().collect();
        let head = ["linear", "1000x500x200", "f32", "0.500", "400.0", "50.0", "%", "6.4", "6.4", "%", "50.0", "%"];
        let tail = ["1.5e-7", "1000x500x200,", "256", "rows", "linear_f32_sm80@c"];
        assert_eq!(words, [&head[..], &tail].concat(), "{table}");
        assert!(table.contains("ceilings: copy 100.0 GB/s, f32 0.800 TFLOP/s, f64 0.300 TFLOP/s (note)"), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        let row = &json["rows"][0];
        assert_eq!((row["op"].as_str(), row["repeats"].as_u64()), (Some("linear"), Some(3)));
        assert_eq!((row["fastest_ms"].as_f64(), row["checked"].as_str()), (Some(0.4), Some("1000x500x200, 256 rows")));
        assert!((row["roofline"].as_f64().unwrap() - 0.5).abs() < 1e-12, "{row}");
    }

    #[test]
    fn the_roofline_is_the_lesser_of_arithmetic_and_copies() {
        let timed = |c: &Costs| Outcome::Timed(Timing::of(c, Clock::Device, vec![5e-4]));
        let share = |copy| report(timed, Some(ceilings(copy, 8e11))).rows[0].roofline.unwrap();
        // Copies of 3,200,800 bytes at 1e10 a second take longer than 2e8 operations at 8e11.
        assert!((share(1e10) - 3_200_800e-10 / 5e-4).abs() < 1e-12 && (share(1e12) - 0.5).abs() < 1e-12);
        assert_eq!(report(timed, Some(Ceilings::new("note".into(), 1e11))).rows[0].roofline, None);
    }

    #[test]
    fn a_row_above_the_ceiling_is_the_ceiling() {
        let mut timed = report(|c| Outcome::Timed(Timing::of(c, Clock::Device, vec![5e-4])), Some(ceilings(1e11, 3e11)));
        let ceilings = timed.ceilings.as_mut().unwrap();
        assert_eq!((ceilings.peaks["f32"], ceilings.peaks["f64"]), (4e11, 3e11));
        assert_eq!(ceilings.note, "note; f32 peak: linear 1000x500x200");
        ceilings.raise(&timed.rows);
        assert_eq!(ceilings.note, "note; f32 peak: linear 1000x500x200");
        assert!((timed.rows[0].roofline.unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn counts_stand_where_nothing_is_timed() {
        let counts = |_: &Costs| {
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
        assert!(!table.contains("FLOP") && !table.contains("ceilings"), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        let row = &json["rows"][0];
        assert!(row["instructions"] == 11 && row.get("median_ms").is_none() && row.get("roofline").is_none(), "{json}");
    }
}
