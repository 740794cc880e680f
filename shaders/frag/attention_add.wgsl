            // {{sum}} += the lines at {{from}} with the weights at {{weights}}, in the order of the lines.
            for (var other = 0u; other < {{OTHERS}}u; other++) {
                let w = weights[{{weights}} + 8u * other + line];
@for b in 0..COLUMNS/32 {
                let x{{b}} = staged[{{from}} + other * WIDE + lane + {{8*b}}u];
@for r in 0..4 {
                {{sum}}{{b}}_{{r}} = fma(vec4<f32>(w[{{r}}]), x{{b}}, {{sum}}{{b}}_{{r}});
@}
@}
            }
