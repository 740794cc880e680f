// attention_tangent_f32: tangents of attention_forward_f32 along dq, dk and dv, in f32.
//
//   q, k, v, table  as there
//   dq, dk, dv      [probes][m or n rows]
//   dz              [probes][m, heads, d_v]
//
//   dz = sum_j P_j (t_j - sum_i P_i t_i) v_j + P_j dv_j,  t_j = scale (dq . k_j + q . dk_j), times the derivative of the
//   cap where scores are capped; 0 where no key is seen
//
// Workgroup: {{THREADS}} invocations for {{ROWS}} queries of a head and {{COLUMNS}} columns of its dz.
// Workgroup memory: queries, keys and their tangents, or {{PIECE}} columns of values and theirs, and two sets of weights.
// Accuracy: as attention_forward_f32.

@include "frag/attention_params.wgsl"
@group(0) @binding(1) var<storage, read> q: array<{{ELEMENT}}>;
@group(0) @binding(2) var<storage, read> k: array<{{ELEMENT}}>;
@group(0) @binding(3) var<storage, read> v: array<{{ELEMENT}}>;
@group(0) @binding(4) var<storage, read> dq: array<{{ELEMENT}}>;
@group(0) @binding(5) var<storage, read> dk: array<{{ELEMENT}}>;
@group(0) @binding(6) var<storage, read> dv: array<{{ELEMENT}}>;
@group(0) @binding(7) var<storage, read> table: array<u32>;
@group(0) @binding(8) var<storage, read_write> dz: array<{{ELEMENT}}>;

@include "frag/attention_tile.wgsl"
// The lines of the tangents, behind the others'.
const OWN_TANGENTS = {{(ROWS+OTHERS)*(DEPTH/4+1)}}u;
const OTHER_TANGENTS = {{(2*ROWS+OTHERS)*(DEPTH/4+1)}}u;
// The weights of the changes, behind the patterns.
const CHANGES = {{LINES*OTHERS}}u;
var<workgroup> weights: array<vec{{EACH}}<f32>, {{2*LINES*OTHERS}}>;
var<workgroup> best: array<vec{{EACH}}<f32>, {{16*LINES}}>;

@include "frag/attention_slope.wgsl"
@include "frag/attention_copy.wgsl" name=q
@include "frag/attention_copy.wgsl" name=k
@include "frag/attention_copy.wgsl" name=v
@include "frag/attention_copy.wgsl" name=dq
@include "frag/attention_copy.wgsl" name=dk
@include "frag/attention_copy.wgsl" name=dv

@compute @workgroup_size({{THREADS}})
fn attention_tangent_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let unit = unit_of(group, groups);
    if unit >= p.units {
        return;
    }
@include "frag/attention_queries.wgsl"
    let kv_head = head / p.group;
    let q_base = p.q_offset + head * p.q_head;
    let k_base = p.k_offset + kv_head * p.k_head;
    let v_base = p.v_offset + kv_head * p.v_head;
    let dq_base = p.dq_offset + probe * p.m * p.dq_row + head * p.dq_head;
    let dk_base = p.dk_offset + probe * p.n * p.dk_row + kv_head * p.dk_head;
    let dv_base = p.dv_offset + probe * p.n * p.dv_row + kv_head * p.dv_head;
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
            for (var start = 0u; start < p.d_head; start += {{DEPTH}}u) {
                copy_q(thread, 0u, {{ROWS}}u, DEPTH, PITCH, q_base, first, end, start, p.d_head);
                copy_k(thread, OTHERS, {{OTHERS}}u, DEPTH, PITCH, k_base, tile, stop, start, p.d_head);
                copy_dq(thread, OWN_TANGENTS, {{ROWS}}u, DEPTH, PITCH, dq_base, first, end, start, p.d_head);
                copy_dk(thread, OTHER_TANGENTS, {{OTHERS}}u, DEPTH, PITCH, dk_base, tile, stop, start, p.d_head);
                workgroupBarrier();
@include "frag/attention_dot.wgsl" sum=s own_at=0u other_at=OTHERS
@include "frag/attention_dot.wgsl" sum=t own_at=OWN_TANGENTS other_at=OTHERS
@include "frag/attention_dot.wgsl" sum=t own_at=0u other_at=OTHER_TANGENTS
                workgroupBarrier();
            }
@include "frag/attention_shown.wgsl"
@for c in 0..OTHERS/8 {
            t{{c}} = p.scale * t{{c}} * slopes(s{{c}});
            s{{c}} = select(vec{{EACH}}<f32>(LEAST), scored(s{{c}}), shown{{c}});
@}
@include "frag/attention_follow.wgsl"
@for c in 0..OTHERS/8 {
            let w{{c}} = select(vec{{EACH}}<f32>(), power(s{{c}} - top), shown{{c}});
            let change{{c}} = select(vec{{EACH}}<f32>(), w{{c}} * (t{{c}} - centre), shown{{c}});
            total += w{{c}};
            moment += change{{c}};
            weights[{{LINES}}u * (lane + {{8*c}}u) + line] = w{{c}};
            weights[CHANGES + {{LINES}}u * (lane + {{8*c}}u) + line] = change{{c}};
@}
@for piece in 0..COLUMNS/PIECE {
            copy_v(thread, 0u, {{OTHERS}}u, WIDE, WIDE, v_base, tile, stop, {{COLUMNS}}u * chunk + {{PIECE*piece}}u, p.d_v);
            copy_dv(thread, {{OTHERS}}u * WIDE, {{OTHERS}}u, WIDE, WIDE, dv_base, tile, stop, {{COLUMNS}}u * chunk + {{PIECE*piece}}u, p.d_v);
            workgroupBarrier();
@include "frag/attention_add.wgsl" sum=base weights=0u from=0u piece={{piece}}
@include "frag/attention_add.wgsl" sum=acc weights=0u from={{OTHERS}}u*WIDE piece={{piece}}
@include "frag/attention_add.wgsl" sum=acc weights=CHANGES from=0u piece={{piece}}
            workgroupBarrier();
@}
        }
        at = next;
    }

@include "frag/attention_mean.wgsl"
    let z_base = p.z_offset + probe * p.m * p.z_row + head * p.z_head;
@include "frag/attention_store_{{VECTOR}}.wgsl" name=dz base=z_base row=z_row width=p.d_v sum=acc
}
