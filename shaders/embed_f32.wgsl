// embed_f32: y = scale W_E[token] + W_pos[position] + row, of the parts that flags asks for, added in this order.
//
//   tokens     [rows]                    rows of y whose token is not bound are left alone
//   positions  [rows]                    with bit 3 of flags; row i has the position i % seq otherwise
//   w_e        [tokens_bound, cols]      from token first_token on; with bit 0. f32 ({{TABLE}}: wide), or two elements a word
//                                        (half), f16 or with bit 4 bf16
//   w_pos      [positions_bound, cols]   with bit 1
//   extra      [cols]                    the row, with bit 2
//   y          [rows, cols]
//
// Workgroup: {{THREADS}} invocations for a tile of a sheet, {{DEEP}} elements of a column each.
// Accuracy: one rounding for each product and sum.

struct Params {
    rows: u32,
    cols: u32,
    seq: u32,
    first_token: u32,
    tokens_bound: u32,
    positions_bound: u32,
    tokens_offset: u32,
    positions_offset: u32,
    w_e_offset: u32,
    y_offset: u32,
    y_stride: u32,
    scale: f32,
    flags: u32,
    log_columns: u32,
    column_tiles: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> tokens: array<u32>;
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read> w_e: array<{{W_E_ELEMENT}}>;
@group(0) @binding(4) var<storage, read> w_pos: array<f32>;
@group(0) @binding(5) var<storage, read> extra: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

const HAS_TOKEN = 1u;
const HAS_POSITION = 2u;
const HAS_ROW = 4u;
const LISTED = 8u;
const BRAIN = 16u;

@include "frag/sheet.wgsl"
@include "frag/element_{{TABLE}}.wgsl" name=w_e

@compute @workgroup_size({{THREADS}})
fn embed_f32(
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
        var value = 0.0;
        if (p.flags & HAS_TOKEN) != 0u {
            // Wraps around below the first.
            let token = tokens[p.tokens_offset + row] - p.first_token;
            if token >= p.tokens_bound {
                continue;
            }
            value = p.scale * w_e_element(p.w_e_offset + token * p.cols + own.column);
        }
        if (p.flags & HAS_POSITION) != 0u {
            var position = row % p.seq;
            if (p.flags & LISTED) != 0u {
                position = positions[p.positions_offset + row];
            }
            value += w_pos[min(position, p.positions_bound - 1u) * p.cols + own.column];
        }
        if (p.flags & HAS_ROW) != 0u {
            value += extra[own.column];
        }
        y[p.y_offset + row * p.y_stride + own.column] = value;
    }
}
