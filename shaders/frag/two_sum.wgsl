// ---- TwoSum (Knuth 1969): a + b = high + low exactly, where additions round to nearest ----
//
// A compiler may treat floating point as real numbers (Metal's does unless told otherwise) and find
// that low is zero. So a difference u - v is written fma(u, p.one, -v), with a 1 that only the
// parameter block knows.

struct Pair {
    high: {{T}},
    low: {{T}},
}

fn two_sum(a: {{T}}, b: {{T}}) -> Pair {
    let one = {{T}}(p.one);
    let high = a + b;
    let b_part = fma(high, one, -a);
    let a_part = fma(high, one, -b_part);
    return Pair(high, fma(a, one, -a_part) + fma(b, one, -b_part));
}
