// ---- TwoProduct (Dekker 1971): a b = product + product_error exactly, without a fused fma ----
//
// Each factor is cut into 12 leading and 12 trailing bits, so that the four partial products are
// exact, whether an fma rounds once or twice. The product adds p.zero, a 0 that only the parameter
// block knows, so that no compiler contracts it with what it is added to. Mesa takes out a factor that
// two nested fma share, which rounds the sum of the others; p.one makes them different.

fn rounded_product(a: {{T}}, b: {{T}}) -> {{T}} {
    return fma(a, b, {{T}}(p.zero));
}

fn leading(a: {{T}}) -> {{T}} {
    return bitcast<{{T}}>(bitcast<{{BITS}}>(a) & {{BITS}}(0xfffff000u));
}

fn product_error(a: {{T}}, b: {{T}}, product: {{T}}) -> {{T}} {
    let a_head = leading(a);
    let b_head = leading(b);
    let a_tail = a - a_head;
    let b_tail = b - b_head;
    let heads = fma(a_head, b_head, -product);
    return fma(a_tail * p.one, b_tail, fma(a_tail, b_head, fma(a_head * p.one, b_tail, heads)));
}
