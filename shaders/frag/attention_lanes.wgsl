var<workgroup> lanes: array<f32, {{THREADS}}>;

// The sum of every invocation's x, along a tree.
fn sum_of_lanes(thread: u32, x: f32) -> f32 {
    lanes[thread] = x;
    workgroupBarrier();
    for (var step = {{THREADS/2}}u; step > 0u; step /= 2u) {
        if thread < step {
            lanes[thread] += lanes[thread + step];
        }
        workgroupBarrier();
    }
    let sum = lanes[0];
    workgroupBarrier();
    return sum;
}
