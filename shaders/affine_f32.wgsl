// affine_f32: y = scale x w + b in f32, or y += it.
//
// Numbers are {{ELEMENT}}, in which all lengths are counted.
//
//   x  [rows, cols]  row i at x_offset + i x_stride; ones without bit 0 of flags
//   w  [cols]        ones without bit 1
//   b  [cols]        zeros without bit 2
//   y  [rows, cols]  added to with bit 3
//
// Workgroup: {{THREADS}} invocations for a tile of a sheet, {{DEEP}} elements of a column each.
// Accuracy: scale x is rounded, then an fma with w and b, then the sum.

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    scale: f32,
    flags: u32,
    log_columns: u32,
    column_tiles: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<{{ELEMENT}}>;
@group(0) @binding(2) var<storage, read> w: array<{{ELEMENT}}>;
@group(0) @binding(3) var<storage, read> b: array<{{ELEMENT}}>;
@group(0) @binding(4) var<storage, read_write> y: array<{{ELEMENT}}>;

const HAS_X = 1u;
const HAS_W = 2u;
const HAS_B = 4u;
const ADDS = 8u;

@include "frag/sheet.wgsl"

@compute @workgroup_size({{THREADS}})
fn affine_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let own = cell(unit_of(group, groups), thread);
    if own.column >= p.cols {
        return;
    }
    var factor = {{ELEMENT}}(1.0);
    if (p.flags & HAS_W) != 0u {
        factor = w[own.column];
    }
    var shift = {{ELEMENT}}();
    if (p.flags & HAS_B) != 0u {
        shift = b[own.column];
    }
    for (var i = 0u; i < {{DEEP}}u; i++) {
        let row = own.row + i * own.step;
        if row >= p.rows {
            return;
        }
        var value = {{ELEMENT}}(p.scale);
        if (p.flags & HAS_X) != 0u {
            value *= x[p.x_offset + row * p.x_stride + own.column];
        }
        if (p.flags & (HAS_W | HAS_B)) != 0u {
            value = fma(value, factor, shift);
        }
        let at = p.y_offset + row * p.y_stride + own.column;
        if (p.flags & ADDS) != 0u {
            value += y[at];
        }
        y[at] = value;
    }
}
