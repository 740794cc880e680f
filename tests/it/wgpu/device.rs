//! Opening adapters, transfers, and what becomes of mistakes: an error of one sentence, never a panic.

use mechgraph::device::wgpu::{Kind, Launch, Options, Recorded, Wgpu};
use mechgraph::kernel::wgsl::Transport;
use mechgraph::kernel::{Configuration, Constants};

use super::{ADAPTER, device, open};

#[test]
fn an_adapter_is_found_by_part_of_its_name_in_any_case() {
    if device().is_none() {
        return;
    }
    for name in ["llvmpipe", "LLVMpipe", "LLVM"] {
        let device = Wgpu::open(Some(name)).unwrap();
        assert!(device.adapter().name.contains(ADAPTER) && device.adapter().kind == Kind::Software);
        let text = device.describe();
        assert!(text.contains("vulkan") && text.contains("software); TwoSum ") && !text.contains('\n'), "{text}");
    }
    let text = Wgpu::open(Some("voodoo")).unwrap_err().to_string();
    assert!(text.starts_with("backend wgpu: no adapter whose name holds 'voodoo'; expected one of: "), "{text}");
    assert!(text.contains(ADAPTER), "{text}");
}

#[test]
fn a_software_adapter_is_listed_but_never_taken_unasked() {
    if device().is_none() {
        return;
    }
    let adapters = Wgpu::adapters();
    let soft = adapters.iter().find(|a| a.name.contains(ADAPTER)).unwrap();
    assert!(soft.largest_binding >= 128 << 20 && soft.workgroup_memory >= 16 << 10 && soft.invocations >= 256);
    assert!(soft.features.contains(&"immediates"), "{:?}", soft.features);
    match Wgpu::open(None) {
        Ok(device) => assert!(device.adapter().kind.is_hardware()),
        Err(e) => assert!(e.to_string().contains("no hardware adapter but ") && e.to_string().contains("--adapter"), "{e}"),
    }
}

#[test]
fn transfers_copies_and_clears_move_exactly_the_bytes_asked_for() {
    let Some(device) = device() else { return };
    let data: Vec<u8> = (0..=255).collect();
    let (a, b) = (device.buffer_of(&data).unwrap(), device.buffer(64).unwrap());
    assert_eq!(device.download(&b, 0..64).unwrap(), [0; 64]);
    device.upload(&a, 8, &[9; 4]).unwrap();
    device.submit(&[Recorded::copy(&a, 4, &b, 16, 12), Recorded::clear(&b, 20..24)]).unwrap();
    let mut wanted = [0; 64];
    wanted[16..20].copy_from_slice(&data[4..8]);
    wanted[24..28].copy_from_slice(&data[12..16]);
    assert_eq!(device.download(&b, 0..64).unwrap(), wanted);
    assert_eq!(device.download(&a, 252..256).unwrap(), data[252..]);
    assert!(device.download(&a, 8..8).unwrap().is_empty());
    assert_eq!(device.buffer(5).unwrap().bytes(), 8);
}

#[test]
fn transfers_outside_of_a_buffer_or_of_broken_words_are_refused() {
    let Some(device) = device() else { return };
    let buffer = device.buffer(64).unwrap();
    let refused = |text: String, words: &str| {
        assert!(text.starts_with(&format!("device {}: ", device.adapter().name)) && text.contains(words), "{text}");
    };
    refused(
        device.upload(&buffer, 60, &[0; 8]).unwrap_err().to_string(),
        "an upload of 8 bytes failed: bytes 60..68 of a buffer of 64",
    );
    refused(device.upload(&buffer, 0, &[0; 3]).unwrap_err().to_string(), "no whole words");
    refused(device.download(&buffer, 0..68).unwrap_err().to_string(), "a read-back of 68 bytes failed");
    refused(device.submit(&[Recorded::clear(&buffer, 60..80)]).unwrap_err().to_string(), "running 1 steps");
    refused(device.bind(&buffer, 10..20).unwrap_err().to_string(), "binding storage failed: bytes 40..80 of a buffer of 64");
    refused(device.grid(u64::MAX).unwrap_err().to_string(), "workgroups are more than 65535 x 65535");
    // The device is none the worse for it.
    assert_eq!(device.download(&buffer, 0..4).unwrap(), [0; 4]);
}

