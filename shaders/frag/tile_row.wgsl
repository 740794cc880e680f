// The row of tiles that tile t of a lower triangle lies in: the largest ti with ti (ti + 1) / 2 <= t. The
// root is within one of it for every t < 2^28, since f32 then errs by less than 1/2.
fn tile_row(t: u32) -> u32 {
    var ti = u32((sqrt(8.0 * f32(t) + 1.0) - 1.0) * 0.5);
    if ti * (ti + 1u) / 2u > t {
        ti -= 1u;
    }
    if (ti + 1u) * (ti + 2u) / 2u <= t {
        ti += 1u;
    }
    return ti;
}
