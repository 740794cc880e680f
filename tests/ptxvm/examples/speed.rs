//! Prints how many warp instructions a second the interpreter executes in a few loops; an argument picks those whose
//! name contains it.

use std::time::Instant;

use ptxvm::{Launch, Machine, Module, Options};

/// A kernel of 8 warps that repeats `step` 20,000 times.
fn text(step: &str) -> String {
    format!(
        ".version 7.0 .target sm_80 .address_size 64
        .visible .entry loop(.param .u64 out) {{
            .shared .align 16 .b8 tile[16384];
            .reg .b64 %out; .reg .b32 %n, %me, %at, %r<4>; .reg .f32 %f<16>; .reg .f64 %d<4>; .reg .pred %more;
            ld.param.u64 %out, [out];
            mov.u32 %me, %tid.x;
            mad.wide.u32 %out, %me, 16, %out;
            mov.u32 %n, 20000; mov.u32 %at, tile; mad.lo.u32 %at, %me, 16, %at;
            mov.b32 %r0, 0; mov.b32 %r1, 1; mov.b32 %r2, 2; mov.b32 %r3, 3;
            mov.f32 %f0, 1.0; mov.f32 %f1, 0.5; mov.f32 %f2, 0.25; mov.f32 %f3, 0.125;
            mov.f32 %f4, 1.0; mov.f32 %f5, 0.5; mov.f32 %f6, 0.25; mov.f32 %f7, 0.125;
            mov.f64 %d0, 1.0; mov.f64 %d1, 0.5; mov.f64 %d2, 0.25; mov.f64 %d3, 0.125;
            st.shared.v4.f32 [%at], {{%f0, %f1, %f2, %f3}};
        LOOP:
            {step}
            sub.u32 %n, %n, 1;
            setp.ne.u32 %more, %n, 0;
            @%more bra LOOP;
            st.global.v4.f32 [%out], {{%f0, %f1, %f2, %f3}};
        }}"
    )
}

fn main() {
    let loops = [
        (
            "fma.rn.f32",
            "fma.rn.f32 %f0, %f4, %f5, %f0; fma.rn.f32 %f1, %f5, %f6, %f1; fma.rn.f32 %f2, %f6, %f7, %f2; \
          fma.rn.f32 %f3, %f7, %f4, %f3; fma.rn.f32 %f0, %f5, %f5, %f0; fma.rn.f32 %f1, %f6, %f6, %f1;",
        ),
        ("fma.rn.f64", "fma.rn.f64 %d0, %d1, %d2, %d0; fma.rn.f64 %d3, %d1, %d1, %d3;"),
        ("ld.shared.v4.f32", "ld.shared.v4.f32 {%f0, %f1, %f2, %f3}, [%at];"),
        ("st.shared.v4.f32", "st.shared.v4.f32 [%at], {%f0, %f1, %f2, %f3};"),
        ("ld.global.v4.f32", "st.global.v4.f32 [%out], {%f0, %f1, %f2, %f3}; ld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%out];"),
        ("cp.async of 16 bytes", "cp.async.cg.shared.global [%at], [%out], 16; cp.async.wait_all;"),
        ("ldmatrix.x4", "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r0, %r1, %r2, %r3}, [%at];"),
        ("shfl.sync", "shfl.sync.bfly.b32 %r0, %r1, 1, 31, -1;"),
        ("cvt.rn.bf16x2", "cvt.rn.bf16x2.f32 %r0, %f0, %f1;"),
        ("ex2.approx", "ex2.approx.ftz.f32 %f0, %f1;"),
        ("mma f64", "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%d0, %d1}, {%d2}, {%d3}, {%d0, %d1};"),
        (
            "mma tf32",
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f0, %f1, %f2, %f3}, {%r0, %r1, %r2, %r3}, {%r0, %r1}, {%f0, %f1, %f2, %f3};",
        ),
        (
            "mma bf16",
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f0, %f1, %f2, %f3}, {%r0, %r1, %r2, %r3}, {%r0, %r1}, {%f0, %f1, %f2, %f3};",
        ),
        ("bar.sync", "bar.sync 0;"),
        ("bar.warp.sync", "bar.warp.sync -1;"),
    ];
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for (name, step) in loops.into_iter().filter(|(name, _)| name.contains(&wanted)) {
        let module = Module::parse(&text(step)).unwrap_or_else(|error| panic!("{error}"));
        let kernel = module.kernel("loop").expect("the entry");
        let mut machine = Machine::new(Options::default());
        let out = machine.alloc(4096).expect("memory");
        machine.fill(out, 0, 4096).expect("a fill inside the allocation");
        let launch = Launch { grid: [1; 3], block: [256, 1, 1], dynamic_shared: 0, params: &out.to_le_bytes() };
        let start = Instant::now();
        let statistics = machine.launch(&kernel, &launch).unwrap_or_else(|fault| panic!("{fault}"));
        let seconds = start.elapsed().as_secs_f64();
        println!("{name:22} loop: {:6.2} M warp instructions/s", statistics.instructions as f64 / seconds / 1e6);
    }
}
