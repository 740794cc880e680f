// Keeps a value as high + low / 2048, each in f16: 22 bits of it, however f16 is rounded to.
fn keep_{{name}}(at: u32, value: f32) {
    let high = f16(value);
    {{name}}_tile[at] = high;
    {{name}}_tile[PLANE + at] = f16((value - f32(high)) * 2048.0);
}
