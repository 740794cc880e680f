// f32 from the bits of bf16 (`brain`) or of finite f16, exactly: by integers, since `unpack2x16float` and the type f16 may
// take the subnormal f16, which trained weights are full of, for zero.
fn widened(bits: vec4<u32>, brain: bool) -> vec4<f32> {
    if brain {
        return bitcast<vec4<f32>>(bits << vec4<u32>(16u));
    }
    let magnitude = bits & vec4<u32>(0x7fffu);
    // The exponents differ by 127 - 15; below 2^-14 an f16 counts steps of 2^-24.
    let normal = bitcast<vec4<f32>>((magnitude << vec4<u32>(13u)) + vec4<u32>(0x38000000u));
    let small = vec4<f32>(magnitude) * 5.9604644775390625e-8;
    let value = bitcast<vec4<u32>>(select(normal, small, magnitude < vec4<u32>(0x400u)));
    return bitcast<vec4<f32>>(value | ((bits & vec4<u32>(0x8000u)) << vec4<u32>(16u)));
}
