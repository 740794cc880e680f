//! `mechgraph bench` on what is there without a GPU: the CPU and the interpreter.

use serde_json::Value;

use crate::command::{failure, mechgraph, run};

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

/// Shapes of two to five sizes, one of which every operation takes.
const SMALL: [&str; 8] = ["--shape", "48x40", "--shape", "48x20x24", "--shape", "2x9x2x6", "--shape", "2x5x2x4x9"];

const ALL: [&str; 27] = [
    "gram",
    "linear",
    "tangent",
    "product",
    "moments",
    "edges",
    "gated",
    "attention",
    "attention-tangent",
    "attention-cotangent",
    "packed-attention",
    "attention-moments",
    "attention-edges",
    "norm",
    "norm-tangent",
    "norm-cotangent",
    "norm-moments",
    "rank-one-edges",
    "embed",
    "rope",
    "loss",
    "peaks",
    "trie-match",
    "probes",
    "probe-rows",
    "mask",
    "readout",
];

#[test]
fn the_script_for_gpus_runs_every_operation() {
    let script = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/device.sh")).unwrap();
    let (_, list) = script.split_once("\nops=(").unwrap();
    let named: Vec<&str> = list.split_once(')').unwrap().0.split_whitespace().collect();
    assert_eq!(named, ALL);
}

/// Holds that there is a row for every operation in f32 and f64.
fn assert_all(rows: &[Value]) {
    let names: Vec<_> = rows.iter().map(|r| (r["op"].as_str().unwrap(), r["dtype"].as_str().unwrap())).collect();
    assert_eq!(names, ALL.map(|op| [(op, "f32"), (op, "f64")]).concat());
}

/// Holds that a row's error is rounding.
fn assert_error(row: &Value) {
    let bound = if row["dtype"] == "f64" { 1e-13 } else { 1e-5 };
    assert!(number(row, "error") < bound, "{row}");
}

#[test]
fn the_cpu_is_checked_timed_and_set_against_its_ceilings() {
    let (report, rows) = rows(&[&["--backend", "cpu", "--threads", "2", "--repeats", "5"], &SMALL[..]].concat());
    assert_all(&rows);
    for row in &rows {
        let recomputed = ["gram", "linear", "tangent"].contains(&row["op"].as_str().unwrap());
        if row["dtype"] == "f64" && !recomputed {
            assert!(row["error"].is_null() && row["checked"] == "the reference", "{row}");
        } else {
            assert_error(row);
        }
        let (fast, median, slow) = (number(row, "fastest_ms"), number(row, "median_ms"), number(row, "slowest_ms"));
        assert!(0.0 < fast && fast <= median && median <= slow && row["repeats"] == 5, "{row}");
        let rate = number(row, "flops") / (median * 1e-3) / 1e12;
        assert!((number(row, "tflops") - rate).abs() <= 1e-12 * rate, "{row}");
        let peak = number(&report["ceilings"]["peaks"], row["dtype"].as_str().unwrap());
        assert!(number(row, "tflops") * 1e12 <= peak * (1.0 + 1e-12), "{row}");
        let least = f64::max(number(row, "flops") / peak, number(row, "bytes") / number(&report["ceilings"], "copy"));
        let share = least / (median * 1e-3);
        assert!(share > 0.0 && (number(row, "roofline") / share - 1.0).abs() < 1e-9, "{row}");
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
    let both = sentence(&["norm", "attention-edges", "--shape", "4x4x4"]);
    assert!(both.contains("--shape: found 4x4x4; expected NxD of norm, SxTxHxDxK of attention-edges"), "{both}");
    assert!(sentence(&["tangent", "--shape", "24x4x4"]).contains("--shape: found 24x4x4; expected rows in slabs of 16"));
    assert!(sentence(&["gram", "--shape", "64x8", "--dtype", "bf16"]).contains("--dtype: found bf16"));
    assert!(sentence(&["gram", "--batch", "3"]).contains("--batch: found 3; expected --shape"));
    assert!(sentence(&["gram", "--shape", "8000000000x1"]).contains("elements a matrix"));
    assert!(sentence(&["gram", "--shape", "1000000x1000", "--max-memory", "1M"]).starts_with("memory: "));
    let usage = |args: &[&str]| run(&[&["bench"], args].concat()).status;
    assert_eq!([usage(&["nonsense"]), usage(&["--shape", "4"]), usage(&["--repeats", "0"])], [Some(2); 3]);
}

#[cfg(feature = "ptxvm")]
mod interpreter {
    use super::*;

    const CUDA: [&str; 4] = ["--backend", "cuda", "--driver", "interpreter"];

    #[test]
    fn the_interpreter_checks_and_counts_and_times_nothing() {
        let (report, rows) = rows(&[&CUDA[..], &SMALL].concat());
        assert!(report["ceilings"].is_null(), "{report}");
        assert_all(&rows);
        for row in &rows {
            assert_error(row);
            assert_eq!(row["checked"], row["shape"], "{row}");
            assert!(number(row, "instructions") > 0.0, "{row}");
            assert!(number(row, "sectors") >= number(row, "sectors_least") && number(row, "sectors_least") > 0.0, "{row}");
            assert!(row.get("median_ms").is_none() && row.get("tflops").is_none() && row.get("roofline").is_none(), "{row}");
            if ["gram", "linear", "tangent"].contains(&row["op"].as_str().unwrap()) {
                assert!(number(row, "barriers") > 0.0, "{row}");
                assert_eq!(number(row, "matrix_products") > 0.0, row["dtype"] == "f64", "{row}");
            }
        }
        assert!(rows[1]["kernel"].as_str().unwrap().contains("gram_f64_sm80@"), "{}", rows[1]);
    }

    #[test]
    fn a_wrong_kernel_ends_the_command() {
        let sound = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/norm_sm80.ptx")).unwrap();
        let (bias, none) = ("setp.ne.u64     %biased, %b, 0;", "setp.ne.u64     %biased, 0, 0;");
        assert!(sound.contains(bias));
        let folder = tempfile::tempdir().unwrap();
        let norm = |text: &str| {
            std::fs::write(folder.path().join("norm_sm80.ptx"), text).unwrap();
            let args = [&["bench", "norm", "--quiet", "--dtype", "f32", "--shape", "5x40"], &CUDA[..]].concat();
            mechgraph(&args).env("MECHGRAPH_KERNELS", folder.path()).output().unwrap()
        };
        assert!(norm(&sound).status.success());
        let wrong = norm(&sound.replace(bias, none));
        let sentence = String::from_utf8(wrong.stderr).unwrap();
        assert_eq!((wrong.status.code(), wrong.stdout.len()), (Some(1), 0), "{sentence}");
        assert!(
            sentence.starts_with("error: norm 5x40 f32 on norm_sm80@") && sentence.contains("a relative error of "),
            "{sentence}"
        );
    }
}
