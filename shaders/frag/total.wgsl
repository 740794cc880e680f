var<workgroup> numbers: array<f32, {{THREADS}}>;

// The sum over the invocations of the workgroup, for each of them; all call it.
fn total(thread: u32, own: f32) -> f32 {
    // Nobody overwrites what another still reads.
    workgroupBarrier();
    numbers[thread] = own;
    workgroupBarrier();
    for (var half = {{THREADS / 2}}u; half > 0u; half /= 2u) {
        if thread < half {
            numbers[thread] += numbers[thread + half];
        }
        workgroupBarrier();
    }
    return numbers[0];
}
