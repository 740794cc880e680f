// y = y + (z + b) for four elements of a row.
fn finish(row: u32, column: u32, z: vec4<f32>) {
    if row >= p.n {
        return;
    }
    for (var c = 0u; c < 4u && column + c < p.m; c++) {
        var value = z[c];
        if (p.flags & HAS_BIAS) != 0u {
            value += bias[p.bias_offset + column + c];
        }
        let at = p.y_offset + row * p.y_stride + column + c;
        y[at] = y[at] + value;
    }
}
