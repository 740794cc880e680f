// edge_cotangents_f32: for every probe of a chunk and its output feature i, out[i, j] += the sum over samples of
// (sum_s g_sj f_sj)^2, s over the positions of the sample; or without the square.
//
//   g      [probes n, k_in]   row r n + s at g_offset + (r n + s) g_stride
//   f      [n, k_in]
//   index  [1]                at index_at: the number of the chunk; its probe r is p = index * of_chunk + first_probe + r,
//                             of `count` probes in all, and i = p mod k_out
//   out    [k_out, k_in]      row i at out_offset + i out_stride
//
// Workgroup: {{THREADS}} invocations for 2^log_columns columns of one row of out, with all its probes; the samples are
// dealt to the lanes of a column.
// Workgroup memory: a pair for each invocation.
// Accuracy: products and squares are rounded once; both sums are carried as high + low.

struct Params {
    samples: u32,
    positions: u32,
    k_in: u32,
    k_out: u32,
    probes: u32,
    of_chunk: u32,
    first_probe: u32,
    count: u32,
    squared: u32,
    g_offset: u32,
    g_stride: u32,
    f_offset: u32,
    f_stride: u32,
    index_at: u32,
    out_offset: u32,
    out_stride: u32,
    log_columns: u32,
    column_groups: u32,
    one: f32,
    zero: f32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read> f: array<f32>;
@group(0) @binding(3) var<storage, read> index: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@include "frag/unit.wgsl"
@include "frag/fold_lanes.wgsl"

@compute @workgroup_size({{THREADS}})
fn edge_cotangents_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
@include "frag/own_{{REDUCE}}.wgsl"
) {
    let unit = unit_of(group, groups);
    let columns = 1u << p.log_columns;
    let own = unit / p.column_groups;
    let j = unit % p.column_groups * columns + (thread & (columns - 1u));
    let first = index[p.index_at] * p.of_chunk + p.first_probe;
    let inside = own < min(p.probes, p.k_out) && j < p.k_in;
    var sum = Pair(0.0, 0.0);
    if inside {
        for (var r = own; r < p.probes && first + r < p.count; r += p.k_out) {
            for (var x = thread >> p.log_columns; x < p.samples; x += {{THREADS}}u >> p.log_columns) {
                var inner = Pair(0.0, 0.0);
                for (var s = x * p.positions; s < (x + 1u) * p.positions; s++) {
                    let left = g[p.g_offset + (r * p.samples * p.positions + s) * p.g_stride + j];
                    inner = add_up(inner, fma(left, f[p.f_offset + s * p.f_stride + j], p.zero));
                }
                if p.squared != 0u {
                    let value = inner.high + inner.low;
                    sum = add_up(sum, fma(value, value, p.zero));
                } else {
                    sum = join(sum, inner);
                }
            }
        }
    }
    let total = fold(vec2<f32>(sum.high, sum.low), columns, thread{{LANE}});
    if thread < columns && inside {
        let i = (first + own) % p.k_out;
        out[p.out_offset + i * p.out_stride + j] += total.x + total.y;
    }
}
