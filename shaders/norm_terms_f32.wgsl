// norm_terms_f32: what the Jacobian of a LayerNorm needs of each row.
//
//   x      [rows, cols]   row i at x_offset + i x_stride
//   v      [rows]         v_stride apart: the variance of each row, where flags has bit 0; mean(c^2) otherwise
//   nodes  [count]        weight w of each quadrature point and the power a of its alpha
//   c      [rows, cols]   x - mean(x)
//   s      [rows]         s_stride apart: s1 = sum of w / sigma, sigma = sqrt(a v + eps)
//   g      [rows]         g_stride apart: shift + scale k3, k3 = sum of w a / sigma^3
//
// Workgroup: {{THREADS}} invocations for a row.
// Workgroup memory: a number for each invocation.
// Accuracy: the mean is corrected by the mean of what it leaves, so that c is right to a few ulp of itself; s and g to
// what divisions and roots of WGSL are. A negative v counts as 0 and has no k3.
//
// Pipeline: the mean; the mean of the differences from it; c and its squares; the points, by the first invocation.

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_stride: u32,
    v_offset: u32,
    v_stride: u32,
    c_offset: u32,
    c_stride: u32,
    s_offset: u32,
    s_stride: u32,
    g_offset: u32,
    g_stride: u32,
    count: u32,
    flags: u32,
    width: f32,
    eps: f32,
    shift: f32,
    scale: f32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> nodes: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> c: array<f32>;
@group(0) @binding(5) var<storage, read_write> s: array<f32>;
@group(0) @binding(6) var<storage, read_write> g: array<f32>;

const HAS_V = 1u;

@include "frag/unit.wgsl"
@include "frag/sum_of.wgsl" name=total_of T=f32

@compute @workgroup_size({{THREADS}})
fn norm_terms_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
@include "frag/own_{{REDUCE}}.wgsl"
) {
    let row = unit_of(group, groups);
    if row >= p.rows {
        return;
    }
    let first = p.x_offset + row * p.x_stride;
    var sum = 0.0;
    for (var i = thread; i < p.cols; i += {{THREADS}}u) {
        sum += x[first + i];
    }
    let mean = total_of(sum, 1u, thread{{LANE}}) / p.width;
    sum = 0.0;
    for (var i = thread; i < p.cols; i += {{THREADS}}u) {
        sum += x[first + i] - mean;
    }
    let rest = total_of(sum, 1u, thread{{LANE}}) / p.width;
    sum = 0.0;
    for (var i = thread; i < p.cols; i += {{THREADS}}u) {
        let centred = (x[first + i] - mean) - rest;
        c[p.c_offset + row * p.c_stride + i] = centred;
        sum = fma(centred, centred, sum);
    }
    let square = total_of(sum, 1u, thread{{LANE}});
    if thread != 0u {
        return;
    }
    var variance = square / p.width;
    if (p.flags & HAS_V) != 0u {
        variance = v[p.v_offset + row * p.v_stride];
    }
    var s1 = 0.0;
    var k3 = 0.0;
    for (var node = 0u; node < p.count; node++) {
        let point = nodes[node];
        let sigma = sqrt(fma(point.y, max(variance, 0.0), p.eps));
        s1 += point.x / sigma;
        if variance >= 0.0 {
            k3 += point.x * point.y / (sigma * sigma * sigma);
        }
    }
    s[p.s_offset + row * p.s_stride] = s1;
    g[p.g_offset + row * p.g_stride] = fma(p.scale, k3, p.shift);
}
