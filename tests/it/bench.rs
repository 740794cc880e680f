//! `mechgraph bench` on what is there without a GPU: the CPU and the interpreter.

use serde_json::Value;

use crate::command::{failure, run};

fn bench(args: &[&str]) -> String {
    let outcome = run(&[&["bench", "--quiet"], args].concat());
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""), "{args:?}");
    outcome.stdout
}

fn rows(args: &[&str]) -> (Value, Vec<Value>) {
    let report: Value = serde_json::from_str(&bench(&[args, &["--json"]].concat())).unwrap();
    let rows = report["rows"].as_array().unwrap().clone();
    (report, rows)
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key} of {row}"))
}

const SMALL: [&str; 6] = ["--shape", "96x40", "--shape", "96x40x24", "--repeats", "5"];

#[test]
fn the_cpu_is_checked_timed_and_set_against_its_ceilings() {
    let (report, rows) = rows(&[&["--backend", "cpu", "--threads", "2"], &SMALL[..]].concat());
    let names: Vec<_> = rows.iter().map(|r| (r["op"].as_str().unwrap(), r["dtype"].as_str().unwrap())).collect();
    let all = ["gram", "linear", "tangent"].map(|op| [(op, "f32"), (op, "f64")]);
    assert_eq!(names, all.concat());
    for row in &rows {
        let f64_bound = if row["dtype"] == "f64" { 1e-13 } else { 1e-6 };
        assert!(number(row, "error") < f64_bound, "{row}");
        let (fast, median, slow) = (number(row, "fastest_ms"), number(row, "median_ms"), number(row, "slowest_ms"));
        assert!(0.0 < fast && fast <= median && median <= slow && row["repeats"] == 5, "{row}");
        let rate = number(row, "flops") / (median * 1e-3) / 1e12;
        assert!((number(row, "tflops") / rate - 1.0).abs() < 1e-12, "{row}");
        let peak = number(&report["ceilings"]["peaks"], row["dtype"].as_str().unwrap());
        assert!(number(row, "tflops") * 1e12 <= peak * (1.0 + 1e-12), "{row}");
    }
    assert!(number(&report["ceilings"], "copy") > 0.0);
}

#[test]
fn the_report_is_written_where_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("bench.json");
    let args =
        ["gram", "--backend", "cpu", "--dtype", "f64", "--shape", "64x8", "--repeats", "3", "--out", out.to_str().unwrap()];
    let table = bench(&args);
    assert!(table.contains("ceilings: copy ") && table.contains("gram ") && table.contains(" 64x8 "), "{table}");
    let report: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!((report["schema_version"].as_u64(), report["backend"].as_str()), (Some(1), Some("cpu")));
    assert_eq!(report["rows"].as_array().unwrap().len(), 1);
    let again = failure(&[&["bench", "--quiet"], &args[..]].concat());
    assert!(again.contains("a file that exists already"), "{again}");
}

#[test]
fn flags_that_contradict_each_other_are_named() {
    let sentence = |args: &[&str]| failure(&[&["bench", "--quiet", "--backend", "cpu"], args].concat());
    assert!(sentence(&["gram", "--shape", "4x4x4"]).contains("--shape: found 4x4x4; expected NxD of gram"));
    assert!(sentence(&["tangent", "--shape", "24x4x4"]).contains("--shape: found 24x4x4; expected rows in slabs of 16"));
    assert!(sentence(&["gram", "--shape", "64x8", "--dtype", "bf16"]).contains("--dtype: found bf16"));
    assert!(sentence(&["gram", "--batch", "3"]).contains("--batch: found 3; expected --shape"));
    assert!(sentence(&["gram", "--shape", "8000000000x1"]).contains("elements a matrix"));
    assert!(sentence(&["gram", "--shape", "1000000x1000", "--max-memory", "1M"]).starts_with("memory: "));
    let usage = |args: &[&str]| run(&[&["bench"], args].concat()).status;
    assert_eq!([usage(&["norm"]), usage(&["--shape", "4"]), usage(&["--repeats", "0"])], [Some(2); 3]);
}

#[cfg(feature = "ptxvm")]
mod interpreter {
    use super::*;

    #[test]
    fn the_interpreter_checks_and_counts_and_times_nothing() {
        let cuda = ["--backend", "cuda", "--driver", "interpreter"];
        let (report, rows) = rows(&[&cuda[..], &["--shape", "70x40", "--shape", "32x40x24"]].concat());
        assert!(report["ceilings"].is_null(), "{report}");
        let names: Vec<_> = rows.iter().map(|r| (r["op"].as_str().unwrap(), r["dtype"].as_str().unwrap())).collect();
        let both = |op| [(op, "f32"), (op, "f64")];
        assert_eq!(names, [both("gram"), both("linear"), both("tangent")].concat());
        for row in &rows {
            assert!(number(row, "error") < if row["dtype"] == "f64" { 1e-13 } else { 1e-6 }, "{row}");
            assert!(number(row, "instructions") > 0.0 && number(row, "barriers") > 0.0, "{row}");
            assert!(number(row, "sectors") >= number(row, "sectors_least") && number(row, "sectors_least") > 0.0, "{row}");
            assert!(row.get("median_ms").is_none() && row.get("tflops").is_none(), "{row}");
            let products = number(row, "matrix_products");
            assert_eq!(products > 0.0, row["dtype"] == "f64", "{row}");
        }
        assert!(rows[1]["kernel"].as_str().unwrap().contains("gram_f64_sm80@"), "{}", rows[1]);
    }
}
