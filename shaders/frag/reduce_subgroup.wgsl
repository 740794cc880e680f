var<workgroup> {{name}}_parts: array<{{T}}, {{THREADS}}>;

// The tree over the first `left` parts for one column, by one invocation: leaves in the order of their reversed bits,
// joined as a binary counter carries.
fn {{name}}_alone(left: u32, columns: u32, column: u32) -> {{T}} {
    let leaves = left / columns;
    var held: array<{{T}}, {{log2(THREADS) + 1}}>;
    var sum = {{name}}_parts[column];
    for (var leaf = 0u; leaf < leaves; leaf++) {
        sum = {{name}}_parts[column + columns * ((reverseBits(leaf) >> 1u) >> countLeadingZeros(leaves))];
        var level = 0u;
        for (var carry = leaf; (carry & 1u) == 1u; carry >>= 1u) {
            sum = {{name}}_join(held[level], sum);
            level++;
        }
        held[level] = sum;
    }
    return sum;
}

// As in frag/reduce_barrier.wgsl, along the same tree, to the bit. Once no more is left than a subgroup has lanes, every
// subgroup joins all of that for itself, without barriers. Which invocations a subgroup has does not matter; where it
// lacks lanes, those that are there go along the tree alone.
fn {{name}}(value: {{T}}, columns: u32, thread: u32, subgroup_size: u32, subgroup_lane: u32) -> {{T}} {
    // What an earlier call has left may still be read.
    workgroupBarrier();
    {{name}}_parts[thread] = value;
    workgroupBarrier();
    var left = {{THREADS}}u;
    while left > max(columns, subgroup_size) {
        left /= 2u;
        if thread < left {
            {{name}}_parts[thread] = {{name}}_join({{name}}_parts[thread], {{name}}_parts[thread + left]);
        }
        workgroupBarrier();
    }
    let column = thread & (columns - 1u);
    // Lanes that are there, counted up to the first that is not.
    let absent = ~subgroupBallot(true);
    var lanes = countTrailingZeros(absent.x);
    if lanes == 32u {
        lanes += countTrailingZeros(absent.y);
    }
    if lanes == 64u {
        lanes += countTrailingZeros(absent.z);
    }
    if lanes == 96u {
        lanes += countTrailingZeros(absent.w);
    }
    if lanes < left {
        return {{name}}_alone(left, columns, column);
    }
    let place = subgroup_lane & (left - 1u);
    var sum = {{name}}_parts[place];
    for (var half = left / 2u; half >= columns; half /= 2u) {
        sum = {{name}}_join(sum, subgroupShuffle(sum, place ^ half));
    }
    // What lane `column` has was joined in the order of the tree.
    return subgroupShuffle(sum, column);
}
