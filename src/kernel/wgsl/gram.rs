//! The WGSL kernels of `ops::gram`: parameter blocks, configurations, how rows are split. It launches
//! nothing.
//!
//! A Gram matrix takes three launches: `centre_f32` (sums of differences from the first row, slab by
//! slab), `centre_fold_f32` (the mean) and `gram_f32` (a lower triangle of partial tiles of the centred
//! rows for each slab). The host adds the slabs in f64, or `gram_fold_f32` does in pairs of f32.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;
use super::super::tuning::{self, Choice, Work};
use super::{Limits, Transport};
use crate::error::Result;

params! {
    /// `centre_f32`: `sums[s] = sum over the rows i of slab s of (x[i] - first)`.
    pub struct CentreParams {
        /// Workgroups: slabs times groups of columns.
        pub units: u32,
        pub column_groups: u32,
        pub rows: u32,
        pub cols: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub first_offset: u32,
        pub sums_offset: u32,
        /// 1; see `shaders/frag/two_sum.wgsl`.
        pub one: f32,
    }
}

params! {
    /// `centre_fold_f32`: `mean = first + (sum over slabs) / rows`.
    pub struct CentreFoldParams {
        pub cols: u32,
        pub slabs: u32,
        pub first_offset: u32,
        /// `1 / rows`, rounded.
        pub inverse_high: f32,
        /// What the rounding left, rounded.
        pub inverse_low: f32,
        /// 1; see `shaders/frag/two_sum.wgsl`.
        pub one: f32,
        /// 0; see `shaders/frag/two_product_fma.wgsl`.
        pub zero: f32,
    }
}

params! {
    /// `gram_f32`: partial tiles of `(x - mean)'(x - mean)`.
    pub struct GramParams {
        /// Workgroups: slabs times tiles.
        pub units: u32,
        pub tiles: u32,
        pub first_tile: u32,
        pub rows: u32,
        pub cols: u32,
        /// Elements, as the stride.
        pub x_offset: u32,
        pub x_stride: u32,
        pub slab_rows: u32,
        /// 1; see `shaders/frag/two_sum.wgsl`.
        pub one: f32,
        /// 0; see `shaders/frag/two_product_fma.wgsl`.
        pub zero: f32,
    }
}

/// Rows of a slab of `centre_f32`.
pub const CENTRE_SLAB: u32 = 256;
/// Columns and lanes of a workgroup of `centre_f32`.
pub const CENTRE_COLUMNS: u32 = 16;
const CENTRE_LANES: u32 = 16;
/// Columns of a workgroup of `centre_fold_f32`.
pub const FOLD_THREADS: u32 = 64;
/// Rows that `gram_f32` holds in workgroup memory at a time.
const DEPTH: u32 = 16;
/// Invocations along a side of a tile, which has four times as many rows and columns.
const SIDES: [u32; 2] = [8, 16];
/// Rows and columns of the largest tile.
pub const LARGEST_TILE: u32 = 4 * SIDES[1];

/// How the error of a product is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// By an fma that rounds once.
    Fma,
    /// From factors cut in two (Dekker 1971).
    Split,
}

impl Product {
    pub const ALL: [Product; 2] = [Product::Fma, Product::Split];
    /// The word in file and configuration names.
    pub fn name(self) -> &'static str {
        match self {
            Product::Fma => "fma",
            Product::Split => "split",
        }
    }
}

/// How the sums of a Gram matrix are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// As unevaluated sums of two f32: differences, products and sums lose nothing above 2^-48.
    Compensated(Product),
    /// In plain f32, over short slabs.
    Short,
}

impl Arithmetic {
    pub const ALL: [Arithmetic; 3] =
        [Arithmetic::Compensated(Product::Fma), Arithmetic::Compensated(Product::Split), Arithmetic::Short];
    /// The word in configuration names.
    pub fn name(self) -> &'static str {
        match self {
            Arithmetic::Compensated(product) => product.name(),
            Arithmetic::Short => "short",
        }
    }
    /// Numbers that a sum is carried in.
    pub fn planes(self) -> u32 {
        match self {
            Arithmetic::Compensated(_) => 2,
            Arithmetic::Short => 1,
        }
    }
    /// Most rows of a slab.
    fn slab_most(self) -> u32 {
        match self {
            Arithmetic::Compensated(_) => 4096,
            Arithmetic::Short => 64,
        }
    }
    /// The bound on the error of an element of the Gram matrix, relative to the sum of the magnitudes of
    /// its products: [`Arithmetic::rounding`] of a slab, or `n 2^-24 + 2^-22` for what differences and
    /// sums in plain f32 lose.
    pub fn bound(self) -> f64 {
        match self {
            Arithmetic::Compensated(_) => Self::rounding(self.slab_most()),
            Arithmetic::Short => f64::from(self.slab_most()) * 2f64.powi(-24) + 2f64.powi(-22),
        }
    }
    /// The bound for n products added as high + low: `n (16 + 4) 2^-48`, since a low part grows to at most
    /// 16 rounding errors before it is put in order, and each step rounds it and four smaller terms.
    pub fn rounding(n: u32) -> f64 {
        f64::from(n) * 20.0 * 2f64.powi(-48)
    }
}

