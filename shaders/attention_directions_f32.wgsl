// attention_directions_f32: how the scores of a tile of attention change along every direction, in f32.
//
//   f     [sequences][keys, cols], row stride p.f_row
//   on_k  [heads][queries, cols]: scale q_t . K_j
//   on_q  [heads][sequences keys, cols]: scale k_s . Q_j
//   out   [heads][queries][keys, cols]: on_k[h, t, j] f[s, j] + f[t, j] on_q[h, s, j]
//
// Query i of each sequence is the key start + i; the keys behind it are computed too, to be multiplied by 0.
//
// Workgroup: {{THREADS}} invocations, an element each.
// Accuracy: two roundings.

struct Params {
    // Elements of the result.
    count: u32,
    queries: u32,
    // Of one sequence.
    each: u32,
    keys: u32,
    start: u32,
    key_rows: u32,
    cols: u32,
    f_offset: u32,
    f_row: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> f: array<f32>;
@group(0) @binding(2) var<storage, read> on_k: array<f32>;
@group(0) @binding(3) var<storage, read> on_q: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@include "frag/unit.wgsl"

@compute @workgroup_size({{THREADS}})
fn attention_directions_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let own = unit_of(group, groups) * {{THREADS}}u + thread;
    if own >= p.count {
        return;
    }
    let column = own % p.cols;
    let pair = own / p.cols;
    let key = pair % p.keys;
    let line = pair / p.keys;
    let head = line / p.queries;
    let query = line % p.queries;
    let sequence = query / p.each * p.keys;
    let position = sequence + query % p.each + p.start;
    let along_k = on_k[line * p.cols + column] * f[p.f_offset + (sequence + key) * p.f_row + column];
    let along_q = on_q[(head * p.key_rows + sequence + key) * p.cols + column];
    out[own] = fma(f[p.f_offset + position * p.f_row + column], along_q, along_k);
}
