// probe_sums_f32: rows of one chunk of probes with signs over features: y = S C', S the signs.
//
//   c_t    [features, cols]  C'
//   index  element index_offset of a buffer: the number of the chunk
//   first  element first_offset of a buffer: the number of the block's first sample
//   y      [rows, cols]      rows and kinds ({{FEATURE_SIGNS}}, {{FEATURE_SIGNS_ALL}}, {{SIGNS}}) as in probe_rows_f32
//
// Workgroup: {{THREADS}} invocations, a column each, for {{ROWS}} rows.
// Workgroup memory: {{ROWS}} keys and {{ROWS * FEATURES}} floats.
// Accuracy: one chain of additions over the features in their order.
//
// Pipeline: the keys of the rows, then for each {{FEATURES}} features:
//   1. barrier; every invocation finds four signs
//   2. barrier; every invocation adds the features of its column to its {{ROWS}} sums

@include "frag/probe_params.wgsl"

var<workgroup> keys: array<vec2<u32>, {{ROWS}}>;
var<workgroup> theres: array<u32, {{ROWS}}>;
// [FEATURES][ROWS / 4] quads of rows.
var<workgroup> signs: array<vec4<f32>, {{ROWS * FEATURES / 4}}>;

@include "frag/unit.wgsl"
@include "frag/probe_signs.wgsl"

fn sign_at(r: u32, feature: u32) -> f32 {
    return select(0.0, sign_of(keys[r], vec2<u32>(feature, 0u)), theres[r] != 0u);
}

@compute @workgroup_size({{THREADS}})
fn probe_sums_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let unit = unit_of(group, groups);
    let top = unit / p.column_tiles * {{ROWS}}u;
    if top >= p.rows {
        return;
    }
    let column = unit % p.column_tiles * {{THREADS}}u + thread;
    if thread < {{ROWS}}u {
        let row = top + thread;
        let number = index[p.index_offset] * p.probes + p.first_probe + row / p.n;
        let field = field_of(number, p.first_row + row % p.n);
        keys[thread] = field.key;
        theres[thread] = select(0u, 1u, field.there && row < p.rows);
    }
    @for q in 0..ROWS/4 {
    var sum_{{q}} = vec4<f32>();
    @}
    for (var base = 0u; base < p.features; base += {{FEATURES}}u) {
        workgroupBarrier();
        let r = 4u * (thread % {{ROWS / 4}}u);
        let feature = base + thread / {{ROWS / 4}}u;
        signs[thread] = vec4<f32>(
            sign_at(r, feature),
            sign_at(r + 1u, feature),
            sign_at(r + 2u, feature),
            sign_at(r + 3u, feature),
        );
        workgroupBarrier();
        if column < p.cols {
            for (var i = 0u; i < min({{FEATURES}}u, p.features - base); i++) {
                let c = c_t[(base + i) * p.cols + column];
                @for q in 0..ROWS/4 {
                sum_{{q}} += c * signs[i * {{ROWS / 4}}u + {{q}}u];
                @}
            }
        }
    }
    if column >= p.cols {
        return;
    }
    @for r in 0..ROWS {
    if top + {{r}}u < p.rows {
        y[p.y_offset + (top + {{r}}u) * p.y_stride + column] = sum_{{r / 4}}[{{r % 4}}];
    }
    @}
}
