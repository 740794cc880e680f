// peak_f32: chains of fma on registers, for the peak of an adapter's arithmetic.
//
//   out  [groups, {{THREADS}}]  the sum of an invocation's {{4 * QUADS}} chains: element j of chain i begins as first + 4 i + j, and
//                       is c = a c + one in each of {{UNROLL}} rounds, a = (invocation % 32 - 31) / 32
//
// Workgroup: {{THREADS}} invocations. Nothing is read or shared, so nothing but the multipliers bounds it.

struct Params {
    groups: u32,
    rounds: u32,
    first: f32,
    one: f32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@include "frag/unit.wgsl"

@compute @workgroup_size({{THREADS}})
fn peak_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let unit = unit_of(group, groups);
    if unit >= p.groups {
        return;
    }
    let a = vec4<f32>((f32(thread % 32u) - 31.0) / 32.0);
    let one = vec4<f32>(p.one);
    @for i in 0..QUADS {
    var c{{i}} = vec4<f32>(p.first) + vec4<f32>({{4 * i}}.0, {{4 * i + 1}}.0, {{4 * i + 2}}.0, {{4 * i + 3}}.0);
    @}
    for (var round = 0u; round < p.rounds; round++) {
        @for u in 0..UNROLL {
        @for i in 0..QUADS {
        c{{i}} = fma(c{{i}}, a, one);
        @}
        @}
    }
    var sum = vec4<f32>();
    @for i in 0..QUADS {
    sum += c{{i}};
    @}
    out[unit * {{THREADS}}u + thread] = sum.x + sum.y + sum.z + sum.w;
}
