//! The WGSL kernel of `ops::linear` on cooperative matrices, and the one that finds the scales of its factors: parameter
//! blocks and configurations. It launches nothing.

use std::fmt;

use super::super::linear::LinearShape;
use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;
use super::linear::{LinearParams, layout};
use super::{Limits, Transport};
use crate::kernel::linear::Epilogue;

params! {
    /// `magnitude_f32`: the largest finite magnitude of a matrix.
    pub struct MagnitudeParams {
        /// Workgroups.
        pub units: u32,
        pub rows: u32,
        pub cols: u32,
        /// Elements, as the stride.
        pub x_offset: u32,
        pub x_stride: u32,
        /// The word that receives it.
        pub at: u32,
    }
}

/// What multiplies squares of `side` x `side` factors in f16 and adds the products in f32: a subgroup of `lanes` lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// One of [`Unit::SIDES`].
    pub side: u32,
    /// One of [`Unit::LANES`].
    pub lanes: u32,
    /// Whether the lanes do it by themselves, without cooperative matrices: for tests of all that is around these.
    pub emulated: bool,
}

impl Unit {
    /// The best first.
    pub const SIDES: [u32; 2] = [16, 8];
    /// Lanes of a subgroup for which there are configurations.
    pub const LANES: [u32; 4] = [8, 16, 32, 64];
    /// Subgroups of a workgroup.
    const SUBGROUPS: u32 = 4;

    /// Invocations of a workgroup.
    pub fn threads(&self) -> u32 {
        Self::SUBGROUPS * self.lanes
    }
    /// Whether an adapter can run its workgroups.
    pub fn fits(&self, limits: &Limits) -> bool {
        self.threads() <= limits.invocations && SHARED <= limits.workgroup_memory
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (side, kind) = (self.side, if self.emulated { "emulated" } else { "cooperative" });
        write!(f, "{kind} matrices {side}x{side}x{side} f16 -> f32")
    }
}

/// Rows and columns of y of a workgroup.
pub const TILE: u32 = 64;
/// Columns of x that a tile holds in workgroup memory at a time.
const DEPTH: u32 = 16;
/// Bytes of workgroup memory: tiles of x and W in two parts of f16, and for each subgroup two sums of f32 of squares of
/// together 256 elements.
const SHARED: u32 = 2 * 2 * 2 * TILE * DEPTH + Unit::SUBGROUPS * 2 * 4 * 256;
/// Rows and columns of a subgroup's part of a tile.
const QUARTER: u32 = TILE / 2;

/// Whether a linear map is worth two more passes over its factors: it has a tile, and k to spread their reading over.
pub fn is_worth_it(shape: &LinearShape) -> bool {
    shape.n.min(shape.k).min(shape.m) >= TILE
}

/// The configuration for a linear map; `shape.aligned` says that every row of x and W starts at a multiple of 16 bytes and
/// has whole quads.
pub fn configuration(unit: Unit, shape: &LinearShape) -> Configuration {
    make(unit, shape.transpose, shape.aligned, shape.epilogue)
}

fn make(unit: Unit, transpose: bool, quads: bool, epilogue: Epilogue) -> Configuration {
    let Unit { side, lanes, emulated } = unit;
    let (kind, act) = epilogue.parts();
    let constants = [
        ("SIDE", side),
        ("LANES", lanes),
        ("PARTS", QUARTER / side),
        // Squares that a subgroup sends to its lanes at a time: as many as half of the workgroup memory holds.
        ("AT_ONCE", 256 / (side * side)),
        // Quads of a square that a lane takes.
        ("SHARE", (side * side / 4).div_ceil(lanes)),
        ("NATIVE", u32::from(!emulated)),
        ("TANGENT", u32::from(kind == "tangent")),
    ];
    let constants = Constants::default().ints(constants);
    let fragment = if emulated { "emulated" } else { "native" };
    let words = [
        ("UNIT", format!("{unit}")),
        ("FRAGMENT", fragment.into()),
        ("W_STAGE", if transpose { "rows" } else { "columns" }.into()),
        ("EPILOGUE", kind.into()),
        ("ACTIVATION", act.name().into()),
        ("PARAMS", Transport::Uniform.name().into()),
    ];
    let constants = words.into_iter().fold(constants, |all, (name, word)| all.word(name, word));
    let constants = super::vector(constants, quads);
    let vector = constants.get_word("VECTOR").unwrap_or_default();
    let mut name = format!("{side}x{side}x{side}-{lanes}-{}-{vector}-{}", layout(transpose), epilogue.name());
    if emulated {
        name += "-emulated";
    }
    Configuration { name, constants, threads: unit.threads(), shared: SHARED }
}

