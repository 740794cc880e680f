// linear_coop_f32: y = epilogue(x W + b) in f32, products of f16 by subgroups ({{UNIT}}).
//
// Operands and epilogues are those of linear_f32, and
//
//   magnitudes [2]  bits of the largest finite magnitude of x and of W, from magnitude_f32
//
// x and W are multiplied by powers of two that bring those magnitudes into 2^9 .. 2^10, so that no product or sum leaves its
// range, and split in two: x s = high + low / 2048. Then
//
//   x W = (high high + (high low + low high) / 2048) / (s_x s_w)
//
// What is not finite stays so in the rows and columns that it is in.
//
// Workgroup: four subgroups of {{LANES}} lanes, in one dimension, for a tile of 64 x 64 elements of y; each subgroup has a
// quarter of it, {{PARTS}} x {{PARTS}} squares of {{SIDE}} x {{SIDE}} elements, in two sums each.
// Workgroup memory: 16 KiB, half of it high and low parts, half of it sums that go to their lanes.
// Alignment: each square starts at a multiple of 16 bytes, as cooperative matrices need it; so does each array if they lie in
// a row.
// Accuracy: factors have 22 bits, low low is left out. Matrix units may round sums towards zero, so only 128 of k are summed by
// them; a lane adds those to its own sums, rounded to nearest.
//
// Pipeline, for each 128 of k:
//   1. for each 16 of them: copy quads of x and W, scaled and split; barrier; products of squares; barrier
//   2. for each {{AT_ONCE}} squares: write their sums to workgroup memory; barrier; lanes add their quads to their own sums;
//      barrier
// then the epilogue, quad by quad.

enable f16;
@for native in 0..NATIVE {
enable wgpu_cooperative_matrix;
@}

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

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<{{ELEMENT}}>;
@group(0) @binding(2) var<storage, read> w: array<{{ELEMENT}}>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> magnitudes: array<u32>;
@group(0) @binding(6) var<storage, read_write> pre: array<f32>;

const HAS_BIAS = 1u;
const HAS_PRE = 2u;
const RESUMES = 4u;

const THREADS = {{THREADS}}u;
const LANES = {{LANES}}u;
const SIDE = {{SIDE}}u;
const SQUARE = SIDE * SIDE;
// Squares of a subgroup's quarter, down and across.
const PARTS = {{PARTS}}u;
const TILE = 64u;
const DEPTH = 16u;
// What matrix units sum of k.
const SPAN = 128u;
// Elements of a tile's high parts; the low ones follow.
const PLANE = TILE * DEPTH;

// Squares [TILE / SIDE][DEPTH / SIDE], each by columns: [k][row of x] and [column of W][k].
var<workgroup> x_tile: array<f16, 2u * PLANE>;
var<workgroup> w_tile: array<f16, 2u * PLANE>;
// For each subgroup the two sums of {{AT_ONCE}} squares, by columns; at last the primal rows of the tile, [4][TILE].
var<workgroup> bounce: array<f32, {{8 * AT_ONCE}}u * SQUARE>;

fn square(line: u32, d: u32) -> u32 {
    return (line / SIDE * (DEPTH / SIDE) + d / SIDE) * SQUARE;
}

fn x_place(line: u32, d: u32) -> u32 {
    return square(line, d) + d % SIDE * SIDE + line % SIDE;
}

fn w_place(line: u32, d: u32) -> u32 {
    return square(line, d) + line % SIDE * SIDE + d % SIDE;
}

@include "frag/coop_{{FRAGMENT}}.wgsl"

@include "frag/quad_{{VECTOR}}.wgsl" name=x
@include "frag/quad_{{VECTOR}}.wgsl" name=w

@include "frag/coop_keep.wgsl" name=x
@include "frag/coop_keep.wgsl" name=w

@include "frag/coop_rows.wgsl" name=x
@include "frag/coop_{{W_STAGE}}.wgsl" name=w

@include "frag/unit.wgsl"
@include "frag/act_{{ACTIVATION}}.wgsl"
@include "frag/linear_{{EPILOGUE}}.wgsl"

// 2^n for n in -126 .. 127.
fn power(n: i32) -> f32 {
    return bitcast<f32>(u32(n + 127) << 23u);
}

// The power of two that brings a magnitude into 2^9 .. 2^10; at most 126, for its inverse is to be normal.
fn exponent_for(magnitude: u32) -> i32 {
    return min(136 - i32(magnitude >> 23u), 126);
}

// z / 2^exponent, by two factors that are normal.
fn unscaled(z: vec4<f32>, exponent: i32) -> vec4<f32> {
    let half = exponent / 2;
    return z * power(-half) * power(half - exponent);
}

// A quad of the square whose two sums are at `at`: high + low / 2048.
fn joined(at: u32, quad: u32) -> vec4<f32> {
    if quad >= SQUARE / 4u {
        return vec4<f32>();
    }
    let first = at + quad % (SIDE / 4u) * 4u * SIDE + quad / (SIDE / 4u);
    var sums = vec4<f32>();
    for (var c = 0u; c < 4u; c++) {
        sums[c] = fma(bounce[first + SQUARE + c * SIDE], 0.00048828125, bounce[first + c * SIDE]);
    }
    return sums;
}

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

