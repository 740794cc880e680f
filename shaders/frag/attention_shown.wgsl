@for c in 0..OTHERS/8 {
            let key{{c}} = tile + lane + {{8*c}}u;
            var shown{{c}} = vec{{EACH}}<bool>(false);
            if key{{c}} < stop && table[p.table_offset + 5u * p.m + 2u * p.n + min(key{{c}}, p.n - 1u)] != 0u {
                shown{{c}} = (low <= vec{{EACH}}<u32>(key{{c}})) & (vec{{EACH}}<u32>(key{{c}}) < high);
            }
@}