#[test]
fn a_buffer_beyond_the_limits_is_refused_with_what_was_asked_for() {
    let Some(device) = device() else { return };
    let text = device.buffer(1 << 45).unwrap_err().to_string();
    let most = device.limits().max_buffer_size;
    assert!(text.contains("allocating a buffer of 35184372088832 bytes failed: the adapter allows"), "{text}");
    assert!(text.contains(&most.to_string()), "{text}");
}

fn configuration(threads: u32) -> Configuration {
    Configuration { name: "t".into(), constants: Constants::default(), threads, shared: 0 }
}

const FILL: &str = "@group(0) @binding(0) var<uniform> value: u32;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@compute @workgroup_size(64) fn fill(@builtin(global_invocation_id) id: vec3<u32>) { out[id.x] = value; }";

#[test]
fn a_text_that_does_not_compile_is_an_error_that_names_kernel_and_line() {
    let Some(device) = device() else { return };
    let refused = |text: &str, entry: &str, threads: u32| {
        device.pipeline_of("bad@t", entry, text, &configuration(threads)).unwrap_err().to_string()
    };
    let text = refused(&FILL.replace("= value", "= valve"), "fill", 64);
    assert!(text.starts_with("kernel bad@t: llvmpipe") && text.contains("refuses its text (WGSL)"), "{text}");
    assert!(text.contains("valve") && text.contains(":3:"), "{text}");
    let text = refused(FILL, "empty", 64);
    assert!(text.contains("bad@t") && text.contains("empty"), "{text}");
    let text = refused(&FILL.replace("(64)", "(4096)"), "fill", 64);
    assert!(text.contains("bad@t") && text.contains("4096"), "{text}");
    let text = refused(FILL, "fill", 4096);
    assert!(text.contains("kernel bad@t: 4096 invocations and 0 bytes of workgroup memory; expected at most"), "{text}");
}

#[test]
fn a_launch_that_does_not_fit_its_kernel_is_an_error_that_names_it() {
    let Some(device) = device() else { return };
    let pipeline = device.pipeline_of("fill@t", "fill", FILL, &configuration(64)).unwrap();
    let buffer = device.buffer(256).unwrap();
    let (out, _) = device.bind(&buffer, 0..64).unwrap();
    let value = 7u32.to_le_bytes();
    let transport = Transport::Uniform;
    let launch = Launch { pipeline: &pipeline, params: &value, transport, bindings: std::slice::from_ref(&out), grid: [1, 1, 1] };
    let recorded = device.record(&launch).unwrap();
    assert_eq!(recorded.name(), Some("fill@t"));
    device.submit(std::slice::from_ref(&recorded)).unwrap();
    assert_eq!(device.download(&buffer, 0..256).unwrap(), [7, 0, 0, 0].repeat(64));
    // What was recorded runs again, and can be timed.
    device.submit(&[Recorded::clear(&buffer, 0..256)]).unwrap();
    let seconds = device.time(&[recorded.clone(), recorded]).unwrap();
    assert!(seconds.is_none_or(|s| (0.0..10.0).contains(&s)), "{seconds:?}");
    assert_eq!(device.download(&buffer, 0..4).unwrap(), [7, 0, 0, 0]);

    let text = device.record(&Launch { bindings: &[], ..launch }).unwrap_err().to_string();
    assert!(text.starts_with("kernel fill@t: launch of grid [1, 1, 1], block [64, 1, 1]"), "{text}");
    let wide = Launch { pipeline: &pipeline, params: &value, transport, bindings: &[out], grid: [70_000, 1, 1] };
    let text = device.submit(&[device.record(&wide).unwrap()]).unwrap_err().to_string();
    assert!(text.contains("running 1 steps, the first fill@t failed") && text.contains("70000"), "{text}");
}

#[test]
fn the_whole_device_runs_on_uniforms_alone() {
    let Some(device) = open(Options { immediates: false, ..Options::default() }) else {
        println!("skipped: wgpu adapter {ADAPTER} is absent");
        return;
    };
    assert_eq!(device.kernel_limits().transport(4), Transport::Uniform);
    assert!(device.exactness().two_sum);
}
