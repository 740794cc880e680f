// centre_f32: column sums of the differences from the first row, for slabs of {{SLAB}} rows.
//
//   x     [rows, cols]        row i at x_offset + i x_stride
//   first [cols]              row 0 of the whole matrix, at first_offset
//   sums  [slabs][2][cols]    sum over the slab of x[i, c] - first[c], as high + low
//
// A column that never changes has differences, and so sums, of exactly 0.
//
// Workgroup: {{COLUMNS}} columns x {{LANES}} lanes of one slab; lane l has the rows l, l + {{LANES}}, .. of the slab.
// Workgroup memory: {{COLUMNS}} x {{LANES}} pairs.
// Accuracy: differences and their sums are TwoSums, so the relative error of a sum is about 2^-46 of the
// sum of magnitudes. The order of additions is a function of rows alone.

struct Params {
    units: u32,
    column_groups: u32,
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_stride: u32,
    first_offset: u32,
    sums_offset: u32,
    one: f32,
}

@include "frag/params_{{PARAMS}}.wgsl"
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> first: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;

@include "frag/two_sum.wgsl" T=f32

var<workgroup> lanes: array<vec2<f32>, {{COLUMNS * LANES}}>;

@compute @workgroup_size({{COLUMNS}}, {{LANES}})
fn centre_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let unit = group.x + group.y * groups.x;
    if unit >= p.units {
        return;
    }
    let slab = unit / p.column_groups;
    let column = unit % p.column_groups * {{COLUMNS}}u + local.x;

    // ---- each lane: its rows of the slab ----
    var sum = Pair(0.0, 0.0);
    if column < p.cols {
        let origin = first[p.first_offset + column];
        let end = min(p.rows, (slab + 1u) * {{SLAB}}u);
        for (var row = slab * {{SLAB}}u + local.y; row < end; row += {{LANES}}u) {
            let difference = two_sum(x[p.x_offset + row * p.x_stride + column], -origin);
            let total = two_sum(sum.high, difference.high);
            sum = Pair(total.high, sum.low + (total.low + difference.low));
        }
    }
    lanes[local.y * {{COLUMNS}}u + local.x] = vec2<f32>(sum.high, sum.low);
    workgroupBarrier();

    // ---- the first lane: the lanes in order ----
    if local.y == 0u && column < p.cols {
        for (var lane = 1u; lane < {{LANES}}u; lane++) {
            let other = lanes[lane * {{COLUMNS}}u + local.x];
            let total = two_sum(sum.high, other.x);
            sum = Pair(total.high, sum.low + (total.low + other.y));
        }
        sum = two_sum(sum.high, sum.low);
        let at = p.sums_offset + slab * 2u * p.cols + column;
        sums[at] = sum.high;
        sums[at + p.cols] = sum.low;
    }
}
