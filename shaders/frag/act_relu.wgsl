// max(x, 0), with slope 0 at 0. A comparison keeps what is not a number.
fn act(x: f32) -> f32 {
    return select(x, 0.0, x < 0.0);
}

fn act_slope(x: f32) -> f32 {
    return select(0.0, 1.0, x > 0.0);
}
