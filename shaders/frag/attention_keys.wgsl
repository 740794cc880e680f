        let lowest = table[p.table_offset + at];
        let stop = table[p.table_offset + p.m + next - 1u];
