@include "frag/two_sum.wgsl"

// ---- Sums carried as high + low. What is added is no plain product: a compiler may contract it into the addition, and
// what is lost there is then told wrongly; an fma with p.zero is safe. ----

fn add_up(sum: Pair, x: {{T}}) -> Pair {
    let next = two_sum(sum.high, x);
    return Pair(next.high, sum.low + next.low);
}

fn join(a: Pair, b: Pair) -> Pair {
    let next = two_sum(a.high, b.high);
    return Pair(next.high, a.low + (next.low + b.low));
}
