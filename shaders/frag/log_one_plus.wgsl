// log(1 + f) for -0.3 < f < 0.42, to 2 ulp: s = f / (2 + f), log = f - (f^2/2 - s (f^2/2 + R)), R the series of
// 2 atanh(s) - 2 s divided by s. WGSL lets log be wrong by 2^-21 near 1, where the losses of good predictions lie.
fn log_near(f: f32) -> f32 {
    let s = f / (2.0 + f);
    let z = s * s;
    var r = fma(0.18181818, z, 0.22222222);
    r = fma(r, z, 0.2857143);
    r = fma(r, z, 0.4);
    r = fma(r, z, 0.6666667);
    let half = 0.5 * f * f;
    return f - (half - s * fma(r, z, half));
}

// log(1 + x) for x >= 0. n ln 2 is formed in two parts: 355 / 512 has few bits, so that n times it is exact.
fn log_one_plus(x: f32) -> f32 {
    if x < 0.41421356 {
        return log_near(x);
    }
    let bits = bitcast<u32>(1.0 + x);
    var n = i32(bits >> 23u) - 127;
    var m = bitcast<f32>((bits & 0x7fffffu) | 0x3f800000u);
    if m > 1.4142135 {
        m *= 0.5;
        n += 1;
    }
    return f32(355 * n) * 0.001953125 + fma(f32(n), -2.1219444e-4, log_near(m - 1.0));
}
