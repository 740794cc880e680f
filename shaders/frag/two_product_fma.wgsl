// ---- TwoProduct: a b = product + product_error exactly, where fma rounds once ----
//
// The product adds p.zero, a 0 that only the parameter block knows: a plain product that is added to
// something may be contracted into an fma, and is then not the number that product_error takes it for.

fn rounded_product(a: {{T}}, b: {{T}}) -> {{T}} {
    return fma(a, b, {{T}}(p.zero));
}

fn product_error(a: {{T}}, b: {{T}}, product: {{T}}) -> {{T}} {
    return fma(a, b, -product);
}
