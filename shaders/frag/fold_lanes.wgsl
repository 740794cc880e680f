@include "frag/add_up.wgsl" T=f32

var<workgroup> lanes: array<vec2<f32>, {{THREADS}}>;

// The sum over the lanes of a column, for the first `columns` invocations: invocation i is in column i % columns, and
// `columns` is a power of two. Every invocation calls it; the order of additions follows from `columns` alone.
fn fold(thread: u32, columns: u32, sum: Pair) -> Pair {
    lanes[thread] = vec2<f32>(sum.high, sum.low);
    workgroupBarrier();
    for (var half = {{THREADS / 2}}u; half >= columns; half /= 2u) {
        if thread < half {
            let a = lanes[thread];
            let b = lanes[thread + half];
            let both = join(Pair(a.x, a.y), Pair(b.x, b.y));
            lanes[thread] = vec2<f32>(both.high, both.low);
        }
        workgroupBarrier();
    }
    let own = lanes[thread];
    return Pair(own.x, own.y);
}
