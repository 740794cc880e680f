// ---- sum + a b for numbers carried as high + low; the low part of the sum is put in order later ----
//
// The error of the product is added by an fma with p.one, so that it and the cross terms, which have
// a factor in common with it, stay apart; see two_product_split.wgsl.
fn add_product(sum: Pair, a: Pair, b: Pair) -> Pair {
    let product = rounded_product(a.high, b.high);
    let error = product_error(a.high, b.high, product);
    let cross = fma(a.low, b.high, a.high * b.low);
    let total = two_sum(sum.high, product);
    return Pair(total.high, sum.low + (total.low + fma(error, {{T}}(p.one), cross)));
}
