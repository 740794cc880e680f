//! The PTX kernel of `ops::linear`: parameter block, tiles, configurations. It launches nothing.

use super::gram::copies;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::template::Constants;
use super::tuning::{self, Choice, Launch, Limits, Work, registers};
use crate::error::{Error, Result};

params! {
    /// `linear_f32_sm80`: `y = epilogue(x W + b)`.
    pub struct LinearParams {
        /// Address of `[n, k]`, row stride `x_stride`.
        pub x: u64,
        /// Address of `[k, m]`, or of `[m, k]` in the layout `nt`; row stride `w_stride`.
        pub w: u64,
        /// Address of `[m]`, or 0.
        pub bias: u64,
        /// Address of `[n, m]`, row stride `y_stride`.
        pub y: u64,
        /// Address that receives `x W + b` before the activation, or 0: `[n, m]`; in the epilogue
        /// `tangent` the primal rows alone, `[n / 16, m]`. Row stride `pre_stride`.
        pub pre: u64,
        pub n: u32,
        pub k: u32,
        pub m: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub w_stride: u32,
        pub y_stride: u32,
        pub pre_stride: u32,
        /// Tiles across `y`: CTAs run along its rows first.
        pub column_tiles: u32,
    }
}

/// Rows of a token in the epilogue `tangent`: 1 primal and 15 tangents.
pub const TANGENT_ROWS: u32 = 16;

/// An activation function that works on each element alone; the fragment `act_NAME.ptxh` has its
/// value and its derivative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elementwise {
    Identity,
    Relu,
    /// `x Phi(x)`.
    Gelu,
    /// The tanh form of GELU.
    GeluNew,
    Silu,
    Tanh,
    Sigmoid,
}

impl Elementwise {
    pub const ALL: [Elementwise; 7] = [
        Elementwise::Identity,
        Elementwise::Relu,
        Elementwise::Gelu,
        Elementwise::GeluNew,
        Elementwise::Silu,
        Elementwise::Tanh,
        Elementwise::Sigmoid,
    ];
    /// The word in file and configuration names.
    pub fn name(self) -> &'static str {
        match self {
            Elementwise::Identity => "identity",
            Elementwise::Relu => "relu",
            Elementwise::Gelu => "gelu",
            Elementwise::GeluNew => "gelu_new",
            Elementwise::Silu => "silu",
            Elementwise::Tanh => "tanh",
            Elementwise::Sigmoid => "sigmoid",
        }
    }
}

/// What becomes of `z = x W + b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// `y = act(z)`.
    Store(Elementwise),
    /// `y += z`.
    Add,
    /// Rows are tokens of [`TANGENT_ROWS`], the primal first: `y_0 = act(z_0)`, `y_r = act'(z_0) x_r W`.
    Tangent(Elementwise),
}

impl Epilogue {
    /// Every epilogue, in the order of the configurations.
    pub fn all() -> impl Iterator<Item = Epilogue> {
        let store = Elementwise::ALL.into_iter().map(Epilogue::Store);
        store.chain([Epilogue::Add]).chain(Elementwise::ALL.into_iter().map(Epilogue::Tangent))
    }
    /// The fragment and the activation.
    pub(super) fn parts(self) -> (&'static str, Elementwise) {
        match self {
            Epilogue::Store(act) => ("store", act),
            Epilogue::Add => ("add", Elementwise::Identity),
            Epilogue::Tangent(act) => ("tangent", act),
        }
    }
    /// `store-gelu`, `add`: the end of a configuration's name.
    pub fn name(self) -> String {
        match self.parts() {
            ("add", _) => "add".into(),
            (kind, act) => format!("{kind}-{}", act.name()),
        }
    }
}

/// What [`choose`] has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    pub n: u32,
    pub k: u32,
    pub m: u32,
    /// Whether W is `[m, k]` and used transposed.
    pub transpose: bool,
    pub epilogue: Epilogue,
    /// Whether every row of `x`, `w`, `y` and `pre` starts at a multiple of 16 bytes.
    pub aligned: bool,
}

/// A linear map, ready to launch.
#[derive(Clone, Debug)]
pub struct Plan {
    pub shape: LinearShape,
    /// What [`LinearParams::column_tiles`] must be.
    pub column_tiles: u32,
    pub launch: Launch,
    pub choice: Choice,
}

