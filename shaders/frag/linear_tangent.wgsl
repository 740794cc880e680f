// y = act(z + b) for four elements of a slab's row 0, act'(primal + b) z for those of its other rows.
fn finish(row: u32, column: u32, z: vec4<f32>, primal: vec4<f32>) {
    if row >= p.n {
        return;
    }
    for (var c = 0u; c < 4u && column + c < p.m; c++) {
        var value = primal[c];
        if (p.flags & HAS_BIAS) != 0u {
            value += bias[p.bias_offset + column + c];
        }
        let at = p.y_offset + row * p.y_stride + column + c;
        if row % 16u == 0u {
            if (p.flags & HAS_PRE) != 0u {
                pre[p.pre_offset + row / 16u * p.pre_stride + column + c] = value;
            }
            y[at] = act(value);
        } else {
            y[at] = act_slope(value) * z[c];
        }
    }
}
