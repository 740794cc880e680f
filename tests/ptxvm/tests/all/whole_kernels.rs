//! Kernels as they are written in earnest: tiles in shared memory, asynchronous copies, matrix fragments, reductions.

use ptxvm::{Class, FaultKind, Machine};

use crate::support::{Params, download, kernel, launch, numbers, upload, variants};

/// C [m,n] = A [m,k] B [n,k]' in f64, a block of 64 threads (2 warps) for 16 x 16 of C, tiles of k = 8 in two stages.
const GEMM_F64: &str = "
    .shared .align 16 .b8 tile[4096];   // stage, operand, 16 rows of 8 f64
    .reg .b64 %a, %b, %c, %from, %row64, %ld;
    .reg .b32 %m, %n, %k, %me, %lane, %warp, %g, %t, %row, %part, %to, %k0, %sz, %smem, %stage, %next, %x, %y, %m0, %n0;
    .reg .f64 %fa, %fb, %acc<4>, %zero;
    .reg .pred %inside, %more, %p, %q;

    ld.param.u64 %a, [a];  ld.param.u64 %b, [b];  ld.param.u64 %c, [c];
    ld.param.u32 %m, [m];  ld.param.u32 %n, [n];  ld.param.u32 %k, [k];
    mov.u32 %me, %tid.x;
    and.b32 %lane, %me, 31;
    shr.u32 %warp, %me, 5;
    shr.u32 %g, %lane, 2;
    and.b32 %t, %lane, 3;
    mov.u32 %m0, %ctaid.x;  shl.b32 %m0, %m0, 4;
    mov.u32 %n0, %ctaid.y;  shl.b32 %n0, %n0, 4;
    mov.f64 %acc0, 0d0000000000000000;  mov.f64 %acc1, %acc0;  mov.f64 %acc2, %acc0;  mov.f64 %acc3, %acc0;
    mov.u32 %smem, tile;
    mov.u32 %stage, 0;
    mov.u32 %k0, 0;
    bra LOAD;

LOOP:
    // Load the next tile, if there is one, while this one is used.
    add.u32 %k0, %k0, 8;
    xor.b32 %stage, %stage, 2048;
LOAD:
    setp.lt.u32 %more, %k0, %k;
    @!%more bra COMMIT;
    {
        // 16 rows of 8 elements of both operands: 256 elements, 4 a thread, of 8 bytes.
        .reg .b32 %i;
        .reg .pred %is_b, %ok, %done;
        mov.u32 %i, %me;
    NEXT:
        and.b32 %x, %i, 7;
        shr.u32 %row, %i, 3;
        setp.ge.u32 %is_b, %row, 16;
        and.b32 %row, %row, 15;
        selp.b32 %y, %n0, %m0, %is_b;
        add.u32 %y, %y, %row;               // row of the operand
        selp.b32 %part, %n, %m, %is_b;
        setp.lt.u32 %ok, %y, %part;
        add.u32 %x, %x, %k0;
        setp.lt.and.u32 %ok, %x, %k, %ok;
        selp.b32 %sz, 8, 0, %ok;
        mad.lo.u32 %y, %y, %k, %x;
        selp.b64 %from, %b, %a, %is_b;
        mad.wide.u32 %from, %y, 8, %from;
        shl.b32 %to, %i, 3;
        add.u32 %to, %to, %smem;
        add.u32 %to, %to, %stage;
        cp.async.ca.shared.global [%to], [%from], 8, %sz;
        add.u32 %i, %i, 64;
        setp.lt.u32 %done, %i, 256;
        @%done bra NEXT;
    }
