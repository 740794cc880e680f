// probe_rows_f32: rows of one chunk of probes, with one feature each or with the signs themselves.
//
//   c_t    [features, cols]  C'; the identity without has_table
//   index  element index_offset of a buffer: the number of the chunk
//   first  element first_offset of a buffer: the number of the block's first sample
//   y      [rows, cols]      row r n + i is row first_row + i of probe p = index * probes + first_probe + r
//
//   kind {{FEATURE}}  feature p
//   kind {{FEATURE_AT}}  feature p % features, at position p / features
//   kind {{POSITION_SIGNS}}  feature p % features with signs over (sample, position) of source p / features
//   kind {{FEATURE_SIGNS}}  position p / sources with signs over (sample, feature) of source p % sources; C' the identity
//   kind {{FEATURE_SIGNS_ALL}}  every position, signs over (sample, position, feature) of source p % sources; likewise
//   kind {{SIGNS}}  the same of source p
//
// A feature's row is that of c_t; from p = count on, and where a probe has nothing, the row is 0.
//
// Workgroup: {{THREADS}} invocations for a tile of a sheet, {{DEEP}} elements of a column each.
// Accuracy: exact.

@include "frag/probe_params.wgsl"

@include "frag/sheet.wgsl"
@include "frag/probe_signs.wgsl"

fn entry(feature: u32, column: u32) -> f32 {
    if p.has_table == 0u {
        return select(0.0, 1.0, feature == column);
    }
    return c_t[feature * p.cols + column];
}

fn element(row: u32, column: u32) -> f32 {
    let number = index[p.index_offset] * p.probes + p.first_probe + row / p.n;
    let inside = p.first_row + row % p.n;
    if number >= p.count {
        return 0.0;
    }
    if p.kind == {{FEATURE}}u {
        return entry(number, column);
    }
    let t = inside % p.positions;
    if p.kind == {{FEATURE_AT}}u {
        if t != number / p.features {
            return 0.0;
        }
        return entry(number % p.features, column);
    }
    if p.kind == {{POSITION_SIGNS}}u {
        let key = key_of(number / p.features, inside, t);
        return sign_of(key, vec2<u32>(0xffffffffu)) * entry(number % p.features, column);
    }
    let field = field_of(number, inside);
    if !field.there {
        return 0.0;
    }
    return sign_of(field.key, vec2<u32>(column, 0u));
}

@compute @workgroup_size({{THREADS}})
fn probe_rows_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let own = cell(unit_of(group, groups), thread);
    if own.column >= p.cols {
        return;
    }
    for (var k = 0u; k < {{DEEP}}u; k++) {
        let row = own.row + k * own.step;
        if row >= p.rows {
            return;
        }
        y[p.y_offset + row * p.y_stride + own.column] = element(row, own.column);
    }
}
