// ---- The parameter block and the bindings of probes; see src/kernel/wgsl/probes.rs ----

struct Params {
    seed_low: u32,
    seed_high: u32,
    rows: u32,
    cols: u32,
    n: u32,
    first_row: u32,
    first_probe: u32,
    probes: u32,
    positions: u32,
    features: u32,
    sources: u32,
    count: u32,
    kind: u32,
    has_table: u32,
    index_offset: u32,
    first_offset: u32,
    y_offset: u32,
    y_stride: u32,
    log_columns: u32,
    column_tiles: u32,
}

@include "frag/params_uniform.wgsl"
@group(0) @binding(1) var<storage, read> c_t: array<f32>;
@group(0) @binding(2) var<storage, read> index: array<u32>;
@group(0) @binding(3) var<storage, read> first: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
