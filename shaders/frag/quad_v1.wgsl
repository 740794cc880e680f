// Four elements of row `row` of {{name}} from column `column` on; zeros outside [rows, cols].
fn {{name}}_quad(row: u32, column: u32, rows: u32, cols: u32) -> vec4<f32> {
    var quad = vec4<f32>();
    if row < rows {
        let first = p.{{name}}_offset + row * p.{{name}}_stride + column;
        if column + 3u < cols {
            quad = vec4<f32>({{name}}[first], {{name}}[first + 1u], {{name}}[first + 2u], {{name}}[first + 3u]);
        } else {
            if column < cols {
                quad.x = {{name}}[first];
            }
            if column + 1u < cols {
                quad.y = {{name}}[first + 1u];
            }
            if column + 2u < cols {
                quad.z = {{name}}[first + 2u];
            }
        }
    }
    return quad;
}