/// Every configuration of a unit.
pub fn configurations_of(unit: Unit) -> Vec<Configuration> {
    let mut all = Vec::new();
    for transpose in [false, true] {
        for quads in [false, true] {
            all.extend(Epilogue::all().map(|epilogue| make(unit, transpose, quads, epilogue)));
        }
    }
    all
}

fn configurations() -> Vec<Configuration> {
    let units = Unit::SIDES.into_iter().rev().flat_map(|side| Unit::LANES.map(|lanes| Unit { side, lanes, emulated: false }));
    units.flat_map(configurations_of).collect()
}

const MAGNITUDE_THREADS: u32 = 256;
/// Elements of an invocation, where there are few.
const EACH: u32 = 16;
/// The most workgroups, which add to one word.
const MOST_UNITS: u32 = 1024;

/// The workgroups for a matrix of that many elements.
pub fn magnitude_units(elements: u32) -> u32 {
    elements.div_ceil(MAGNITUDE_THREADS * EACH).min(MOST_UNITS)
}

/// The only configuration of [`MAGNITUDE`].
pub fn magnitude_configuration() -> Configuration {
    let constants = Constants::default().word("PARAMS", Transport::Uniform.name());
    Configuration { name: Transport::Uniform.name().into(), constants, threads: MAGNITUDE_THREADS, shared: 4 }
}

pub static LINEAR_COOP: Kernel = Kernel {
    name: "linear_coop_f32",
    operation: "linear",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/linear_coop_f32.wgsl"),
    params: LinearParams::FIELDS,
    configurations,
};

pub static MAGNITUDE: Kernel = Kernel {
    name: "magnitude_f32",
    operation: "linear",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/magnitude_f32.wgsl"),
    params: MagnitudeParams::FIELDS,
    configurations: || vec![magnitude_configuration()],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;

    #[test]
    fn a_choice_is_one_of_the_listed_configurations_and_small_maps_are_left_out() {
        let shape = |n, k, m| LinearShape { dtype: DType::F32, n, k, m, transpose: true, epilogue: Epilogue::Add, aligned: true };
        let unit = Unit { side: 16, lanes: 32, emulated: false };
        let chosen = configuration(unit, &shape(64, 64, 64));
        assert_eq!((chosen.name.as_str(), chosen.threads, chosen.shared), ("16x16x16-32-nt-v4-add", 128, 16 << 10));
        assert!(configurations().contains(&chosen));
        let emulated = configuration(Unit { emulated: true, ..unit }, &shape(64, 64, 64));
        assert!(emulated.name == format!("{}-emulated", chosen.name) && !configurations().contains(&emulated));
        assert!(is_worth_it(&shape(64, 64, 64)));
        assert!(![shape(63, 64, 64), shape(64, 63, 64), shape(64, 64, 63)].iter().any(is_worth_it));
    }

    #[test]
    fn every_square_of_a_tile_starts_at_a_multiple_of_16_bytes() {
        for side in Unit::SIDES {
            for lanes in Unit::LANES {
                let square = side * side;
                assert_eq!([2 * square % 16, 4 * square % 16, 2 * TILE * DEPTH % 16, square % lanes], [0; 4]);
            }
        }
    }
}
