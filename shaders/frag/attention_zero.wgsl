@for b in 0..COLUMNS/32 {
@for r in 0..EACH {
    var {{sum}}{{b}}_{{r}} = vec4<f32>();
@}
@}
