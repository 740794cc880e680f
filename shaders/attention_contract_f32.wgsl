// attention_contract_f32: rows of q weighted with products of deviations, in f32.
//
//   a    [first][heads][queries][length]
//   b    [heads][queries][length]
//   q    [queries, heads d], row stride p.q_row
//   out  [first][heads][queries][d]: (a[f, h, i] . b[h, i]) q[i, h]
//
// Workgroup: {{THREADS}} invocations for a row of the result.
// Workgroup memory: their sums.
// Accuracy: {{THREADS}} lanes of two chains of fma each, and a tree.

struct Params {
    units: u32,
    heads: u32,
    queries: u32,
    length: u32,
    d: u32,
    q_offset: u32,
    q_row: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> q: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@include "frag/unit.wgsl"
@include "frag/sum_of.wgsl" name=total_of T=f32

@compute @workgroup_size({{THREADS}})
fn attention_contract_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
@include "frag/own_{{REDUCE}}.wgsl"
) {
    let unit = unit_of(group, groups);
    if unit >= p.units {
        return;
    }
    let row = unit % (p.heads * p.queries);
    var even = 0.0;
    var odd = 0.0;
    for (var i = thread; i < p.length; i += {{2*THREADS}}u) {
        even = fma(a[unit * p.length + i], b[row * p.length + i], even);
        if i + {{THREADS}}u < p.length {
            odd = fma(a[unit * p.length + i + {{THREADS}}u], b[row * p.length + i + {{THREADS}}u], odd);
        }
    }
    let weight = total_of(even + odd, 1u, thread{{LANE}});
    let q_at = p.q_offset + row % p.queries * p.q_row + row / p.queries * p.d;
    for (var column = thread; column < p.d; column += {{THREADS}}u) {
        out[unit * p.d + column] = weight * q[q_at + column];
    }
}
