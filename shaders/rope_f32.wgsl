// rope_f32: columns j and j + half of each head, j < half, rotated by the angle of the row's position:
//
//   y_j = x_j cos - x_(j + half) sin,  y_(j + half) = x_(j + half) cos + x_j sin
//
// The columns from 2 half on pass by.
//
//   x, y       [rows] of heads of d_head columns, a pitch apart; x is y in the configuration in place
//   cos, sin   [positions_bound, half]
//   positions  [n]  of row i: number (first + i) % n
//
// Workgroup: {{THREADS}} invocations for a tile of a sheet over [rows, heads * (d_head - half)], {{DEEP}} rows each.
// Accuracy: two roundings.

struct Params {
    rows: u32,
    cols: u32,
    n: u32,
    first: u32,
    d_head: u32,
    half: u32,
    positions_bound: u32,
    positions_offset: u32,
    x_pitch: u32,
    y_pitch: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    sign: f32,
    log_columns: u32,
    column_tiles: u32,
}

@include "frag/params_uniform.wgsl"
@for apart in 0..APART {
@group(0) @binding(1) var<storage, read> x: array<f32>;
@}
@group(0) @binding({{1 + APART}}) var<storage, read_write> y: array<f32>;
@group(0) @binding({{2 + APART}}) var<storage, read> cosines: array<f32>;
@group(0) @binding({{3 + APART}}) var<storage, read> sines: array<f32>;
@group(0) @binding({{4 + APART}}) var<storage, read> positions: array<u32>;

@include "frag/sheet.wgsl"

@compute @workgroup_size({{THREADS}})
fn rope_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let own = cell(unit_of(group, groups), thread);
    if own.column >= p.cols {
        return;
    }
    let head = own.column / (p.d_head - p.half);
    let j = own.column % (p.d_head - p.half);
    for (var i = 0u; i < {{DEEP}}u; i++) {
        let row = own.row + i * own.step;
        if row >= p.rows {
            return;
        }
        let of_x = p.x_offset + row * p.x_stride + head * p.x_pitch + j;
        let to = p.y_offset + row * p.y_stride + head * p.y_pitch + j;
        let right = {{X}}[of_x + p.half];
        if j >= p.half {
            y[to + p.half] = right;
            continue;
        }
        let left = {{X}}[of_x];
        let position = min(positions[p.positions_offset + (p.first + row) % p.n], p.positions_bound - 1u);
        let c = cosines[position * p.half + j];
        let s = p.sign * sines[position * p.half + j];
        y[to] = fma(left, c, -(right * s));
        y[to + p.half] = fma(right, c, left * s);
    }
}
