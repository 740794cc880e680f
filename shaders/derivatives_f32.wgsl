// derivatives_f32: the derivative rows of an MLP's activation ({{ACTIVATION}}) under a quadrature.
//
//   pre    [rows, cols]   row i at pre_offset + i pre_stride
//   up     [rows, cols]   the linear branch of a gated MLP, where flags has bit 0
//   nodes  [count]        weight w and alpha of each quadrature point
//   out    [rows, ..]     d = sum of w act'(alpha pre); gated p = sum of w alpha act'(alpha pre) up, and cols elements
//                         behind it q = sum of w act(alpha pre)
//
// Workgroup: {{THREADS}} invocations for a tile of a sheet, {{DEEP}} elements of a column each.
// Accuracy: that of act and act', a few ulp; the sum in the order of the points.

struct Params {
    rows: u32,
    cols: u32,
    pre_offset: u32,
    pre_stride: u32,
    up_offset: u32,
    up_stride: u32,
    out_offset: u32,
    out_stride: u32,
    count: u32,
    flags: u32,
    log_columns: u32,
    column_tiles: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> pre: array<f32>;
@group(0) @binding(2) var<storage, read> up: array<f32>;
@group(0) @binding(3) var<storage, read> nodes: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

const GATED = 1u;

@include "frag/sheet.wgsl"
@include "frag/act_{{ACTIVATION}}.wgsl"

@compute @workgroup_size({{THREADS}})
fn derivatives_f32(
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
        let x = pre[p.pre_offset + row * p.pre_stride + own.column];
        let at = p.out_offset + row * p.out_stride + own.column;
        var slope = 0.0;
        var value = 0.0;
        for (var node = 0u; node < p.count; node++) {
            let point = nodes[node];
            if (p.flags & GATED) != 0u {
                slope = fma(point.x * point.y, act_slope(point.y * x), slope);
                value = fma(point.x, act(point.y * x), value);
            } else {
                slope = fma(point.x, act_slope(point.y * x), slope);
            }
        }
        if (p.flags & GATED) != 0u {
            out[at] = slope * up[p.up_offset + row * p.up_stride + own.column];
            out[at + p.cols] = value;
        } else {
            out[at] = slope;
        }
    }
}
