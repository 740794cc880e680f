    // Sums to means; the changes less theirs.
@include "frag/attention_fold.wgsl" x=total
@include "frag/attention_fold.wgsl" x=moment
    let absent = top == vec{{EACH}}<f32>(LEAST);
    let inverse = select(1.0 / total, vec{{EACH}}<f32>(), absent);
    let mean = moment * inverse;
@for b in 0..COLUMNS/32 {
@for r in 0..EACH {
    acc{{b}}_{{r}} = fma(vec4<f32>(-mean[{{r}}]), base{{b}}_{{r}}, acc{{b}}_{{r}}) * inverse[{{r}}];
@}
@}
