// Four elements of {{name}} from line `line` and step `k` on, along k or along lines; zeros outside of {{LINES}} lines
// and p.k steps.
fn {{name}}_quad(base: u32, line: u32, k: u32, along_k: bool) -> vec4<f32> {
    var quad = vec4<f32>();
    if line < {{LINES}} && k < p.k {
        let step = select(p.{{name}}_line, p.{{name}}_k, along_k);
        let left = select({{LINES}} - line, p.k - k, along_k);
        let first = base + line * p.{{name}}_line + k * p.{{name}}_k;
        quad.x = {{name}}[first];
        if left > 1u {
            quad.y = {{name}}[first + step];
        }
        if left > 2u {
            quad.z = {{name}}[first + 2u * step];
        }
        if left > 3u {
            quad.w = {{name}}[first + 3u * step];
        }
    }
    return quad;
}
