// chunk_f32: the rows of one chunk of probes or rows.
//
//   index  element index_offset of a buffer: the number of the chunk
//   y      [rows, cols], rows of probe first_probe and the next, n each; for row r n + i of them, with row
//          t = first_row + i of the whole_n of probe first_probe + r, and p = index * probes + first_probe + r:
//
//   form 0, masks      x [n, cols], table [count, cols]: x[i, c] table[p, c], 0 from p = count on
//   form 1, features   x [n, count], table [count, cols]: x[i, p] table[p, c], 0 from p = count on
//   form 2, rows       x [count, cols], one probe: row index * whole_n + t of x, 0 from row `count` on
//   form 3, basis      1 in the column of the probe, 0 elsewhere, and from row index * whole_n + t = count on
//
// Workgroup: {{THREADS}} invocations for a tile of a sheet, {{DEEP}} elements of a column each.
// Accuracy: one rounding.

struct Params {
    rows: u32,
    cols: u32,
    n: u32,
    first_row: u32,
    first_probe: u32,
    whole_n: u32,
    probes: u32,
    count: u32,
    form: u32,
    index_offset: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    log_columns: u32,
    column_tiles: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read> index: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@include "frag/sheet.wgsl"

fn element(row: u32, column: u32) -> f32 {
    let chunk = index[p.index_offset];
    let i = row % p.n;
    let probe = p.first_probe + row / p.n;
    if p.form >= 2u {
        let there = chunk * p.whole_n + p.first_row + i;
        if there >= p.count {
            return 0.0;
        }
        if p.form == 3u {
            return select(0.0, 1.0, column == probe);
        }
        return x[p.x_offset + there * p.x_stride + column];
    }
    let number = chunk * p.probes + probe;
    if number >= p.count {
        return 0.0;
    }
    let chosen = select(column, number, p.form == 1u);
    return x[p.x_offset + i * p.x_stride + chosen] * table[number * p.cols + column];
}

@compute @workgroup_size({{THREADS}})
fn chunk_f32(
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