/// Rows of a slab of `gram_f32`: enough slabs to fill a device if `cols` is small, few if it is large. It
/// follows from the shape alone, so that sums do not depend on the device.
pub fn slab_rows(rows: u32, cols: u32, arithmetic: Arithmetic) -> u32 {
    // Workgroups that a matrix aims for, counted in tiles of 64 x 64.
    const AIMED: u64 = 256;
    // A slab of contiguous rows stays below half of the smallest limit of a binding, 128 MiB.
    let fits = ((16 << 20) / cols.max(1) / DEPTH * DEPTH).max(DEPTH);
    let wanted = AIMED.div_ceil(triangle(cols.div_ceil(64)).max(1));
    let each = u64::from(rows).div_ceil(wanted).next_multiple_of(u64::from(DEPTH));
    let most = arithmetic.slab_most();
    (each.clamp(u64::from(most.min(128)), u64::from(most)) as u32).min(fits)
}

/// Tiles on and below the diagonal of `side` x `side` tiles.
pub fn triangle(side: u32) -> u64 {
    u64::from(side) * (u64::from(side) + 1) / 2
}

/// The configuration of `centre_f32`.
pub fn centre(transport: Transport) -> Configuration {
    let constants = [("SLAB", CENTRE_SLAB), ("COLUMNS", CENTRE_COLUMNS), ("LANES", CENTRE_LANES)];
    let constants = Constants::default().ints(constants);
    Configuration {
        name: transport.name().into(),
        constants: constants.word("PARAMS", transport.name()),
        threads: CENTRE_COLUMNS * CENTRE_LANES,
        shared: CENTRE_COLUMNS * CENTRE_LANES * 8,
    }
}

/// The configuration of `centre_fold_f32`.
pub fn centre_fold(product: Product, transport: Transport) -> Configuration {
    Configuration {
        name: format!("{}-{}", product.name(), transport.name()),
        constants: Constants::default().word("PARAMS", transport.name()).word("PRODUCT", product.name()),
        threads: FOLD_THREADS,
        shared: 0,
    }
}

fn gram(side: u32, quads: bool, arithmetic: Arithmetic, transport: Transport) -> Configuration {
    let planes = arithmetic.planes();
    let constants = [("PLANES", planes), ("DEPTH", DEPTH), ("override.SIDE", side)];
    let constants = Constants::default().ints(constants);
    let constants = constants.word("PARAMS", transport.name()).word("PRODUCT", arithmetic.name());
    let constants = super::vector(constants, quads);
    let vector = constants.get_word("VECTOR").unwrap_or_default();
    Configuration {
        name: format!("{0}x{0}x{DEPTH}-{vector}-{1}-{2}", 4 * side, arithmetic.name(), transport.name()),
        constants,
        threads: side * side,
        shared: 2 * planes * DEPTH * 4 * side * 4,
    }
}

fn configurations() -> Vec<Configuration> {
    let mut all = Vec::new();
    for side in SIDES {
        for arithmetic in Arithmetic::ALL {
            for quads in [false, true] {
                all.extend(Transport::ALL.map(|transport| gram(side, quads, arithmetic, transport)));
            }
        }
    }
    all
}

/// What [`choose`] has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GramShape {
    pub rows: u32,
    pub cols: u32,
    /// Whether every row of x starts at a multiple of 16 bytes and has whole quads.
    pub aligned: bool,
    pub arithmetic: Arithmetic,
}

/// A Gram matrix, ready to launch.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rows and columns of a partial tile.
    pub tile: u32,
    /// Partial tiles of a slab.
    pub tiles: u32,
    pub slab_rows: u32,
    pub slabs: u32,
    pub arithmetic: Arithmetic,
    pub transport: Transport,
    pub choice: Choice,
}

impl Plan {
    pub fn configuration(&self) -> &Configuration {
        self.choice.configuration()
    }
}

