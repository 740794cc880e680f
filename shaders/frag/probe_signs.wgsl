// ---- Random signs: SplitMix64 (Steele, Lea and Flood 2014) folded over a key, in pairs (low, high) of u32 ----

// a b of two u32.
fn wide_product(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let left = (a >> 16u) * (b & 0xffffu);
    let right = (a & 0xffffu) * (b >> 16u);
    let middle = (low >> 16u) + (left & 0xffffu) + (right & 0xffffu);
    let high = (a >> 16u) * (b >> 16u) + (left >> 16u) + (right >> 16u) + (middle >> 16u);
    return vec2<u32>((low & 0xffffu) | (middle << 16u), high);
}

// a b modulo 2^64.
fn product(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = wide_product(a.x, b.x);
    return vec2<u32>(low.x, low.y + a.x * b.y + a.y * b.x);
}

// a + b modulo 2^64.
fn sum(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

// a >> shift, for 0 < shift < 32.
fn shifted(a: vec2<u32>, shift: u32) -> vec2<u32> {
    return vec2<u32>((a.x >> shift) | (a.y << (32u - shift)), a.y >> shift);
}

fn splitmix(x: vec2<u32>) -> vec2<u32> {
    var z = sum(x, vec2<u32>(0x7f4a7c15u, 0x9e3779b9u));
    z = product(z ^ shifted(z, 30u), vec2<u32>(0x1ce4e5b9u, 0xbf58476du));
    z = product(z ^ shifted(z, 27u), vec2<u32>(0x133111ebu, 0x94d049bbu));
    return z ^ shifted(z, 31u);
}

// The key of a source of signs at position `at` of the sample that row `row` of the activations belongs to.
fn key_of(source: u32, row: u32, at: u32) -> vec2<u32> {
    var h = splitmix(vec2<u32>(p.seed_low, p.seed_high) ^ vec2<u32>(source, 0u));
    h = splitmix(h ^ sum(vec2<u32>(first[p.first_offset], 0u), vec2<u32>(row / p.positions, 0u)));
    return splitmix(h ^ vec2<u32>(at, 0u));
}

// The sign of a key and feature i.
fn sign_of(key: vec2<u32>, i: vec2<u32>) -> f32 {
    return select(1.0, -1.0, (splitmix(key ^ i).y >> 31u) != 0u);
}

// What a probe with signs over features has for a row of the activations.
struct Field {
    // Whether there are signs: zeros otherwise.
    there: bool,
    key: vec2<u32>,
}

fn field_of(number: u32, row: u32) -> Field {
    let t = row % p.positions;
    var source = number;
    var at = t;
    var there = number < p.count;
    if p.kind != {{SIGNS}}u {
        source = number % p.sources;
    }
    if p.kind == {{FEATURE_SIGNS}}u {
        there = there && number / p.sources == t;
        at = 0u;
    }
    return Field(there, key_of(source, row, at));
}
