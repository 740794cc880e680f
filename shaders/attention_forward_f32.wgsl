// attention_forward_f32: z = softmax(scores) v for the heads of packed sequences, in f32.
//
//   q           [m, heads, d_head], k [n, heads / group, d_head], v [n, heads / group, d_v]
//   table       as attention_spans_u32 writes it
//   z           [m, heads, d_v]
//   statistics  [3][heads][m]: where asked, receives the largest score and 1 / sum exp(score - largest) of every query; 0
//               where no key is seen, and so is z
//
// Workgroup: {{THREADS}} invocations for {{ROWS}} queries of a head and {{COLUMNS}} columns of its z.
// Workgroup memory: queries and keys, or {{PIECE}} columns of values, and their weights.
// Accuracy: scores are chains of fma over d_head; an element of z is one chain over the keys, about the largest score so
// far. Against f64: 5e-6. A sequence's results do not depend on what else is packed or asked for.

@include "frag/attention_params.wgsl"
@group(0) @binding(1) var<storage, read> q: array<{{ELEMENT}}>;
@group(0) @binding(2) var<storage, read> k: array<{{ELEMENT}}>;
@group(0) @binding(3) var<storage, read> v: array<{{ELEMENT}}>;
@group(0) @binding(4) var<storage, read> table: array<u32>;
@group(0) @binding(5) var<storage, read_write> z: array<{{ELEMENT}}>;
@group(0) @binding(6) var<storage, read_write> statistics: array<f32>;

@include "frag/attention_tile.wgsl"
var<workgroup> weights: array<vec{{EACH}}<f32>, {{LINES*OTHERS}}>;
var<workgroup> best: array<vec{{EACH}}<f32>, {{8*LINES}}>;

@include "frag/attention_copy.wgsl" name=q
@include "frag/attention_copy.wgsl" name=k
@include "frag/attention_copy.wgsl" name=v

@compute @workgroup_size({{THREADS}})
fn attention_forward_f32(
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
    var top = vec{{EACH}}<f32>(LEAST);
    var total = vec{{EACH}}<f32>();
@include "frag/attention_zero.wgsl" sum=acc

    var at = first;
    while at < end {
@include "frag/attention_sequence.wgsl"
@include "frag/attention_keys.wgsl"
        for (var tile = begin + (lowest - begin) / {{OTHERS}}u * {{OTHERS}}u; tile < stop; tile += {{OTHERS}}u) {
@for c in 0..OTHERS/8 {
            var s{{c}} = vec{{EACH}}<f32>();
@}
@include "frag/attention_scores.wgsl" sum=s own=q other=k width=d_head
@include "frag/attention_shown.wgsl"

            // The largest score so far.
@for c in 0..OTHERS/8 {
            s{{c}} = select(vec{{EACH}}<f32>(LEAST), scored(s{{c}}), shown{{c}});
@}
            var peak = s0;
@for c in 1..OTHERS/8 {
            peak = max(peak, s{{c}});
@}
            best[{{LINES}}u * lane + line] = peak;
            copy_v(thread, 0u, {{OTHERS}}u, WIDE, WIDE, v_base, tile, stop, {{COLUMNS}}u * chunk, p.d_v);
            workgroupBarrier();
            peak = top;
            for (var other = 0u; other < 8u; other++) {
                peak = max(peak, best[{{LINES}}u * other + line]);
            }
            let factor = power(top - peak);
            top = peak;
            total *= factor;
@for b in 0..COLUMNS/32 {
@for r in 0..EACH {
            acc{{b}}_{{r}} *= factor[{{r}}];
@}
@}
@for c in 0..OTHERS/8 {
            let w{{c}} = select(vec{{EACH}}<f32>(), power(s{{c}} - top), shown{{c}});
            total += w{{c}};
            weights[{{LINES}}u * (lane + {{8*c}}u) + line] = w{{c}};
@}
            workgroupBarrier();
@include "frag/attention_add.wgsl" sum=acc weights=0u from=0u piece=0
            workgroupBarrier();
@for piece in 1..COLUMNS/PIECE {
            copy_v(thread, 0u, {{OTHERS}}u, WIDE, WIDE, v_base, tile, stop, {{COLUMNS}}u * chunk + {{PIECE*piece}}u, p.d_v);
            workgroupBarrier();
@include "frag/attention_add.wgsl" sum=acc weights=0u from=0u piece={{piece}}
            workgroupBarrier();
@}
        }
        at = next;
    }

@include "frag/attention_fold.wgsl" x=total
    let absent = top == vec{{EACH}}<f32>(LEAST);
    let inverse = select(1.0 / total, vec{{EACH}}<f32>(), absent);
@for b in 0..COLUMNS/32 {
@for r in 0..EACH {
    acc{{b}}_{{r}} *= inverse[{{r}}];
@}
@}
    let z_base = p.z_offset + head * p.z_head;
@include "frag/attention_store_{{VECTOR}}.wgsl" name=z base=z_base row=z_row width=p.d_v sum=acc
    if p.notes != 0u && chunk == 0u && lane == 0u {
        let note = p.statistics_offset + head * p.m + first + line;
        top = select(top, vec{{EACH}}<f32>(), absent);
@include "frag/attention_note.wgsl" kind=0 value=top
@include "frag/attention_note.wgsl" kind=1 value=inverse
    }
}
