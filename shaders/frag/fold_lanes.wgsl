@include "frag/add_up.wgsl" T=f32

// ---- fold: sums over the workgroup of numbers carried as high + low ----
fn fold_join(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let both = join(Pair(a.x, a.y), Pair(b.x, b.y));
    return vec2<f32>(both.high, both.low);
}

@include "frag/reduce_{{REDUCE}}.wgsl" name=fold T=vec2<f32>
