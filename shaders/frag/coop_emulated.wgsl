// ---- Squares of f16 that a subgroup multiplies with sums in f32, without cooperative matrices ----
//
// As frag/coop_native.wgsl for adapters that only have f16: each lane holds every LANES-th sum of a square and multiplies
// from workgroup memory; a factor is its place there. SIDE divides LANES, so that the sums of a lane are all in one row.
struct Sums {
    @for i in 0..SIDE*SIDE/LANES {
    sum_{{i}}: f32,
    @}
}

fn load_x(at: u32) -> u32 {
    return at;
}

fn load_w(at: u32) -> u32 {
    return at;
}

fn multiply_add(a: u32, b: u32, before: Sums, lane: u32) -> Sums {
    var sums = before;
    for (var d = 0u; d < SIDE; d++) {
        let x = f32(x_tile[a + d * SIDE + lane % SIDE]);
        @for i in 0..SIDE*SIDE/LANES {
        sums.sum_{{i}} = fma(x, f32(w_tile[b + lane / SIDE * SIDE + {{i * LANES}}u + d]), sums.sum_{{i}});
        @}
    }
    return sums;
}

fn put(sums: Sums, at: u32, lane: u32) {
    @for i in 0..SIDE*SIDE/LANES {
    bounce[at + lane + {{i * LANES}}u] = sums.sum_{{i}};
    @}
}
