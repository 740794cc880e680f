// column_sums_f32: out[c] += sum over rows of weights[i] x[i, c].
//
//   x        [rows, cols]   row i at x_offset + i x_stride
//   weights  [rows]         from weights_offset on, where flags has bit 0; ones otherwise
//   out      [cols]         from out_offset on
//
// Workgroup: {{THREADS}} invocations for 2^log_columns columns; the rows are dealt to the lanes of a column.
// Workgroup memory: a pair for each invocation.
// Accuracy: products are rounded once; their sum is carried as high + low, about 2^-46 of the sum of magnitudes where
// TwoSum is exact, and rounded once. The order of additions follows from rows and log_columns.

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_stride: u32,
    weights_offset: u32,
    out_offset: u32,
    flags: u32,
    log_columns: u32,
    one: f32,
    zero: f32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

const HAS_WEIGHTS = 1u;

@include "frag/unit.wgsl"
@include "frag/fold_lanes.wgsl"

@compute @workgroup_size({{THREADS}})
fn column_sums_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
@include "frag/own_{{REDUCE}}.wgsl"
) {
    let columns = 1u << p.log_columns;
    let column = unit_of(group, groups) * columns + (thread & (columns - 1u));
    var sum = Pair(0.0, 0.0);
    if column < p.cols {
        for (var row = thread >> p.log_columns; row < p.rows; row += {{THREADS}}u >> p.log_columns) {
            var value = x[p.x_offset + row * p.x_stride + column];
            if (p.flags & HAS_WEIGHTS) != 0u {
                value = fma(value, weights[p.weights_offset + row], p.zero);
            }
            sum = add_up(sum, value);
        }
    }
    let total = fold(vec2<f32>(sum.high, sum.low), columns, thread{{LANE}});
    if thread < columns && column < p.cols {
        out[p.out_offset + column] += total.x + total.y;
    }
}
