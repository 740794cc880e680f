            // {{sum}} += the products of lines of {{own}} and {{other}}, {{DEPTH}} columns at a time through workgroup memory.
            for (var start = 0u; start < p.{{width}}; start += {{DEPTH}}u) {
                copy_{{own}}(thread, 0u, {{ROWS}}u, DEPTH, PITCH, {{own}}_base, first, end, start, p.{{width}});
                copy_{{other}}(thread, OTHERS, {{OTHERS}}u, DEPTH, PITCH, {{other}}_base, tile, stop, start, p.{{width}});
                workgroupBarrier();
@include "frag/attention_dot.wgsl" sum={{sum}} own_at=0u other_at=OTHERS
                workgroupBarrier();
            }
