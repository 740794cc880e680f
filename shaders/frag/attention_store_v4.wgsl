    // The own rows below `end` of {{name}}, the columns of this workgroup below {{width}}. Rows of a head begin at multiples
    // of 4, and {{width}} is one.
@for r in 0..EACH {
    if first + line + {{LINES*r}}u < end {
        let at = ({{base}} + (first + line + {{LINES*r}}u) * p.{{row}} + {{COLUMNS}}u * chunk) / 4u + lane;
@for b in 0..COLUMNS/32 {
        if {{COLUMNS}}u * chunk + 4u * (lane + {{8*b}}u) < {{width}} {
            {{name}}[at + {{8*b}}u] = {{sum}}{{b}}_{{r}};
        }
@}
    }
@}
