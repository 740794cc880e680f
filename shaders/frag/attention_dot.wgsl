        // {{sum}} += the products of the own lines at {{own_at}} with those at {{other_at}}, in the order of the columns.
        for (var quad = 0u; quad < DEPTH; quad++) {
@for c in 0..OTHERS/8 {
            let b{{c}} = staged[{{other_at}} + (lane + {{8*c}}u) * PITCH + quad];
@}
@for r in 0..EACH {
            let a{{r}} = staged[{{own_at}} + (line + {{LINES*r}}u) * PITCH + quad];
@for c in 0..OTHERS/8 {
            {{sum}}{{c}}[{{r}}] = fma(a{{r}}.x, b{{c}}.x, {{sum}}{{c}}[{{r}}]);
            {{sum}}{{c}}[{{r}}] = fma(a{{r}}.y, b{{c}}.y, {{sum}}{{c}}[{{r}}]);
            {{sum}}{{c}}[{{r}}] = fma(a{{r}}.z, b{{c}}.z, {{sum}}{{c}}[{{r}}]);
            {{sum}}{{c}}[{{r}}] = fma(a{{r}}.w, b{{c}}.w, {{sum}}{{c}}[{{r}}]);
@}
@}
        }
