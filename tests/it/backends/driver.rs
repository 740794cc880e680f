//! What the binary makes of the NVIDIA driver's answers, held against a library that plays the driver:
//! absent devices, old drivers, refused kernels, memory that runs out, a device that is lost. After each
//! everything that the driver made has been given back: the library says on stderr what has not.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::command::{Outcome, mechgraph};

/// A folder with the library as `libcuda.so`; `None`, printed, where there is no C compiler.
fn library(flags: &[&str]) -> Option<TempDir> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/backends/fake_driver/cuda.c");
    let dir = tempfile::tempdir().unwrap();
    let out: PathBuf = dir.path().join("libcuda.so");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-w", "-o"]).arg(&out).arg(&source).args(flags).status();
    match compiled {
        Ok(status) => assert!(status.success(), "cc fails on {}", source.display()),
        Err(_) => {
            println!("skipped: cuda fake driver: no C compiler");
            return None;
        }
    }
    Some(dir)
}

fn run(library: &TempDir, fault: &str, args: &[&str]) -> Outcome {
    let output = mechgraph(args).env("LD_LIBRARY_PATH", library.path()).env("FAKE_CUDA", fault).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Outcome { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The sentence of a run of `lib` on a driver that plays `fault`.
fn sentence(library: &TempDir, fault: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let args = ["lib", "demo:modadd", "--samples", "200", "--backend", "cuda", "--quiet", "--out", out.to_str().unwrap()];
    let outcome = run(library, fault, &args);
    assert!(!out.join("graph.safetensors").exists(), "{fault}: a result");
    let error = outcome.stderr.lines().next().and_then(|l| l.strip_prefix("error: "));
    let is_one = outcome.stderr.lines().all(|l| l.starts_with("error: ") || l.starts_with("hint: "));
    assert!(outcome.status == Some(1) && is_one, "{fault}: {outcome:?}");
    error.unwrap_or_else(|| panic!("{fault}: {outcome:?}")).into()
}

#[test]
fn every_fault_of_the_driver_is_one_sentence() {
    let Some(library) = library(&[]) else { return };
    for (fault, parts) in [
        ("no device", &["backend cuda: CUDA_ERROR_NO_DEVICE (as the driver puts it)"][..]),
        ("none", &["backend cuda: ", "device 0 was asked for, the driver has 0"]),
        ("turing", &["Fake GPU of compute capability 7.5", "expected compute capability 8.0"]),
        ("full", &["memory: the plan needs", "at most 4096 bytes"]),
        ("no memory", &["device Fake GPU: allocating", "bytes are free", "CUDA_ERROR_OUT_OF_MEMORY (as the driver puts it)"]),
        ("newer", &["device Fake GPU: allocating", "cuMemAlloc_v2: code 917"]),
        ("few streams", &["device Fake GPU: making streams and staging memory", "cuStreamCreate: CUDA_ERROR_OUT_OF_MEMORY"]),
        ("few events", &["device Fake GPU: making streams and staging memory", "cuEventCreate: CUDA_ERROR_OUT_OF_MEMORY"]),
        ("little staging", &["device Fake GPU: making streams and staging memory", "cuMemHostAlloc: CUDA_ERROR_OUT_OF_MEMORY"]),
        ("refuses", &["kernel ", "_sm80@", "CUDA_ERROR_INVALID_PTX", "line 7; error : Unknown symbol 'frobnicate'; ptxas fatal"]),
        ("refuses at length", &["CUDA_ERROR_INVALID_PTX", "line 7; error : Unknown symbol 'frobnicate'; ptxas", " more lines"]),
        ("no entry", &["kernel ", "_sm80@"]),
        ("lost", &["device Fake GPU: ", "CUDA_ERROR_ILLEGAL_ADDRESS"]),
    ] {
        let sentence = sentence(&library, fault);
        for part in parts {
            assert!(sentence.contains(part), "{fault}: no '{part}' in '{sentence}'");
        }
    }
}

#[test]
fn a_driver_that_lacks_a_function_is_too_old() {
    let Some(library) = library(&["-DOLD"]) else { return };
    let sentence = sentence(&library, "");
    assert!(sentence.contains("the NVIDIA driver is too old: it has no cuDeviceGetCount"), "{sentence}");
}

#[test]
fn auto_passes_over_a_driver_without_a_device_and_says_why() {
    let Some(library) = library(&[]) else { return };
    let outcome = run(&library, "no device", &["eval", "demo:modadd", "--samples", "50", "--dtype", "f64"]);
    let note = outcome.stderr.lines().next().unwrap_or_default();
    assert!(outcome.status == Some(0) && note.starts_with("note: auto picks cpu: "), "{outcome:?}");
    assert!(note.contains("CUDA_ERROR_NO_DEVICE"), "{note}");
}

#[test]
fn a_device_that_does_nothing_is_driven_to_the_end() {
    // Kernels that do nothing leave the sums of the losses at zero. Every call is answered as documented, captures
    // included.
    let Some(library) = library(&[]) else { return };
    let outcome = run(&library, "", &["devices", "--json"]);
    assert!(outcome.status == Some(0) && outcome.stdout.contains("Fake GPU, compute capability 9.0, CUDA 12.4"), "{outcome:?}");
    let outcome = run(&library, "", &["eval", "demo:modadd", "--backend", "cuda", "--dtype", "f32", "--quiet"]);
    assert!(
        outcome.status == Some(0) && outcome.stdout.contains("loss        0.000000000") && outcome.stderr.is_empty(),
        "{outcome:?}"
    );
}
