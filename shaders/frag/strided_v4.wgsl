// Four elements of {{name}} from line `line` and step `k` on, along k or along lines; zeros outside of {{LINES}} lines
// and p.k steps. The stride along the quad is 1; the base, the other stride, and what starts and ends along the quad are
// multiples of 4.
fn {{name}}_quad(base: u32, line: u32, k: u32, along_k: bool) -> vec4<f32> {
    if line < {{LINES}} && k < p.k {
        return {{name}}[(base + line * p.{{name}}_line + k * p.{{name}}_k) / 4u];
    }
    return vec4<f32>();
}
