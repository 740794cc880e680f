// ---- Comparisons of f32 by their bits, which no compiler may take for numbers that are never NaN or subnormal ----

fn is_nan(bits: u32) -> bool {
    return (bits & 0x7fffffffu) > 0x7f800000u;
}

// Rises with the number; both zeros are 0.
fn order(bits: u32) -> i32 {
    let size = bitcast<i32>(bits & 0x7fffffffu);
    return select(size, -size, bits >> 31u == 1u);
}
