// y = act(z + b) for four elements of a row.
fn finish(row: u32, column: u32, z: vec4<f32>) {
    if row >= p.n {
        return;
    }
    for (var c = 0u; c < 4u && column + c < p.m; c++) {
        var value = z[c];
        if (p.flags & HAS_BIAS) != 0u {
            value += bias[p.bias_offset + column + c];
        }
        if (p.flags & HAS_PRE) != 0u {
            pre[p.pre_offset + row * p.pre_stride + column + c] = value;
        }
        y[p.y_offset + row * p.y_stride + column + c] = act(value);
    }
}
