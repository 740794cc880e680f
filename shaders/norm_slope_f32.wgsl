// norm_slope_f32: tangents or, with TRANSPOSE in flags, cotangents of norm_f32 for the rows of probes.
//
// With n = c / s, s = sqrt(mean(c^2) + eps), and m(g) = mean(g) for LayerNorm, 0 for RMSNorm:
//
//   tangents    dy = (dx - m(dx) - n mean(n (dx - m(dx)))) / s w
//   cotangents  dy = (g - m(g) - n mean(n g)) / s, g = w dx, added to what is there with ADDS
//
//   x       [rows, cols]
//   dx, dy  [probes * rows, cols]  row r rows + i with row i of x
//   w       [cols]                 ones without HAS_W
//
// Workgroup: {{THREADS}} invocations for a row of x and {{PROBES}} probes, which go over the columns together.
// Workgroup memory: {{2 * THREADS}} floats.
// Accuracy: sums over a row are {{THREADS}} chains and a tree over them.
//
// Pipeline: 1. the mean of the row  2. the mean of squares, and what is left of the sum of c
//           3. for each probe: its sum and that of its products with c  4. its row

struct Params {
    rows: u32,
    cols: u32,
    probes: u32,
    x_offset: u32,
    x_stride: u32,
    dx_offset: u32,
    dx_stride: u32,
    dy_offset: u32,
    dy_stride: u32,
    eps: f32,
    share: f32,
    flags: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dx: array<f32>;
@group(0) @binding(3) var<storage, read> w: array<f32>;
@group(0) @binding(4) var<storage, read_write> dy: array<f32>;

const RMS = 1u;
const HAS_W = 2u;
const TRANSPOSE = 8u;
const ADDS = 16u;

@include "frag/unit.wgsl"
@include "frag/accurate.wgsl"
@include "frag/sum_of.wgsl" name=totals_of T=vec2<f32>

// The gain of a column, where it is applied before or after the Jacobian.
fn gain(column: u32, before: bool) -> f32 {
    if (p.flags & HAS_W) != 0u && before == ((p.flags & TRANSPOSE) != 0u) {
        return w[column];
    }
    return 1.0;
}

@compute @workgroup_size({{THREADS}})
fn norm_slope_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
@include "frag/own_{{REDUCE}}.wgsl"
) {
    let unit = unit_of(group, groups);
    let first = unit / p.rows * {{PROBES}}u;
    if first >= p.probes {
        return;
    }
    let layer = (p.flags & RMS) == 0u;
    let primal = unit % p.rows;
    let of_x = p.x_offset + primal * p.x_stride;
    var mean = 0.0;
    if layer {
        for (var c = thread; c < p.cols; c += {{THREADS}}u) {
            mean += x[of_x + c];
        }
        mean = totals_of(vec2<f32>(mean, 0.0), 1u, thread{{LANE}}).x * p.share;
    }
    var found = vec2<f32>();
    for (var c = thread; c < p.cols; c += {{THREADS}}u) {
        let centred = x[of_x + c] - mean;
        found = fma(vec2<f32>(centred), vec2<f32>(centred, 1.0), found);
    }
    found = totals_of(found, 1u, thread{{LANE}});
    let inverse = inverse_root(fma(found.x, p.share, p.eps));
    let rest = found.y;

    for (var probe = first; probe < min(first + {{PROBES}}u, p.probes); probe++) {
        let given = p.dx_offset + (probe * p.rows + primal) * p.dx_stride;
        var sums = vec2<f32>();
        for (var c = thread; c < p.cols; c += {{THREADS}}u) {
            let g = dx[given + c] * gain(c, true);
            sums = fma(vec2<f32>(g), vec2<f32>(1.0, x[of_x + c] - mean), sums);
        }
        sums = totals_of(sums, 1u, thread{{LANE}});
        let shift = select(0.0, sums.x * p.share, layer);
        // mean(n (g - shift)) / s.
        let along = (sums.y - shift * rest) * p.share * inverse * inverse;
        let to = p.dy_offset + (probe * p.rows + primal) * p.dy_stride;
        for (var c = thread; c < p.cols; c += {{THREADS}}u) {
            let g = dx[given + c] * gain(c, true);
            var value = fma(-along, x[of_x + c] - mean, g - shift) * inverse * gain(c, false);
            if (p.flags & ADDS) != 0u {
                value += dy[to + c];
            }
            dy[to + c] = value;
        }
    }
}
