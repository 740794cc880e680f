// ---- Squares of f16 that a subgroup multiplies with sums in f32, without cooperative matrices ----
//
// As frag/coop_native.wgsl for adapters that only have f16: each lane holds every LANES-th sum of a square and multiplies
// from workgroup memory; a factor is its place there.
struct Sums {
    of: array<f32, {{SIDE * SIDE / LANES}}>,
}

fn load_x(at: u32) -> u32 {
    return at;
}

fn load_w(at: u32) -> u32 {
    return at;
}

fn multiply_add(a: u32, b: u32, before: Sums, lane: u32) -> Sums {
    var sums = before;
    for (var i = 0u; i < SQUARE / LANES; i++) {
        let row = (lane + i * LANES) % SIDE;
        let column = (lane + i * LANES) / SIDE;
        var sum = sums.of[i];
        for (var d = 0u; d < SIDE; d++) {
            sum = fma(f32(x_tile[a + d * SIDE + row]), f32(w_tile[b + column * SIDE + d]), sum);
        }
        sums.of[i] = sum;
    }
    return sums;
}

fn put(sums: Sums, at: u32, lane: u32) {
    for (var i = 0u; i < SQUARE / LANES; i++) {
        bounce[at + lane + i * LANES] = sums.of[i];
    }
}
