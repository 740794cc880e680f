//! The WGSL kernel of `ops::linear`: parameter block, tiles, configurations. It launches nothing.

use super::super::linear::{Epilogue, LinearShape};
use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;
use super::super::tuning::{self, Choice};
use super::{Limits, Transport};
use crate::error::Result;

params! {
    /// `linear_f32`: `y = epilogue(x W + b)`.
    pub struct LinearParams {
        /// Workgroups.
        pub tiles: u32,
        /// Tiles across y.
        pub tile_columns: u32,
        pub n: u32,
        pub k: u32,
        pub m: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub w_offset: u32,
        pub w_stride: u32,
        pub bias_offset: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        pub pre_offset: u32,
        pub pre_stride: u32,
        /// [`HAS_BIAS`], [`HAS_PRE`], [`RESUMES`], [`BRAIN`].
        pub flags: u32,
    }
}

/// There is a bias.
pub const HAS_BIAS: u32 = 1;
/// `pre` receives z + b.
pub const HAS_PRE: u32 = 2;
/// y holds sums over earlier k.
pub const RESUMES: u32 = 4;
/// Of W in halves: they are bf16, not f16.
pub const BRAIN: u32 = 8;

/// A tile of y.
#[derive(Clone, Copy, Debug)]
struct Tile {
    /// Rows and columns of y that an invocation holds.
    each: (u32, u32),
    /// Invocations down and across.
    invocations: (u32, u32),
    /// Registers of an invocation, estimated.
    registers: u32,
}

/// Every tile, the smallest first.
const TILES: [Tile; 3] = [
    Tile { each: (4, 4), invocations: (8, 8), registers: 48 },
    Tile { each: (4, 4), invocations: (16, 16), registers: 48 },
    Tile { each: (8, 8), invocations: (16, 16), registers: 112 },
];

/// Columns of x that a tile holds in workgroup memory at a time.
const DEPTH: u32 = 16;

/// The word for how W is stored.
pub(super) fn layout(transpose: bool) -> &'static str {
    if transpose { "nt" } else { "nn" }
}

impl Tile {
    fn rows(&self) -> u32 {
        self.each.0 * self.invocations.0
    }
    fn columns(&self) -> u32 {
        self.each.1 * self.invocations.1
    }
    fn configuration(&self, transpose: bool, loads: Loads, epilogue: Epilogue, transport: Transport) -> Configuration {
        let (rows, columns) = (self.rows(), self.columns());
        let (kind, act) = epilogue.parts();
        let constants = [
            ("TM", self.each.0),
            ("TN", self.each.1),
            ("DEPTH", DEPTH),
            ("TANGENT", u32::from(kind == "tangent")),
            ("override.HIGH", self.invocations.0),
            ("override.WIDE", self.invocations.1),
        ];
        let constants = Constants::default().ints(constants);
        let words = [
            ("LAYOUT", layout(transpose)),
            ("W_STAGE", if transpose { "rows" } else { "columns" }),
            ("EPILOGUE", kind),
            ("ACTIVATION", act.name()),
            ("PARAMS", transport.name()),
        ];
        let constants = words.into_iter().fold(constants, |all, (name, word)| all.word(name, word));
        let constants = loads.constants(constants);
        let layout = layout(transpose);
        let (loads, epilogue) = (loads.name(), epilogue.name());
        Configuration {
            name: format!("{rows}x{columns}x{DEPTH}-{layout}-{loads}-{epilogue}-{}", transport.name()),
            constants,
            threads: self.invocations.0 * self.invocations.1,
            shared: DEPTH * (rows + columns) * 4,
        }
    }
    /// The tile of a configuration.
    fn of(configuration: &Configuration) -> Self {
        let int = |name| configuration.constants.get_int(name).map_or(0, |n| n as u32);
        let same = |t: &&Tile| t.each.0 == int("TM") && t.invocations.0 == int("override.HIGH");
        *TILES.iter().find(same).unwrap_or(&TILES[0])
    }
}

/// How x and W are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loads {
    /// By elements.
    Elements,
    /// In quads: every row of x and W starts at a multiple of 4 elements and has whole quads.
    Quads,
    /// In quads, and W in halves, f16 or bf16.
    Halves,
}

impl Loads {
    pub const ALL: [Loads; 3] = [Loads::Elements, Loads::Quads, Loads::Halves];
    fn name(self) -> &'static str {
        match self {
            Loads::Elements => "v1",
            Loads::Quads => "v4",
            Loads::Halves => "half",
        }
    }
    fn constants(self, constants: Constants) -> Constants {
        let element = if self == Loads::Halves { "vec2<u32>" } else { self.element() };
        super::vector(constants, self != Loads::Elements).word("LOADS", self.name()).word("W_ELEMENT", element)
    }
    fn element(self) -> &'static str {
        if self == Loads::Elements { "f32" } else { "vec4<f32>" }
    }
}

fn configurations() -> Vec<Configuration> {
    let mut all = Vec::new();
    for tile in TILES {
        for transpose in [false, true] {
            for loads in Loads::ALL {
                for epilogue in Epilogue::all() {
                    all.extend(Transport::ALL.map(|t| tile.configuration(transpose, loads, epilogue, t)));
                }
            }
        }
    }
    all
}

