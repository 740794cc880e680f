// attention_keys_f32: cotangents of the keys and values of attention_forward_f32, from those of z, in f32.
//
//   q, k, v, table  as there
//   z               their cotangents [probes][m, heads, d_v]
//   statistics      [probes][3][heads][m], as attention_queries_f32 writes them
//   dk              [probes][n, heads / group, d_head]
//   dv              [probes][n, heads / group, d_v]
//
//   dk_j = scale sum P_j (t_j - D) c_j q,  dv_j = sum P_j dz,  summed over the queries that see the key j and over the
//   heads that read it; t, D and c as in attention_queries_f32
//
// Workgroup: {{THREADS}} invocations for {{ROWS}} keys of a head and {{COLUMNS}} columns of its dk and dv.
// Workgroup memory: keys and queries, values and dz, or {{PIECE}} columns of queries and dz, and two sets of weights.
// Accuracy: as attention_forward_f32: an element is one chain over the queries of a head after the other.

@include "frag/attention_params.wgsl"
@group(0) @binding(1) var<storage, read> q: array<{{ELEMENT}}>;
@group(0) @binding(2) var<storage, read> k: array<{{ELEMENT}}>;
@group(0) @binding(3) var<storage, read> v: array<{{ELEMENT}}>;
@group(0) @binding(4) var<storage, read> z: array<{{ELEMENT}}>;
@group(0) @binding(5) var<storage, read> table: array<u32>;
@group(0) @binding(6) var<storage, read> statistics: array<f32>;
@group(0) @binding(7) var<storage, read_write> dk: array<{{ELEMENT}}>;
@for apart in 0..APART {
@group(0) @binding(8) var<storage, read_write> dv: array<{{ELEMENT}}>;
@}

@include "frag/attention_tile.wgsl"
// The weights of the changes, behind the patterns.
const CHANGES = {{LINES*OTHERS}}u;
var<workgroup> weights: array<vec{{EACH}}<f32>, {{2*LINES*OTHERS}}>;

@include "frag/attention_slope.wgsl"
@include "frag/attention_copy.wgsl" name=q
@include "frag/attention_copy.wgsl" name=k
@include "frag/attention_copy.wgsl" name=v
@include "frag/attention_copy.wgsl" name=z

@compute @workgroup_size({{THREADS}})
fn attention_keys_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let unit = unit_of(group, groups);
    if unit >= p.units {
        return;
    }
    // The own keys: who sees each.
    let line = thread % {{LINES}}u;
    let lane = thread / {{LINES}}u;
    let kv_heads = p.heads / p.group;
    let chunk = unit % p.chunks;
    let kv_head = unit / p.chunks / p.tiles % kv_heads;
    let probe = unit / p.chunks / p.tiles / kv_heads;
    let first = unit / p.chunks % p.tiles * {{ROWS}}u;
    let end = min(first + {{ROWS}}u, p.n);
    let seen_by = p.table_offset + 5u * p.m;
    var low = vec{{EACH}}<u32>();
    var high = vec{{EACH}}<u32>();
@for r in 0..EACH {
    if first + line + {{LINES*r}}u < end {
        let own = seen_by + first + line + {{LINES*r}}u;
        if table[own + 2u * p.n] != 0u {
            low[{{r}}] = table[own];
            high[{{r}}] = table[own + p.n];
        }
    }
@}
    let lowest = table[seen_by + first];
    let stop = table[seen_by + p.n + end - 1u];
    let k_base = p.k_offset + kv_head * p.k_head;
    let v_base = p.v_offset + kv_head * p.v_head;
@include "frag/attention_zero.wgsl" sum=acc
@include "frag/attention_zero.wgsl" sum=base

    for (var head = kv_head * p.group; head < (kv_head + 1u) * p.group; head++) {
        let q_base = p.q_offset + head * p.q_head;
        let z_base = p.z_offset + probe * p.m * p.z_row + head * p.z_head;
        let note = p.statistics_offset + (probe * 3u * p.heads + head) * p.m;
        for (var tile = lowest; tile < stop; tile += {{OTHERS}}u) {
@for c in 0..OTHERS/8 {
            var s{{c}} = vec{{EACH}}<f32>();
            var t{{c}} = vec{{EACH}}<f32>();
@}
@include "frag/attention_scores.wgsl" sum=s own=k other=q width=d_head
@include "frag/attention_scores.wgsl" sum=t own=v other=z width=d_v
@for c in 0..OTHERS/8 {
            let query{{c}} = tile + lane + {{8*c}}u;
            var w{{c}} = vec{{EACH}}<f32>();
            var change{{c}} = vec{{EACH}}<f32>();
            if query{{c}} < stop {
                let shown = (low <= vec{{EACH}}<u32>(query{{c}})) & (vec{{EACH}}<u32>(query{{c}}) < high);
                let top = statistics[note + query{{c}}];
                let inverse = statistics[note + p.heads * p.m + query{{c}}];
                let mean = statistics[note + 2u * p.heads * p.m + query{{c}}];
                w{{c}} = select(vec{{EACH}}<f32>(), power(scored(s{{c}}) - top) * inverse, shown);
                change{{c}} = select(vec{{EACH}}<f32>(), w{{c}} * (t{{c}} - mean) * slopes(s{{c}}), shown);
            }
            weights[{{LINES}}u * (lane + {{8*c}}u) + line] = w{{c}};
            weights[CHANGES + {{LINES}}u * (lane + {{8*c}}u) + line] = change{{c}};
@}
@for piece in 0..COLUMNS/PIECE {
            copy_q(thread, 0u, {{OTHERS}}u, WIDE, WIDE, q_base, tile, stop, {{COLUMNS}}u * chunk + {{PIECE*piece}}u, p.d_head);
            copy_z(thread, {{OTHERS}}u * WIDE, {{OTHERS}}u, WIDE, WIDE, z_base, tile, stop, {{COLUMNS}}u * chunk + {{PIECE*piece}}u, p.d_v);
            workgroupBarrier();
@include "frag/attention_add.wgsl" sum=acc weights=CHANGES from=0u piece={{piece}}
@include "frag/attention_add.wgsl" sum=base weights=0u from={{OTHERS}}u*WIDE piece={{piece}}
            workgroupBarrier();
@}
        }
    }

@for b in 0..COLUMNS/32 {
@for r in 0..EACH {
    acc{{b}}_{{r}} *= p.scale;
@}
@}
    let dk_base = p.dk_offset + probe * p.n * p.dk_row + kv_head * p.dk_head;
    let dv_base = p.dv_offset + probe * p.n * p.dv_row + kv_head * p.dv_head;
@include "frag/attention_store_{{VECTOR}}.wgsl" name=dk base=dk_base row=dk_row width=p.d_head sum=acc
@include "frag/attention_store_{{VECTOR}}.wgsl" name={{DV}} base=dv_base row=dv_row width=p.d_v sum=base
}
