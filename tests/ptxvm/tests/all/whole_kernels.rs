//! Kernels as they are written in earnest: tiles in shared memory, asynchronous copies, matrix fragments, reductions.

use ptxvm::{Class, Machine};

use crate::support::{Params, download, kernel, launch, numbers, upload, variants};

/// C [m,n] = A [m,k] B [n,k]' in f64, a block of 64 threads (2 warps) for 16 x 16 of C, tiles of k = 8 in two stages.
const GEMM_F64: &str = "
    .shared .align 16 .b8 tile[4096];   // stage, operand, 16 rows of 8 f64
    .reg .b64 %a, %b, %c, %from, %row64, %ld;
    .reg .b32 %m, %n, %k, %tid, %lane, %warp, %g, %t, %row, %part, %to, %k0, %sz, %smem, %stage, %next, %x, %y, %m0, %n0;
    .reg .f64 %fa, %fb, %acc<4>, %zero;
    .reg .pred %inside, %more, %p, %q;

    ld.param.u64 %a, [a];  ld.param.u64 %b, [b];  ld.param.u64 %c, [c];
    ld.param.u32 %m, [m];  ld.param.u32 %n, [n];  ld.param.u32 %k, [k];
    mov.u32 %tid, %tid.x;
    and.b32 %lane, %tid, 31;
    shr.u32 %warp, %tid, 5;
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
        mov.u32 %i, %tid;
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
