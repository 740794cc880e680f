// probe_f32: does this adapter keep error-free transformations exact?
//
// For each quad (a, b, a_low, b_low) of quads [count], in the arithmetic of the configuration, by the very
// fragments that the kernels include:
//   results[2 i]     = (sum, sum_error, product, product_error) of a and b
//   results[2 i + 1] = (high, low, 0, 0), the sum of (a + a_low) (b + b_low) over the {{CHAIN}} quads from i on
// The host compares with exact arithmetic.
//
// Workgroup: {{THREADS}} invocations, one quad each.

struct Params {
    count: u32,
    one: f32,
    zero: f32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> quads: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> results: array<vec4<f32>>;

@include "frag/two_sum.wgsl" T=f32
@include "frag/two_product_{{PRODUCT}}.wgsl" T=f32 BITS=u32
@include "frag/add_product.wgsl" T=f32

@compute @workgroup_size({{THREADS}})
fn probe_f32(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.count {
        return;
    }
    let quad = quads[id.x];
    let sum = two_sum(quad.x, quad.y);
    let product = rounded_product(quad.x, quad.y);
    results[2u * id.x] = vec4<f32>(sum.high, sum.low, product, product_error(quad.x, quad.y, product));

    var chain = Pair(0.0, 0.0);
    for (var i = 0u; i < {{CHAIN}}u; i++) {
        let next = quads[(id.x + i) % p.count];
        chain = add_product(chain, Pair(next.x, next.z), Pair(next.y, next.w));
    }
    chain = two_sum(chain.high, chain.low);
    results[2u * id.x + 1u] = vec4<f32>(chain.high, chain.low, 0.0, 0.0);
}
