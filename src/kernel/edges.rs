//! The PTX kernels of `ops::edge_squares`: parameter blocks, how the tokens are split, configurations.
//! They launch nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::tuning::{Launch, Limits, registers};
use crate::device::DType;

params! {
    /// `edges_sm80`: `sum over t of (f_tj J_t[j, i])^2` for each slab of tokens, `J_t = sum_g U_g diag(d_tg) V + B`.
    pub struct EdgeParams {
        /// Address of `[n, gates hidden]`, row stride `d_stride`.
        pub d: u64,
        /// Address of `[n, k_in]`, row stride `f_stride`.
        pub f: u64,
        /// Address of `[gates hidden, k_in]`, row stride `u_stride`.
        pub u: u64,
        /// Address of `[hidden, k_out]`, row stride `v_stride`.
        pub v: u64,
        /// Address of `[k_in, k_out]`, row stride `b_stride`.
        pub b: u64,
        /// Address of `[slabs][k_out, k_in]`, contiguous.
        pub partials: u64,
        pub n: u32,
        pub hidden: u32,
        pub k_in: u32,
        pub k_out: u32,
        /// Elements, as all strides.
        pub d_stride: u32,
        pub f_stride: u32,
        pub u_stride: u32,
        pub v_stride: u32,
        pub b_stride: u32,
        pub slab_tokens: u32,
    }
}

params! {
    /// `edges_rank_one_sm80`: `sum over t of f_tj^2 (s_t z1_ji + z0_ji + g_t l_tj y_ti)^2` for each slab of tokens.
    pub struct RankOneParams {
        /// Address of `[n, k_in]`, row stride `f_stride`.
        pub f: u64,
        /// Address of `[n]`, `s_stride` apart.
        pub s: u64,
        /// Address of `[n]`, `g_stride` apart.
        pub g: u64,
        /// Address of `[n, k_in]`, row stride `l_stride`: 0 for one row for all tokens.
        pub l: u64,
        /// Address of `[n, k_out]`, row stride `y_stride`: likewise.
        pub y: u64,
        /// Address of `[k_in, k_out]`, row stride `z_stride`.
        pub z1: u64,
        /// Address of `[k_in, k_out]`, row stride `z_stride`.
        pub z0: u64,
        /// Address of `[slabs][k_out, k_in]`, contiguous.
        pub partials: u64,
        pub n: u32,
        pub k_in: u32,
        pub k_out: u32,
        /// Elements, as all strides.
        pub f_stride: u32,
        pub s_stride: u32,
        pub g_stride: u32,
        pub l_stride: u32,
        pub y_stride: u32,
        pub z_stride: u32,
        pub slab_tokens: u32,
    }
}

/// Tokens whose squares are added before a new sum begins.
const PROMOTE: u32 = 64;
/// Most tokens of a slab: bounds what promotions add up.
const SLAB_MOST: u32 = 64 * PROMOTE;
/// Fewest tokens of a slab, and what it is a multiple of.
const SLAB_LEAST: u32 = 16;
/// CTAs of 64 x 64 edges that a launch aims for.
const CTAS_AIMED: u32 = 512;
/// Most CTAs of the second and third dimension of a grid.
const GRID_MOST: u32 = 65_535;

/// How the tokens are cut into slabs, each with sums of its own. It follows from the shape alone, so
/// that sums do not depend on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slabs {
    pub tokens: u32,
    pub count: u32,
}

impl Slabs {
    /// Enough of them to fill a device if there are few edges, as few as promotion allows if there are many.
    pub fn of(n: u32, k_in: u32, k_out: u32) -> Self {
        let tiles = u64::from(k_in.div_ceil(64)) * u64::from(k_out.div_ceil(64));
        let wanted = u64::from(CTAS_AIMED).div_ceil(tiles.max(1)) as u32;
        let tokens = n.div_ceil(wanted).max(1).next_multiple_of(SLAB_LEAST).min(SLAB_MOST);
        Self { tokens, count: n.div_ceil(tokens) }
    }
}

/// Rows and columns of a tile, the small first.
const TILES: [u32; 2] = [32, 64];
const STAGES: u32 = 3;

fn resident(tile: u32) -> u32 {
    if tile == TILES[0] { 4 } else { 1 }
}

fn configuration(dtype: DType, tile: u32, gates: u32) -> Configuration {
    let (threads, element_bytes) = (tile * tile / 16, dtype.bytes() as u32);
    // Each token keeps 16 accumulators a thread.
    let tokens = 16 / element_bytes;
    let depth = 64 / element_bytes;
    let operand = depth * tile * element_bytes;
    let stage = (1 + gates) * operand + gates * depth * tokens * element_bytes;
    let constants = [
        ("TILE", tile),
        ("DEPTH", depth),
        ("TOKENS", tokens),
        ("GATES", gates),
        ("PASSES", (gates * depth * tokens).div_ceil(threads)),
        ("STAGES", STAGES),
        ("STAGE_BYTES", stage),
        ("OPERAND_BYTES", operand),
        ("COPY", element_bytes),
        ("VECTOR", 1),
        ("PROMOTE", PROMOTE / tokens),
        ("RESIDENT", resident(tile)),
        ("REGISTERS", registers(resident(tile), threads)),
    ];
    Configuration {
        name: format!("{tile}x{tile}-{}-{}", dtype.name(), if gates == 2 { "gated" } else { "plain" }),
        constants: element(dtype).ints(constants).word("CACHE", "ca"),
        threads,
        shared: STAGES * stage,
    }
}

