// ---- {{name}}: sums over the workgroup ----
fn {{name}}_join(a: {{T}}, b: {{T}}) -> {{T}} {
    return a + b;
}

@include "frag/reduce_{{REDUCE}}.wgsl"
