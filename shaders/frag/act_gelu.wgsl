@include "frag/exp_below.wgsl"

// (e^(-t^2/2), Phi(-t)) for t >= 0, Phi the normal distribution function.
//
// t^2 is taken as h^2 + (t - h)(t + h), h the 12 leading bits of t, so that the exponent is not rounded.
// Phi(-t) = e^(-t^2/2) G(q) / (1 + 2 t), q = (t - 2.5) / (t + 2.5), G the polynomial of degree 10 of least
// relative error for t <= 13.5, 3.3e-9; from 15 on both are 0. In f32 arithmetic the ratio of the two
// is within 2.8e-7, measured over 20001 points of 0 .. 13.2.
fn normal_tail(t: f32) -> vec2<f32> {
    let near = select(t, 15.0, t > 15.0);
    let head = bitcast<f32>(bitcast<u32>(near) & 0xfffff000u);
    let e = exp_below(-0.5 * head * head, -0.5 * (near - head) * (near + head));
    let q = (near - 2.5) / (near + 2.5);
    var g = fma(-0.0001530561, q, -0.00047948954);
    g = fma(g, q, 0.00019435518);
    g = fma(g, q, 0.0028887722);
    g = fma(g, q, 0.001746014);
    g = fma(g, q, -0.015049256);
    g = fma(g, q, -0.012275886);
    g = fma(g, q, 0.11667554);
    g = fma(g, q, -0.18856905);
    g = fma(g, q, 0.044894792);
    g = fma(g, q, 0.847988);
    return vec2<f32>(e, e * g / fma(2.0, near, 1.0));
}

// x Phi(x).
fn act(x: f32) -> f32 {
    let tail = normal_tail(abs(x)).y;
    return x * select(1.0 - tail, tail, x < 0.0);
}

// Phi(x) + x phi(x), phi(x) = e^(-x^2/2) / sqrt(2 pi).
fn act_slope(x: f32) -> f32 {
    let t = normal_tail(abs(x));
    return fma(clamp(x, -30.0, 30.0) * 0.3989423, t.x, select(1.0 - t.y, t.y, x < 0.0));
}
