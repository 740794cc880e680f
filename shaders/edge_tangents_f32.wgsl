// edge_tangents_f32: out[i, j] += sum over t of y[r n + t, i]^2 for the feature j = chunk * of_chunk + first_probe + r.
//
//   y      [probes n, k_out]   row r n + t at y_offset + (r n + t) y_stride
//   index  [1]                 at index_at: the number of the chunk
//   out    [k_out, k_in]       row i at out_offset + i out_stride; features behind the last column are left out
//
// Workgroup: {{THREADS}} invocations for 2^log_columns outputs of a probe; the rows are dealt to the lanes of an output.
// Workgroup memory: a pair for each invocation.
// Accuracy: squares are rounded once; their sum is carried as high + low and rounded once.

struct Params {
    n: u32,
    k_out: u32,
    k_in: u32,
    probes: u32,
    of_chunk: u32,
    first_probe: u32,
    y_offset: u32,
    y_stride: u32,
    index_at: u32,
    out_offset: u32,
    out_stride: u32,
    log_columns: u32,
    column_groups: u32,
    one: f32,
    zero: f32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@include "frag/unit.wgsl"
@include "frag/fold_lanes.wgsl"

@compute @workgroup_size({{THREADS}})
fn edge_tangents_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
@include "frag/own_{{REDUCE}}.wgsl"
) {
    let unit = unit_of(group, groups);
    let columns = 1u << p.log_columns;
    let probe = unit / p.column_groups;
    let i = unit % p.column_groups * columns + (thread & (columns - 1u));
    let j = index[p.index_at] * p.of_chunk + p.first_probe + probe;
    let inside = probe < p.probes && i < p.k_out && j < p.k_in;
    var sum = Pair(0.0, 0.0);
    if inside {
        for (var t = thread >> p.log_columns; t < p.n; t += {{THREADS}}u >> p.log_columns) {
            let value = y[p.y_offset + (probe * p.n + t) * p.y_stride + i];
            sum = add_up(sum, fma(value, value, p.zero));
        }
    }
    let total = fold(vec2<f32>(sum.high, sum.low), columns, thread{{LANE}});
    if thread < columns && inside {
        out[p.out_offset + i * p.out_stride + j] += total.x + total.y;
    }
}
