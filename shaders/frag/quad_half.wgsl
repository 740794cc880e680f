@include "frag/widen.wgsl"

// Four elements of row `row` of {{name}} from column `column` on, in halves; zeros outside [rows, cols]. The
// offset, the stride, the column and cols are multiples of 4.
fn {{name}}_quad(row: u32, column: u32, rows: u32, cols: u32) -> vec4<f32> {
    if row < rows && column < cols {
        let words = {{name}}[(p.{{name}}_offset + row * p.{{name}}_stride + column) / 4u];
        let low = words & vec2<u32>(0xffffu);
        let high = words >> vec2<u32>(16u);
        return widened(vec4<u32>(low.x, high.x, low.y, high.y), (p.flags & BRAIN) != 0u);
    }
    return vec4<f32>();
}
