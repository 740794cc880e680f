// product_f32: C[z] (= or +=) alpha A[z] B[z] for a batch of matrices with any strides, in f32.
//
//   A  [m, k]   element (i, l) of batch z at a_offset + i a_line + l a_k + z0 a_batch0 + z1 a_batch1 + z2 a_batch2
//   B  [k, n]   element (l, j) at b_offset + j b_line + l b_k + ..
//   C  [m, n]   element (i, j) at c_offset + i c_row + j c_column + ..; with bit 3 of flags nothing above the diagonal is
//               touched
//   z  = (z0 batch1 + z1) batch2 + z2
//
// Workgroup: SIDE x SIDE invocations for a tile of 4 SIDE rows and columns of C, 4 x 4 elements each; workgroups run
// along the rows of C first.
// Workgroup memory: {{DEPTH}} steps of k of the tile's rows and of its columns, as quads.
// Accuracy: an element is one chain of fma in the order of k, added to a total every {{PROMOTE}} k; the total is carried as
// high + low. The relative error is that of {{PROMOTE}} products in f32, whatever k; the same bits for every tile.
//
// Pipeline, for each {{DEPTH}} of k:
//   1. every invocation copies quads of A and B, along k or along lines as memory lies
//   2. barrier
//   3. for each k: 16 products into 16 sums
//   4. barrier; the sums join their totals every {{PROMOTE}} k
// then scale, add what is there, write.

struct Params {
    units: u32,
    tiles: u32,
    column_tiles: u32,
    m: u32,
    n: u32,
    k: u32,
    batch1: u32,
    batch2: u32,
    a_offset: u32,
    a_line: u32,
    a_k: u32,
    a_batch0: u32,
    a_batch1: u32,
    a_batch2: u32,
    b_offset: u32,
    b_line: u32,
    b_k: u32,
    b_batch0: u32,
    b_batch1: u32,
    b_batch2: u32,
    c_offset: u32,
    c_row: u32,
    c_column: u32,
    c_batch0: u32,
    c_batch1: u32,
    c_batch2: u32,
    alpha: f32,
    flags: u32,
    one: f32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> a: array<{{ELEMENT}}>;
@group(0) @binding(2) var<storage, read> b: array<{{ELEMENT}}>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

const A_ALONG_K = 1u;
const B_ALONG_K = 2u;
const ADDS = 4u;
const LOWER = 8u;

override SIDE: u32 = 8u;
override THREADS: u32 = SIDE * SIDE;
const DEPTH = {{DEPTH}}u;

// [DEPTH][SIDE] quads along rows and columns of C.
var<workgroup> a_tile: array<vec4<f32>, DEPTH * SIDE>;
var<workgroup> b_tile: array<vec4<f32>, DEPTH * SIDE>;

// The place of quad `quad` of step `d`. Exchanging quads by the step's number keeps invocations that write one quad of
// successive steps on different banks.
fn place(d: u32, quad: u32) -> u32 {
    return d * SIDE + (quad ^ (d & 7u));
}

@include "frag/unit.wgsl"
@include "frag/two_sum.wgsl" T=vec4<f32>
@include "frag/strided_{{VECTOR}}.wgsl" name=a LINES=p.m
@include "frag/strided_{{VECTOR}}.wgsl" name=b LINES=p.n
@include "frag/product_stage.wgsl" name=a LINES=p.m ALONG=A_ALONG_K
@include "frag/product_stage.wgsl" name=b LINES=p.n ALONG=B_ALONG_K

// Scales and writes four elements of a row.
fn finish(base: u32, row: u32, column: u32, sum: vec4<f32>) {
    if row >= p.m {
        return;
    }
    for (var j = 0u; j < 4u && column + j < p.n; j++) {
        if (p.flags & LOWER) != 0u && column + j > row {
            return;
        }
        let at = base + row * p.c_row + (column + j) * p.c_column;
        var value = p.alpha * sum[j];
        if (p.flags & ADDS) != 0u {
            value = fma(p.alpha, sum[j], c[at]);
        }
        c[at] = value;
    }
}

@compute @workgroup_size(SIDE, SIDE)
fn product_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let unit = unit_of(group, groups);
    if unit >= p.units {
        return;
    }
    let tile = unit % p.tiles;
    let top = tile / p.column_tiles * 4u * SIDE;
    let left = tile % p.column_tiles * 4u * SIDE;
    if (p.flags & LOWER) != 0u && left > top {
        return;
    }
    let batch = unit / p.tiles;
    let z0 = batch / p.batch2 / p.batch1;
    let z1 = batch / p.batch2 % p.batch1;
    let z2 = batch % p.batch2;
    let a_base = p.a_offset + z0 * p.a_batch0 + z1 * p.a_batch1 + z2 * p.a_batch2;
    let b_base = p.b_offset + z0 * p.b_batch0 + z1 * p.b_batch1 + z2 * p.b_batch2;
    let c_base = p.c_offset + z0 * p.c_batch0 + z1 * p.c_batch1 + z2 * p.c_batch2;

    @for i in 0..4 {
    var sum_{{i}} = vec4<f32>();
    var total_{{i}} = Pair(vec4<f32>(), vec4<f32>());
    @}

    for (var k = 0u; k < p.k; k += DEPTH) {
        stage_a(thread, a_base, top, k);
        stage_b(thread, b_base, left, k);
        workgroupBarrier();

        for (var d = 0u; d < DEPTH; d++) {
            let x = a_tile[place(d, local.y)];
            let y = b_tile[place(d, local.x)];
            @for i in 0..4 {
            sum_{{i}} = fma(vec4<f32>(x[{{i}}]), y, sum_{{i}});
            @}
        }
        workgroupBarrier();
        // A long chain loses the small products against its sum: start a new one.
        if (k + DEPTH) % {{PROMOTE}}u == 0u || k + DEPTH >= p.k {
            @for i in 0..4 {
            let next_{{i}} = two_sum(total_{{i}}.high, sum_{{i}});
            total_{{i}} = Pair(next_{{i}}.high, total_{{i}}.low + next_{{i}}.low);
            sum_{{i}} = vec4<f32>();
            @}
        }
    }

    let row = top + 4u * local.y;
    let column = left + 4u * local.x;
    @for i in 0..4 {
    finish(c_base, row + {{i}}u, column, total_{{i}}.high + total_{{i}}.low);
    @}
}