COMMIT:
    cp.async.commit_group;
    setp.eq.u32 %p, %k0, 0;
    @%p bra LOOP;                           // the first tile is only loaded
    cp.async.wait_group 1;
    bar.sync 0;
    {
        // Warp w computes rows 8 w .. 8 w + 7, two tiles of 8 columns.
        .reg .b32 %used, %at;
        .reg .b32 %kk;
        .reg .pred %again;
        xor.b32 %used, %stage, 2048;
        add.u32 %used, %used, %smem;
        mov.u32 %kk, 0;
    STEP:
        add.u32 %x, %kk, %t;
        shl.b32 %x, %x, 3;
        mad.lo.u32 %at, %warp, 8, %g;
        mad.lo.u32 %at, %at, 64, %used;
        add.u32 %at, %at, %x;
        ld.shared.f64 %fa, [%at];
        mad.lo.u32 %at, %g, 64, %used;
        add.u32 %at, %at, %x;
        ld.shared.f64 %fb, [%at+1024];
        mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%acc0, %acc1}, {%fa}, {%fb}, {%acc0, %acc1};
        ld.shared.f64 %fb, [%at+1024+8*64];
        mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%acc2, %acc3}, {%fa}, {%fb}, {%acc2, %acc3};
        add.u32 %kk, %kk, 4;
        setp.lt.u32 %again, %kk, 8;
        @%again bra STEP;
    }
    bar.sync 0;                             // before the stage is loaded again
    @%more bra LOOP;
    cp.async.wait_all;

    // c(g, 2t), c(g, 2t + 1) of both tiles.
    mad.lo.u32 %row, %warp, 8, %g;
    add.u32 %row, %row, %m0;
    setp.lt.u32 %p, %row, %m;
    shl.b32 %x, %t, 1;
    add.u32 %x, %x, %n0;
    {
        .reg .f64 %v;
        .reg .b64 %to;
        .reg .b32 %col;
        .reg .pred %in;
        add.u32 %col, %x, 0;  setp.lt.and.u32 %in, %col, %n, %p;  mad.lo.u32 %y, %row, %n, %col;  mad.wide.u32 %to, %y, 8, %c;
        @%in st.global.f64 [%to], %acc0;
        add.u32 %col, %x, 1;  setp.lt.and.u32 %in, %col, %n, %p;  mad.lo.u32 %y, %row, %n, %col;  mad.wide.u32 %to, %y, 8, %c;
        @%in st.global.f64 [%to], %acc1;
        add.u32 %col, %x, 8;  setp.lt.and.u32 %in, %col, %n, %p;  mad.lo.u32 %y, %row, %n, %col;  mad.wide.u32 %to, %y, 8, %c;
        @%in st.global.f64 [%to], %acc2;
        add.u32 %col, %x, 9;  setp.lt.and.u32 %in, %col, %n, %p;  mad.lo.u32 %y, %row, %n, %col;  mad.wide.u32 %to, %y, 8, %c;
        @%in st.global.f64 [%to], %acc3;
    }
    ret;
";

const GEMM_PARAMS: &str = "u64:a u64:b u64:c u32:m u32:n u32:k";

fn gemm(machine: &mut Machine, body: &str, (m, n, k): (usize, usize, usize)) -> Result<(Vec<f64>, Vec<f64>), ptxvm::Fault> {
    let (a, b) = (numbers(1, m * k), numbers(2, n * k));
    let kernel = kernel(GEMM_PARAMS, body);
    let (da, db) = (upload(machine, &a), upload(machine, &b));
    let dc = machine.alloc(8 * (m * n) as u64).expect("memory");
    let params = Params::default().u64(da).u64(db).u64(dc).u32(m as u32).u32(n as u32).u32(k as u32);
    let grid = [m.div_ceil(16) as u32, n.div_ceil(16) as u32, 1];
    machine.launch(&kernel, &ptxvm::Launch { grid, block: [64, 1, 1], dynamic_shared: 0, params: &params.0 })?;
    let expected = (0..m * n).map(|i| (0..k).fold(0.0, |sum: f64, x| a[i / n * k + x].mul_add(b[i % n * k + x], sum))).collect();
    Ok((download(machine, dc, m * n), expected))
}

#[test]
fn a_matrix_product_of_ragged_shape_is_exact_in_every_order_and_with_late_and_early_copies() {
    for (m, n, k) in [(1, 1, 1), (16, 16, 8), (17, 33, 9), (40, 23, 31), (5, 70, 64)] {
        for options in variants() {
            let (found, expected) =
                gemm(&mut Machine::new(options), GEMM_F64, (m, n, k)).unwrap_or_else(|fault| panic!("{fault}"));
            assert_eq!(found, expected, "{m} x {n} x {k}");
        }
    }
}

