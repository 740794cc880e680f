@include "frag/unit.wgsl"

// ---- A matrix cut into tiles, for kernels that go element by element ----
//
// Tiles are 2^p.log_columns columns wide and {{DEEP}} rows a line of invocations high; p.column_tiles of them lie side by
// side.

// The column and the first row of an invocation; those outside of the matrix are its caller's to leave out.
struct Cell {
    row: u32,
    column: u32,
    // Rows from one of its {{DEEP}} to the next.
    step: u32,
}

// The cell of an invocation of the workgroup of tile `unit`.
fn cell(unit: u32, thread: u32) -> Cell {
    let step = {{THREADS}}u >> p.log_columns;
    let row = unit / p.column_tiles * step * {{DEEP}}u + (thread >> p.log_columns);
    let column = ((unit % p.column_tiles) << p.log_columns) + (thread & ((1u << p.log_columns) - 1u));
    return Cell(row, column, step);
}
