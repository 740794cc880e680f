// ---- Squares of f16 that a subgroup multiplies with sums in f32: the adapter's cooperative matrices ----
//
// Everything lies by columns, as coopLoad and coopStore have it. All lanes of a subgroup call these functions together.
alias Sums = coop_mat{{SIDE}}x{{SIDE}}<f32, C>;

// The square of x at a place of x_tile: SIDE rows of x by SIDE of k.
fn load_x(at: u32) -> coop_mat{{SIDE}}x{{SIDE}}<f16, A> {
    return coopLoad<coop_mat{{SIDE}}x{{SIDE}}<f16, A>>(&x_tile[at], SIDE);
}

// The square of W at a place of w_tile: SIDE of k by SIDE columns of W.
fn load_w(at: u32) -> coop_mat{{SIDE}}x{{SIDE}}<f16, B> {
    return coopLoad<coop_mat{{SIDE}}x{{SIDE}}<f16, B>>(&w_tile[at], SIDE);
}

fn multiply_add(a: coop_mat{{SIDE}}x{{SIDE}}<f16, A>, b: coop_mat{{SIDE}}x{{SIDE}}<f16, B>, sums: Sums, lane: u32) -> Sums {
    return coopMultiplyAdd(a, b, sums);
}

// Writes sums to a place of `bounce`.
fn put(sums: Sums, at: u32, lane: u32) {
    coopStore(sums, &bounce[at], SIDE);
}
