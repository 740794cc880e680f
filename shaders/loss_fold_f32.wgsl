// loss_fold_f32: adds the losses of the rows of every run of a chunk, and the right predictions, to the sums of the run.
//
//   losses  [runs][rows][2]   the loss of each row, and 1 or 0
//   index   [1]               at index_at: the number of the chunk, where flags has bit 0; 0 otherwise
//   out     [.., 2]           row p at out_offset + p out_stride, p = index * runs + run; runs behind out_rows are left out
//
// Workgroup: {{THREADS}} invocations for a run; the rows are dealt to them.
// Workgroup memory: a pair for each invocation.
// Accuracy: sums are carried as high + low and rounded once.

struct Params {
    rows: u32,
    runs: u32,
    losses_offset: u32,
    index_at: u32,
    out_offset: u32,
    out_stride: u32,
    out_rows: u32,
    flags: u32,
    one: f32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> losses: array<f32>;
@group(0) @binding(2) var<storage, read> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

const COUNTED = 1u;

@include "frag/unit.wgsl"
@include "frag/fold_lanes.wgsl"

@compute @workgroup_size({{THREADS}})
fn loss_fold_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
@include "frag/own_{{REDUCE}}.wgsl"
) {
    let run = unit_of(group, groups);
    if run >= p.runs {
        return;
    }
    var loss = Pair(0.0, 0.0);
    var right = Pair(0.0, 0.0);
    for (var i = thread; i < p.rows; i += {{THREADS}}u) {
        let at = p.losses_offset + 2u * (run * p.rows + i);
        loss = add_up(loss, losses[at]);
        right = add_up(right, losses[at + 1u]);
    }
    let losses_in_all = fold(vec2<f32>(loss.high, loss.low), 1u, thread{{LANE}});
    let right_in_all = fold(vec2<f32>(right.high, right.low), 1u, thread{{LANE}});
    var row = run;
    if (p.flags & COUNTED) != 0u {
        row += index[p.index_at] * p.runs;
    }
    if thread == 0u && row < p.out_rows {
        let at = p.out_offset + row * p.out_stride;
        // The low part of an infinite sum is not a number.
        let finite = (bitcast<u32>(losses_in_all.x) & 0x7f800000u) != 0x7f800000u;
        out[at] += losses_in_all.x + select(0.0, losses_in_all.y, finite);
        out[at + 1u] += right_in_all.x + right_in_all.y;
    }
}
