// norm_f32: y = c / sqrt(mean(c^2) + eps) w + b, row by row, c = x - mean(x), or x with bit 0 of flags (RMSNorm).
//
//   x, y  [rows, cols]
//   w     [cols]        ones without bit 1
//   b     [cols]        zeros without bit 2
//
// Workgroup: {{THREADS}} invocations for a row, which go over its columns together.
// Workgroup memory: {{THREADS}} floats.
// Accuracy: sums over a row are {{THREADS}} chains and a tree over them.
//
// Pipeline: 1. the mean  2. the mean of squares  3. the row

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    eps: f32,
    share: f32,
    flags: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

const RMS = 1u;
const HAS_W = 2u;
const HAS_B = 4u;

@include "frag/unit.wgsl"
@include "frag/accurate.wgsl"
@include "frag/sum_of.wgsl" name=total_of T=f32

@compute @workgroup_size({{THREADS}})
fn norm_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
@include "frag/own_{{REDUCE}}.wgsl"
) {
    let row = unit_of(group, groups);
    if row >= p.rows {
        return;
    }
    let of_x = p.x_offset + row * p.x_stride;
    var mean = 0.0;
    if (p.flags & RMS) == 0u {
        for (var c = thread; c < p.cols; c += {{THREADS}}u) {
            mean += x[of_x + c];
        }
        mean = total_of(mean, 1u, thread{{LANE}}) * p.share;
    }
    var square = 0.0;
    for (var c = thread; c < p.cols; c += {{THREADS}}u) {
        let centred = x[of_x + c] - mean;
        square = fma(centred, centred, square);
    }
    let inverse = inverse_root(fma(total_of(square, 1u, thread{{LANE}}), p.share, p.eps));
    for (var c = thread; c < p.cols; c += {{THREADS}}u) {
        var value = (x[of_x + c] - mean) * inverse;
        if (p.flags & HAS_W) != 0u {
            value *= w[c];
        }
        if (p.flags & HAS_B) != 0u {
            value += b[c];
        }
        y[p.y_offset + row * p.y_stride + c] = value;
    }
}
