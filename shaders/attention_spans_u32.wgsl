// attention_spans_u32: which keys each query of packed sequences sees, and which queries see each key.
//
//   first, end  [n] where the sequence of each row begins and ends; not read where p.seq says how long all are
//   seen        [n] 0 where a row is hidden as a key; not read without bit 0 of flags
//   asking      [m] the row of each query, ascending; not read without bit 1: query i is row i row_step + row_first
//   table       for each of the m queries, one behind the other: the first key it sees, the one behind the last, the row
//               at which its sequence begins, the first query of its sequence, the one behind the last; for each of the n
//               keys: the first query that may see it, the one behind the last, 1 unless it is hidden. Both bounds of
//               queries grow with the key
//
// Workgroup: {{THREADS}} invocations, a query and a key each.

struct Params {
    m: u32,
    n: u32,
    seq: u32,
    row_step: u32,
    row_first: u32,
    causal: u32,
    window: u32,
    flags: u32,
    first_offset: u32,
    end_offset: u32,
    seen_offset: u32,
    asking_offset: u32,
    table_offset: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> first: array<u32>;
@group(0) @binding(2) var<storage, read> end: array<u32>;
@group(0) @binding(3) var<storage, read> seen: array<u32>;
@group(0) @binding(4) var<storage, read> asking: array<u32>;
@group(0) @binding(5) var<storage, read_write> table: array<u32>;

const HAS_SEEN = 1u;
const HAS_ASKING = 2u;

@include "frag/unit.wgsl"

// Where the sequence of a row begins, and the row behind its end.
fn sequence(row: u32) -> vec2<u32> {
    if p.seq > 0u {
        let begin = row / p.seq * p.seq;
        return vec2<u32>(begin, begin + p.seq);
    }
    return vec2<u32>(min(first[p.first_offset + row], row), clamp(end[p.end_offset + row], row + 1u, p.n));
}

fn row_of(query: u32) -> u32 {
    var row = query * p.row_step + p.row_first;
    if (p.flags & HAS_ASKING) != 0u {
        row = asking[p.asking_offset + query];
    }
    return min(row, p.n - 1u);
}

// The number of queries before a row.
fn rank(row: u32) -> u32 {
    var low = 0u;
    var high = p.m;
    while low < high {
        let middle = (low + high) / 2u;
        if row_of(middle) < row {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}

@compute @workgroup_size({{THREADS}})
fn attention_spans_u32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let own = unit_of(group, groups) * {{THREADS}}u + thread;
    if own < p.m {
        let row = row_of(own);
        let bounds = sequence(row);
        var low = bounds.x;
        var high = bounds.y;
        if p.causal != 0u {
            high = row + 1u;
        }
        if p.window > 0u && row + 1u > p.window {
            low = max(low, row + 1u - p.window);
        }
        let at = p.table_offset + own;
        table[at] = low;
        table[at + p.m] = high;
        table[at + 2u * p.m] = bounds.x;
        table[at + 3u * p.m] = rank(bounds.x);
        table[at + 4u * p.m] = rank(bounds.y);
    }
    if own < p.n {
        let bounds = sequence(own);
        let earliest = select(bounds.x, own, p.causal != 0u);
        let latest = select(bounds.y, min(bounds.y, own + p.window), p.window > 0u);
        var shown = 1u;
        if (p.flags & HAS_SEEN) != 0u {
            shown = select(0u, 1u, seen[p.seen_offset + own] != 0u);
        }
        let at = p.table_offset + 5u * p.m + own;
        table[at] = rank(earliest);
        table[at + p.n] = rank(latest);
        table[at + 2u * p.n] = shown;
    }
}
