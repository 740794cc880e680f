// edges_f32: the sum over the tokens t of a slab of (f_tj J_t[j, i])^2, J_t = sum over gates g of U_g diag(d_tg) V + B.
//
//   d         [n, {{GATES}} hidden]   row t at d_offset + t d_stride: the diagonals, one gate behind the other
//   f         [n, k_in]
//   u         [{{GATES}} hidden, k_in]  U' of each gate
//   v         [hidden, k_out]
//   b         [k_in, k_out]       row j at j b_stride
//   partials  [slabs][k_out, k_in]
//
// Workgroup: SIDE x SIDE invocations for a tile of 4 SIDE outputs i by 4 SIDE inputs j, 4 x 4 of them each; 4 tokens at a
// time, so that an invocation holds 64 sums.
// Workgroup memory: {{DEPTH}} hidden units of U of each gate and of V as quads, and of the diagonals of 4 tokens.
// Accuracy: an element of J is one chain of fma over the hidden units; the squares of 4 tokens are added, and those sums
// carried as high + low.
//
// Pipeline, for each 4 tokens and each {{DEPTH}} hidden units:
//   1. every invocation copies quads of U and V, and diagonals
//   2. barrier
//   3. for each unit and token: the diagonal on U, 16 products
//   4. barrier
// then the squares.

struct Params {
    units: u32,
    tiles: u32,
    column_tiles: u32,
    n: u32,
    hidden: u32,
    k_in: u32,
    k_out: u32,
    d_offset: u32,
    d_stride: u32,
    f_offset: u32,
    f_stride: u32,
    u_offset: u32,
    u_stride: u32,
    v_offset: u32,
    v_stride: u32,
    b_stride: u32,
    slab_tokens: u32,
    one: f32,
    zero: f32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> d: array<f32>;
@group(0) @binding(2) var<storage, read> f: array<f32>;
@group(0) @binding(3) var<storage, read> u: array<{{ELEMENT}}>;
@group(0) @binding(4) var<storage, read> v: array<{{ELEMENT}}>;
@group(0) @binding(5) var<storage, read> b: array<f32>;
@group(0) @binding(6) var<storage, read_write> partials: array<f32>;

override SIDE: u32 = 8u;
override THREADS: u32 = SIDE * SIDE;
const DEPTH = {{DEPTH}}u;
const GATES = {{GATES}}u;

// [GATES][DEPTH][SIDE] and [DEPTH][SIDE] quads, and for each gate and unit the diagonals of 4 tokens.
var<workgroup> u_tile: array<vec4<f32>, GATES * DEPTH * SIDE>;
var<workgroup> v_tile: array<vec4<f32>, DEPTH * SIDE>;
var<workgroup> d_tile: array<vec4<f32>, GATES * DEPTH>;

@include "frag/unit.wgsl"
@include "frag/add_up.wgsl" T=vec4<f32>
@include "frag/quad_{{VECTOR}}.wgsl" name=u
@include "frag/quad_{{VECTOR}}.wgsl" name=v

fn stage(thread: u32, token: u32, end: u32, unit: u32, left: u32, top: u32) {
    for (var item = thread; item < GATES * DEPTH * SIDE; item += THREADS) {
        let gate = item / (DEPTH * SIDE);
        let row = unit + item / SIDE % DEPTH;
        // Behind the last unit of a gate are zeros, not the next gate.
        u_tile[item] = u_quad(gate * p.hidden + row, left + 4u * (item % SIDE), (gate + 1u) * p.hidden, p.k_in);
    }
    for (var item = thread; item < DEPTH * SIDE; item += THREADS) {
        v_tile[item] = v_quad(unit + item / SIDE, top + 4u * (item % SIDE), p.hidden, p.k_out);
    }
    for (var item = thread; item < GATES * DEPTH; item += THREADS) {
        let row = unit + item % DEPTH;
        var diagonals = vec4<f32>();
        for (var t = 0u; t < 4u; t++) {
            if token + t < end && row < p.hidden {
                diagonals[t] = d[p.d_offset + (token + t) * p.d_stride + item / DEPTH * p.hidden + row];
            }
        }
        d_tile[item] = diagonals;
    }
}

// Four elements of a column of b.
fn linear_part(row: u32, column: u32) -> vec4<f32> {
    var quad = vec4<f32>();
    for (var j = 0u; j < 4u; j++) {
        if row + j < p.k_in && column < p.k_out {
            quad[j] = b[(row + j) * p.b_stride + column];
        }
    }
    return quad;
}

// Four features of a token; zeros behind the last token.
fn features(token: u32, end: u32, column: u32) -> vec4<f32> {
    var quad = vec4<f32>();
    for (var j = 0u; j < 4u; j++) {
        if token < end && column + j < p.k_in {
            quad[j] = f[p.f_offset + token * p.f_stride + column + j];
        }
    }
    return quad;
}

@compute @workgroup_size(SIDE, SIDE)
fn edges_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = unit_of(group, groups);
    if number >= p.units {
        return;
    }
    let tile = number % p.tiles;
    let slab = number / p.tiles;
    let top = tile / p.column_tiles * 4u * SIDE;
    let left = tile % p.column_tiles * 4u * SIDE;
    let i = top + 4u * local.y;
    let j = left + 4u * local.x;
    let end = min(p.n, (slab + 1u) * p.slab_tokens);

    @for i in 0..4 {
    var total_{{i}} = Pair(vec4<f32>(), vec4<f32>());
    @}
    for (var token = slab * p.slab_tokens; token < end; token += 4u) {
        @for i in 0..4 {
        let linear_{{i}} = linear_part(j, i + {{i}}u);
        @for t in 0..4 {
        var jacobian_{{t}}_{{i}} = linear_{{i}};
        @}
        @}
        for (var unit = 0u; unit < p.hidden; unit += DEPTH) {
            stage(thread, token, end, unit, left, top);
            workgroupBarrier();
            for (var step = 0u; step < DEPTH; step++) {
                let right = v_tile[step * SIDE + local.y];
                @for g in 0..GATES {
                let left_{{g}} = u_tile[({{g}}u * DEPTH + step) * SIDE + local.x];
                let diagonal_{{g}} = d_tile[{{g}}u * DEPTH + step];
                @}
                @for t in 0..4 {
                var scaled_{{t}} = diagonal_0[{{t}}] * left_0;
                @for g in 1..GATES {
                scaled_{{t}} = fma(vec4<f32>(diagonal_{{g}}[{{t}}]), left_{{g}}, scaled_{{t}});
                @}
                @for i in 0..4 {
                jacobian_{{t}}_{{i}} = fma(vec4<f32>(right[{{i}}]), scaled_{{t}}, jacobian_{{t}}_{{i}});
                @}
                @}
            }
            workgroupBarrier();
        }
        @for t in 0..4 {
        let weight_{{t}} = features(token + {{t}}u, end, j);
        @}
        @for i in 0..4 {
        var square_{{i}} = vec4<f32>(p.zero);
        @for t in 0..4 {
        jacobian_{{t}}_{{i}} *= weight_{{t}};
        square_{{i}} = fma(jacobian_{{t}}_{{i}}, jacobian_{{t}}_{{i}}, square_{{i}});
        @}
        total_{{i}} = add_up(total_{{i}}, square_{{i}});
        @}
    }

    @for i in 0..4 {
    if i + {{i}}u < p.k_out {
        let sum = total_{{i}}.high + total_{{i}}.low;
        for (var c = 0u; c < 4u && j + c < p.k_in; c++) {
            partials[(slab * p.k_out + i + {{i}}u) * p.k_in + j + c] = sum[c];
        }
    }
    @}
}
