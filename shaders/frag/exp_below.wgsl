// ---- e^(high + low) for high <= 0 and |low| < 0.1, to 2 ulp; 0 below 2^-149 or where subnormals are ----
//
// WGSL lets exp be wrong by 3 + 2 |x| ulp. Here n ln 2 is taken off first, in two parts: 355 / 512 has few
// bits, so that n times it is exact; it is formed in integers, because a compiler may take n out of a
// sum of two multiples of n and add the parts of ln 2. On what is left, |r| <= ln(2) / 2,
// e^r = 1 + r + r^2 P(r) with the polynomial of degree 4 of least relative error, 3.1e-9.
fn exp_below(high: f32, low: f32) -> f32 {
    let least = select(high, -104.0, high < -104.0);
    let n = i32(round((least + low) * 1.442695));
    let r = fma(f32(n), 2.1219444e-4, least - f32(355 * n) * 0.001953125) + low;
    var even = fma(0.0013814544, r, 0.0083687454);
    even = fma(even, r, 0.04166839);
    even = fma(even, r, 0.16666521);
    even = fma(even, r, 0.49999994);
    // 2^n in two factors, each of them normal.
    let half = n / 2;
    let scale = vec2<u32>(vec2<i32>(half, n - half) + 127) << vec2<u32>(23u);
    let factors = bitcast<vec2<f32>>(scale);
    return (fma(r * r, even, r) + 1.0) * factors.x * factors.y;
}
