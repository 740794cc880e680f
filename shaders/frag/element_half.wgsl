@include "frag/widen.wgsl"

fn {{name}}_element(at: u32) -> f32 {
    let bits = {{name}}[at / 2u] >> (16u * (at % 2u)) & 0xffffu;
    return widened(vec4<u32>(bits), (p.flags & BRAIN) != 0u).x;
}
