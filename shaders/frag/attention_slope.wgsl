// What capping does to changes of the scores.
fn slopes(dots: vec{{EACH}}<f32>) -> vec{{EACH}}<f32> {
    if p.cap > 0.0 {
        let u = p.scale * dots * p.uncap;
        var slope = vec{{EACH}}<f32>();
@for r in 0..EACH {
        slope[{{r}}] = act_slope(u[{{r}}]);
@}
        return slope;
    }
    return vec{{EACH}}<f32>(1.0);
}
