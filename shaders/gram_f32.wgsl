// gram_f32: lower-triangular tiles of (x - mean)'(x - mean), one set for each slab of rows.
//
//   x        [rows, cols]                        row i at x_offset + i x_stride
//   mean     [2][cols]                           as high + low
//   partials [slabs][tiles][{{PLANES}}][TILE][TILE]   sums over the slab; {{PLANES}} = 2: as high + low
//
// Tile t of the lower triangle is row ti and column tj of tiles, t = ti (ti + 1) / 2 + tj; a launch has
// the tiles first_tile .. first_tile + tiles. Every element of a partial tile is written: those outside
// the matrix are 0.
//
// Workgroup: SIDE x SIDE invocations for a tile of TILE = 4 SIDE rows and columns, 4 x 4 elements each.
// Workgroup memory: {{2 * PLANES * DEPTH}} TILE floats.
// Accuracy of a slab of n rows, relative to the sum of magnitudes:
//   {{PLANES}} = 2: x - mean, products and sums are carried as high + low; n 20 2^-48 where TwoSum and
//               TwoProduct are exact
//   {{PLANES}} = 1: n 2^-24
// Every element is summed in the order of rows, whatever the tile.
//
// Pipeline, for each {{DEPTH}} rows:
//   1. every invocation copies quads of x - mean for the rows and, off the diagonal, the columns of the tile
//   2. barrier
//   3. for each row: 16 products into 16 sums
//   4. high + low are put in order; barrier

struct Params {
    units: u32,
    tiles: u32,
    first_tile: u32,
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_stride: u32,
    slab_rows: u32,
    one: f32,
    zero: f32,
}

@include "frag/params_{{PARAMS}}.wgsl"
@group(0) @binding(1) var<storage, read> x: array<{{ELEMENT}}>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<vec4<f32>>;

override SIDE: u32 = 8u;
override THREADS: u32 = SIDE * SIDE;
const DEPTH = {{DEPTH}}u;

// [rows of the tile, columns of the tile][DEPTH][SIDE] quads.
var<workgroup> tile_high: array<vec4<f32>, 2u * DEPTH * SIDE>;
@for pair in 1..PLANES {
var<workgroup> tile_low: array<vec4<f32>, 2u * DEPTH * SIDE>;
@}

@include "frag/two_sum.wgsl" T=vec4<f32>
@for pair in 1..PLANES {
@include "frag/two_product_{{PRODUCT}}.wgsl" T=vec4<f32> BITS=vec4<u32>
@include "frag/add_product.wgsl" T=vec4<f32>
@}
@include "frag/quad_{{VECTOR}}.wgsl" name=x

// Four columns of a plane of the mean; zeros beyond the last.
fn mean_quad(plane: u32, column: u32) -> vec4<f32> {
    var quad = vec4<f32>();
    for (var c = 0u; c < 4u; c++) {
        if column + c < p.cols {
            quad[c] = mean[plane * p.cols + column + c];
        }
    }
    return quad;
}

// Copies DEPTH rows of x - mean from row `top` on, the columns from `column` on in steps of quads, to
// the half of the tile that starts at `half`.
fn stage(half: u32, thread: u32, top: u32, end: u32, column: u32, centre: Pair) {
    // All quads of an invocation lie in the same columns.
    for (var item = thread; item < DEPTH * SIDE; item += THREADS) {
        let row = top + item / SIDE;
        var centred = Pair(vec4<f32>(), vec4<f32>());
        if row < end {
            let difference = two_sum(x_quad(row, column, p.rows, p.cols), -centre.high);
            // The low part of a large mean may exceed that of a small difference.
            centred = two_sum(difference.high, difference.low - centre.low);
        }
        tile_high[half + item] = centred.high;
        @for pair in 1..PLANES {
        tile_low[half + item] = centred.low;
        @}
    }
}

@include "frag/tile_row.wgsl"

@compute @workgroup_size(SIDE, SIDE)
fn gram_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let unit = group.x + group.y * groups.x;
    if unit >= p.units {
        return;
    }
    let t = p.first_tile + unit % p.tiles;
    let ti = tile_row(t);
    let tj = t - ti * (ti + 1u) / 2u;
    let slab = unit / p.tiles;
    let end = min(p.rows, (slab + 1u) * p.slab_rows);

    // The quad of columns that this invocation stages, of the tile's rows and of its columns.
    let row_column = 4u * (ti * SIDE + thread % SIDE);
    let column_column = 4u * (tj * SIDE + thread % SIDE);
    let row_centre = Pair(mean_quad(0u, row_column), mean_quad(1u, row_column));
    let column_centre = Pair(mean_quad(0u, column_column), mean_quad(1u, column_column));
    // On the diagonal rows and columns are the same.
    let columns = select(DEPTH * SIDE, 0u, ti == tj);

    @for i in 0..4 {
    var sum_{{i}} = Pair(vec4<f32>(), vec4<f32>());
    @}

    for (var top = slab * p.slab_rows; top < end; top += DEPTH) {
        stage(0u, thread, top, end, row_column, row_centre);
        if ti != tj {
            stage(columns, thread, top, end, column_column, column_centre);
        }
        workgroupBarrier();

        for (var d = 0u; d < DEPTH; d++) {
            let a = tile_high[d * SIDE + local.y];
            let b = tile_high[columns + d * SIDE + local.x];
            @for short in 0..2-PLANES {
            @for i in 0..4 {
            sum_{{i}}.high = fma(vec4<f32>(a[{{i}}]), b, sum_{{i}}.high);
            @}
            @}
            @for pair in 1..PLANES {
            let a_low = tile_low[d * SIDE + local.y];
            let b_low = tile_low[columns + d * SIDE + local.x];
            @for i in 0..4 {
            sum_{{i}} = add_product(sum_{{i}}, Pair(vec4<f32>(a[{{i}}]), vec4<f32>(a_low[{{i}}])), Pair(b, b_low));
            @}
            @}
        }
        @for pair in 1..PLANES {
        @for i in 0..4 {
        sum_{{i}} = two_sum(sum_{{i}}.high, sum_{{i}}.low);
        @}
        @}
        workgroupBarrier();
    }

    let at = (unit * {{PLANES}}u * 4u * SIDE + 4u * local.y) * SIDE + local.x;
    @for i in 0..4 {
    partials[at + {{i}}u * SIDE] = sum_{{i}}.high;
    @for pair in 1..PLANES {
    partials[at + (4u * SIDE + {{i}}u) * SIDE] = sum_{{i}}.low;
    @}
    @}
}
