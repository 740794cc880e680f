@include "frag/unit.wgsl"
@include "frag/act_tanh.wgsl"

// ---- A tile: {{ROWS}} own rows against {{OTHERS}} others ----
//
// Invocation (line, lane) has the own rows line + {{LINES}} r, r < {{EACH}}, side by side in a vec{{EACH}}; of the others line
// lane + 8 c; and of a row's results the quads lane + 8 b.

// A score that no key has, of which nothing may be subtracted but itself or what is larger.
const LEAST = -3.0e38;
// Quads of a line that scores are summed over at a time, and what lies between two lines.
const DEPTH = {{DEPTH/4}}u;
const PITCH = {{DEPTH/4+1}}u;
// Quads of a line of results that are staged at a time.
const WIDE = {{PIECE/4}}u;
// The first of the other lines, of which the own ones come first.
const OTHERS = {{ROWS*(DEPTH/4+1)}}u;

var<workgroup> staged: array<vec4<f32>, {{STAGED}}>;

fn power(x: vec{{EACH}}<f32>) -> vec{{EACH}}<f32> {
    var y = vec{{EACH}}<f32>();
@for r in 0..EACH {
    y[{{r}}] = exp_below(x[{{r}}], 0.0);
@}
    return y;
}

// Scores from dot products.
fn scored(dots: vec{{EACH}}<f32>) -> vec{{EACH}}<f32> {
    let s = p.scale * dots;
    if p.cap > 0.0 {
        let u = s * p.uncap;
        var y = vec{{EACH}}<f32>();
@for r in 0..EACH {
        y[{{r}}] = act(u[{{r}}]);
@}
        return p.cap * y;
    }
    return s;
}
