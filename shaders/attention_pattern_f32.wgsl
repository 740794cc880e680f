// attention_pattern_f32: the patterns softmax(scores) of attention_forward_f32, in f32.
//
//   q, k, table as there
//   statistics  [3][heads][m], as attention_forward_f32 writes them
//   out         [m heads, longest]: row heads before + h nq + t is the pattern of head h for query t of the nq of a
//               sequence, with `before` queries in earlier ones; 0 on keys that are not seen and behind the sequence
//
// Workgroup: {{THREADS}} invocations for {{ROWS}} queries of a head.
// Workgroup memory: queries and keys.
// Accuracy: as attention_forward_f32, whose scores these are.

@include "frag/attention_params.wgsl"
@group(0) @binding(1) var<storage, read> q: array<{{ELEMENT}}>;
@group(0) @binding(2) var<storage, read> k: array<{{ELEMENT}}>;
@group(0) @binding(3) var<storage, read> table: array<u32>;
@group(0) @binding(4) var<storage, read> statistics: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

@include "frag/attention_tile.wgsl"
@include "frag/attention_copy.wgsl" name=q
@include "frag/attention_copy.wgsl" name=k

@compute @workgroup_size({{THREADS}})
fn attention_pattern_f32(
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
    let note = p.statistics_offset + (probe * 3u * p.heads + head) * p.m;
    var top = vec{{EACH}}<f32>();
    var inverse = vec{{EACH}}<f32>();
@for r in 0..EACH {
    if first + line + {{LINES*r}}u < p.m {
        top[{{r}}] = statistics[note + first + line + {{LINES*r}}u];
        inverse[{{r}}] = statistics[note + p.heads * p.m + first + line + {{LINES*r}}u];
    }
@}

    var at = first;
    while at < end {
@include "frag/attention_sequence.wgsl"
        let before = table[p.table_offset + 3u * p.m + at];
        let behind = table[p.table_offset + 4u * p.m + at];
        let stop = min(begin + p.longest, p.n);
        for (var column = 0u; column < p.longest; column += {{OTHERS}}u) {
            let tile = begin + column;
@for c in 0..OTHERS/8 {
            var s{{c}} = vec{{EACH}}<f32>();
@}
@include "frag/attention_scores.wgsl" sum=s own=q other=k width=d_head
@include "frag/attention_shown.wgsl"
@for c in 0..OTHERS/8 {
            let w{{c}} = select(vec{{EACH}}<f32>(), power(scored(s{{c}}) - top) * inverse, shown{{c}});
@for r in 0..EACH {
            if first + line + {{LINES*r}}u >= at && first + line + {{LINES*r}}u < next && column + lane + {{8*c}}u < p.longest {
                let row = p.heads * before + head * (behind - before) + first + line + {{LINES*r}}u - before;
                out[p.p_offset + row * p.p_row + column + lane + {{8*c}}u] = w{{c}}[{{r}}];
            }
@}
@}
        }
        at = next;
    }
}
