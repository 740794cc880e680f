//! The PTX kernel of batched matrix products with any strides: parameter block, configurations and
//! the choice of a tile. It launches nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::tuning::{Launch, Limits, registers};
use crate::device::DType;
use crate::error::{Error, Result};

params! {
    /// `product_sm80`: `C[z] = alpha A[z] B[z]`, or `+=`, for z = (z0, z1, z2). All strides are in elements.
    pub struct ProductParams {
        /// Address of the first element of the first matrix, `[m, k]`.
        pub a: u64,
        /// `[k, n]`.
        pub b: u64,
        /// `[m, n]`.
        pub c: u64,
        /// From one value of z0 to the next.
        pub a_batch0: u64,
        pub a_batch1: u64,
        pub a_batch2: u64,
        pub b_batch0: u64,
        pub b_batch1: u64,
        pub b_batch2: u64,
        pub c_batch0: u64,
        pub c_batch1: u64,
        pub c_batch2: u64,
        pub alpha: f64,
        pub m: u32,
        pub n: u32,
        pub k: u32,
        /// Values of z1 and of z2; those of z0 follow from the grid.
        pub batch1: u32,
        pub batch2: u32,
        /// From one row to the next.
        pub a_row: u32,
        /// From one column to the next.
        pub a_column: u32,
        pub b_row: u32,
        pub b_column: u32,
        pub c_row: u32,
        pub c_column: u32,
        /// Tiles across C: CTAs run along its rows first.
        pub column_tiles: u32,
        /// 1 leaves what lies above the diagonal of each C untouched.
        pub lower: u32,
        /// 0 overwrites C, 1 adds to it.
        pub accumulate: u32,
    }
}

/// Products between two promotions of the accumulators.
pub const PROMOTE: u32 = 512;

/// A tile shape of the kernel.
#[derive(Clone, Copy, Debug)]
struct Tile {
    /// Rows and columns of C.
    side: u32,
    /// CTAs that a multiprocessor can hold as far as registers go.
    resident: u32,
}

const SMALL: Tile = Tile { side: 32, resident: 8 };
const LARGE: Tile = Tile { side: 64, resident: 2 };

/// Stages of the ring of copies.
const STAGES: u32 = 4;

impl Tile {
    fn configuration(self, dtype: DType) -> Configuration {
        let (threads, element_bytes) = (self.side * self.side / 16, dtype.bytes() as u32);
        // Copies along k take DEPTH k of 32 / DEPTH neighbouring outputs at once in f32, half as many in f64:
        // with rows of an even but not fourfold number of elements they lie in different banks.
        let (depth, pitch) = (64 / element_bytes, self.side + 2);
        let operand = depth * pitch * element_bytes;
        let constants = [
            ("TILE", self.side),
            ("DEPTH", depth),
            ("PITCH", pitch),
            ("OPERAND_BYTES", operand),
            ("STAGES", STAGES),
            ("PROMOTE", PROMOTE),
            ("RESIDENT", self.resident),
            ("REGISTERS", registers(self.resident, threads)),
        ];
        Configuration {
            name: format!("{}-{}", self.name(), dtype.name()),
            constants: element(dtype).ints(constants),
            threads,
            shared: STAGES * 2 * operand,
        }
    }
    fn name(self) -> String {
        format!("{0}x{0}", self.side)
    }
    /// Tiles down and across a matrix.
    fn tiles(self, m: u32, n: u32) -> (u32, u32) {
        (m.div_ceil(self.side), n.div_ceil(self.side))
    }
}

/// A batch of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductShape {
    pub dtype: DType,
    pub m: u32,
    pub n: u32,
    pub k: u32,
    pub batch: [u32; 3],
}

