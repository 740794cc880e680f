//! What was checked: rows, their table and JSON, and the verdict over all.

use serde::Serialize;

use crate::cli::table::columns;
use crate::device::{DType, Device};
use crate::error::{Error, Result};

/// Version of the JSON's layout.
const SCHEMA: u32 = 1;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Passed,
    Failed,
    /// The device has no kernel for it: the host does it in runs.
    Host,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Host => "on the host",
        }
    }
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What is compared: `operation`, `forward`, ..
    pub check: &'static str,
    /// Of what: an operation and its shape, a site, a section.
    pub of: String,
    pub dtype: &'static str,
    /// How far off it is; `None` where nothing could be compared. Not finite only where the check failed, and then `None`
    /// too.
    pub error: Option<f64>,
    /// The most that `error` may be.
    pub bound: f64,
    pub verdict: Verdict,
    /// What computed it, or what went wrong.
    pub note: String,
}

impl Row {
    /// A row whose error is compared with its bound; NaN is above every bound.
    pub fn judged(check: &'static str, of: impl Into<String>, dtype: DType, (error, bound): (f64, f64), note: String) -> Self {
        let verdict = if error <= bound { Verdict::Passed } else { Verdict::Failed };
        let error = Some(error).filter(|e| e.is_finite());
        Self { check, of: of.into(), dtype: dtype.name(), error, bound, verdict, note }
    }
    /// A row of something that must be equal to the last bit.
    pub fn equal(check: &'static str, of: impl Into<String>, dtype: DType, is_equal: bool, note: String) -> Self {
        Self::judged(check, of, dtype, (if is_equal { 0.0 } else { f64::INFINITY }, 0.0), note)
    }
    /// A row that went wrong before there was a number.
    pub fn failed(check: &'static str, of: impl Into<String>, dtype: DType, bound: f64, error: &Error) -> Self {
        Self::judged(check, of, dtype, (f64::NAN, bound), error.to_string())
    }
    /// A row of an operation that the device leaves to the host.
    pub fn left(check: &'static str, of: impl Into<String>, dtype: DType, bound: f64) -> Self {
        let note = "no kernel for it".into();
        Self { check, of: of.into(), dtype: dtype.name(), error: None, bound, verdict: Verdict::Host, note }
    }
}

/// All of a run of `mechgraph doctor`.
#[derive(Debug, Serialize)]
pub struct Report {
    schema_version: u32,
    version: &'static str,
    backend: &'static str,
    device: String,
    /// Operations of the model's passes that the host did.
    host: Vec<String>,
    passed: usize,
    failed: usize,
    /// Operations without a kernel.
    left_to_the_host: usize,
    rows: Vec<Row>,
}

impl Report {
    pub fn new(device: &Device, rows: Vec<Row>) -> Self {
        let count = |verdict| rows.iter().filter(|r| r.verdict == verdict).count();
        Self {
            schema_version: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            backend: device.backend(),
            device: device.describe(),
            host: device.placed().map(|placed| placed.host.into_iter().collect()).unwrap_or_default(),
            passed: count(Verdict::Passed),
            failed: count(Verdict::Failed),
            left_to_the_host: count(Verdict::Host),
            rows,
        }
    }
    /// Lines for people.
    pub fn table(&self) -> String {
        let mut cells = vec![["check", "of", "dtype", "error", "at most", "verdict", "by"].map(String::from).to_vec()];
        let number = |x: f64| if x == 0.0 { "0".into() } else { format!("{x:.1e}") };
        cells.extend(self.rows.iter().map(|r| {
            let error = r.error.map_or_else(|| "-".into(), number);
            let (of, bound) = (r.of.clone(), number(r.bound));
            vec![r.check.into(), of, r.dtype.into(), error, bound, r.verdict.name().into(), r.note.clone()]
        }));
        let host = if self.host.is_empty() { String::new() } else { format!("the host did {}\n", self.host.join(", ")) };
        let Self { backend, device, passed, failed, left_to_the_host, .. } = self;
        let count = self.rows.len();
        let rows = columns(&cells);
        format!(
            "{backend}: {device}\n\n{rows}\n{host}{count} checks: {passed} passed, {failed} failed, {left_to_the_host} left to the host\n"
        )
    }
    /// Fails if a check has.
    pub fn verdict(&self) -> Result<()> {
        let Some(first) = self.rows.iter().find(|r| r.verdict == Verdict::Failed) else { return Ok(()) };
        let place = format!("{} ({})", self.backend, self.device);
        let (failed, count) = (self.failed, self.rows.len());
        let found = format!("{failed} of {count} checks failed, first {} of {} in {}", first.check, first.of, first.dtype);
        Err(Error::numeric(place, found, "none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;

    #[test]
    fn what_is_no_number_fails_and_the_sentence_names_the_first() {
        let judged = |error| Row::judged("forward", "logits", DType::F32, (error, 1e-6), "n".into());
        let verdicts = [0.0, 1e-6, 2e-6, f64::NAN, f64::INFINITY].map(|e| judged(e).verdict);
        let (passed, failed) = (Verdict::Passed, Verdict::Failed);
        assert_eq!(verdicts, [passed, passed, failed, failed, failed]);
        assert_eq!(judged(f64::NAN).error, None);
        let device = Device::Cpu(Cpu::new(1).unwrap());
        let of = |rows: &[Row]| Report::new(&device, rows.to_vec());
        let host = Row::left("operation", "x", DType::F64, 1.0);
        of(&[judged(0.0), host.clone()]).verdict().unwrap();
        let report = of(&[judged(0.0), host, Row::equal("bits", "y", DType::F32, false, String::new()), judged(1.0)]);
        let sentence = report.verdict().unwrap_err().to_string();
        assert!(sentence.contains("2 of 4 checks failed, first bits of y in f32"), "{sentence}");
        let table = report.table();
        assert!(table.ends_with("4 checks: 1 passed, 2 failed, 1 left to the host\n"), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((json["rows"][2]["verdict"].as_str(), json["rows"][1]["error"].as_f64()), (Some("failed"), None));
    }
}
