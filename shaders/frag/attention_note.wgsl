@for r in 0..EACH {
        if first + line + {{LINES*r}}u < p.m {
            statistics[note + {{kind}}u * p.heads * p.m + {{LINES*r}}u] = {{value}}[{{r}}];
        }
@}
