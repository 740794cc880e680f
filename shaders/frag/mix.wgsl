// ops::peaks::mix, a bijection of 32 bits that spreads every bit over all (Wellons' lowbias32).
fn mix(key: u32) -> u32 {
    var x = (key ^ (key >> 16u)) * 0x7feb352du;
    x = (x ^ (x >> 15u)) * 0x846ca68bu;
    return x ^ (x >> 16u);
}

// The key of a neuron in a sample under a seed, as ops::peaks::pick has it.
fn pick_key(seed: u32, neuron: u32, sample: u32) -> u32 {
    return mix(mix(mix(seed ^ 0x9e3779b9u) + neuron) + sample);
}

// The position below `positions`, which has 16 bits, that a key picks: the upper half of a product.
fn pick_position(key: u32, positions: u32) -> u32 {
    let spread = mix(key ^ 0x85ebca6bu);
    return ((spread >> 16u) * positions + ((spread & 0xffffu) * positions >> 16u)) >> 16u;
}
