// peak_lists_f32: of the largest and the random activations that peaks_f32 found those that pass bars, as lists.
//
//   max     [samples, width]   row i at max_offset + i max_stride
//   at      [samples, width]   positions of the largest
//   picked  [samples, width]
//   first   [1]                at first_at: the number of the first sample
//   least   [width]            a largest activation above it is listed, and any where it is minus infinity
//   most    [2, width]         a largest activation is listed where its sample's key of ~seed is at most the first, a random
//                              one that is positive where that of the seed is at most the second
//   cells   [tiles, 2, 1 + 2 capacity]  of the list of largest activations and of that of random ones how many there are,
//                              then 32 sample + lane and position of each, by sample and lane, as many as there is room for
//   values  [tiles, 2, capacity]  row i at values_offset + i values_stride: their activations
//
// Workgroup: {{THREADS}} invocations for 32 neurons: for {{THREADS / 64}} samples at a time a lane a neuron and list.
// Workgroup memory: a mask of lanes for each sample and list.
// Accuracy: exact; activations are compared by their bits; the places follow from the masks, in the order of samples and
// neurons.

struct Params {
    samples: u32,
    positions: u32,
    skip: u32,
    width: u32,
    tiles: u32,
    max_offset: u32,
    max_stride: u32,
    at_offset: u32,
    at_stride: u32,
    picked_offset: u32,
    picked_stride: u32,
    first_at: u32,
    least_offset: u32,
    most_at: u32,
    cells_at: u32,
    values_offset: u32,
    values_stride: u32,
    capacity: u32,
    seed: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> max_of: array<u32>;
@group(0) @binding(2) var<storage, read> at: array<f32>;
@group(0) @binding(3) var<storage, read> picked: array<u32>;
@group(0) @binding(4) var<storage, read> first: array<u32>;
@group(0) @binding(5) var<storage, read> least: array<u32>;
@group(0) @binding(6) var<storage, read> most: array<u32>;
@group(0) @binding(7) var<storage, read_write> cells: array<u32>;
@group(0) @binding(8) var<storage, read_write> values: array<u32>;

const MINUS_INFINITY = 0xff800000u;
const SAMPLES = {{THREADS / 64}}u;

var<workgroup> masks: array<atomic<u32>, {{THREADS / 32}}>;

@include "frag/unit.wgsl"
@include "frag/order.wgsl"
@include "frag/mix.wgsl"

@compute @workgroup_size({{THREADS}})
fn peak_lists_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = unit_of(group, groups);
    if tile >= p.tiles {
        return;
    }
    let lane = thread % 32u;
    // Of the first half of a sample's invocations the list of the largest, of the second that of the random ones.
    let picks = thread / 32u % 2u;
    let own = thread / 64u;
    let column = tile * 32u + lane;
    let inside = column < p.width;
    let list = tile * 2u + picks;
    var bar = 0u;
    var most_key = 0u;
    if inside {
        bar = least[p.least_offset + column];
        most_key = most[p.most_at + picks * p.width + column];
    }
    let seed = select(~p.seed, p.seed, picks == 1u);
    let head = p.cells_at + list * (1u + 2u * p.capacity);
    var listed = 0u;

    for (var top = 0u; top < p.samples; top += SAMPLES) {
        let sample = top + own;
        if thread < {{THREADS / 32}}u {
            atomicStore(&masks[thread], 0u);
        }
        workgroupBarrier();
        var passes = false;
        var value = 0u;
        var position = 0u;
        if inside && sample < p.samples {
            let key = pick_key(seed, column, first[p.first_at] + sample);
            if picks == 1u {
                value = picked[p.picked_offset + sample * p.picked_stride + column];
                position = p.skip + pick_position(key, p.positions - p.skip);
                passes = value > 0u && value <= 0x7f800000u && key <= most_key;
            } else {
                value = max_of[p.max_offset + sample * p.max_stride + column];
                position = u32(at[p.at_offset + sample * p.at_stride + column]);
                let above = !is_nan(bar) && order(value) > order(bar);
                passes = above || bar == MINUS_INFINITY || key <= most_key;
            }
        }
        if passes {
            atomicOr(&masks[2u * own + picks], 1u << lane);
        }
        workgroupBarrier();
        var slot = listed;
        for (var s = 0u; s < SAMPLES; s++) {
            let mask = atomicLoad(&masks[2u * s + picks]);
            let count = countOneBits(mask);
            listed += count;
            if s < own {
                slot += count;
            } else if s == own {
                slot += countOneBits(mask & ((1u << lane) - 1u));
            }
        }
        if passes && slot < p.capacity {
            cells[head + 1u + 2u * slot] = 32u * sample + lane;
            cells[head + 2u + 2u * slot] = position;
            values[p.values_offset + list * p.values_stride + slot] = value;
        }
        workgroupBarrier();
    }
    if own == 0u && lane == 0u {
        cells[head] = listed;
    }
}
