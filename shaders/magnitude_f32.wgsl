// magnitude_f32: the largest finite magnitude of a matrix.
//
//   x        [rows, cols]  row i at x_offset + i x_stride
//   largest  [2]           word `at`: becomes the bits of |x| where those are more than it holds
//
// Workgroup: {{THREADS}} invocations; `units` of them take every units {{THREADS}}-th element.
// Workgroup memory: the largest of the workgroup.
// Accuracy: exact. Bits of magnitudes are compared as integers, in any order.

struct Params {
    units: u32,
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_stride: u32,
    at: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> largest: array<atomic<u32>>;

const INFINITY = 0x7f800000u;

var<workgroup> largest_here: atomic<u32>;

@include "frag/unit.wgsl"

@compute @workgroup_size({{THREADS}})
fn magnitude_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let unit = unit_of(group, groups);
    if unit >= p.units {
        return;
    }
    if thread == 0u {
        atomicStore(&largest_here, 0u);
    }
    workgroupBarrier();
    var found = 0u;
    for (var i = unit * {{THREADS}}u + thread; i < p.rows * p.cols; i += p.units * {{THREADS}}u) {
        let magnitude = x[p.x_offset + i / p.cols * p.x_stride + i % p.cols] & 0x7fffffffu;
        if magnitude < INFINITY {
            found = max(found, magnitude);
        }
    }
    atomicMax(&largest_here, found);
    workgroupBarrier();
    if thread == 0u {
        atomicMax(&largest[p.at], atomicLoad(&largest_here));
    }
}
