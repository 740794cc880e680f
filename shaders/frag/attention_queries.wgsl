    // The own queries: what each sees; one that is not there sees nothing.
    let line = thread % {{LINES}}u;
    let lane = thread / {{LINES}}u;
    let chunk = unit % p.chunks;
    let head = unit / p.chunks / p.tiles % p.heads;
    let probe = unit / p.chunks / p.tiles / p.heads;
    let first = unit / p.chunks % p.tiles * {{ROWS}}u;
    let end = min(first + {{ROWS}}u, p.m);
    var low = vec{{EACH}}<u32>();
    var high = vec{{EACH}}<u32>();
@for r in 0..EACH {
    if first + line + {{LINES*r}}u < p.m {
        low[{{r}}] = table[p.table_offset + first + line + {{LINES*r}}u];
        high[{{r}}] = table[p.table_offset + p.m + first + line + {{LINES*r}}u];
    }
@}