@compute @workgroup_size({{THREADS}})
fn linear_coop_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = unit_of(group, groups);
    if tile >= p.tiles {
        return;
    }
    let top = tile / p.tile_columns * TILE;
    let left = tile % p.tile_columns * TILE;
    let lane = thread % LANES;
    let subgroup = thread / LANES;
    // The subgroup's quarter of the tile, and where its sums go to its lanes.
    let down = subgroup / 2u * PARTS;
    let across = subgroup % 2u * PARTS;
    let own = subgroup * {{2 * AT_ONCE}}u * SQUARE;

    let x_exponent = exponent_for(magnitudes[0]);
    let w_exponent = exponent_for(magnitudes[1]);

    @for i in 0..PARTS {
    @for j in 0..PARTS {
    @for q in 0..SHARE {
    var z_{{i}}_{{j}}_{{q}} = vec4<f32>();
    @}
    @}
    @}

    for (var base = 0u; base < p.k; base += SPAN) {
        @for i in 0..PARTS {
        @for j in 0..PARTS {
        var high_{{i}}_{{j}} = Sums();
        var low_{{i}}_{{j}} = Sums();
        @}
        @}
        let to = min(base + SPAN, p.k);
        for (var k = base; k < to; k += DEPTH) {
            stage_x(thread, top, p.n, k, power(x_exponent));
            stage_w(thread, left, p.m, k, power(w_exponent));
            workgroupBarrier();

            for (var d = 0u; d < DEPTH / SIDE; d++) {
                @for i in 0..PARTS {
                let x_{{i}} = ((down + {{i}}u) * (DEPTH / SIDE) + d) * SQUARE;
                let x_high_{{i}} = load_x(x_{{i}});
                let x_low_{{i}} = load_x(PLANE + x_{{i}});
                @}
                @for j in 0..PARTS {
                let w_{{j}} = ((across + {{j}}u) * (DEPTH / SIDE) + d) * SQUARE;
                let w_high_{{j}} = load_w(w_{{j}});
                let w_low_{{j}} = load_w(PLANE + w_{{j}});
                @for i in 0..PARTS {
                high_{{i}}_{{j}} = multiply_add(x_high_{{i}}, w_high_{{j}}, high_{{i}}_{{j}}, lane);
                low_{{i}}_{{j}} = multiply_add(x_high_{{i}}, w_low_{{j}}, low_{{i}}_{{j}}, lane);
                low_{{i}}_{{j}} = multiply_add(x_low_{{i}}, w_high_{{j}}, low_{{i}}_{{j}}, lane);
                @}
                @}
            }
            workgroupBarrier();
        }

        @for i in 0..PARTS {
        @for g in 0..PARTS/AT_ONCE {
        @for j in 0..AT_ONCE {
        put(high_{{i}}_{{g * AT_ONCE + j}}, own + {{2 * j}}u * SQUARE, lane);
        put(low_{{i}}_{{g * AT_ONCE + j}}, own + {{2 * j + 1}}u * SQUARE, lane);
        @}
        workgroupBarrier();
        @for j in 0..AT_ONCE {
        @for q in 0..SHARE {
        z_{{i}}_{{g * AT_ONCE + j}}_{{q}} += joined(own + {{2 * j}}u * SQUARE, lane + {{q}}u * LANES);
        @}
        @}
        workgroupBarrier();
        @}
        @}
    }

    // Quad q of a square is a lane's row and four columns of it; a lane may be one too many.
    @for q in 0..SHARE {
    let quad_{{q}} = lane + {{q}}u * LANES;
    let row_{{q}} = down * SIDE + quad_{{q}} / (SIDE / 4u);
    let column_{{q}} = across * SIDE + 4u * (quad_{{q}} % (SIDE / 4u));
    @for i in 0..PARTS {
    @for j in 0..PARTS {
    if quad_{{q}} < SQUARE / 4u {
        z_{{i}}_{{j}}_{{q}} = unscaled(z_{{i}}_{{j}}_{{q}}, x_exponent + w_exponent)
            + resumed(top + row_{{q}} + {{i}}u * SIDE, left + column_{{q}} + {{j}}u * SIDE);
    }
    @}
    @}
    @}

    @for tangent in 0..TANGENT {
    @for q in 0..SHARE {
    @for i in 0..PARTS {
    if quad_{{q}} < SQUARE / 4u && (row_{{q}} + {{i}}u * SIDE) % 16u == 0u {
        @for j in 0..PARTS {
        for (var c = 0u; c < 4u; c++) {
            bounce[(row_{{q}} + {{i}}u * SIDE) / 16u * TILE + column_{{q}} + {{j}}u * SIDE + c] = z_{{i}}_{{j}}_{{q}}[c];
        }
        @}
    }
    @}
    @}
    workgroupBarrier();
    @}

    @for q in 0..SHARE {
    if quad_{{q}} < SQUARE / 4u {
        @for i in 0..PARTS {
        @for j in 0..PARTS {
        @for plain in 0..1-TANGENT {
        finish(top + row_{{q}} + {{i}}u * SIDE, left + column_{{q}} + {{j}}u * SIDE, z_{{i}}_{{j}}_{{q}});
        @}
        @for tangent in 0..TANGENT {
        let primal_{{i}}_{{j}} = (row_{{q}} + {{i}}u * SIDE) / 16u * TILE + column_{{q}} + {{j}}u * SIDE;
        finish(
            top + row_{{q}} + {{i}}u * SIDE,
            left + column_{{q}} + {{j}}u * SIDE,
            z_{{i}}_{{j}}_{{q}},
            vec4<f32>(
                bounce[primal_{{i}}_{{j}}],
                bounce[primal_{{i}}_{{j}} + 1u],
                bounce[primal_{{i}}_{{j}} + 2u],
                bounce[primal_{{i}}_{{j}} + 3u],
            ),
        );
        @}
        @}
        @}
    }
    @}
}
