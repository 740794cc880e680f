// attention_queries_f32: cotangents of the queries of attention_forward_f32, from those of z, and what attention_keys_f32
// has to know of each query, in f32.
//
//   q, k, v, table  as there
//   dz              [probes][m, heads, d_v]
//   dq              [probes][m, heads, d_head]
//   statistics      [probes][3][heads][m]: receives the largest score, 1 / sum exp(score - largest) and D of every query; 0
//                   where no key is seen, and so is dq
//
//   dq = scale sum_j P_j (t_j - D) c_j k_j,  t_j = dz . v_j,  D = sum_j P_j t_j,  c_j the derivative of the cap, 1 where
//   scores are not capped
//
// Workgroup: {{THREADS}} invocations for {{ROWS}} queries of a head and {{COLUMNS}} columns of its dq.
// Workgroup memory: queries and keys, dz and values, or {{PIECE}} columns of keys, and two sets of weights.
// Accuracy: as attention_forward_f32.

@include "frag/attention_params.wgsl"
@group(0) @binding(1) var<storage, read> q: array<{{ELEMENT}}>;
@group(0) @binding(2) var<storage, read> k: array<{{ELEMENT}}>;
@group(0) @binding(3) var<storage, read> v: array<{{ELEMENT}}>;
@group(0) @binding(4) var<storage, read> z: array<{{ELEMENT}}>;
@group(0) @binding(5) var<storage, read> table: array<u32>;
@group(0) @binding(6) var<storage, read_write> dq: array<{{ELEMENT}}>;
@group(0) @binding(7) var<storage, read_write> statistics: array<f32>;

@include "frag/attention_tile.wgsl"
// The weights of the changes, behind the patterns.
const CHANGES = {{LINES*OTHERS}}u;
var<workgroup> weights: array<vec{{EACH}}<f32>, {{2*LINES*OTHERS}}>;
var<workgroup> best: array<vec{{EACH}}<f32>, {{16*LINES}}>;

@include "frag/attention_slope.wgsl"
@include "frag/attention_copy.wgsl" name=q
@include "frag/attention_copy.wgsl" name=k
@include "frag/attention_copy.wgsl" name=v
@include "frag/attention_copy.wgsl" name=z

@compute @workgroup_size({{THREADS}})
fn attention_queries_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let unit = unit_of(group, groups);
    if unit >= p.units {
        return;
    }
@include "frag/attention_queries.wgsl"
    let q_base = p.q_offset + head * p.q_head;
    let k_base = p.k_offset + head / p.group * p.k_head;
    let v_base = p.v_offset + head / p.group * p.v_head;
    let z_base = p.z_offset + probe * p.m * p.z_row + head * p.z_head;
    var top = vec{{EACH}}<f32>(LEAST);
    var total = vec{{EACH}}<f32>();
    var centre = vec{{EACH}}<f32>();
    var moment = vec{{EACH}}<f32>();
@include "frag/attention_zero.wgsl" sum=acc
@include "frag/attention_zero.wgsl" sum=base

    var at = first;
    while at < end {
@include "frag/attention_sequence.wgsl"
@include "frag/attention_keys.wgsl"
        for (var tile = begin + (lowest - begin) / {{OTHERS}}u * {{OTHERS}}u; tile < stop; tile += {{OTHERS}}u) {
@for c in 0..OTHERS/8 {
            var s{{c}} = vec{{EACH}}<f32>();
            var t{{c}} = vec{{EACH}}<f32>();
@}
@include "frag/attention_scores.wgsl" sum=s own=q other=k width=d_head
@include "frag/attention_scores.wgsl" sum=t own=z other=v width=d_v
@include "frag/attention_shown.wgsl"
@for c in 0..OTHERS/8 {
            let slope{{c}} = slopes(s{{c}});
            s{{c}} = select(vec{{EACH}}<f32>(LEAST), scored(s{{c}}), shown{{c}});
@}
@include "frag/attention_follow.wgsl"
@for c in 0..OTHERS/8 {
            let w{{c}} = select(vec{{EACH}}<f32>(), power(s{{c}} - top), shown{{c}});
            let change{{c}} = select(vec{{EACH}}<f32>(), w{{c}} * (t{{c}} - centre), shown{{c}});
            total += w{{c}};
            moment += change{{c}};
            weights[{{LINES}}u * (lane + {{8*c}}u) + line] = w{{c}} * slope{{c}};
            weights[CHANGES + {{LINES}}u * (lane + {{8*c}}u) + line] = change{{c}} * slope{{c}};
@}
@for piece in 0..COLUMNS/PIECE {
            copy_k(thread, 0u, {{OTHERS}}u, WIDE, WIDE, k_base, tile, stop, {{COLUMNS}}u * chunk + {{PIECE*piece}}u, p.d_head);
            workgroupBarrier();
@include "frag/attention_add.wgsl" sum=base weights=0u from=0u piece={{piece}}
@include "frag/attention_add.wgsl" sum=acc weights=CHANGES from=0u piece={{piece}}
            workgroupBarrier();
@}
        }
        at = next;
    }

@include "frag/attention_mean.wgsl"
@for b in 0..COLUMNS/32 {
@for r in 0..EACH {
    acc{{b}}_{{r}} *= p.scale;
@}
@}
    let dq_base = p.dq_offset + probe * p.m * p.dq_row + head * p.dq_head;
@include "frag/attention_store_{{VECTOR}}.wgsl" name=dq base=dq_base row=dq_row width=p.d_head sum=acc
    if chunk == 0u && lane == 0u {
        let note = p.statistics_offset + (probe * 3u * p.heads + head) * p.m + first + line;
        top = select(top, vec{{EACH}}<f32>(), absent);
        centre = select(centre + mean, vec{{EACH}}<f32>(), absent);
@include "frag/attention_note.wgsl" kind=0 value=top
@include "frag/attention_note.wgsl" kind=1 value=inverse
@include "frag/attention_note.wgsl" kind=2 value=centre
    }
}
