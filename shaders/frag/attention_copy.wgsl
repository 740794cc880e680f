@include "frag/attention_quad_{{VECTOR}}.wgsl" name={{name}}

// Copies `lines` rows of {{name}} from row `first` on, `quads` quads of each from column `start` on, to staged[to ..], lines
// `pitch` apart; zeros from row `rows` and from column `width` on. Row 0 begins at `base`.
fn copy_{{name}}(thread: u32, to: u32, lines: u32, quads: u32, pitch: u32, base: u32, first: u32, rows: u32, start: u32, width: u32) {
    for (var item = thread; item < lines * quads; item += {{THREADS}}u) {
        let line = item / quads;
        let quad = item % quads;
        let column = start + 4u * quad;
        var x = vec4<f32>();
        if first + line < rows {
            x = {{name}}_quad(base + (first + line) * p.{{name}}_row + column, column, width);
        }
        staged[to + line * pitch + quad] = x;
    }
}