/// The tile for a linear map on a device.
///
/// Every configuration gives the same bits: `k` is summed in order, by one chain of fused
/// multiply-adds an element.
pub fn choose(shape: &LinearShape, limits: &Limits) -> Result<Plan> {
    let LinearShape { n, k, m, epilogue, .. } = *shape;
    let refuse =
        |found: String, expected: &str| Err(Error::Kernel { name: LINEAR.name.into(), found, expected: expected.into() });
    if n == 0 || k == 0 || m == 0 || n.max(k).max(m) > MOST {
        return refuse(format!("x [{n}, {k}] and y [{n}, {m}]"), "sizes from 1 to 2^31 - 2^16");
    }
    if matches!(epilogue, Epilogue::Tangent(_)) && !n.is_multiple_of(TANGENT_ROWS) {
        return refuse(format!("{n} rows with tangents"), "a multiple of 16: a primal and 15 tangents a token");
    }
    let (n64, k64, m64) = (f64::from(n), f64::from(k), f64::from(m));
    let written = if epilogue == Epilogue::Add { 2.0 } else { 1.0 };
    let (flops, bytes) = (2.0 * n64 * k64 * m64, 4.0 * (n64 * k64 + k64 * m64 + written * n64 * m64));
    let choice = tuning::choose(&LINEAR, limits, flops, bytes, |configuration| work(shape, configuration))?;
    let configuration = choice.configuration().clone();
    let (row_tiles, column_tiles) = tiles_of(shape, &tile_of(&configuration));
    let launch = Launch { kernel: &LINEAR, configuration, grid: [row_tiles * column_tiles, 1, 1] };
    Ok(Plan { shape: *shape, column_tiles, launch, choice })
}

/// Largest `n`, `k` or `m`: tile edges stay within a signed 32-bit integer.
const MOST: u32 = (1 << 31) - (1 << 16);

/// A tile shape of the kernel.
#[derive(Clone, Copy, Debug)]
struct Tile {
    /// Rows and columns of y that a thread holds.
    thread: (u32, u32),
    /// Warps down and across the tile.
    warps: (u32, u32),
    /// Columns of x a stage.
    depth: u32,
    stages: u32,
    /// CTAs that a multiprocessor can hold as far as registers go: what bounds those of a thread.
    resident: u32,
}

const TILES: [Tile; 2] = [
    Tile { thread: (8, 4), warps: (2, 2), depth: 16, stages: 4, resident: 4 },
    Tile { thread: (8, 8), warps: (4, 1), depth: 16, stages: 3, resident: 3 },
];

/// Elements added to a tile row that runs along k: 16 bytes, so that the rows of 8 lanes, an odd
/// number of 16-byte words apart, lie in 8 different groups of four banks.
const PAD: u32 = 4;

fn layout(transpose: bool) -> &'static str {
    if transpose { "nt" } else { "nn" }
}

impl Tile {
    /// A warp's lanes stand 4 down and 8 across.
    fn rows(&self) -> u32 {
        4 * self.thread.0 * self.warps.0
    }
    fn columns(&self) -> u32 {
        8 * self.thread.1 * self.warps.1
    }
    fn threads(&self) -> u32 {
        32 * self.warps.0 * self.warps.1
    }
    fn configuration(&self, transpose: bool, copy: u32, epilogue: Epilogue) -> Configuration {
        let (rows, columns, pitch) = (self.rows(), self.columns(), self.depth + PAD);
        // nn keeps W's tile as [depth][columns], nt as [columns][depth]: its rows, the elements from k to
        // k and from column to column in shared memory and in registers, which way its copies run, how
        // many neighbouring columns a thread holds, and how it writes them.
        let (w_rows, w_pitch, w_column_pitch) = if transpose { (columns, pitch, pitch) } else { (self.depth, columns, 1) };
        let (w_k, w_column) = if transpose { (1, 4) } else { (self.thread.1, 1) };
        let (w_copy, beside) = if transpose { ("along", 1) } else { ("across", 4) };
        let write = if beside == 4 && copy == 16 { "quads" } else { "singles" };
        let (x_bytes, w_bytes) = (rows * pitch * 4, w_rows * w_pitch * 4);
        let (kind, act) = epilogue.parts();
        let constants = [
            ("TILE_ROWS", rows),
            ("TILE_COLUMNS", columns),
            ("DEPTH", self.depth),
            ("THREAD_ROWS", self.thread.0),
            ("THREAD_COLUMNS", self.thread.1),
            ("WARPS_ACROSS", self.warps.1),
            ("STAGES", self.stages),
            ("X_PITCH", pitch),
            ("X_BYTES", x_bytes),
            ("W_PITCH", w_pitch),
            ("W_COLUMN_PITCH", w_column_pitch),
            ("W_K", w_k),
            ("W_COLUMN", w_column),
            ("W_BYTES", w_bytes),
            ("STAGE_BYTES", x_bytes + w_bytes),
            ("BESIDE", beside),
            ("ELEMENT", 4),
            ("RESIDENT", self.resident),
            ("REGISTERS", registers(self.resident, self.threads())),
        ];
        let constants = constants.into_iter().fold(Constants::default(), |all, (name, value)| all.int(name, value as usize));
        let constants = constants.word("LAYOUT", layout(transpose)).word("W_COPY", w_copy).word("WRITE", write);
        let constants = constants.word("EPILOGUE", kind).word("ACTIVATION", act.name());
        let layout = layout(transpose);
        Configuration {
            name: format!("{rows}x{columns}x{}-{layout}-cp{copy}-{}", self.depth, epilogue.name()),
            constants: copies(constants, copy, 4),
            threads: self.threads(),
            shared: self.stages * (x_bytes + w_bytes),
        }
    }
}

