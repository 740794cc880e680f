// ---- What the kernels of attention are told ----
//
// Row i of head h of an operand begins at .._offset + i .._row + h .._head; probes of derivatives follow each other.
struct Params {
    // Workgroups.
    units: u32,
    // Tiles of {{ROWS}} queries or keys a head.
    tiles: u32,
    // Groups of {{COLUMNS}} columns of a head's results.
    chunks: u32,
    m: u32,
    n: u32,
    heads: u32,
    // Heads of queries that read one head of keys.
    group: u32,
    d_head: u32,
    d_v: u32,
    scale: f32,
    // Of the scores; 0 where there is none.
    cap: f32,
    uncap: f32,
    // 1 where the statistics of queries are to be written.
    notes: u32,
    table_offset: u32,
    statistics_offset: u32,
    q_offset: u32,
    q_row: u32,
    q_head: u32,
    k_offset: u32,
    k_row: u32,
    k_head: u32,
    v_offset: u32,
    v_row: u32,
    v_head: u32,
    dq_offset: u32,
    dq_row: u32,
    dq_head: u32,
    dk_offset: u32,
    dk_row: u32,
    dk_head: u32,
    dv_offset: u32,
    dv_row: u32,
    dv_head: u32,
    // Of z, or of what is its tangent or cotangent.
    z_offset: u32,
    z_row: u32,
    z_head: u32,
    // Of the pattern, and its columns.
    p_offset: u32,
    p_row: u32,
    longest: u32,
}

@include "frag/params_uniform.wgsl"
