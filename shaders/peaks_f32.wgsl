// peaks_f32: of every neuron and sample the largest activation with its position, one at a random position, and of every
// neuron how many activations fall into each bin.
//
//   x       [samples * positions, width]  row i at x_offset + i x_stride; positions before `skip` are passed over
//   max     [samples, width]   the largest, NaN aside
//   at      [samples, width]   the first position that has it
//   picked  [samples, width]   the activation at the position that ops::peaks::pick names
//   first   [1]                at first_at: the number of the first sample; `earlier` samples of it are not in x
//   counts  [width, {{BINS}}]       added to, modulo 2^32. Bins as ops::peaks::bin has them
//
// Workgroup: {{THREADS}} invocations for 32 neurons: invocations 32 apart take every {{THREADS / 32}}th position of a sample.
// Workgroup memory: two counts of 16 bits a word, a maximum and its position for each invocation.
// Accuracy: exact; activations are compared by their bits; counts by atomics on workgroup memory, which add in any order.
//
// Pipeline, for each sample: every invocation finds the largest of its positions and counts; the first 32 join what was
// found, the next 32 look up the random position. Counts go to memory before 16 bits could overflow.

struct Params {
    samples: u32,
    positions: u32,
    skip: u32,
    width: u32,
    tiles: u32,
    x_offset: u32,
    x_stride: u32,
    max_offset: u32,
    max_stride: u32,
    at_offset: u32,
    at_stride: u32,
    picked_offset: u32,
    picked_stride: u32,
    first_at: u32,
    earlier: u32,
    counts_at: u32,
    seed: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> max_of: array<u32>;
@group(0) @binding(3) var<storage, read_write> at: array<f32>;
@group(0) @binding(4) var<storage, read_write> picked: array<u32>;
@group(0) @binding(5) var<storage, read> first: array<u32>;
@group(0) @binding(6) var<storage, read_write> counts: array<u32>;

const BINS = {{BINS}}u;
const MINUS_INFINITY = 0xff800000u;
const LINES = {{THREADS / 32}}u;

// [BINS][16]: those of neuron j and of neuron j + 16 in the halves of a word.
var<workgroup> bins: array<atomic<u32>, {{16 * BINS}}>;
var<workgroup> best_of: array<u32, {{THREADS}}>;
var<workgroup> best_at_of: array<u32, {{THREADS}}>;

@include "frag/unit.wgsl"
@include "frag/order.wgsl"
@include "frag/mix.wgsl"

// Exponent and two bits behind the leading one, counted from 2^-16 in quarters of octaves.
fn bin(bits: u32) -> u32 {
    let size = bits & 0x7fffffffu;
    if size > 0x7f800000u || bits == 0x7f800000u {
        return BINS - 1u;
    }
    if bits >> 31u == 1u || size == 0u {
        return 0u;
    }
    let quarter = bitcast<i32>(bits >> 21u) - {{4 * 127 - LOWEST - 2}};
    return u32(clamp(quarter, 1, {{BINS - 2}}));
}

// Adds the counts of the workgroup to those in memory, and clears them.
fn flush(thread: u32, tile: u32) {
    workgroupBarrier();
    for (var i = thread; i < 16u * BINS; i += {{THREADS}}u) {
        let found = atomicExchange(&bins[i], 0u);
        let neuron = tile * 32u + (i & 15u);
        let place = p.counts_at + neuron * BINS + i / 16u;
        if neuron < p.width {
            counts[place] += found & 0xffffu;
        }
        if neuron + 16u < p.width {
            counts[place + 16u * BINS] += found >> 16u;
        }
    }
    workgroupBarrier();
}

@compute @workgroup_size({{THREADS}})
fn peaks_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = unit_of(group, groups);
    if tile >= p.tiles {
        return;
    }
    let lane = thread % 32u;
    let line = thread / 32u;
    let column = tile * 32u + lane;
    let inside = column < p.width;
    let one = select(1u, 65536u, lane >= 16u);
    let number = first[p.first_at] + p.earlier;
    var counted = 0u;
    for (var i = thread; i < 16u * BINS; i += {{THREADS}}u) {
        atomicStore(&bins[i], 0u);
    }
    workgroupBarrier();

    for (var sample = 0u; sample < p.samples; sample++) {
        if counted + p.positions > 65535u {
            flush(thread, tile);
            counted = 0u;
        }
        counted += p.positions;

        // ---- this invocation's positions ----
        var best = MINUS_INFINITY;
        var best_at = 0u;
        if inside {
            for (var t = p.skip + line; t < p.positions; t += LINES) {
                let bits = x[p.x_offset + (sample * p.positions + t) * p.x_stride + column];
                if !is_nan(bits) && order(bits) > order(best) {
                    best = bits;
                    best_at = t;
                }
                atomicAdd(&bins[bin(bits) * 16u + (lane & 15u)], one);
            }
        }
        best_of[thread] = best;
        best_at_of[thread] = best_at;
        workgroupBarrier();

        // ---- join the lines; the random position ----
        if line == 0u && inside {
            for (var other = lane + 32u; other < {{THREADS}}u; other += 32u) {
                let found = order(best_of[other]);
                let earlier = best_at_of[other] < best_at;
                if found > order(best) || (found == order(best) && earlier) {
                    best = best_of[other];
                    best_at = best_at_of[other];
                }
            }
            max_of[p.max_offset + sample * p.max_stride + column] = best;
            at[p.at_offset + sample * p.at_stride + column] = f32(best_at);
        }
        if line == 1u && inside {
            let key = pick_key(p.seed, column, number + sample);
            let t = p.skip + pick_position(key, p.positions - p.skip);
            let bits = x[p.x_offset + (sample * p.positions + t) * p.x_stride + column];
            picked[p.picked_offset + sample * p.picked_stride + column] = bits;
        }
        workgroupBarrier();
    }
    flush(thread, tile);
}