fn configurations() -> Vec<Configuration> {
    let mut all = Vec::new();
    for tile in TILES {
        for transpose in [false, true] {
            for copy in [16, 4] {
                all.extend(Epilogue::all().map(|epilogue| tile.configuration(transpose, copy, epilogue)));
            }
        }
    }
    all
}

/// The tile of one of [`configurations`].
fn tile_of(configuration: &Configuration) -> Tile {
    let [small, large] = TILES;
    if configuration.constants.get_int("TILE_ROWS") == Some(small.rows().into()) { small } else { large }
}

/// Tiles down and across y.
fn tiles_of(shape: &LinearShape, tile: &Tile) -> (u32, u32) {
    (shape.n.div_ceil(tile.rows()), shape.m.div_ceil(tile.columns()))
}

/// The work of a CTA, in clocks of a multiprocessor: 128 multiply-adds and 128 bytes of shared memory
/// a clock.
fn work(shape: &LinearShape, configuration: &Configuration) -> std::result::Result<Work, String> {
    let copy = configuration.constants.get_int("COPY").unwrap_or(16);
    if configuration.constants.get_word("LAYOUT") != Some(layout(shape.transpose)) {
        return Err(format!("the other layout of W, {} is asked for", layout(shape.transpose)));
    }
    if !configuration.name.ends_with(&format!("cp{copy}-{}", shape.epilogue.name())) {
        return Err(format!("another epilogue, {} is asked for", shape.epilogue.name()));
    }
    if copy == 16 && !shape.aligned {
        return Err("16-byte copies, but not every row of x, W and y starts at a multiple of 16 bytes".into());
    }
    let tile = tile_of(configuration);
    let (row_tiles, column_tiles) = tiles_of(shape, &tile);
    let ctas = u64::from(row_tiles) * u64::from(column_tiles);
    if ctas >= 1 << 31 {
        return Err(format!("{ctas} tiles, a grid has fewer than 2^31"));
    }
    let warps = f64::from(tile.threads() / 32);
    let (rows, columns) = (f64::from(tile.rows()), f64::from(tile.columns()));
    // A 16-byte word of each row, and of each column, for four k; two wavefronts each.
    let read = warps * f64::from(tile.thread.0 + tile.thread.1) / 2.0;
    let copied = 4.0 * (rows + columns);
    let write = copied / 128.0 + copied / copy as f64 / 32.0;
    let depth = f64::from(shape.k.next_multiple_of(tile.depth));
    Ok(Work {
        ctas,
        registers: registers(tile.resident, tile.threads()),
        multiply: depth * rows * columns / 128.0,
        feed: depth * (read + write),
    })
}

pub(super) static LINEAR: Kernel = Kernel {
    name: "linear_f32_sm80",
    operation: "linear",
    language: Language::Ptx { least: (8, 0) },
    source: include_str!("../../kernels/linear_f32_sm80.ptx"),
    params: LinearParams::FIELDS,
    configurations,
};

#[cfg(test)]
mod tests {
    use super::super::tuning::Verdict;
    use super::*;

    const H200: Limits = Limits { capability: (9, 0), multiprocessors: 132, shared_per_block: 232_448 };

