// Four elements of row `row` of {{name}} from column `column` on; zeros outside [rows, cols]. The
// offset, the stride, the column and cols are multiples of 4.
fn {{name}}_quad(row: u32, column: u32, rows: u32, cols: u32) -> vec4<f32> {
    if row < rows && column < cols {
        return {{name}}[(p.{{name}}_offset + row * p.{{name}}_stride + column) / 4u];
    }
    return vec4<f32>();
}