/// The launch of a batch of products, and its [`ProductParams::column_tiles`].
///
/// Both tiles give the same bits: `k` is summed in order, in chains that begin at the same places.
pub fn choose(shape: &ProductShape, limits: &Limits) -> Result<(Launch, u32)> {
    let ProductShape { dtype, m, n, k, batch } = *shape;
    let count = |tile: Tile| {
        let (rows, columns) = tile.tiles(m, n);
        batch.iter().try_fold(u64::from(rows) * u64::from(columns), |all, b| all.checked_mul(u64::from(*b)))
    };
    // A large tile saves reads, where enough of them are there to fill the device.
    let filled = count(LARGE).is_none_or(|ctas| ctas >= 2 * u64::from(limits.multiprocessors));
    let tile = if m.min(n) > SMALL.side && filled { LARGE } else { SMALL };
    let ctas = count(tile).filter(|ctas| (1..1 << 31).contains(ctas));
    let Some(ctas) = ctas.filter(|_| m.max(n).max(k) <= MOST) else {
        return Err(Error::Kernel {
            name: PRODUCT.name.into(),
            found: format!("{batch:?} products of [{m}, {k}] and [{k}, {n}]"),
            expected: "1 to 2^31 - 1 tiles, and sizes below 2^30".into(),
        });
    };
    let launch = Launch { kernel: &PRODUCT, configuration: tile.configuration(dtype), grid: [ctas as u32, 1, 1] };
    Ok((launch, tile.tiles(m, n).1))
}

/// Largest `m`, `n` or `k`: tile edges stay within a signed 32-bit integer.
const MOST: u32 = (1 << 30) - 1;

pub(super) static PRODUCT: Kernel = Kernel {
    name: "product_sm80",
    operation: "product",
    language: Language::SM80,
    source: include_str!("../../kernels/product_sm80.ptx"),
    params: ProductParams::FIELDS,
    configurations: || {
        let both = |tile: Tile| [DType::F32, DType::F64].map(|dtype| tile.configuration(dtype));
        [SMALL, LARGE].into_iter().flat_map(both).collect()
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    const H200: Limits = Limits { capability: (9, 0), multiprocessors: 132, shared_per_block: 232_448 };

    fn shape(m: u32, n: u32, batch: [u32; 3]) -> ProductShape {
        ProductShape { dtype: DType::F32, m, n, k: 10, batch }
    }

    #[test]
    fn small_or_few_matrices_take_the_small_tile_and_the_grid_covers_the_batch() {
        let grid = |m, n, batch| {
            let (launch, columns) = choose(&shape(m, n, batch), &H200).unwrap();
            (launch.configuration.constants.get_int("TILE").unwrap(), launch.grid[0], columns)
        };
        assert_eq!(grid(32, 1000, [100, 1, 1]), (32, 3200, 32));
        assert_eq!(grid(65, 65, [2, 1, 3]), (32, 54, 3));
        assert_eq!(grid(65, 65, [2, 11, 3]), (64, 264, 2));
    }

    #[test]
    fn copies_cover_every_tile_exactly_and_promotions_fall_between_stages() {
        for c in (PRODUCT.configurations)() {
            let get = |name| c.constants.get_int(name).unwrap() as u32;
            let (tile, depth) = (get("TILE"), get("DEPTH"));
            assert!(c.threads.is_multiple_of(tile) && c.threads.is_multiple_of(depth), "{}", c.name);
            assert!((tile * depth).is_multiple_of(c.threads) && PROMOTE.is_multiple_of(depth), "{}", c.name);
            // The least shared memory a CTA: compute capability 8.6 and 8.9.
            assert!(c.shared <= 101_376, "{}", c.name);
        }
    }

    #[test]
    fn what_cannot_run_is_refused_in_a_sentence() {
        for (m, n, batch) in [(0, 5, [1; 3]), (5, 5, [1, 0, 1]), (1 << 30, 5, [1; 3]), (64, 64, [1 << 20, 1 << 20, 1 << 30])] {
            let message = choose(&shape(m, n, batch), &H200).unwrap_err().to_string();
            assert!(message.starts_with("kernel product_sm80: ") && message.contains("2^31 - 1 tiles"), "{message}");
        }
    }

    #[test]
    fn the_text_is_told_the_size_of_its_block() {
        let text = PRODUCT.expand(&SMALL.configuration(DType::F64)).unwrap();
        assert!(text.contains(&format!("params[{}]", size_of::<ProductParams>())));
    }
}
