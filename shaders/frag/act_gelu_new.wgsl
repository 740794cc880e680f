@include "frag/logistic.wgsl"

// x/2 (1 + tanh u) = x s(2 u), u = sqrt(2/pi) (x + 0.044715 x^3), s the logistic function: no
// cancellation for negative x. 2 u is rounded, which costs the far negative tail |2 u| ulp.
fn twice_inner(x: f32) -> f32 {
    return 1.5957692 * x * fma(0.044715 * x, x, 1.0);
}

fn act(x: f32) -> f32 {
    return x * logistic(twice_inner(x)).x;
}

// s + x s (1 - s) 2 u'; s (1 - s) is 0 long before |x| = 30, where x^3 is still far from overflow.
fn act_slope(x: f32) -> f32 {
    let s = logistic(twice_inner(x));
    let near = clamp(x, -30.0, 30.0);
    let slope = 1.5957692 * fma(0.134145 * near, near, 1.0);
    return fma(near * s.x, s.y * slope, s.x);
}
