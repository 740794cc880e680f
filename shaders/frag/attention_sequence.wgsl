        // The queries of one sequence: at .. next. Tiles of its keys begin with the sequence, so that what else is in the
        // batch changes no bits.
        let begin = table[p.table_offset + 2u * p.m + at];
        let next = clamp(table[p.table_offset + 4u * p.m + at], at + 1u, end);
