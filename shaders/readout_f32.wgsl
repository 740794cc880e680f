// readout_f32: y[i, f] += x[r n + i, :] . w_t[f, :] for every feature f that belongs to mask first + r, where first is
// index * probes + first_probe and r < bound: the features of the masks of one chunk whose rows are bound.
//
//   x       [bound * n, d]
//   w_t     [k, d]
//   owners  [k]             the mask of each feature
//   index   element index_offset of a buffer: the number of the chunk
//   y       [n, k]
//
// Workgroup: {{LINES}} x {{LANES}} invocations for as many rows of one feature, {{LANES}} for a row.
// Workgroup memory: {{LINES * LANES}} floats.
// Accuracy: {{LANES}} chains of fma and a tree over them.

struct Params {
    n: u32,
    d: u32,
    k: u32,
    bound: u32,
    first_probe: u32,
    probes: u32,
    index_offset: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    row_tiles: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w_t: array<f32>;
@group(0) @binding(3) var<storage, read> owners: array<u32>;
@group(0) @binding(4) var<storage, read> index: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

@include "frag/unit.wgsl"
@include "frag/sum_of.wgsl" name=totals_of T=f32

@compute @workgroup_size({{THREADS}})
fn readout_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
@include "frag/own_{{REDUCE}}.wgsl"
) {
    let unit = unit_of(group, groups);
    let feature = unit / p.row_tiles;
    if feature >= p.k {
        return;
    }
    let i = unit % p.row_tiles * {{LINES}}u + thread / {{LANES}}u;
    let lane = thread % {{LANES}}u;
    // Wraps around below the first mask.
    let r = owners[feature] - (index[p.index_offset] * p.probes + p.first_probe);
    let own = r < p.bound && i < p.n;
    var sum = 0.0;
    if own {
        let of_x = p.x_offset + (r * p.n + i) * p.x_stride;
        for (var c = lane; c < p.d; c += {{LANES}}u) {
            sum = fma(x[of_x + c], w_t[feature * p.d + c], sum);
        }
    }
    // Rows are the columns of what is reduced.
    let total = totals_of(sum, {{LINES}}u, lane * {{LINES}}u + thread / {{LANES}}u{{LANE}});
    if own && lane == 0u {
        let to = p.y_offset + i * p.y_stride + feature;
        y[to] += total;
    }
}
