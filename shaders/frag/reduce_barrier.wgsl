var<workgroup> {{name}}_parts: array<{{T}}, {{THREADS}}>;

// What the values of a column of the workgroup come to, joined by {{name}}_join along a tree: the halves of the workgroup,
// then those of its first half, down to `columns`, a power of two. Invocation i has a value of column i % columns, and is
// told what that comes to. All call it.
fn {{name}}(value: {{T}}, columns: u32, thread: u32) -> {{T}} {
    // What an earlier call has left may still be read.
    workgroupBarrier();
    {{name}}_parts[thread] = value;
    workgroupBarrier();
    var left = {{THREADS}}u;
    while left > columns {
        left /= 2u;
        if thread < left {
            {{name}}_parts[thread] = {{name}}_join({{name}}_parts[thread], {{name}}_parts[thread + left]);
        }
        workgroupBarrier();
    }
    return {{name}}_parts[thread & (columns - 1u)];
}
