//! Launches that are refused, shared memory layout, and what a kernel says of itself.

use ptxvm::{Fault, FaultKind, Kernel, Launch, Machine, Module, Options};

use crate::support::options;

fn entry(target: &str, directives: &str, body: &str) -> std::sync::Arc<Kernel> {
    let text =
        format!(".version 7.8\n.target {target}\n.address_size 64\n.visible .entry k(.param .u64 out) {directives} {{ {body} }}");
    Module::parse(&text).unwrap_or_else(|error| panic!("{error}")).kernel("k").expect("the entry k")
}

fn launch(
    kernel: &Kernel,
    options: Options,
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    bytes: usize,
) -> Option<Fault> {
    let fault = Machine::new(options).launch(kernel, &Launch { grid, block, dynamic_shared, params: &vec![0; bytes] }).err();
    if let Some(fault) = &fault {
        assert_eq!((fault.kind, fault.line), (FaultKind::IllegalLaunch, 0), "{fault}");
    }
    fault
}

#[test]
fn launches_beyond_the_limits_are_refused_with_what_was_expected() {
    let plain = entry("sm_80", "", "ret;");
    let refused = |kernel: &Kernel, grid, block, shared, bytes, says: &str| {
        let fault = launch(kernel, options(0), grid, block, shared, bytes).expect("a refusal");
        assert!(fault.message.contains(says), "{fault}");
    };
    assert_eq!(launch(&plain, options(0), [3, 2, 1], [32, 4, 2], 1000, 8), None);
    refused(&plain, [0, 1, 1], [32, 1, 1], 0, 8, "a grid of 0 x 1 x 1");
    refused(&plain, [1, 65_536, 1], [32, 1, 1], 0, 8, "65535");
    refused(&plain, [1; 3], [1025, 1, 1], 0, 8, "expected 1 to 1024");
    refused(&plain, [1; 3], [0, 1, 1], 0, 8, "expected 1 to 1024");
    refused(&plain, [1; 3], [1, 1, 65], 0, 8, "at most 64 along z");
    refused(&plain, [1; 3], [32, 1, 1], 0, 12, "12 bytes of parameters; expected 8");
    refused(&plain, [1; 3], [32, 1, 1], 166_913, 8, "expected at most 166912");
    let required = entry("sm_80", ".reqntid 64, 2", "ret;");
    assert_eq!(required.max_threads(), 128);
    assert_eq!(launch(&required, options(0), [1; 3], [64, 2, 1], 0, 8), None);
    refused(&required, [1; 3], [128, 1, 1], 0, 8, ".reqntid [64, 2, 1]");
    let most = entry("sm_80", ".maxntid 64 .minnctapersm 2", "ret;");
    refused(&most, [1; 3], [96, 1, 1], 0, 8, ".maxntid 64");
    let tile = entry("sm_80", "", ".shared .align 16 .b8 tile[48000]; .reg .b32 %r; mov.b32 %r, tile;");
    assert_eq!(tile.static_shared(), 48_000);
    assert_eq!(launch(&tile, options(0), [1; 3], [32, 1, 1], 118_912, 8), None);
    refused(&tile, [1; 3], [32, 1, 1], 118_913, 8, "166913 bytes of shared memory");
}

#[test]
fn a_kernel_runs_only_on_devices_its_target_allows() {
    let on = |target: &str, capability| {
        let kernel = entry(target, "", "ret;");
        launch(&kernel, Options { capability, ..options(0) }, [1; 3], [32, 1, 1], 0, 8).is_none()
    };
    assert!(on("sm_80", (8, 0)) && on("sm_80", (12, 0)) && !on("sm_80", (7, 5)));
    assert!(on("sm_90", (9, 0)) && on("sm_90", (10, 0)) && !on("sm_90", (8, 9)));
    assert!(on("sm_90a", (9, 0)) && !on("sm_90a", (10, 0)));
}

#[test]
fn static_and_dynamic_shared_memory_lie_one_after_the_other() {
    let text = ".version 7.0 .target sm_80 .address_size 64
        .shared .align 4 .b8 unused[4096];
        .shared .b32 outer[3];
        .extern .shared .align 1024 .b8 smem[];
        .visible .entry k(.param .u64 out) {
            .shared .f64 inner[2];
            .reg .b64 %out; .reg .b32 %a, %b, %c, %d;
            ld.param.u64 %out, [out];
            mov.u32 %a, outer; mov.u32 %b, inner; mov.u32 %c, smem; mov.u32 %d, smem+4*(2+6);
            st.global.v4.b32 [%out], {%a, %b, %c, %d};
            st.shared.b32 [outer+8], %a; st.shared.b32 [inner+12], %b; st.shared.b32 [smem+2044], %c;
        }";
    let module = Module::parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((module.version(), module.target(), module.kernels().len()), ("7.0", "sm_80", 1));
    let kernel = module.kernel("k").expect("the entry");
    assert_eq!(kernel.static_shared(), 1024);
    let mut machine = Machine::new(options(0));
    let out = machine.alloc(16).expect("memory");
    let run = |machine: &mut Machine, dynamic_shared| {
        machine.launch(&kernel, &Launch { grid: [1; 3], block: [1, 1, 1], dynamic_shared, params: &out.to_le_bytes() })
    };
    run(&mut machine, 2048).unwrap_or_else(|fault| panic!("{fault}"));
    let words: Vec<u32> = crate::support::download(&machine, out, 4);
    assert_eq!((words[1] - words[0], words[2] - words[0], words[3] - words[2]), (16, 1024, 32));
    assert_eq!(words[2] % 1024, 0);
    assert_eq!(run(&mut machine, 2047).expect_err("one byte short").kind, FaultKind::OutOfBounds);
}

#[test]
fn grids_and_blocks_have_three_dimensions() {
    let kernel = entry(
        "sm_80",
        "",
        ".reg .b64 %out, %at; .reg .b32 %i, %x, %y, %z, %n;
         ld.param.u64 %out, [out];
         mov.u32 %x, %ctaid.x; mov.u32 %y, %ctaid.y; mov.u32 %z, %ctaid.z;
         mov.u32 %n, %nctaid.y; mad.lo.u32 %i, %z, %n, %y; mov.u32 %n, %nctaid.x; mad.lo.u32 %i, %i, %n, %x;
         mov.u32 %x, %tid.x; mov.u32 %y, %tid.y; mov.u32 %z, %tid.z;
         mov.u32 %n, %ntid.z; mad.lo.u32 %i, %i, %n, %z; mov.u32 %n, %ntid.y; mad.lo.u32 %i, %i, %n, %y;
         mov.u32 %n, %ntid.x; mad.lo.u32 %i, %i, %n, %x;
         mad.wide.u32 %at, %i, 4, %out; st.global.u32 [%at], %i;",
    );
    let mut machine = Machine::new(options(5));
    let count = 2 * 3 * 4 * 5 * 6 * 3;
    let out = machine.alloc(4 * count as u64).expect("memory");
    let launch = Launch { grid: [2, 3, 4], block: [5, 6, 3], dynamic_shared: 0, params: &out.to_le_bytes() };
    machine.launch(&kernel, &launch).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(crate::support::download::<u32>(&machine, out, count), (0..count as u32).collect::<Vec<_>>());
}

#[test]
fn the_interpreter_can_be_handed_to_another_thread() {
    fn sendable<T: Send>() {}
    sendable::<Machine>();
    sendable::<Module>();
    sendable::<std::sync::Arc<Kernel>>();
}
