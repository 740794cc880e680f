// edges_rank_one_f32: the sum over the tokens t of a slab of f_tj^2 (s_t z1_ji + z0_ji + g_t l_tj y_ti)^2.
//
//   f         [n, k_in]      row t at f_offset + t f_stride
//   s, g      [n]            s_stride and g_stride apart
//   l         [n, k_in]      l_stride 0: one row for all tokens
//   y         [n, k_out]     likewise
//   z1, z0    [k_in, k_out]  row j at j z_stride
//   partials  [slabs][k_out, k_in]
//
// Workgroup: SIDE x SIDE invocations for a tile of 4 SIDE outputs i by 4 SIDE inputs j, 4 x 4 of them each.
// Workgroup memory: none.
// Accuracy: the squares of {{TOKENS}} tokens are added, and those sums carried as high + low.

struct Params {
    units: u32,
    tiles: u32,
    column_tiles: u32,
    n: u32,
    k_in: u32,
    k_out: u32,
    f_offset: u32,
    f_stride: u32,
    s_offset: u32,
    s_stride: u32,
    g_offset: u32,
    g_stride: u32,
    l_offset: u32,
    l_stride: u32,
    y_offset: u32,
    y_stride: u32,
    z_stride: u32,
    slab_tokens: u32,
    one: f32,
    zero: f32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> f: array<{{ELEMENT}}>;
@group(0) @binding(2) var<storage, read> s: array<f32>;
@group(0) @binding(3) var<storage, read> g: array<f32>;
@group(0) @binding(4) var<storage, read> l: array<{{ELEMENT}}>;
@group(0) @binding(5) var<storage, read> y: array<{{ELEMENT}}>;
@group(0) @binding(6) var<storage, read> z1: array<f32>;
@group(0) @binding(7) var<storage, read> z0: array<f32>;
@group(0) @binding(8) var<storage, read_write> partials: array<f32>;

override SIDE: u32 = 8u;

@include "frag/unit.wgsl"
@include "frag/add_up.wgsl" T=vec4<f32>
@include "frag/quad_{{VECTOR}}.wgsl" name=f
@include "frag/quad_{{VECTOR}}.wgsl" name=l
@include "frag/quad_{{VECTOR}}.wgsl" name=y

@compute @workgroup_size(SIDE, SIDE)
fn edges_rank_one_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let number = unit_of(group, groups);
    if number >= p.units {
        return;
    }
    let tile = number % p.tiles;
    let slab = number / p.tiles;
    let i = (tile / p.column_tiles * SIDE + local.y) * 4u;
    let j = (tile % p.column_tiles * SIDE + local.x) * 4u;
    let end = min(p.n, (slab + 1u) * p.slab_tokens);

    // Columns of z1 and z0.
    @for i in 0..4 {
    var one_{{i}} = vec4<f32>();
    var zero_{{i}} = vec4<f32>();
    if i + {{i}}u < p.k_out {
        for (var c = 0u; c < 4u && j + c < p.k_in; c++) {
            one_{{i}}[c] = z1[(j + c) * p.z_stride + i + {{i}}u];
            zero_{{i}}[c] = z0[(j + c) * p.z_stride + i + {{i}}u];
        }
    }
    var total_{{i}} = Pair(vec4<f32>(), vec4<f32>());
    @}
    for (var first = slab * p.slab_tokens; first < end; first += {{TOKENS}}u) {
        @for i in 0..4 {
        var square_{{i}} = vec4<f32>(p.zero);
        @}
        for (var t = first; t < min(end, first + {{TOKENS}}u); t++) {
            let weight = f_quad(t, j, p.n, p.k_in);
            let scale = vec4<f32>(s[p.s_offset + t * p.s_stride]);
            let across = g[p.g_offset + t * p.g_stride] * l_quad(t, j, p.n, p.k_in);
            let along = y_quad(t, i, p.n, p.k_out);
            @for i in 0..4 {
            let edge_{{i}} = weight * fma(across, vec4<f32>(along[{{i}}]), fma(scale, one_{{i}}, zero_{{i}}));
            square_{{i}} = fma(edge_{{i}}, edge_{{i}}, square_{{i}});
            @}
        }
        @for i in 0..4 {
        total_{{i}} = add_up(total_{{i}}, square_{{i}});
        @}
    }

    @for i in 0..4 {
    if i + {{i}}u < p.k_out {
        let sum = total_{{i}}.high + total_{{i}}.low;
        for (var c = 0u; c < 4u && j + c < p.k_in; c++) {
            partials[(slab * p.k_out + i + {{i}}u) * p.k_in + j + c] = sum[c];
        }
    }
    @}
}
