    // The own queries: what each sees; one that is not there sees nothing.
    let line = thread % 8u;
    let lane = thread / 8u;
    let chunk = unit % p.chunks;
    let head = unit / p.chunks / p.tiles % p.heads;
    let probe = unit / p.chunks / p.tiles / p.heads;
    let first = unit / p.chunks % p.tiles * {{ROWS}}u;
    let end = min(first + {{ROWS}}u, p.m);
    var low = vec4<u32>();
    var high = vec4<u32>();
@for r in 0..4 {
    if first + line + {{8*r}}u < p.m {
        low[{{r}}] = table[p.table_offset + first + line + {{8*r}}u];
        high[{{r}}] = table[p.table_offset + p.m + first + line + {{8*r}}u];
    }
@}