/// The tile for a Gram matrix on an adapter; one that is `wanted` is taken. Every tile gives the same bits.
pub fn choose(shape: &GramShape, limits: &Limits, wanted: Option<u32>) -> Result<Plan> {
    let transport = limits.transport(size_of::<GramParams>());
    let slab_rows = slab_rows(shape.rows, shape.cols, shape.arithmetic);
    let slabs = shape.rows.div_ceil(slab_rows);
    let tile = |c: &Configuration| c.constants.get_int("override.SIDE").map_or(0, |side| 4 * side as u32);
    let tiles = |c: &Configuration| triangle(shape.cols.div_ceil(tile(c)));
    let (rows, cols) = (f64::from(shape.rows), f64::from(shape.cols));
    let (flops, bytes) = (rows * cols * (cols + 1.0), 4.0 * (rows * cols + cols * (cols + 1.0) / 2.0));
    let judge = |c: &Configuration| {
        super::same(c, "PARAMS", transport.name(), "way of parameters")?;
        super::same(c, "PRODUCT", shape.arithmetic.name(), "arithmetic")?;
        super::same(c, "VECTOR", if shape.aligned { "v4" } else { "v1" }, "width of loads")?;
        super::fits(c, limits)?;
        if let Some(wanted) = wanted.filter(|&w| w != tile(c)) {
            return Err(format!("another tile, {wanted}x{wanted} is asked for"));
        }
        let tiles = tiles(c);
        if tiles >= 1 << 28 {
            return Err(format!("{tiles} tiles of a slab, 2^28 at most"));
        }
        let (side, depth) = (f64::from(tile(c)), f64::from(slab_rows));
        // Ten operations where two planes are carried, one where it is one.
        let operations = if shape.arithmetic == Arithmetic::Short { 1.0 } else { 12.0 };
        let read = f64::from(shape.arithmetic.planes()) * side * side / 4.0 * 32.0 / 128.0 / 4.0;
        let work = Work { ctas: tiles * u64::from(slabs), registers: 64, multiply: 0.0, feed: depth * read };
        Ok(Work { multiply: depth * side * side * operations / 128.0, ..work })
    };
    let choice = tuning::choose(&GRAM, &limits.assumed(), flops, bytes, judge)?;
    let (tile, tiles) = (tile(choice.configuration()), tiles(choice.configuration()) as u32);
    Ok(Plan { tile, tiles, slab_rows, slabs, arithmetic: shape.arithmetic, transport, choice })
}

pub static CENTRE: Kernel = Kernel {
    name: "centre_f32",
    operation: "gram",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/centre_f32.wgsl"),
    params: CentreParams::FIELDS,
    configurations: || Transport::ALL.map(centre).into(),
};

pub static CENTRE_FOLD: Kernel = Kernel {
    name: "centre_fold_f32",
    operation: "gram",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/centre_fold_f32.wgsl"),
    params: CentreFoldParams::FIELDS,
    configurations: || Product::ALL.iter().flat_map(|&p| Transport::ALL.map(|t| centre_fold(p, t))).collect(),
};

pub static GRAM: Kernel = Kernel {
    name: "gram_f32",
    operation: "gram",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/gram_f32.wgsl"),
    params: GramParams::FIELDS,
    configurations,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_follow_from_the_shape_and_end_with_a_line_of_the_tile() {
        let fma = Arithmetic::Compensated(Product::Fma);
        assert_eq!(slab_rows(65_536, 16, fma), 256);
        assert_eq!(slab_rows(65_536, 769, fma), 4096);
        assert_eq!(slab_rows(10, 769, fma), 128);
        assert_eq!(slab_rows(65_536, 16, Arithmetic::Short), 64);
        for (rows, cols) in [(1, 1), (1000, 33), (70_000, 129), (1 << 18, 14_336), (5000, 1 << 21)] {
            for arithmetic in Arithmetic::ALL {
                let slab = slab_rows(rows, cols, arithmetic);
                assert!(slab > 0 && slab.is_multiple_of(DEPTH) && slab <= arithmetic.slab_most(), "{rows} x {cols}: {slab}");
            }
        }
    }

    #[test]
    fn the_stated_bounds_are_those_of_the_issue() {
        assert!(Arithmetic::Compensated(Product::Split).bound() <= 1e-9);
        assert!(Arithmetic::Short.bound() <= 5e-6);
    }

    #[test]
    fn a_choice_names_every_candidate_and_takes_the_arithmetic_asked_for() {
        for arithmetic in Arithmetic::ALL {
            for aligned in [false, true] {
                let shape = GramShape { rows: 4096, cols: 768, aligned, arithmetic };
                let plan = choose(&shape, &Limits::BASELINE, None).unwrap();
                assert_eq!(plan.choice.candidates.len(), configurations().len());
                let name = &plan.configuration().name;
                let vector = if aligned { "v4" } else { "v1" };
                assert_eq!(*name, format!("64x64x16-{vector}-{}-uniform", arithmetic.name()));
                assert_eq!((plan.tile, plan.tiles), (64, 78));
            }
        }
        let shape = GramShape { rows: 100, cols: 20, aligned: false, arithmetic: Arithmetic::Short };
        let tight = Limits { invocations: 128, ..Limits::BASELINE };
        assert_eq!(choose(&shape, &tight, None).unwrap().tile, 32);
        let none = Limits { invocations: 32, ..Limits::BASELINE };
        let text = choose(&shape, &none, None).unwrap_err().to_string();
        assert!(text.contains("64 invocations, the adapter runs at most 32"), "{text}");
    }
}
