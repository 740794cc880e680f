// gram_fold_f32: the sums over slabs of the partial tiles of gram_f32, where they are pairs high + low.
//
//   partials [slabs][tiles][2][tile][tile]   of the tiles first_tile .. first_tile + tiles of the lower triangle
//   m2       [cols, cols]                    row i at m2_offset + i m2_stride; zeros above the diagonal
//
// Workgroup: {{THREADS}} invocations for as many elements of a tile.
// Accuracy: the slabs are added in their order as pairs, which lose nothing above 2^-48 where TwoSum is exact; the sum is
// rounded once.

struct Params {
    cols: u32,
    tile: u32,
    first_tile: u32,
    tiles: u32,
    slabs: u32,
    m2_offset: u32,
    m2_stride: u32,
    one: f32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> m2: array<f32>;

@include "frag/unit.wgsl"
@include "frag/two_sum.wgsl" T=f32
@include "frag/tile_row.wgsl"

@compute @workgroup_size({{THREADS}})
fn gram_fold_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let unit = unit_of(group, groups);
    let size = p.tile * p.tile;
    let parts = size / {{THREADS}}u;
    let t = unit / parts;
    if t >= p.tiles {
        return;
    }
    let element = unit % parts * {{THREADS}}u + thread;
    let ti = tile_row(p.first_tile + t);
    let tj = p.first_tile + t - ti * (ti + 1u) / 2u;
    let row = ti * p.tile + element / p.tile;
    let column = tj * p.tile + element % p.tile;
    if row >= p.cols || column > row {
        return;
    }
    var sum = Pair(0.0, 0.0);
    for (var slab = 0u; slab < p.slabs; slab++) {
        let at = (slab * p.tiles + t) * 2u * size + element;
        let total = two_sum(sum.high, partials[at]);
        sum = Pair(total.high, sum.low + (total.low + partials[at + size]));
    }
    if column < row {
        m2[p.m2_offset + column * p.m2_stride + row] = 0.0;
    }
    m2[p.m2_offset + row * p.m2_stride + column] = sum.high + sum.low;
}
