// attention_squares_f32: sums of squared Jacobians, in f32.
//
//   j    [queries][rows, cols]
//   f    [queries, rows], row stride p.f_row
//   b    [rows, cols]
//   out  [cols, rows], row stride p.out_row: out[c, r] += sum over t of (j[t, r, c] + f[t, r] b[r, c])^2
//
// Workgroup: {{THREADS}} invocations, an element of the result each.
// Accuracy: a square is rounded twice; their sum is compensated, in the order of the queries, and rounded once.

struct Params {
    queries: u32,
    rows: u32,
    cols: u32,
    f_offset: u32,
    f_row: u32,
    out_offset: u32,
    out_row: u32,
    one: f32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> j: array<f32>;
@group(0) @binding(2) var<storage, read> f: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@include "frag/unit.wgsl"
@include "frag/two_sum.wgsl" T=f32

@compute @workgroup_size({{THREADS}})
fn attention_squares_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let own = unit_of(group, groups) * {{THREADS}}u + thread;
    if own >= p.rows * p.cols {
        return;
    }
    let row = own / p.cols;
    let slope = b[own];
    var total = Pair(0.0, 0.0);
    for (var query = 0u; query < p.queries; query++) {
        let x = fma(f[p.f_offset + query * p.f_row + row], slope, j[query * p.rows * p.cols + own]);
        let next = two_sum(total.high, x * x);
        total = Pair(next.high, total.low + next.low);
    }
    let at = p.out_offset + own % p.cols * p.out_row + row;
    let sum = two_sum(out[at], total.high);
    out[at] = sum.high + (sum.low + total.low);
}
