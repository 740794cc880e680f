            // {{sum}} += the lines at {{from}} with the weights at {{weights}}, in the order of the lines: piece {{piece}} of the columns.
            for (var other = 0u; other < {{OTHERS}}u; other++) {
                let w = weights[{{weights}} + {{LINES}}u * other + line];
@for b in 0..PIECE/32 {
                let x{{b}} = staged[{{from}} + other * WIDE + lane + {{8*b}}u];
@for r in 0..EACH {
                {{sum}}{{PIECE/32*piece+b}}_{{r}} = fma(vec4<f32>(w[{{r}}]), x{{b}}, {{sum}}{{PIECE/32*piece+b}}_{{r}});
@}
@}
            }