/// Defects that a hand could plant: what is replaced by what, and what must be found.
const PLANTED: [(&str, &str, &str, &[FaultKind]); 9] = [
    ("no wait", "cp.async.wait_group 1;", "", &[FaultKind::InFlight]),
    ("a wait for one group too few", "cp.async.wait_group 1;", "cp.async.wait_group 2;", &[FaultKind::InFlight]),
    (
        "no barrier after the wait",
        "wait_group 1;\n    bar.sync 0;",
        "wait_group 1;",
        &[FaultKind::SharedRace, FaultKind::InFlight, FaultKind::Unwritten],
    ),
    (
        "no barrier before the stage is loaded again",
        "    bar.sync 0;                             // before",
        "//",
        &[FaultKind::SharedRace, FaultKind::InFlight],
    ),
    ("rows past the end are loaded", "setp.lt.u32 %ok, %y, %part;", "setp.le.u32 %ok, %y, %part;", &[FaultKind::OutOfBounds]),
    (
        "columns past the end are stored",
        "setp.lt.and.u32 %in, %col, %n, %p;  mad.lo.u32 %y, %row, %n, %col;  mad.wide.u32 %to, %y, 8, %c;\n        @%in st.global.f64 [%to], %acc1",
        "setp.le.and.u32 %in, %col, %n, %p;  mad.lo.u32 %y, %row, %n, %col;  mad.wide.u32 %to, %y, 8, %c;\n        @%in st.global.f64 [%to], %acc1",
        &[FaultKind::GlobalRace, FaultKind::OutOfBounds, FaultKind::ConflictingStore],
    ),
    ("an index off by one", "ld.shared.f64 %fb, [%at+1024];", "ld.shared.f64 %fb, [%at+1028];", &[FaultKind::Misaligned]),
    ("the tile of another stage is used", "xor.b32 %used, %stage, 2048;", "mov.b32 %used, %stage;", &[FaultKind::InFlight]),
    ("an accumulator is never cleared", "mov.f64 %acc3, %acc0;", "", &[FaultKind::UndefinedRegister]),
];

#[test]
fn planted_defects_in_the_matrix_product_are_caught_in_every_order() {
    for (what, from, to, kinds) in PLANTED {
        assert_eq!(GEMM_F64.matches(from).count(), 1, "{what}");
        let body = GEMM_F64.replace(from, to);
        for options in variants() {
            match gemm(&mut Machine::new(options), &body, (40, 23, 40)) {
                Err(fault) => assert!(kinds.contains(&fault.kind), "{what}: {fault}"),
                Ok(_) => panic!("{what} is not caught"),
            }
        }
    }
}

