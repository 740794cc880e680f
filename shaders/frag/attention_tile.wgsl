@include "frag/unit.wgsl"
@include "frag/act_tanh.wgsl"

// ---- A tile: {{ROWS}} own rows against {{OTHERS}} others ----
//
// Invocation (line, lane) has the own rows line + 8 r, r < 4, side by side in a vec4; of the others line lane + 8 c; and of
// a row's results the quads lane + 8 b.

// A score that no key has, of which nothing may be subtracted but itself or what is larger.
const LEAST = -3.0e38;
// Quads of a line that scores are summed over at a time, and what lies between two lines.
const DEPTH = {{DEPTH/4}}u;
const PITCH = {{DEPTH/4+1}}u;
// Quads of a line of results.
const WIDE = {{COLUMNS/4}}u;
// The first of the other lines, of which the own ones come first.
const OTHERS = {{ROWS*(DEPTH/4+1)}}u;

var<workgroup> staged: array<vec4<f32>, {{STAGED}}>;

fn power(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(exp_below(x.x, 0.0), exp_below(x.y, 0.0), exp_below(x.z, 0.0), exp_below(x.w, 0.0));
}

// Scores from dot products.
fn scored(dots: vec4<f32>) -> vec4<f32> {
    let s = p.scale * dots;
    if p.cap > 0.0 {
        let u = s * p.uncap;
        return p.cap * vec4<f32>(act(u.x), act(u.y), act(u.z), act(u.w));
    }
    return s;
}
