// Four elements of {{name}} from `at` on, where a row of `width` columns has column `column`; zeros behind its last.
fn {{name}}_quad(at: u32, column: u32, width: u32) -> vec4<f32> {
    var quad = vec4<f32>();
    if column + 3u < width {
        quad = vec4<f32>({{name}}[at], {{name}}[at + 1u], {{name}}[at + 2u], {{name}}[at + 3u]);
    } else {
        if column < width {
            quad.x = {{name}}[at];
        }
        if column + 1u < width {
            quad.y = {{name}}[at + 1u];
        }
        if column + 2u < width {
            quad.z = {{name}}[at + 2u];
        }
    }
    return quad;
}
