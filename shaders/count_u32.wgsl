// count_u32: number += 1, for launches that are repeated.
//
//   number  element p.number of numbers
//
// Workgroup: a single invocation.

struct Params {
    number: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read_write> numbers: array<u32>;

@compute @workgroup_size({{THREADS}})
fn count_u32() {
    numbers[p.number] += 1u;
}
