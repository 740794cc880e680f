//! The PTX kernels of `ops::linear`: parameter block, epilogues, and the choice of a tile. It launches
//! nothing.

mod tiles;

use tiles::{configurations, tile_of, tiles_of, work};

use super::params::{Params, params};
use super::registry::{Kernel, Language};
use super::tuning::{self, Choice, Launch, Limits};
use crate::device::DType;
use crate::error::{Error, Result};

params! {
    /// `linear_f32_sm80`, `linear_f64_sm80`: `y = epilogue(x W + b)`.
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
    pub dtype: DType,
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
/// Every configuration of a dtype gives the same bits: `k` is summed in order, by one chain of fused
/// multiply-adds an element.
pub fn choose(shape: &LinearShape, limits: &Limits) -> Result<Plan> {
    let LinearShape { dtype, n, k, m, epilogue, .. } = *shape;
    let kernel = match dtype {
        DType::F32 => &LINEAR_F32,
        DType::F64 => &LINEAR_F64,
    };
    let refuse =
        |found: String, expected: &str| Err(Error::Kernel { name: kernel.name.into(), found, expected: expected.into() });
    if n == 0 || k == 0 || m == 0 || n.max(k).max(m) > MOST {
        return refuse(format!("x [{n}, {k}] and y [{n}, {m}]"), "sizes from 1 to 2^31 - 2^16");
    }
    if matches!(epilogue, Epilogue::Tangent(_)) && !n.is_multiple_of(TANGENT_ROWS) {
        return refuse(format!("{n} rows with tangents"), "a multiple of 16: a primal and 15 tangents a token");
    }
    let (n64, k64, m64) = (f64::from(n), f64::from(k), f64::from(m));
    let written = if epilogue == Epilogue::Add { 2.0 } else { 1.0 };
    let (flops, numbers) = (2.0 * n64 * k64 * m64, n64 * k64 + k64 * m64 + written * n64 * m64);
    let bytes = numbers * dtype.bytes() as f64;
    let choice = tuning::choose(kernel, limits, flops, bytes, |configuration| work(shape, configuration))?;
    let configuration = choice.configuration().clone();
    let (row_tiles, column_tiles) = tiles_of(shape, &tile_of(dtype, &configuration));
    let launch = Launch { kernel, configuration, grid: [row_tiles * column_tiles, 1, 1] };
    Ok(Plan { shape: *shape, column_tiles, launch, choice })
}

/// Largest `n`, `k` or `m`: tile edges stay within a signed 32-bit integer.
const MOST: u32 = (1 << 31) - (1 << 16);

pub(super) static LINEAR_F32: Kernel = Kernel {
    name: "linear_f32_sm80",
    operation: "linear",
    language: Language::SM80,
    source: include_str!("../../kernels/linear_f32_sm80.ptx"),
    params: LinearParams::FIELDS,
    configurations: || configurations(DType::F32),
};
pub(super) static LINEAR_F64: Kernel = Kernel {
    name: "linear_f64_sm80",
    operation: "linear",
    language: Language::SM80,
    source: include_str!("../../kernels/linear_f64_sm80.ptx"),
    params: LinearParams::FIELDS,
    configurations: || configurations(DType::F64),
};

#[cfg(test)]
mod tests {
    use super::super::tuning::Verdict;
    use super::tiles::{layout, tiles};
    use super::*;

    const H200: Limits = Limits { capability: (9, 0), multiprocessors: 132, shared_per_block: 232_448 };

    fn shape(n: u32, k: u32, m: u32, epilogue: Epilogue) -> LinearShape {
        LinearShape { dtype: DType::F32, n, k, m, transpose: false, epilogue, aligned: true }
    }

    #[test]
    fn a_choice_names_the_layout_and_epilogue_asked_for() {
        for epilogue in Epilogue::all() {
            for transpose in [false, true] {
                for (dtype, aligned) in [DType::F32, DType::F64].into_iter().flat_map(|d| [(d, false), (d, true)]) {
                    let shape = LinearShape { dtype, transpose, aligned, ..shape(64, 100, 100, epilogue) };
                    let plan = choose(&shape, &H200).unwrap();
                    let copy = if aligned { 16 } else { dtype.bytes() };
                    let end = format!("-{}-cp{copy}-{}", layout(transpose), epilogue.name());
                    assert!(plan.launch.configuration.name.ends_with(&end), "{}", plan.launch.configuration.name);
                    assert_eq!(plan.choice.candidates.len(), configurations(dtype).len());
                    let legal = plan.choice.candidates.iter().filter(|c| matches!(c.verdict, Verdict::Legal { .. })).count();
                    assert_eq!(legal, if aligned { 2 * tiles(dtype).len() } else { tiles(dtype).len() });
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
        for dtype in [DType::F32, DType::F64] {
            let rows = |n, k, m| {
                let shape = LinearShape { dtype, ..shape(n, k, m, Epilogue::Store(Elementwise::Gelu)) };
                choose(&shape, &H200).unwrap().launch.configuration.constants.get_int("TILE_ROWS").unwrap()
            };
            assert_eq!((rows(128, 64, 64), rows(65_536, 768, 3072)), (64, 128));
        }
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
        let text = LINEAR_F32.expand(&configurations(DType::F32)[0]).unwrap();
        assert!(text.contains(&format!("params[{}]", size_of::<LinearParams>())));
    }
}
