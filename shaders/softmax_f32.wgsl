// softmax_f32: y = softmax(x) row by row, or x softmax(x), which is SoLU.
//
//   x, y  [rows, cols]
//
// Workgroup: {{THREADS}} invocations for a row, which go over its columns together.
// Workgroup memory: {{2 * THREADS}} floats.
// Accuracy: the exponent x - max(x) is rounded once, sums are {{THREADS}} chains and a tree over them.
//
// Pipeline: 1. the largest number of the row  2. the sum of exponentials  3. the quotients

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    solu: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@include "frag/unit.wgsl"
@include "frag/exp_below.wgsl"
@include "frag/sum_of.wgsl" name=total_of T=f32
@include "frag/largest_of.wgsl" name=largest_of

@compute @workgroup_size({{THREADS}})
fn softmax_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
@include "frag/own_{{REDUCE}}.wgsl"
) {
    let row = unit_of(group, groups);
    if row >= p.rows {
        return;
    }
    let of_x = p.x_offset + row * p.x_stride;
    // An invocation without columns takes the first.
    var largest = x[of_x];
    for (var c = thread; c < p.cols; c += {{THREADS}}u) {
        largest = max(largest, x[of_x + c]);
    }
    largest = largest_of(largest, 1u, thread{{LANE}});
    var total = 0.0;
    for (var c = thread; c < p.cols; c += {{THREADS}}u) {
        total += exp_below(x[of_x + c] - largest, 0.0);
    }
    let inverse = 1.0 / total_of(total, 1u, thread{{LANE}});
    let to = p.y_offset + row * p.y_stride;
    for (var c = thread; c < p.cols; c += {{THREADS}}u) {
        let value = x[of_x + c];
        y[to + c] = exp_below(value - largest, 0.0) * inverse * select(1.0, value, p.solu != 0u);
    }
}
