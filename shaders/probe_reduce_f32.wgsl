// probe_reduce_f32: do subgroups of this adapter join numbers as barriers do, to the bit?
//
//   numbers  [{{THREADS}}]     pairs
//   results  [{{THREADS}}][2]  of each invocation: in how many of the ways of dealing the numbers to columns, 1 to {{THREADS}}
//                        of them, it is told other bits by subgroups than by barriers; the size of its subgroup
//
// Workgroup: {{THREADS}} invocations. There is one workgroup.
// Workgroup memory: two pairs for each invocation.

struct Params {
    count: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> numbers: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> results: array<vec2<u32>>;

// One sum does not depend on the order of its terms but for rounding, the other on nothing else.
fn by_barriers_join(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(a.x + b.x, fma(0.75, a.y, b.y));
}

fn by_subgroups_join(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    return by_barriers_join(a, b);
}

@include "frag/reduce_barrier.wgsl" name=by_barriers T=vec2<f32>
@include "frag/reduce_subgroup.wgsl" name=by_subgroups T=vec2<f32>

@compute @workgroup_size({{THREADS}})
fn probe_reduce_f32(
@include "frag/own_subgroup.wgsl"
) {
    var differing = 0u;
    for (var columns = 1u; columns <= {{THREADS}}u; columns *= 2u) {
        let pair = numbers[(thread + 37u * columns) % p.count];
        let wanted = by_barriers(pair, columns, thread);
        let found = by_subgroups(pair, columns, thread, subgroup_size, subgroup_lane);
        if any(bitcast<vec2<u32>>(wanted) != bitcast<vec2<u32>>(found)) {
            differing++;
        }
    }
    results[thread] = vec2<u32>(differing, subgroup_size);
}
