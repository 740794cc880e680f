// loss_rows_f32: the cross-entropy of every row of logits, and whether its largest logit is the label's.
//
//   logits  [rows, cols]   row i at logits_offset + i logits_stride
//   labels                 that of row i at labels_at + (first_row + i) % period; 0xffffffff for a row that is left out
//   losses  [rows][2]      from row first_row on: log sum exp(x) - x of the label, and 1 or 0; zeros for rows left out
//
// Workgroup: {{THREADS}} invocations for a row.
// Workgroup memory: for each invocation a number with its place, and a number.
// Accuracy: log sum exp is the largest logit and log(1 + sum of the others' exp): the sum in f32, exp and log to 2 ulp, so
// that losses near 0 keep their digits. Rows with a NaN or an infinity above all are NaN.
//
// Pipeline: the first of the largest; the sum of the others; the first invocation writes.

struct Params {
    rows: u32,
    cols: u32,
    logits_offset: u32,
    logits_stride: u32,
    labels_at: u32,
    period: u32,
    first_row: u32,
    losses_offset: u32,
    not_a_number: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;

const NOWHERE = 0xffffffffu;

@include "frag/unit.wgsl"
@include "frag/sum_of.wgsl" name=total_of T=f32
@include "frag/exp_below.wgsl"
@include "frag/log_one_plus.wgsl"

// The larger of two numbers, as bits with their places; the first where they are equal.
fn best_of_join(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let own = bitcast<f32>(a.x);
    let other = bitcast<f32>(b.x);
    return select(a, b, other > own || (other == own && b.y < a.y));
}

@include "frag/reduce_{{REDUCE}}.wgsl" name=best_of T=vec2<u32>

@compute @workgroup_size({{THREADS}})
fn loss_rows_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
@include "frag/own_{{REDUCE}}.wgsl"
) {
    let row = unit_of(group, groups);
    if row >= p.rows {
        return;
    }
    let first = p.logits_offset + row * p.logits_stride;
    var best = -3.4028235e38;
    var best_at = NOWHERE;
    var bad = 0.0;
    for (var j = thread; j < p.cols; j += {{THREADS}}u) {
        let x = logits[first + j];
        let bits = bitcast<u32>(x);
        if (bits & 0x7fffffffu) > 0x7f800000u || bits == 0x7f800000u {
            bad = 1.0;
        } else if x > best {
            best = x;
            best_at = j;
        }
    }
    let found = best_of(vec2<u32>(bitcast<u32>(best), best_at), 1u, thread{{LANE}});
    let largest = bitcast<f32>(found.x);
    let place = found.y;
    let wrong = total_of(bad, 1u, thread{{LANE}});

    var sum = 0.0;
    if wrong == 0.0 && place != NOWHERE {
        for (var j = thread; j < p.cols; j += {{THREADS}}u) {
            if j != place {
                sum += exp_below(logits[first + j] - largest, 0.0);
            }
        }
    }
    let rest = total_of(sum, 1u, thread{{LANE}});
    if thread != 0u {
        return;
    }
    let at = p.losses_offset + 2u * (p.first_row + row);
    let label = labels[p.labels_at + (p.first_row + row) % p.period];
    if label == 0xffffffffu {
        losses[at] = 0.0;
        losses[at + 1u] = 0.0;
    } else if wrong != 0.0 || place == NOWHERE {
        losses[at] = bitcast<f32>(p.not_a_number);
        losses[at + 1u] = 0.0;
    } else {
        losses[at] = (largest - logits[first + label]) + log_one_plus(rest);
        losses[at + 1u] = select(0.0, 1.0, label == place);
    }
}
