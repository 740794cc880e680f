// gather_f32: y[j] = x[chosen[j]], for each probe.
//
//   x       [probes][n, cols]
//   chosen  [m]                each below n
//   y       [rows, cols]       rows = probes * m
//
// Workgroup: {{THREADS}} invocations for a tile of a sheet, {{DEEP}} elements of a column each.
// Accuracy: exact.

struct Params {
    rows: u32,
    cols: u32,
    m: u32,
    n: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    chosen_offset: u32,
    log_columns: u32,
    column_tiles: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> chosen: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@include "frag/sheet.wgsl"

@compute @workgroup_size({{THREADS}})
fn gather_f32(
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
        // A number that is none of the probe's rows must not lead out of the binding.
        let source = row / p.m * p.n + min(chosen[p.chosen_offset + row % p.m], p.n - 1u);
        y[p.y_offset + row * p.y_stride + own.column] = x[p.x_offset + source * p.x_stride + own.column];
    }
}
