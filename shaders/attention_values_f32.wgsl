// attention_values_f32: adds what the values move along every direction to psi, in f32.
//
//   a    [heads][queries, rows]: sum_s p_hts f_sj
//   v    [rows, heads wide]
//   psi  [queries][rows, heads wide]: column e of a head gets a[h, t, j] v[j, h, e] added, or, where it is not below
//        p.narrow, is set to it
//
// Workgroup: {{THREADS}} invocations, an element each.
// Accuracy: one rounding.

struct Params {
    // Elements of psi.
    count: u32,
    rows: u32,
    width: u32,
    wide: u32,
    narrow: u32,
    queries: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read_write> psi: array<f32>;

@include "frag/unit.wgsl"

@compute @workgroup_size({{THREADS}})
fn attention_values_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let own = unit_of(group, groups) * {{THREADS}}u + thread;
    if own >= p.count {
        return;
    }
    let column = own % p.width;
    let row = own / p.width % p.rows;
    let query = own / p.width / p.rows;
    var sum = 0.0;
    if column % p.wide < p.narrow {
        sum = psi[own];
    }
    psi[own] = fma(a[(column / p.wide * p.queries + query) * p.rows + row], v[row * p.width + column], sum);
}
