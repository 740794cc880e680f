    // {{x}} over the lanes, in their order.
    best[{{LINES}}u * lane + line] = {{x}};
    workgroupBarrier();
    {{x}} = best[line];
    for (var other = 1u; other < 8u; other++) {
        {{x}} += best[{{LINES}}u * other + line];
    }
    workgroupBarrier();
