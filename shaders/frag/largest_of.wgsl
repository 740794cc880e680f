// ---- {{name}}: the largest numbers of the workgroup ----
fn {{name}}_join(a: f32, b: f32) -> f32 {
    return max(a, b);
}

@include "frag/reduce_{{REDUCE}}.wgsl" T=f32
