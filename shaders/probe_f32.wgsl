// probe_f32: does this adapter keep error-free transformations exact?
//
// For each pair (a, b) of pairs [count]: results [count] = (sum, sum_error, product, product_error),
// by TwoSum and by TwoProduct in the form of the configuration, the very fragments that the kernels
// include. The host compares with exact arithmetic.
//
// Workgroup: 64 invocations, one pair each.

struct Params {
    count: u32,
    one: f32,
    zero: f32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> pairs: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> results: array<vec4<f32>>;

@include "frag/two_sum.wgsl" T=f32
@include "frag/two_product_{{PRODUCT}}.wgsl" T=f32 BITS=u32

@compute @workgroup_size({{THREADS}})
fn probe_f32(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.count {
        return;
    }
    let pair = pairs[id.x];
    let sum = two_sum(pair.x, pair.y);
    let product = rounded_product(pair.x, pair.y);
    results[id.x] = vec4<f32>(sum.high, sum.low, product, product_error(pair.x, pair.y, product));
}
