// Four elements of {{name}} from `at` on, where a row of `width` columns has column `column`; zeros behind its last. All
// three are multiples of 4.
fn {{name}}_quad(at: u32, column: u32, width: u32) -> vec4<f32> {
    if column < width {
        return {{name}}[at / 4u];
    }
    return vec4<f32>();
}
