// centre_fold_f32: column means from the slabs of centre_f32.
//
//   first [cols]             row 0, at first_offset
//   sums  [slabs][2][cols]   sums of differences from row 0, as high + low
//   mean  [2][cols]          first + (sum over slabs) / rows, as high + low
//
// 1 / rows comes from the host as inverse_high + inverse_low, exact to 2^-48.
//
// Workgroup: {{THREADS}} invocations, one column each; slabs are added in order.
// Accuracy: about 2^-45 of the mean magnitude of the differences, where TwoSum and TwoProduct are exact.

struct Params {
    cols: u32,
    slabs: u32,
    first_offset: u32,
    inverse_high: f32,
    inverse_low: f32,
    one: f32,
    zero: f32,
}

@include "frag/params_{{PARAMS}}.wgsl"
@group(0) @binding(1) var<storage, read> first: array<f32>;
@group(0) @binding(2) var<storage, read> sums: array<f32>;
@group(0) @binding(3) var<storage, read_write> mean: array<f32>;

@include "frag/two_sum.wgsl" T=f32
@include "frag/two_product_{{PRODUCT}}.wgsl" T=f32 BITS=u32

@compute @workgroup_size({{THREADS}})
fn centre_fold_f32(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x;
    if column >= p.cols {
        return;
    }
    var sum = Pair(0.0, 0.0);
    for (var slab = 0u; slab < p.slabs; slab++) {
        let at = slab * 2u * p.cols + column;
        let total = two_sum(sum.high, sums[at]);
        sum = Pair(total.high, sum.low + (total.low + sums[at + p.cols]));
    }
    sum = two_sum(sum.high, sum.low);
    let share = rounded_product(sum.high, p.inverse_high);
    let rest = product_error(sum.high, p.inverse_high, share);
    let share_low = fma(sum.high, p.inverse_low, fma(sum.low, p.inverse_high, rest));
    let total = two_sum(first[p.first_offset + column], share);
    let result = two_sum(total.high, total.low + share_low);
    mean[column] = result.high;
    mean[p.cols + column] = result.low;
}
