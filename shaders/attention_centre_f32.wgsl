// attention_centre_f32: the rows of every sequence less their mean, in f32.
//
//   x  [sequences][keys, cols], row stride p.x_row
//   y  [sequences keys, cols], contiguous: x[b, s, c] less the mean of x[b, .., c] over the keys
//
// Workgroup: {{THREADS}} invocations, a column of a sequence each.
// Accuracy: the mean is a sum in the order of the keys; what it is off by is the same for all of them, and what is made of
// the differences does not change with it. The difference is rounded once.

struct Params {
    units: u32,
    keys: u32,
    cols: u32,
    // Workgroups across a row.
    across: u32,
    x_offset: u32,
    x_row: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@include "frag/unit.wgsl"

@compute @workgroup_size({{THREADS}})
fn attention_centre_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let unit = unit_of(group, groups);
    let column = unit % p.across * {{THREADS}}u + thread;
    if unit >= p.units || column >= p.cols {
        return;
    }
    let first = unit / p.across * p.keys;
    var sum = 0.0;
    for (var key = first; key < first + p.keys; key++) {
        sum += x[p.x_offset + key * p.x_row + column];
    }
    let mean = sum / f32(p.keys);
    for (var key = first; key < first + p.keys; key++) {
        y[key * p.cols + column] = x[p.x_offset + key * p.x_row + column] - mean;
    }
}
