// solu_tangent_f32: dy = J dx for the rows of probes, or J' dx, J = diag(s (1 + x)) - (x s) s', s = softmax(x).
//
//   x       [rows, cols]
//   s       [rows, cols]     contiguous
//   dx, dy  [stacked, cols]  row r rows + i with row i of x
//
// Workgroup: {{THREADS}} invocations for a row of dx, which go over its columns together.
// Workgroup memory: {{THREADS}} floats.
// Accuracy: the sum over a row is {{THREADS}} chains of fma and a tree over them.

struct Params {
    rows: u32,
    cols: u32,
    stacked: u32,
    x_offset: u32,
    x_stride: u32,
    dx_offset: u32,
    dx_stride: u32,
    dy_offset: u32,
    dy_stride: u32,
    transpose: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> s: array<f32>;
@group(0) @binding(3) var<storage, read> dx: array<f32>;
@group(0) @binding(4) var<storage, read_write> dy: array<f32>;

@include "frag/unit.wgsl"
@include "frag/sum_of.wgsl" name=total_of T=f32

@compute @workgroup_size({{THREADS}})
fn solu_tangent_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
@include "frag/own_{{REDUCE}}.wgsl"
) {
    let row = unit_of(group, groups);
    if row >= p.stacked {
        return;
    }
    let primal = row % p.rows;
    let x_row = p.x_offset + primal * p.x_stride;
    let s_row = primal * p.cols;
    let dx_row = p.dx_offset + row * p.dx_stride;
    var share = 0.0;
    for (var c = thread; c < p.cols; c += {{THREADS}}u) {
        let weight = s[s_row + c] * select(1.0, x[x_row + c], p.transpose != 0u);
        share = fma(weight, dx[dx_row + c], share);
    }
    share = total_of(share, 1u, thread{{LANE}});
    for (var c = thread; c < p.cols; c += {{THREADS}}u) {
        let value = x[x_row + c];
        let weight = s[s_row + c];
        let left = weight * select(value, 1.0, p.transpose != 0u);
        dy[p.dy_offset + row * p.dy_stride + c] = fma(weight * (1.0 + value), dx[dx_row + c], -left * share);
    }
}
