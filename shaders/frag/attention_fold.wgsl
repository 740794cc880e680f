    // {{x}} over the lanes, in their order.
    best[8u * lane + line] = {{x}};
    workgroupBarrier();
    {{x}} = best[line];
    for (var other = 1u; other < 8u; other++) {
        {{x}} += best[8u * other + line];
    }
    workgroupBarrier();
