// linear_f32: y = epilogue(x W + b) in f32.
//
//   x    [n, k]   row i at x_offset + i x_stride
//   W    [k, m]   ({{LAYOUT}}: nn), or [m, k] used transposed (nt); where loads are half ({{LOADS}}) its elements are f16,
//                 or bf16 with bit 3 of flags, two a word
//   bias [m]      where flags has bit 0
//   y    [n, m]   the epilogue's result; with bit 2 of flags it holds sums over earlier k at first
//   pre  [n, m]   where flags has bit 1: z + b before the activation; [n / 16, m] for tangents, of the
//                 primal rows
//
// Epilogues, z = x W:
//   store    y = act(z + b)
//   add      y = y + (z + b)
//   tangent  rows are slabs of 16, a primal and 15 tangents:
//            y[0] = act(z[0] + b), y[r] = act'(z[0] + b) z[r]
//
// Workgroup: WIDE x HIGH invocations for a tile of ROWS x COLS of y, {{TM}} x {{TN}} elements each; workgroup
// 0 has the tile at the top left, tiles go along rows of y.
// Workgroup memory: {{DEPTH}} (ROWS + COLS) floats.
// Accuracy: each element is one chain of fma over k in ascending order, whatever the tile, so that
// every configuration gives the same bits; the error is that of a plain f32 product.
//
// Pipeline, for each {{DEPTH}} of k:
//   1. every invocation copies quads of x and W, transposing those that run along k
//   2. barrier
//   3. for each of the {{DEPTH}}: read {{TM}} of x and {{TN}} of W, {{TM * TN}} fma
//   4. barrier
// then the epilogue, element by element.

struct Params {
    tiles: u32,
    tile_columns: u32,
    n: u32,
    k: u32,
    m: u32,
    x_offset: u32,
    x_stride: u32,
    w_offset: u32,
    w_stride: u32,
    bias_offset: u32,
    y_offset: u32,
    y_stride: u32,
    pre_offset: u32,
    pre_stride: u32,
    flags: u32,
}

@include "frag/params_{{PARAMS}}.wgsl"
@group(0) @binding(1) var<storage, read> x: array<{{ELEMENT}}>;
@group(0) @binding(2) var<storage, read> w: array<{{W_ELEMENT}}>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> pre: array<f32>;

const HAS_BIAS = 1u;
const HAS_PRE = 2u;
const RESUMES = 4u;
const BRAIN = 8u;

override HIGH: u32 = 8u;
override WIDE: u32 = 8u;
override ROWS: u32 = {{TM}}u * HIGH;
override COLS: u32 = {{TN}}u * WIDE;
override THREADS: u32 = WIDE * HIGH;
const DEPTH = {{DEPTH}}u;

// [DEPTH][ROWS / 4] and [DEPTH][COLS / 4] quads along rows and columns of y.
var<workgroup> x_tile: array<vec4<f32>, DEPTH * ROWS / 4u>;
var<workgroup> w_tile: array<vec4<f32>, DEPTH * COLS / 4u>;

// The place of quad `quad` of line `d` among lines of `quads`. Exchanging quads by the line's number
// keeps invocations that write one quad of successive lines on different banks.
fn place(d: u32, quad: u32, quads: u32) -> u32 {
    return d * quads + (quad ^ (d & 7u));
}

@include "frag/quad_{{VECTOR}}.wgsl" name=x
@include "frag/quad_{{LOADS}}.wgsl" name=w

@include "frag/linear_rows.wgsl" name=x LINE=ROWS
@include "frag/linear_{{W_STAGE}}.wgsl" name=w LINE=COLS

@include "frag/act_{{ACTIVATION}}.wgsl"
@include "frag/linear_{{EPILOGUE}}.wgsl"

// Sums over earlier k, kept in y.
fn resumed(row: u32, column: u32) -> vec4<f32> {
    var sums = vec4<f32>();
    if (p.flags & RESUMES) != 0u && row < p.n {
        for (var c = 0u; c < 4u; c++) {
            if column + c < p.m {
                sums[c] = y[p.y_offset + row * p.y_stride + column + c];
            }
        }
    }
    return sums;
}

@compute @workgroup_size(WIDE, HIGH)
fn linear_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = group.x + group.y * groups.x;
    if tile >= p.tiles {
        return;
    }
    let top = (tile / p.tile_columns) * ROWS;
    let left = (tile % p.tile_columns) * COLS;
    // Quad i of this invocation's rows is 4 HIGH rows below quad i - 1; likewise its columns.
    let row = top + 4u * local.y;
    let column = left + 4u * local.x;

    @for i in 0..TM {
    @for j in 0..TN/4 {
    var z_{{i}}_{{j}} = resumed(row + {{i / 4}}u * 4u * HIGH + {{i % 4}}u, column + {{j}}u * 4u * WIDE);
    @}
    @}

    for (var k = 0u; k < p.k; k += DEPTH) {
        stage_x(thread, top, p.n, k);
        stage_w(thread, left, p.m, k);
        workgroupBarrier();

        for (var d = 0u; d < DEPTH; d++) {
            @for i in 0..TM/4 {
            let x_{{i}} = x_tile[place(d, {{i}}u * HIGH + local.y, ROWS / 4u)];
            @}
            @for j in 0..TN/4 {
            let w_{{j}} = w_tile[place(d, {{j}}u * WIDE + local.x, COLS / 4u)];
            @}
            @for i in 0..TM {
            @for j in 0..TN/4 {
            z_{{i}}_{{j}} = fma(vec4<f32>(x_{{i / 4}}[{{i % 4}}]), w_{{j}}, z_{{i}}_{{j}});
            @}
            @}
        }
        workgroupBarrier();
    }

    @for tangent in 0..TANGENT {
    // The primal rows of the tile, [ROWS / 16][COLS / 4] quads, go where x was.
    if local.y % 4u == 0u {
        @for i in 0..TM/4 {
        @for j in 0..TN/4 {
        x_tile[({{i}}u * HIGH + local.y) / 4u * (COLS / 4u) + {{j}}u * WIDE + local.x] = z_{{4 * i}}_{{j}};
        @}
        @}
    }
    workgroupBarrier();
    @}

    @for i in 0..TM {
    @for j in 0..TN/4 {
    @for plain in 0..1-TANGENT {
    finish(row + {{i / 4}}u * 4u * HIGH + {{i % 4}}u, column + {{j}}u * 4u * WIDE, z_{{i}}_{{j}});
    @}
    @for tangent in 0..TANGENT {
    finish(
        row + {{i / 4}}u * 4u * HIGH + {{i % 4}}u,
        column + {{j}}u * 4u * WIDE,
        z_{{i}}_{{j}},
        x_tile[({{i / 4}}u * HIGH + local.y) / 4u * (COLS / 4u) + {{j}}u * WIDE + local.x],
    );
    @}
    @}
    @}
}
