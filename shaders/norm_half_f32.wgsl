// norm_half_f32: the halves of a LayerNorm for the rows of probes, row r rows + i with row i of x.
//
// With c = x - mean(x), 1/s = 1 / sqrt(max(v, 0) + eps) and slope = -1/2 s^-3, 0 where v < 0:
//
//   pass 0, variance              out_v = mean(c^2)
//   pass 1, its tangent           out_v = 2/D c . dx
//   pass 2, its cotangent         out = 2/D dv c, added to what is there with accumulate
//   pass 3, normalise             out = c / s
//   pass 4, its tangent           out = (dx - mean(dx)) / s + slope dv c
//   pass 5, its cotangent         out = (dx - mean(dx)) / s, out_v = slope c . dx
//
//   x        [rows, cols]
//   v        [rows, 1]        passes 3 to 5
//   dx       [stacked, cols]  passes 1, 4, 5
//   dv       [stacked, 1]     passes 2, 4
//   out      [stacked, cols]
//   out_v    [stacked, 1]     in the buffer of out where the configuration is joint
//
// Workgroup: {{THREADS}} invocations for a row of what is stacked, which go over its columns together.
// Workgroup memory: {{2 * THREADS}} floats.
// Accuracy: sums over a row are {{THREADS}} chains and a tree over them.
//
// Pipeline: 1. the mean of the row  2. the sum of dx and of its products with c  3. the results

struct Params {
    rows: u32,
    stacked: u32,
    cols: u32,
    pass_number: u32,
    x_offset: u32,
    x_stride: u32,
    v_offset: u32,
    v_stride: u32,
    dx_offset: u32,
    dx_stride: u32,
    dv_offset: u32,
    dv_stride: u32,
    out_offset: u32,
    out_stride: u32,
    out_v_offset: u32,
    out_v_stride: u32,
    eps: f32,
    share: f32,
    accumulate: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> dx: array<f32>;
@group(0) @binding(4) var<storage, read> dv: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
@for apart in 0..APART {
@group(0) @binding(6) var<storage, read_write> out_v: array<f32>;
@}

const VARIANCE = 0u;
const VARIANCE_TANGENT = 1u;
const VARIANCE_COTANGENT = 2u;
const NORMALISE = 3u;
const NORMALISE_TANGENT = 4u;
const NORMALISE_COTANGENT = 5u;

@include "frag/unit.wgsl"
@include "frag/accurate.wgsl"
@include "frag/sum_of.wgsl" name=totals_of T=vec2<f32>

@compute @workgroup_size({{THREADS}})
fn norm_half_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
@include "frag/own_{{REDUCE}}.wgsl"
) {
    let row = unit_of(group, groups);
    if row >= p.stacked {
        return;
    }
    let of_x = p.x_offset + row % p.rows * p.x_stride;
    let of_dx = p.dx_offset + row * p.dx_stride;
    let has_dx = p.pass_number == VARIANCE_TANGENT || p.pass_number >= NORMALISE_TANGENT;

    var mean = 0.0;
    for (var c = thread; c < p.cols; c += {{THREADS}}u) {
        mean += x[of_x + c];
    }
    mean = totals_of(vec2<f32>(mean, 0.0), 1u, thread{{LANE}}).x * p.share;

    // The sum of g and that of c g, for g = dx, or c in its place.
    var sums = vec2<f32>();
    if has_dx || p.pass_number == VARIANCE {
        for (var c = thread; c < p.cols; c += {{THREADS}}u) {
            let centred = x[of_x + c] - mean;
            var g = centred;
            if has_dx {
                g = dx[of_dx + c];
            }
            sums = fma(vec2<f32>(g), vec2<f32>(1.0, centred), sums);
        }
        sums = totals_of(sums, 1u, thread{{LANE}});
    }

    var inverse = 0.0;
    var slope = 0.0;
    if p.pass_number >= NORMALISE {
        let variance = v[p.v_offset + row % p.rows * p.v_stride];
        inverse = inverse_root(max(variance, 0.0) + p.eps);
        slope = select(-0.5 * inverse * inverse * inverse, 0.0, variance < 0.0);
    }
    var step = 0.0;
    if p.pass_number == VARIANCE_COTANGENT || p.pass_number == NORMALISE_TANGENT {
        step = dv[p.dv_offset + row * p.dv_stride];
    }

    // The result is a (g - mean(g)) + b c.
    var a = inverse;
    var b = slope * step;
    if p.pass_number == VARIANCE_COTANGENT {
        b = 2.0 * p.share * step;
    } else if p.pass_number == NORMALISE {
        a = 0.0;
        b = inverse;
    }
    if p.pass_number >= VARIANCE_COTANGENT {
        let to = p.out_offset + row * p.out_stride;
        for (var c = thread; c < p.cols; c += {{THREADS}}u) {
            var value = b * (x[of_x + c] - mean);
            if has_dx {
                value = fma(a, dx[of_dx + c] - sums.x * p.share, value);
            }
            if p.accumulate != 0u {
                value += out[to + c];
            }
            out[to + c] = value;
        }
    }
    if thread == 0u && (p.pass_number <= VARIANCE_TANGENT || p.pass_number == NORMALISE_COTANGENT) {
        var factor = p.share;
        if p.pass_number == VARIANCE_TANGENT {
            factor = 2.0 * p.share;
        } else if p.pass_number == NORMALISE_COTANGENT {
            factor = slope;
        }
        {{OUT_V}}[p.out_v_offset + row * p.out_v_stride] = factor * sums.y;
    }
}
