@include "frag/exp_below.wgsl"

// (s, 1 - s) for s = 1 / (1 + e^-x), neither by cancellation.
fn logistic(x: f32) -> vec2<f32> {
    let e = exp_below(-abs(x), 0.0);
    let larger = 1.0 / (1.0 + e);
    let both = vec2<f32>(larger, e * larger);
    return select(both, both.yx, x < 0.0);
}
