// Copies lines of {{name}}, stored [k, lines], into {{name}}_tile: k .. k + DEPTH of the TILE lines from `first` on, times
// `scale` and split in two.
fn stage_{{name}}(thread: u32, first: u32, lines: u32, k: u32, scale: f32) {
    for (var item = thread; item < TILE * DEPTH / 4u; item += THREADS) {
        let line = 4u * (item % (TILE / 4u));
        let d = item / (TILE / 4u);
        let quad = {{name}}_quad(k + d, first + line, p.k, lines) * scale;
        for (var c = 0u; c < 4u; c++) {
            keep_{{name}}({{name}}_place(line + c, d), quad[c]);
        }
    }
}
