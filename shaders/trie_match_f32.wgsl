// trie_match_f32: what the tries of many neurons predict at every token.
//
// The tries are those of ops::forest::Forest, level by level, the first level inverted: a token looks up the list of its
// key, then that of the wildcard, and walks every entry backwards from itself.
//
//   keys    [rows]       the key of each token, at keys_at; as those that follow
//   first   [rows]       the row at which the row's sequence begins
//   slots   [rows + 1]   where the results of each row begin
//   forest               the arrays of the tries, each at a place of its own:
//     root_offsets  [lists + 2]    where the list of each key begins, then that of the wildcard, then the end
//     root_node, root_neuron       children of roots and their neurons
//     offsets       [neurons + 1]  where the nodes of each neuron begin; the first is the root
//     key, first_child, children, wildcard, start, value  [nodes], 0xffffffff for no node, NaN where no pattern ends
//   values  [capacity]   stride apart: a slot a candidate, the value of the pattern that it matches, 0 if none
//
// A candidate of the wildcard gives 0 where its trie has a child of the root for the token's key.
//
// Workgroup: {{THREADS}} invocations: 32 for a token, one for a candidate. The first {{ZEROING}} workgroups zero the slots
// behind the last one.
// Workgroup memory: none.
// Accuracy: exact; values are compared by their bits, and every slot is written by one invocation.

struct Params {
    rows: u32,
    capacity: u32,
    lists: u32,
    choice: u32,
    keys_at: u32,
    first_at: u32,
    slots_at: u32,
    values_offset: u32,
    values_stride: u32,
    root_node: u32,
    root_neuron: u32,
    offsets: u32,
    key: u32,
    first_child: u32,
    children: u32,
    wildcard: u32,
    start: u32,
    value: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> first: array<u32>;
@group(0) @binding(3) var<storage, read> slots: array<u32>;
@group(0) @binding(4) var<storage, read> forest: array<u32>;
@group(0) @binding(5) var<storage, read_write> values: array<u32>;

const NONE = 0xffffffffu;
const NO_VALUE = 0x7fc00000u;
const SHALLOWEST = 1u;
const LARGEST = 2u;

@include "frag/unit.wgsl"
@include "frag/order.wgsl"

// The child of a node whose key is `key`, by halving among the children, which stand together by rising key.
fn child(node: u32, key: u32) -> u32 {
    var low = forest[p.first_child + node];
    var high = low + forest[p.children + node];
    while low < high {
        let middle = low + (high - low) / 2u;
        let seen = forest[p.key + middle];
        if seen == key {
            return middle;
        }
        if seen < key {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return NONE;
}

// The better of the best so far and the value of a node, by the choice; nodes come in the order of their depth.
fn better(best: u32, node: u32) -> u32 {
    if node == NONE {
        return best;
    }
    let found = forest[p.value + node];
    if is_nan(found) || (p.choice == SHALLOWEST && !is_nan(best)) {
        return best;
    }
    if p.choice == LARGEST && !is_nan(best) && order(found) <= order(best) {
        return best;
    }
    return found;
}

// The value of the pattern that a child of a root matches from row `row` backwards; NaN if there is none.
fn walk(leaf: u32, row: u32, begins: u32) -> u32 {
    var node = leaf;
    var t = row;
    var best = NO_VALUE;
    loop {
        best = better(best, node);
        if t == begins {
            return better(best, forest[p.start + node]);
        }
        if p.choice == SHALLOWEST && !is_nan(best) {
            return best;
        }
        t -= 1u;
        var next = child(node, keys[p.keys_at + t]);
        if next == NONE {
            next = forest[p.wildcard + node];
        }
        if next == NONE {
            return best;
        }
        node = next;
    }
    return best;
}

@compute @workgroup_size({{THREADS}})
fn trie_match_f32(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let unit = unit_of(group, groups);
    if unit < {{ZEROING}}u {
        let used = slots[p.slots_at + p.rows];
        for (var slot = used + unit * {{THREADS}}u + thread; slot < p.capacity; slot += {{ZEROING * THREADS}}u) {
            values[p.values_offset + slot * p.values_stride] = 0u;
        }
        return;
    }
    let row = (unit - {{ZEROING}}u) * {{THREADS / 32}}u + thread / 32u;
    if row >= p.rows {
        return;
    }
    let slot = slots[p.slots_at + row];
    let count = slots[p.slots_at + row + 1u] - slot;
    let key = keys[p.keys_at + row];
    let begin = forest[key];
    let exact = forest[key + 1u] - begin;
    let wild = forest[p.lists];
    for (var i = thread % 32u; i < count; i += 32u) {
        let root = select(wild + i - exact, begin + i, i < exact);
        var hidden = false;
        if i >= exact {
            let tree = forest[p.offsets + forest[p.root_neuron + root]];
            hidden = child(tree, key) != NONE;
        }
        var found = 0u;
        if !hidden {
            let value = walk(forest[p.root_node + root], row, first[p.first_at + row]);
            found = select(value, 0u, is_nan(value));
        }
        values[p.values_offset + (slot + i) * p.values_stride] = found;
    }
}
