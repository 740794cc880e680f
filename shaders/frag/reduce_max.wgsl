// ---- {{name}}: the largest of a value over the workgroup, the same for each of its invocations ----
//
// A tree. Every invocation of the workgroup must call it.
var<workgroup> {{name}}_parts: array<f32, {{THREADS}}>;

fn {{name}}(value: f32, thread: u32) -> f32 {
    // What an earlier call has left may still be read.
    workgroupBarrier();
    {{name}}_parts[thread] = value;
    workgroupBarrier();
    for (var half = {{THREADS}}u / 2u; half > 0u; half /= 2u) {
        if thread < half {
            {{name}}_parts[thread] = max({{name}}_parts[thread], {{name}}_parts[thread + half]);
        }
        workgroupBarrier();
    }
    return {{name}}_parts[0];
}
