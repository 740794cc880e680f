@include "frag/logistic.wgsl"

fn act(x: f32) -> f32 {
    return logistic(x).x;
}

fn act_slope(x: f32) -> f32 {
    let s = logistic(x);
    return s.x * s.y;
}
