// Copies lines of {{name}}, stored [lines, k], into {{name}}_tile: k .. k + DEPTH of the LINE lines from
// `first` on, in blocks of 4 lines by 4 of k that are transposed on the way.
fn stage_{{name}}(thread: u32, first: u32, lines: u32, k: u32) {
    for (var block = thread; block < DEPTH / 4u * ({{LINE}} / 4u); block += THREADS) {
        let d = 4u * (block % (DEPTH / 4u));
        let quad = block / (DEPTH / 4u);
        let line = first + 4u * quad;
        let a = {{name}}_quad(line, k + d, lines, p.k);
        let b = {{name}}_quad(line + 1u, k + d, lines, p.k);
        let c = {{name}}_quad(line + 2u, k + d, lines, p.k);
        let e = {{name}}_quad(line + 3u, k + d, lines, p.k);
        {{name}}_tile[place(d, quad, {{LINE}} / 4u)] = vec4<f32>(a.x, b.x, c.x, e.x);
        {{name}}_tile[place(d + 1u, quad, {{LINE}} / 4u)] = vec4<f32>(a.y, b.y, c.y, e.y);
        {{name}}_tile[place(d + 2u, quad, {{LINE}} / 4u)] = vec4<f32>(a.z, b.z, c.z, e.z);
        {{name}}_tile[place(d + 3u, quad, {{LINE}} / 4u)] = vec4<f32>(a.w, b.w, c.w, e.w);
    }
}