fn rank_one_configuration(dtype: DType, tile: u32) -> Configuration {
    let threads = tile * tile / 16;
    // 64 numbers a thread: twice the registers in f64.
    let resident = 2048 / threads / dtype.bytes() as u32;
    let constants = [("TILE", tile), ("PROMOTE", PROMOTE), ("RESIDENT", resident), ("REGISTERS", registers(resident, threads))];
    Configuration {
        name: format!("{tile}x{tile}-{}", dtype.name()),
        constants: element(dtype).ints(constants),
        threads,
        shared: 0,
    }
}

/// Rows and columns of the tile, and the grid; `None` where it is too large. Tiles do not touch the numbers.
fn tile(k_in: u32, k_out: u32, slabs: Slabs, limits: &Limits) -> Option<(u32, [u32; 3])> {
    let grid = |tile: u32| [k_in.div_ceil(tile), k_out.div_ceil(tile), slabs.count];
    let [small, large] = TILES;
    let filled = grid(large).into_iter().map(u64::from).product::<u64>() >= u64::from(limits.multiprocessors);
    let tile = if k_in.min(k_out) > small && filled { large } else { small };
    let grid = grid(tile);
    let fits = grid.iter().all(|n| *n > 0) && grid[0] < 1 << 31 && grid[1].max(grid[2]) <= GRID_MOST;
    fits.then_some((tile, grid))
}

/// The launch of `edges_sm80` with 1 or 2 diagonals; `None` where the grid is too large or empty.
pub fn squares(dtype: DType, gates: u32, k_in: u32, k_out: u32, slabs: Slabs, limits: &Limits) -> Option<Launch> {
    let (tile, grid) = tile(k_in, k_out, slabs, limits)?;
    Some(Launch { kernel: &EDGES, configuration: configuration(dtype, tile, gates), grid })
}

/// The launch of `edges_rank_one_sm80`; `None` where the grid is too large or empty.
pub fn rank_one(dtype: DType, k_in: u32, k_out: u32, slabs: Slabs, limits: &Limits) -> Option<Launch> {
    let (tile, grid) = tile(k_in, k_out, slabs, limits)?;
    Some(Launch { kernel: &RANK_ONE, configuration: rank_one_configuration(dtype, tile), grid })
}

pub(super) static EDGES: Kernel = Kernel {
    name: "edges_sm80",
    operation: "edges",
    language: Language::SM80,
    source: include_str!("../../kernels/edges_sm80.ptx"),
    params: EdgeParams::FIELDS,
    configurations: || {
        let of = |tile| [DType::F32, DType::F64].into_iter().flat_map(move |d| [1, 2].map(|gates| configuration(d, tile, gates)));
        TILES.into_iter().flat_map(of).collect()
    },
};
pub(super) static RANK_ONE: Kernel = Kernel {
    name: "edges_rank_one_sm80",
    operation: "edges",
    language: Language::SM80,
    source: include_str!("../../kernels/edges_rank_one_sm80.ptx"),
    params: RankOneParams::FIELDS,
    configurations: || {
        let of = |tile| [DType::F32, DType::F64].map(|dtype| rank_one_configuration(dtype, tile));
        TILES.into_iter().flat_map(of).collect()
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    const H200: Limits = Limits { capability: (9, 0), multiprocessors: 132, shared_per_block: 232_448 };

    #[test]
    fn slabs_cover_the_tokens_and_begin_where_groups_of_tokens_do() {
        for (k_in, k_out) in [(1, 1), (65, 129), (1537, 1537), (20_000, 3)] {
            for n in [1, 15, 16, 17, 4096, 65_537] {
                let Slabs { tokens, count } = Slabs::of(n, k_in, k_out);
                assert!(tokens * count >= n && tokens * (count - 1) < n, "{n} of {k_in} x {k_out}");
                assert!(tokens.is_multiple_of(SLAB_LEAST) && tokens <= SLAB_MOST, "{n} of {k_in} x {k_out}");
            }
        }
    }

    #[test]
    fn many_edges_take_the_large_tile_and_few_the_small() {
        let of = |k_in, k_out, n| {
            let launch = squares(DType::F32, 1, k_in, k_out, Slabs::of(n, k_in, k_out), &H200).unwrap();
            (launch.configuration.constants.get_int("TILE").unwrap(), launch.grid)
        };
        assert_eq!(of(65, 33, 32), (32, [3, 2, 2]));
        assert_eq!(of(1537, 1537, 8192), (64, [25, 25, 2]));
        assert!(squares(DType::F32, 1, 0, 5, Slabs::of(10, 0, 5), &H200).is_none());
    }

    #[test]
    fn copies_cover_every_tile_exactly() {
        for c in (EDGES.configurations)() {
            let get = |name| c.constants.get_int(name).unwrap() as u32;
            assert!(
                c.threads.is_multiple_of(get("TILE")) && (get("TILE") * get("DEPTH")).is_multiple_of(c.threads),
                "{}",
                c.name
            );
            assert!(get("PASSES") * c.threads >= get("GATES") * get("DEPTH") * get("TOKENS"), "{}", c.name);
            assert!(SLAB_LEAST.is_multiple_of(get("TOKENS")) && c.shared <= 101_376, "{}", c.name);
        }
    }
}
