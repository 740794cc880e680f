@for r in 0..4 {
        if first + line + {{8*r}}u < p.m {
            statistics[note + {{kind}}u * p.heads * p.m + {{8*r}}u] = {{value}}[{{r}}];
        }
@}
