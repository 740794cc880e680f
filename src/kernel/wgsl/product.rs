//! The WGSL kernel of batched matrix products with any strides: parameter block, configurations and the choice of a tile.
//! It launches nothing.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;
use super::Limits;

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
/// Steps of k that a tile holds in workgroup memory at a time.
const DEPTH: u32 = 16;
/// Invocations along a side of a tile, which has four times as many rows and columns.
const SIDES: [u32; 2] = [8, 16];

fn configuration(side: u32, quads: bool) -> Configuration {
    let constants = [("DEPTH", DEPTH), ("PROMOTE", PROMOTE), ("override.SIDE", side)];
    let constants = super::vector(Constants::default().ints(constants), quads);
    let vector = constants.get_word("VECTOR").unwrap_or_default();
    let name = format!("{0}x{0}x{DEPTH}-{vector}", 4 * side);
    Configuration { name, constants, threads: side * side, shared: 2 * DEPTH * 4 * side * 4 }
}

/// Tiles of a batch of products, ready to launch.
#[derive(Clone, Debug)]
pub struct Plan {
    pub configuration: Configuration,
    /// [`ProductParams::tiles`].
    pub tiles: u64,
    /// [`ProductParams::column_tiles`].
    pub column_tiles: u64,
}

/// The tile for `matrices` products of `[m, n]`; `quads` where A and B can be read in quads. Every tile gives the same
/// bits.
pub fn choose(m: u32, n: u32, matrices: u64, quads: bool, limits: &Limits) -> Plan {
    let plan = |side: u32| {
        let [rows, columns] = [m, n].map(|size| u64::from(size.div_ceil(4 * side)));
        Plan { configuration: configuration(side, quads), tiles: rows * columns, column_tiles: columns }
    };
    let [small, large] = SIDES.map(plan);
    // A large tile saves reads, where enough of them are there to fill a middling device.
    let filled = large.tiles.saturating_mul(matrices) >= 64;
    let runs = large.configuration.threads <= limits.invocations && large.configuration.shared <= limits.workgroup_memory;
    if m.min(n) > 4 * SIDES[0] && filled && runs { large } else { small }
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
    fn small_or_few_matrices_and_weak_adapters_take_the_small_tile() {
        let name = |m, n, matrices, limits: &Limits| choose(m, n, matrices, false, limits).configuration.name;
        assert_eq!(name(1000, 1000, 1, &Limits::BASELINE), "64x64x16-v1");
        assert_eq!(name(1000, 32, 100, &Limits::BASELINE), "32x32x16-v1");
        assert_eq!(name(65, 65, 2, &Limits::BASELINE), "32x32x16-v1");
        assert_eq!(name(1000, 1000, 1, &Limits { invocations: 128, ..Limits::BASELINE }), "32x32x16-v1");
        let plan = choose(65, 33, 64, true, &Limits::BASELINE);
        assert_eq!((plan.tiles, plan.column_tiles, plan.configuration.name.as_str()), (2, 1, "64x64x16-v4"));
    }
}
