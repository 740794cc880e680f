// activation_tangent_f32: derivatives of activations and gates for the rows of probes, row r rows + i with row i of x.
//
//   x, u            [rows, cols]           u is of ones without bit 0 of flags
//   dx              [probes * rows, cols]
//   du              [probes * rows, cols]  zeros without bit 1
//   dy              [probes * rows, cols]  = act'(x) u dx + act(x) du
//   dv              [probes * rows, cols]  = act(x) dx, with bit 2; in the buffer of dy where the configuration is joint
//
// Workgroup: {{THREADS}} invocations for a tile of a sheet over x, {{PROBES}} probes of one element each.
// Accuracy: that of act_{{ACTIVATION}}, and three roundings.

struct Params {
    rows: u32,
    cols: u32,
    probes: u32,
    x_offset: u32,
    x_stride: u32,
    u_offset: u32,
    u_stride: u32,
    dx_offset: u32,
    dx_stride: u32,
    du_offset: u32,
    du_stride: u32,
    dy_offset: u32,
    dy_stride: u32,
    dv_offset: u32,
    dv_stride: u32,
    flags: u32,
    log_columns: u32,
    column_tiles: u32,
    tiles: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> u: array<f32>;
@group(0) @binding(3) var<storage, read> dx: array<f32>;
@group(0) @binding(4) var<storage, read> du: array<f32>;
@group(0) @binding(5) var<storage, read_write> dy: array<f32>;
@for apart in 0..APART {
@group(0) @binding(6) var<storage, read_write> dv: array<f32>;
@}

const HAS_U = 1u;
const HAS_DU = 2u;
const HAS_DV = 4u;

@include "frag/sheet.wgsl"
@include "frag/act_{{ACTIVATION}}.wgsl"

@compute @workgroup_size({{THREADS}})
fn activation_tangent_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let unit = unit_of(group, groups);
    let own = cell(unit % p.tiles, thread);
    if own.column >= p.cols || own.row >= p.rows {
        return;
    }
    let at = p.x_offset + own.row * p.x_stride + own.column;
    let value = act(x[at]);
    var slope = act_slope(x[at]);
    if (p.flags & HAS_U) != 0u {
        slope *= u[p.u_offset + own.row * p.u_stride + own.column];
    }
    let first = unit / p.tiles * {{PROBES}}u;
    for (var probe = first; probe < min(first + {{PROBES}}u, p.probes); probe++) {
        let row = probe * p.rows + own.row;
        let given = dx[p.dx_offset + row * p.dx_stride + own.column];
        var found = slope * given;
        if (p.flags & HAS_DU) != 0u {
            found = fma(value, du[p.du_offset + row * p.du_stride + own.column], found);
        }
        dy[p.dy_offset + row * p.dy_stride + own.column] = found;
        if (p.flags & HAS_DV) != 0u {
            {{DV}}[p.dv_offset + row * p.dv_stride + own.column] = value * given;
        }
    }
}
