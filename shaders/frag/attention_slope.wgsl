// What capping does to changes of the scores.
fn slopes(dots: vec4<f32>) -> vec4<f32> {
    if p.cap > 0.0 {
        let u = p.scale * dots * p.uncap;
        return vec4<f32>(act_slope(u.x), act_slope(u.y), act_slope(u.z), act_slope(u.w));
    }
    return vec4<f32>(1.0);
}
