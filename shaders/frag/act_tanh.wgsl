@include "frag/exp_below.wgsl"

// (1 - e) / (1 + e), e = e^(-2 |x|); below 0.625, where 1 - e would cancel, x + x^3 P(x^2) with the
// polynomial of degree 4 of least relative error, 4.4e-9.
fn act(x: f32) -> f32 {
    let e = exp_below(-2.0 * abs(x), 0.0);
    let far = (1.0 - e) / (1.0 + e);
    let s = x * x;
    var near = fma(-0.0057049845, s, 0.020639084);
    near = fma(near, s, -0.053739715);
    near = fma(near, s, 0.13331442);
    near = fma(near, s, -0.3333328);
    near = fma(near * s, x, x);
    return select(near, select(far, -far, x < 0.0), abs(x) >= 0.625);
}

fn act_slope(x: f32) -> f32 {
    let e = exp_below(-2.0 * abs(x), 0.0);
    let inverse = 1.0 / (1.0 + e);
    return 4.0 * e * inverse * inverse;
}
