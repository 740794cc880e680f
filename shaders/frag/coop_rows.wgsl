// Copies lines of {{name}}, stored [lines, k], into {{name}}_tile: k .. k + DEPTH of the TILE lines from `first` on, times
// `scale` and split in two.
fn stage_{{name}}(thread: u32, first: u32, lines: u32, k: u32, scale: f32) {
    for (var item = thread; item < TILE * DEPTH / 4u; item += THREADS) {
        let line = item / (DEPTH / 4u);
        let d = 4u * (item % (DEPTH / 4u));
        let quad = {{name}}_quad(first + line, k + d, lines, p.k) * scale;
        for (var c = 0u; c < 4u; c++) {
            keep_{{name}}({{name}}_place(line, d + c), quad[c]);
        }
    }
}
