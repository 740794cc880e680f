// scatter_f32: y[i] = sum of x[j] over chosen[j] = i, in the order of j, for each probe.
//
//   x       [probes * m, cols]
//   chosen  [m]
//   y       [rows, cols]        rows = probes * n
//
// Workgroup: {{THREADS}} invocations for as many columns of a row of y.
// Workgroup memory: {{WORDS}} words.
// Accuracy: one chain of additions.
//
// Pipeline, for each {{THREADS}} of chosen:
//   1. barrier; every invocation compares one of them and sets its bit
//   2. barrier; every invocation adds the rows of the bits that are set

struct Params {
    rows: u32,
    cols: u32,
    m: u32,
    n: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    chosen_offset: u32,
    column_tiles: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> chosen: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

var<workgroup> found: array<atomic<u32>, {{WORDS}}>;

@include "frag/unit.wgsl"

@compute @workgroup_size({{THREADS}})
fn scatter_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let unit = unit_of(group, groups);
    let row = unit / p.column_tiles;
    if row >= p.rows {
        return;
    }
    let column = unit % p.column_tiles * {{THREADS}}u + thread;
    let first = p.x_offset + row / p.n * p.m * p.x_stride + column;
    var sum = 0.0;
    for (var block = 0u; block < p.m; block += {{THREADS}}u) {
        if thread < {{WORDS}}u {
            atomicStore(&found[thread], 0u);
        }
        workgroupBarrier();
        if block + thread < p.m && chosen[p.chosen_offset + block + thread] == row % p.n {
            atomicOr(&found[thread / 32u], 1u << (thread % 32u));
        }
        workgroupBarrier();
        for (var word = 0u; word < {{WORDS}}u; word++) {
            let bits = atomicLoad(&found[word]);
            for (var rest = bits; rest != 0u; rest &= rest - 1u) {
                if column < p.cols {
                    sum += x[first + (block + 32u * word + countTrailingZeros(rest)) * p.x_stride];
                }
            }
        }
        workgroupBarrier();
    }
    if column < p.cols {
        y[p.y_offset + row * p.y_stride + column] = sum;
    }
}
