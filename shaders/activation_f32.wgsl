// activation_f32: y = cap act(x inverse) u, element by element.
//
//   x  [rows, cols]  row i at x_offset + i x_stride
//   u  [rows, cols]  ones without has_u
//   y  [rows, cols]  x itself in the configurations in place
//
// Workgroup: {{THREADS}} invocations for a tile of a sheet, {{DEEP}} elements of a column each.
// Accuracy: that of act_{{ACTIVATION}}, and two roundings; without a cap, cap = inverse = 1 round nothing.

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_stride: u32,
    u_offset: u32,
    u_stride: u32,
    y_offset: u32,
    y_stride: u32,
    cap: f32,
    inverse: f32,
    has_u: u32,
    log_columns: u32,
    column_tiles: u32,
}

@include "frag/params_uniform.wgsl"
@for apart in 0..APART {
@group(0) @binding(1) var<storage, read> x: array<f32>;
@}
@group(0) @binding({{1 + APART}}) var<storage, read_write> y: array<f32>;
@group(0) @binding({{2 + APART}}) var<storage, read> u: array<f32>;

@include "frag/sheet.wgsl"
@include "frag/act_{{ACTIVATION}}.wgsl"

@compute @workgroup_size({{THREADS}})
fn activation_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let own = cell(unit_of(group, groups), thread);
    if own.column >= p.cols {
        return;
    }
    for (var i = 0u; i < {{DEEP}}u; i++) {
        let row = own.row + i * own.step;
        if row >= p.rows {
            return;
        }
        var value = p.cap * act({{X}}[p.x_offset + row * p.x_stride + own.column] * p.inverse);
        if p.has_u != 0u {
            value *= u[p.u_offset + row * p.u_stride + own.column];
        }
        y[p.y_offset + row * p.y_stride + own.column] = value;
    }
}
