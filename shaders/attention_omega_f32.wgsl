// attention_omega_f32: averaged patterns and value deviations of a tile of causal attention, in f32.
//
//   q        [queries, heads d], row stride p.q_row; query i of each sequence is its key start + i
//   k, v     [sequences keys, heads d] and [.., heads d_v], contiguous, less their means
//   nodes    [nodes][3]: alpha^2, w and w alpha^2
//   scores   [heads][queries][keys]: receives scale q . k of the keys that are seen
//   pattern  [heads][queries][keys] = sum w p^a, 0 on keys that are not seen
//   omega    [heads][queries][keys][d_v] = sum w alpha^2 p^a (v - z^a), likewise
//   own      [heads][queries][d_v + 1]: omega and, behind it, the pattern of each query's own key
//
//   p^a = softmax(alpha^2 scores), z^a = sum p^a v
//
// Workgroup: {{THREADS}} invocations for a query of a head: a key each, then a column each.
// Workgroup memory: the weights of {{THREADS}} keys, and two numbers for each invocation.
// Accuracy: sums over keys in {{THREADS}} lanes and a tree, or in the order of the keys: 5e-6. A query's results depend on
// its sequence alone.

struct Params {
    heads: u32,
    // Of all sequences.
    queries: u32,
    // Of one sequence.
    each: u32,
    keys: u32,
    start: u32,
    nodes: u32,
    d: u32,
    d_v: u32,
    q_offset: u32,
    q_row: u32,
    scale: f32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> q: array<{{ELEMENT}}>;
@group(0) @binding(2) var<storage, read> k: array<{{ELEMENT}}>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read> nodes: array<f32>;
@group(0) @binding(5) var<storage, read_write> scores: array<f32>;
@group(0) @binding(6) var<storage, read_write> pattern: array<f32>;
@group(0) @binding(7) var<storage, read_write> omega: array<f32>;
@group(0) @binding(8) var<storage, read_write> own: array<f32>;

@include "frag/unit.wgsl"
@include "frag/exp_below.wgsl"
@include "frag/sum_of.wgsl" name=total_of T=f32
@include "frag/largest_of.wgsl" name=largest_of
@include "frag/attention_quad_{{VECTOR}}.wgsl" name=q
@include "frag/attention_quad_{{VECTOR}}.wgsl" name=k

var<workgroup> weights: array<f32, {{THREADS}}>;

@compute @workgroup_size({{THREADS}})
fn attention_omega_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
@include "frag/own_{{REDUCE}}.wgsl"
) {
    let unit = unit_of(group, groups);
    if unit >= p.heads * p.queries {
        return;
    }
    let head = unit / p.queries;
    let query = unit % p.queries;
    let position = query % p.each + p.start;
    let visible = position + 1u;
    let sequence = query / p.each * p.keys;
    let pairs = unit * p.keys;
    let value_row = p.heads * p.d_v;
    let values = sequence * value_row + head * p.d_v;

    // Scores, and the largest.
    var top = -3.0e38;
    for (var key = thread; key < p.keys; key += {{THREADS}}u) {
        pattern[pairs + key] = 0.0;
        if key < visible {
            let q_at = p.q_offset + query * p.q_row + head * p.d;
            let k_at = ((sequence + key) * p.heads + head) * p.d;
            var score = 0.0;
            for (var i = 0u; i < p.d; i += 4u) {
                let a = q_quad(q_at + i, i, p.d);
                let b = k_quad(k_at + i, i, p.d);
                score = fma(a.x, b.x, score);
                score = fma(a.y, b.y, score);
                score = fma(a.z, b.z, score);
                score = fma(a.w, b.w, score);
            }
            score *= p.scale;
            scores[pairs + key] = score;
            top = max(top, score);
        }
    }
    top = largest_of(top, 1u, thread{{LANE}});

    for (var node = 0u; node < p.nodes; node++) {
        let alpha = nodes[3u * node];
        let w = nodes[3u * node + 1u];
        let g = nodes[3u * node + 2u];
        let peak = alpha * top;
        var total = 0.0;
        for (var key = thread; key < visible; key += {{THREADS}}u) {
            total += exp_below(alpha * scores[pairs + key] - peak, 0.0);
        }
        let inverse = 1.0 / total_of(total, 1u, thread{{LANE}});

        for (var block = 0u; block < p.d_v; block += {{THREADS}}u) {
            let column = block + thread;
            // z, and the pattern once.
            var z = 0.0;
            for (var tile = 0u; tile < visible; tile += {{THREADS}}u) {
                let key = tile + thread;
                var weight = 0.0;
                if key < visible {
                    weight = exp_below(alpha * scores[pairs + key] - peak, 0.0) * inverse;
                    if block == 0u {
                        pattern[pairs + key] = fma(w, weight, pattern[pairs + key]);
                    }
                }
                weights[thread] = weight;
                workgroupBarrier();
                if column < p.d_v {
                    for (var i = 0u; i < min({{THREADS}}u, visible - tile); i++) {
                        z = fma(weights[i], v[values + (tile + i) * value_row + column], z);
                    }
                }
                workgroupBarrier();
            }
            // Deviations.
            for (var tile = 0u; tile < visible; tile += {{THREADS}}u) {
                let key = tile + thread;
                var weight = 0.0;
                if key < visible {
                    weight = g * (exp_below(alpha * scores[pairs + key] - peak, 0.0) * inverse);
                }
                weights[thread] = weight;
                workgroupBarrier();
                if column < p.d_v {
                    for (var i = 0u; i < min({{THREADS}}u, visible - tile); i++) {
                        let at = (pairs + tile + i) * p.d_v + column;
                        var sum = 0.0;
                        if node > 0u {
                            sum = omega[at];
                        }
                        omega[at] = fma(weights[i], v[values + (tile + i) * value_row + column] - z, sum);
                    }
                }
                workgroupBarrier();
            }
        }
    }

    // Keys behind the query, and its own.
    for (var column = thread; column < p.d_v; column += {{THREADS}}u) {
        for (var key = visible; key < p.keys; key++) {
            omega[(pairs + key) * p.d_v + column] = 0.0;
        }
        own[unit * (p.d_v + 1u) + column] = omega[(pairs + position) * p.d_v + column];
    }
    if thread == position % {{THREADS}}u {
        own[unit * (p.d_v + 1u) + p.d_v] = pattern[pairs + position];
    }
}
