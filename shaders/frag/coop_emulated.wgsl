// ---- Squares of f16 that a subgroup multiplies with sums in f32, without cooperative matrices ----
//
// As frag/coop_native.wgsl for adapters that only have f16: each lane holds every LANES-th sum of a square and multiplies
// from workgroup memory; a factor is its place there.
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
        @for i in 0..SIDE*SIDE/LANES {
        sums.sum_{{i}} = fma(
            f32(x_tile[a + d * SIDE + (lane + {{i * LANES}}u) % SIDE]),
            f32(w_tile[b + (lane + {{i * LANES}}u) / SIDE * SIDE + d]),
            sums.sum_{{i}},
        );
        @}
    }
    return sums;
}

fn put(sums: Sums, at: u32, lane: u32) {
    @for i in 0..SIDE*SIDE/LANES {
    bounce[at + lane + {{i * LANES}}u] = sums.sum_{{i}};
    @}
}
