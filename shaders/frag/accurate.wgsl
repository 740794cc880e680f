// ---- 1 / sqrt(x) for normal x > 0, to 2 ulp ----
//
// WGSL lets inverseSqrt be wrong by 2 ulp and more on some adapters; a step of Newton's iteration takes that away.
fn inverse_root(x: f32) -> f32 {
    let r = inverseSqrt(x);
    return fma(0.5 * r, fma(-x * r, r, 1.0), r);
}
