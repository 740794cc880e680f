    // The own rows below `end` of {{name}}, the columns of this workgroup below {{width}}.
@for r in 0..EACH {
    if first + line + {{LINES*r}}u < end {
        let at = {{base}} + (first + line + {{LINES*r}}u) * p.{{row}};
@for b in 0..COLUMNS/32 {
@for c in 0..4 {
        if {{COLUMNS}}u * chunk + 4u * (lane + {{8*b}}u) + {{c}}u < {{width}} {
            {{name}}[at + {{COLUMNS}}u * chunk + 4u * (lane + {{8*b}}u) + {{c}}u] = {{sum}}{{b}}_{{r}}[{{c}}];
        }
@}
@}
    }
@}
