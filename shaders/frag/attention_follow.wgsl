            // The largest score so far and the change there, about which changes are summed: no digits are lost to what
            // all of them have in common.
            var peak = s0;
            var about = t0;
@for c in 1..OTHERS/8 {
            about = select(about, t{{c}}, s{{c}} > peak);
            peak = max(peak, s{{c}});
@}
            best[{{LINES}}u * lane + line] = peak;
            best[{{8*LINES}}u + {{LINES}}u * lane + line] = about;
            workgroupBarrier();
            peak = top;
            about = centre;
            for (var other = 0u; other < 8u; other++) {
                let found = best[{{LINES}}u * other + line];
                about = select(about, best[{{8*LINES}}u + {{LINES}}u * other + line], found > peak);
                peak = max(peak, found);
            }
            let factor = power(top - peak);
            let shift = centre - about;
            top = peak;
            centre = about;
            moment = fma(shift, total, moment) * factor;
            total *= factor;
@for b in 0..COLUMNS/32 {
@for r in 0..EACH {
            acc{{b}}_{{r}} = fma(vec4<f32>(shift[{{r}}]), base{{b}}_{{r}}, acc{{b}}_{{r}}) * factor[{{r}}];
            base{{b}}_{{r}} *= factor[{{r}}];
@}
@}
