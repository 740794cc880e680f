@include "frag/logistic.wgsl"

// x s, s = 1 / (1 + e^-x); its slope is s (1 + x (1 - s)).
fn act(x: f32) -> f32 {
    return x * logistic(x).x;
}

fn act_slope(x: f32) -> f32 {
    let s = logistic(x);
    return s.x * fma(x, s.y, 1.0);
}