/// A linear map, ready to launch.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rows and columns of a tile of y.
    pub tile: (u32, u32),
    pub transport: Transport,
    pub choice: Choice,
}

impl Plan {
    pub fn configuration(&self) -> &Configuration {
        self.choice.configuration()
    }
}

/// The tile for a linear map on an adapter; a `tile` that is given is taken. `loads` must allow for how x and W lie, of
/// which `shape.aligned` says less.
///
/// Every tile gives the same bits: k is summed in order, by one chain of fma an element.
pub fn choose(shape: &LinearShape, loads: Loads, limits: &Limits, tile: Option<(u32, u32)>) -> Result<Plan> {
    let transport = limits.transport(size_of::<LinearParams>());
    let (kind, act) = shape.epilogue.parts();
    let (n, k, m) = (f64::from(shape.n), f64::from(shape.k), f64::from(shape.m));
    let written = if shape.epilogue == Epilogue::Add { 2.0 } else { 1.0 };
    let of_w = if loads == Loads::Halves { 2.0 } else { 4.0 };
    let (flops, bytes) = (2.0 * n * k * m, 4.0 * (n * k + written * n * m) + of_w * k * m);
    let judge = |c: &Configuration| {
        super::same(c, "PARAMS", transport.name(), "way of parameters")?;
        super::same(c, "LAYOUT", layout(shape.transpose), "layout of W")?;
        super::same(c, "EPILOGUE", kind, "epilogue")?;
        super::same(c, "ACTIVATION", act.name(), "activation")?;
        super::same(c, "LOADS", loads.name(), "way of loads")?;
        super::fits(c, limits)?;
        let (wanted, tile) = (tile, Tile::of(c));
        if let Some((rows, columns)) = wanted.filter(|&w| w != (tile.rows(), tile.columns())) {
            return Err(format!("another tile, {rows}x{columns} is asked for"));
        }
        let ctas = u64::from(shape.n.div_ceil(tile.rows())) * u64::from(shape.m.div_ceil(tile.columns()));
        let depth = f64::from(shape.k.next_multiple_of(DEPTH));
        Ok(super::work(ctas, tile.each, tile.invocations, depth, tile.registers))
    };
    let choice = tuning::choose(&LINEAR, &limits.assumed(), flops, bytes, judge)?;
    let tile = Tile::of(choice.configuration());
    Ok(Plan { tile: (tile.rows(), tile.columns()), transport, choice })
}

pub static LINEAR: Kernel = Kernel {
    name: "linear_f32",
    operation: "linear",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/linear_f32.wgsl"),
    params: LinearParams::FIELDS,
    configurations,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;
    use crate::kernel::linear::Elementwise;

    #[test]
    fn large_maps_take_large_tiles_and_weak_adapters_small_ones() {
        let shape =
            |n, m, aligned| LinearShape { dtype: DType::F32, n, k: 768, m, transpose: true, epilogue: Epilogue::Add, aligned };
        let chosen = |n, m, loads| choose(&shape(n, m, loads != Loads::Elements), loads, &Limits::BASELINE, None).unwrap();
        let name = |n, m, loads| chosen(n, m, loads).configuration().name.clone();
        assert_eq!(name(16_384, 3072, Loads::Quads), "128x128x16-nt-v4-add-uniform");
        assert_eq!(name(16_384, 3072, Loads::Halves), "128x128x16-nt-half-add-uniform");
        assert_eq!(name(40, 30, Loads::Elements), "64x64x16-nt-v1-add-uniform");
        let bytes = |loads| chosen(40, 30, loads).choice.bytes;
        assert_eq!(bytes(Loads::Quads) - bytes(Loads::Halves), 2.0 * 768.0 * 30.0);
        let weak = Limits { invocations: 128, ..Limits::BASELINE };
        assert_eq!(choose(&shape(40, 30, true), Loads::Quads, &weak, None).unwrap().tile, (32, 32));
        let forced = |tile| choose(&shape(40, 30, false), Loads::Elements, &Limits::BASELINE, Some(tile));
        assert_eq!(forced((32, 32)).unwrap().configuration().name, "32x32x16-nt-v1-add-uniform");
        let text = forced((48, 64)).unwrap_err().to_string();
        assert!(text.contains("another tile, 48x64 is asked for"), "{text}");
    }

    #[test]
    fn the_adapter_decides_how_parameters_travel() {
        let epilogue = Epilogue::Tangent(Elementwise::GeluNew);
        let shape = LinearShape { dtype: DType::F32, n: 32, k: 5, m: 7, transpose: false, epilogue, aligned: false };
        let limits = |immediates| Limits { immediates, ..Limits::BASELINE };
        let bytes = size_of::<LinearParams>() as u32;
        for (immediates, word) in [(0, "uniform"), (bytes - 1, "uniform"), (bytes, "immediates")] {
            let plan = choose(&shape, Loads::Elements, &limits(immediates), None).unwrap();
            assert_eq!(plan.configuration().name, format!("64x64x16-nn-v1-tangent-gelu_new-{word}"));
        }
    }
}