/// Sums `n` f32 in blocks of 128 threads: lanes by shuffles, warps through shared memory, one partial a block.
const SUM: &str = "
    .shared .align 16 .b8 partial[16];
    .reg .b64 %in, %out, %at;
    .reg .b32 %me, %block, %lane, %warp, %i, %n, %word, %bits;
    .reg .f32 %x, %y;
    .reg .pred %inside, %first, %leader;
    ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; ld.param.u32 %n, [n];
    mov.u32 %me, %tid.x; mov.u32 %block, %ctaid.x;
    and.b32 %lane, %me, 31; shr.u32 %warp, %me, 5;
    mad.lo.u32 %i, %block, 128, %me;
    setp.lt.u32 %inside, %i, %n;
    mov.f32 %x, 0.0;
    mad.wide.u32 %at, %i, 4, %in;
    @%inside ld.global.nc.f32 %x, [%at];
    mov.b32 %bits, %x; shfl.sync.bfly.b32 %bits, %bits, 16, 31, -1; mov.b32 %y, %bits; add.rn.f32 %x, %x, %y;
    mov.b32 %bits, %x; shfl.sync.bfly.b32 %bits, %bits, 8, 31, -1; mov.b32 %y, %bits; add.rn.f32 %x, %x, %y;
    mov.b32 %bits, %x; shfl.sync.bfly.b32 %bits, %bits, 4, 31, -1; mov.b32 %y, %bits; add.rn.f32 %x, %x, %y;
    mov.b32 %bits, %x; shfl.sync.bfly.b32 %bits, %bits, 2, 31, -1; mov.b32 %y, %bits; add.rn.f32 %x, %x, %y;
    mov.b32 %bits, %x; shfl.sync.bfly.b32 %bits, %bits, 1, 31, -1; mov.b32 %y, %bits; add.rn.f32 %x, %x, %y;
    setp.eq.u32 %leader, %lane, 0;
    mov.b32 %word, partial; mad.lo.u32 %word, %warp, 4, %word;
    @%leader st.shared.f32 [%word], %x;
    bar.sync 0;
    setp.ne.u32 %first, %me, 0;
    @%first exit;
    ld.shared.f32 %x, [partial];
    ld.shared.f32 %y, [partial+4];  add.rn.f32 %x, %x, %y;
    ld.shared.f32 %y, [partial+8];  add.rn.f32 %x, %x, %y;
    ld.shared.f32 %y, [partial+12]; add.rn.f32 %x, %x, %y;
    mad.wide.u32 %at, %block, 4, %out;
    st.global.f32 [%at], %x;
";

fn sums(machine: &mut Machine, body: &str, values: &[f32]) -> Result<Vec<f32>, ptxvm::Fault> {
    let kernel = kernel("u64:in u64:out u32:n", body);
    let blocks = values.len().div_ceil(128);
    let (input, out) = (upload(machine, values), machine.alloc(4 * blocks as u64).expect("memory"));
    launch(machine, &kernel, blocks as u32, 128, 0, &Params::default().u64(input).u64(out).u32(values.len() as u32))?;
    Ok(download(machine, out, blocks))
}

#[test]
fn a_reduction_gives_the_same_bits_in_every_order() {
    let values: Vec<f32> = numbers(9, 1000).iter().map(|&x| x as f32).collect();
    let block = |first: usize| {
        let mut lanes: Vec<f32> = (0..128).map(|i| values.get(first + i).copied().unwrap_or(0.0)).collect();
        for distance in [16, 8, 4, 2, 1] {
            lanes = (0..128).map(|i: usize| lanes[i] + lanes[i ^ distance]).collect();
        }
        ((lanes[0] + lanes[32]) + lanes[64]) + lanes[96]
    };
    let expected: Vec<f32> = (0..8).map(|b| block(128 * b)).collect();
    for options in variants() {
        let found = sums(&mut Machine::new(options), SUM, &values).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(found, expected);
    }
    let unordered = SUM.replace("bar.sync 0;", "bar.warp.sync -1;");
    for options in variants() {
        let fault = sums(&mut Machine::new(options), &unordered, &values).expect_err("no barrier");
        assert!(matches!(fault.kind, FaultKind::SharedRace | FaultKind::Unwritten), "{fault}");
    }
}

#[test]
fn what_a_launch_did_is_the_same_in_every_order() {
    let mut seen: Vec<ptxvm::Statistics> = variants()
        .map(|options| {
            let mut machine = Machine::new(options);
            let values = vec![1f32; 1000];
            let (input, out) = (upload(&mut machine, &values), machine.alloc(32).expect("memory"));
            let params = Params::default().u64(input).u64(out).u32(1000);
            launch(&mut machine, &kernel("u64:in u64:out u32:n", SUM), 8, 128, 0, &params)
                .unwrap_or_else(|fault| panic!("{fault}"))
        })
        .collect();
    seen.dedup();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].count(Class::Collective), seen[0].barriers, seen[0].bank_conflicts), (8 * 4 * 5, 8, 0));
    // 1000 values of 4 bytes read, 8 written one by one.
    assert_eq!((seen[0].sectors, seen[0].sectors_least), (125 + 8, 125 + 8));
}
