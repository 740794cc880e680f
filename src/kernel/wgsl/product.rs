//! The WGSL kernel of batched matrix products with any strides: parameter block, configurations and the choice of a tile.
//! It launches nothing.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;
use super::super::tuning::{self, Choice};
use super::Limits;
use crate::error::Result;

params! {
    /// `product_f32`: `C[z] = alpha A[z] B[z]`, or `+=`, for z = (z0, z1, z2). Offsets and strides are in elements.
    pub struct ProductParams {
        /// Workgroups: matrices times tiles.
        pub units: u32,
        /// Tiles of a matrix C.
        pub tiles: u32,
        /// Tiles across C.
        pub column_tiles: u32,
        pub m: u32,
        pub n: u32,
        pub k: u32,
        /// Values of z1 and of z2; those of z0 follow from the number of workgroups.
        pub batch1: u32,
        pub batch2: u32,
        pub a_offset: u32,
        /// From one row to the next.
        pub a_line: u32,
        /// From one column to the next.
        pub a_k: u32,
        /// From one value of z0 to the next.
        pub a_batch0: u32,
        pub a_batch1: u32,
        pub a_batch2: u32,
        pub b_offset: u32,
        /// From one column to the next.
        pub b_line: u32,
        /// From one row to the next.
        pub b_k: u32,
        pub b_batch0: u32,
        pub b_batch1: u32,
        pub b_batch2: u32,
        pub c_offset: u32,
        pub c_row: u32,
        pub c_column: u32,
        pub c_batch0: u32,
        pub c_batch1: u32,
        pub c_batch2: u32,
        pub alpha: f32,
        /// [`A_ALONG_K`], [`B_ALONG_K`], [`ADDS`], [`LOWER`].
        pub flags: u32,
        /// 1; see `shaders/frag/two_sum.wgsl`.
        pub one: f32,
    }
}

/// Neighbouring elements of A lie in one row, not in one column.
pub const A_ALONG_K: u32 = 1;
/// Neighbouring elements of B lie in one column, not in one row.
pub const B_ALONG_K: u32 = 2;
/// C is added to.
pub const ADDS: u32 = 4;
/// What lies above the diagonal of each C is left as it is.
pub const LOWER: u32 = 8;

/// Products between two promotions of the accumulators.
pub const PROMOTE: u32 = 64;
/// The bound on the error of a sum over rows, relative to the sum of the magnitudes of its terms, where TwoSum is exact:
/// [`PROMOTE`] roundings of a chain of fma, and two for the totals, carried as pairs, and for the result. The other
/// kernels that add over rows add fewer terms in plain f32, or none.
pub fn bound() -> f64 {
    f64::from(PROMOTE + 2) * 2f64.powi(-24)
}

/// Steps of k that a tile holds in workgroup memory at a time.
const DEPTH: u32 = 16;
/// Invocations along a side of a tile, which has four times as many rows and columns.
const SIDES: [u32; 2] = [8, 16];
/// Registers of an invocation, estimated: 16 sums, their totals as pairs, and what is read.
const REGISTERS: u32 = 80;

fn configuration(side: u32, quads: bool) -> Configuration {
    let constants = [("DEPTH", DEPTH), ("PROMOTE", PROMOTE), ("override.SIDE", side)];
    let constants = super::vector(Constants::default().ints(constants), quads);
    let vector = constants.get_word("VECTOR").unwrap_or_default();
    let name = format!("{0}x{0}x{DEPTH}-{vector}", 4 * side);
    Configuration { name, constants, threads: side * side, shared: 2 * DEPTH * 4 * side * 4 }
}

/// What [`choose`] has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductShape {
    pub m: u32,
    pub n: u32,
    pub k: u32,
    pub matrices: u64,
    /// Whether A and B can be read in quads.
    pub quads: bool,
}

/// Tiles of a batch of products, ready to launch.
#[derive(Clone, Debug)]
pub struct Plan {
    /// [`ProductParams::tiles`].
    pub tiles: u64,
    /// [`ProductParams::column_tiles`].
    pub column_tiles: u64,
    pub choice: Choice,
}

impl Plan {
    pub fn configuration(&self) -> &Configuration {
        self.choice.configuration()
    }
}

/// The tile for a batch of products on an adapter. Every tile gives the same bits.
pub fn choose(shape: &ProductShape, limits: &Limits) -> Result<Plan> {
    let ProductShape { m, n, k, matrices, quads } = *shape;
    let [rows, columns, depth, count] = [m.into(), n.into(), k.into(), matrices as f64];
    let (flops, bytes) = (2.0 * rows * columns * depth * count, 4.0 * (rows * depth + depth * columns + rows * columns) * count);
    let side = |c: &Configuration| c.constants.get_int("override.SIDE").map_or(0, |side| side as u32);
    let tiles = |c: &Configuration| [m, n].map(|size| u64::from(size.div_ceil(4 * side(c))));
    let judge = |c: &Configuration| {
        super::same(c, "VECTOR", if quads { "v4" } else { "v1" }, "width of loads")?;
        super::fits(c, limits)?;
        let ([down, across], side) = (tiles(c), side(c));
        let ctas = (down * across).saturating_mul(matrices);
        Ok(super::work(ctas, (4, 4), (side, side), f64::from(k.next_multiple_of(DEPTH)), REGISTERS))
    };
    let choice = tuning::choose(&PRODUCT, &limits.assumed(), flops, bytes, judge)?;
    let [down, across] = tiles(choice.configuration());
    Ok(Plan { tiles: down * across, column_tiles: across, choice })
}

pub static PRODUCT: Kernel = Kernel {
    name: "product_f32",
    operation: "product",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/product_f32.wgsl"),
    params: ProductParams::FIELDS,
    configurations: || SIDES.iter().flat_map(|&side| [false, true].map(|quads| configuration(side, quads))).collect(),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_matrices_and_weak_adapters_take_the_small_tile() {
        let plan =
            |m, n, matrices, quads, limits: &Limits| choose(&ProductShape { m, n, k: 100, matrices, quads }, limits).unwrap();
        let name = |m, n, matrices, limits: &Limits| plan(m, n, matrices, false, limits).configuration().name.clone();
        assert_eq!(name(1000, 1000, 4, &Limits::BASELINE), "64x64x16-v1");
        assert_eq!(name(1000, 32, 100, &Limits::BASELINE), "32x32x16-v1");
        assert_eq!(name(30, 32, 500, &Limits::BASELINE), "32x32x16-v1");
        assert_eq!(name(1000, 1000, 4, &Limits { invocations: 128, ..Limits::BASELINE }), "32x32x16-v1");
        let plan = plan(128, 64, 64, true, &Limits::BASELINE);
        assert_eq!((plan.tiles, plan.column_tiles, plan.configuration().name.as_str()), (2, 1, "64x64x16-v4"));
        assert_eq!(plan.choice.flops, 2.0 * 128.0 * 64.0 * 100.0 * 64.0);
    }
}
