// Copies lines of {{name}}, stored [k, lines], into {{name}}_tile: k .. k + DEPTH of the LINE lines from
// `first` on, quad by quad.
fn stage_{{name}}(thread: u32, first: u32, lines: u32, k: u32) {
    for (var item = thread; item < DEPTH * ({{LINE}} / 4u); item += THREADS) {
        let d = item / ({{LINE}} / 4u);
        let quad = item % ({{LINE}} / 4u);
        {{name}}_tile[place(d, quad, {{LINE}} / 4u)] = {{name}}_quad(k + d, first + 4u * quad, p.k, lines);
    }
}
