// Copies k .. k + DEPTH of the 4 SIDE lines of {{name}} from `first` on into {{name}}_tile, quad by quad; a line is one
// of {{LINES}}. Quads that lie along k are transposed on the way, in blocks of 4 lines by 4 of k.
fn stage_{{name}}(thread: u32, base: u32, first: u32, k: u32) {
    if (p.flags & {{ALONG}}) == 0u {
        for (var item = thread; item < DEPTH * SIDE; item += THREADS) {
            let d = item / SIDE;
            let quad = item % SIDE;
            {{name}}_tile[place(d, quad)] = {{name}}_quad(base, first + 4u * quad, k + d, false);
        }
        return;
    }
    for (var block = thread; block < DEPTH / 4u * SIDE; block += THREADS) {
        let d = 4u * (block % (DEPTH / 4u));
        let quad = block / (DEPTH / 4u);
        let line = first + 4u * quad;
        let a = {{name}}_quad(base, line, k + d, true);
        let b = {{name}}_quad(base, line + 1u, k + d, true);
        let c = {{name}}_quad(base, line + 2u, k + d, true);
        let e = {{name}}_quad(base, line + 3u, k + d, true);
        {{name}}_tile[place(d, quad)] = vec4<f32>(a.x, b.x, c.x, e.x);
        {{name}}_tile[place(d + 1u, quad)] = vec4<f32>(a.y, b.y, c.y, e.y);
        {{name}}_tile[place(d + 2u, quad)] = vec4<f32>(a.z, b.z, c.z, e.z);
        {{name}}_tile[place(d + 3u, quad)] = vec4<f32>(a.w, b.w, c.w, e.w);
    }
}