    fn shape(n: u32, k: u32, m: u32, epilogue: Epilogue) -> LinearShape {
        LinearShape { n, k, m, transpose: false, epilogue, aligned: true }
    }

    #[test]
    fn copies_and_threads_cover_every_tile_exactly() {
        for c in configurations() {
            let get = |name| c.constants.get_int(name).unwrap() as u32;
            let (at_once, depth) = (c.threads * get("VECTOR"), get("DEPTH"));
            // Along k a pass takes whole groups of eight rows; across k whole rows.
            let along = |rows: u32| at_once % (8 * depth) == 0 && (rows * depth).is_multiple_of(at_once);
            assert!(along(get("TILE_ROWS")), "{}", c.name);
            let columns = get("TILE_COLUMNS");
            if c.constants.get_word("W_COPY") == Some("along") {
                assert!(along(columns), "{}", c.name);
            } else {
                assert!(at_once.is_multiple_of(columns) && (depth * columns).is_multiple_of(at_once), "{}", c.name);
            }
            assert_eq!(c.threads * get("THREAD_ROWS") * get("THREAD_COLUMNS"), get("TILE_ROWS") * columns, "{}", c.name);
            assert!(get("THREAD_ROWS").is_multiple_of(4), "{}: a token's rows lie in one thread's slab", c.name);
            assert!(get("THREAD_COLUMNS").is_multiple_of(get("BESIDE")), "{}", c.name);
            // The least shared memory a CTA: compute capability 8.6 and 8.9.
            assert!(c.shared <= 101_376, "{}", c.name);
        }
    }

    #[test]
    fn a_choice_names_the_layout_and_epilogue_asked_for() {
        for epilogue in Epilogue::all() {
            for transpose in [false, true] {
                for aligned in [false, true] {
                    let shape = LinearShape { transpose, aligned, ..shape(64, 100, 100, epilogue) };
                    let plan = choose(&shape, &H200).unwrap();
                    let copy = if aligned { 16 } else { 4 };
                    let end = format!("-{}-cp{copy}-{}", layout(transpose), epilogue.name());
                    assert!(plan.launch.configuration.name.ends_with(&end), "{}", plan.launch.configuration.name);
                    assert_eq!(plan.choice.candidates.len(), configurations().len());
                    let legal = plan.choice.candidates.iter().filter(|c| matches!(c.verdict, Verdict::Legal { .. })).count();
                    assert_eq!(legal, if aligned { 2 * TILES.len() } else { TILES.len() });
                }
            }
        }
    }

    #[test]
    fn the_grid_covers_y_and_counts_its_column_tiles() {
        for (n, m) in [(1, 1), (64, 64), (65, 129), (8192, 3072)] {
            let plan = choose(&shape(n, 768, m, Epilogue::Add), &H200).unwrap();
            let get = |name| plan.launch.configuration.constants.get_int(name).unwrap() as u32;
            assert_eq!(plan.column_tiles, m.div_ceil(get("TILE_COLUMNS")));
            assert_eq!(plan.launch.grid, [n.div_ceil(get("TILE_ROWS")) * plan.column_tiles, 1, 1]);
        }
    }

    #[test]
    fn small_maps_take_the_small_tile_and_large_ones_the_large() {
        let rows = |n, k, m| {
            let plan = choose(&shape(n, k, m, Epilogue::Store(Elementwise::Gelu)), &H200).unwrap();
            plan.launch.configuration.constants.get_int("TILE_ROWS").unwrap()
        };
        assert_eq!((rows(128, 64, 64), rows(65_536, 768, 3072)), (64, 128));
    }

    #[test]
    fn what_cannot_run_is_refused_in_a_sentence() {
        let message = |shape: LinearShape| choose(&shape, &H200).unwrap_err().to_string();
        let tangent = message(shape(24, 4, 4, Epilogue::Tangent(Elementwise::Relu)));
        assert!(tangent.contains("24 rows with tangents; expected a multiple of 16"), "{tangent}");
        assert!(message(shape(0, 4, 4, Epilogue::Add)).contains("x [0, 4] and y [0, 4]"));
        assert!(message(shape(1 << 30, 4, 1 << 30, Epilogue::Add)).contains("a grid has fewer than 2^31"));
    }

    #[test]
    fn the_text_is_told_the_size_of_its_block() {
        let text = LINEAR.expand(&configurations()[0]).unwrap();
        assert!(text.contains(&format!("params[{}]", size_of::<LinearParams>())));
    }
}
