fn {{name}}_element(at: u32) -> f32 {
    return {{name}}[at];
}
