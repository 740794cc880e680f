// norm_weigh_f32: rows times the root of their weight in a Gram matrix.
//
//   c    [rows, cols]   row i at i stride
//   s    [rows]         s1 of each row
//   k    [rows]         k3 of each row
//   out  [rows, cols]   row i at i stride: root c; in mode 3 it holds y = c A at first
//
// Roots by mode: 0 |k|, 1 sqrt(k), 2 sqrt(k s), 3 |k| sqrt(max(c.y, 0)).
//
// Workgroup: {{THREADS}} invocations for a row.
// Workgroup memory: a number for each invocation.
// Accuracy: that of roots in WGSL, and of a sum in f32 in mode 3.

struct Params {
    rows: u32,
    cols: u32,
    stride: u32,
    mode: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> c: array<f32>;
@group(0) @binding(2) var<storage, read> s: array<f32>;
@group(0) @binding(3) var<storage, read> k: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@include "frag/unit.wgsl"
@include "frag/sum_of.wgsl" name=total_of T=f32

@compute @workgroup_size({{THREADS}})
fn norm_weigh_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
@include "frag/own_{{REDUCE}}.wgsl"
) {
    let row = unit_of(group, groups);
    if row >= p.rows {
        return;
    }
    let first = row * p.stride;
    var sum = 0.0;
    if p.mode == 3u {
        for (var i = thread; i < p.cols; i += {{THREADS}}u) {
            sum = fma(c[first + i], out[first + i], sum);
        }
    }
    let square = total_of(sum, 1u, thread{{LANE}});
    var root = abs(k[row]);
    if p.mode == 1u {
        root = sqrt(k[row]);
    } else if p.mode == 2u {
        root = sqrt(k[row] * s[row]);
    } else if p.mode == 3u {
        root *= sqrt(max(square, 0.0));
    }
    for (var i = thread; i < p.cols; i += {{THREADS}}u) {
        out[first + i] = root * c[first + i];
    }
}
