//! The WGSL kernels of squared edges: parameter blocks, slabs of tokens, configurations. It launches nothing.

use super::super::edges::Slabs;
use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;
use super::super::tuning::{self, Choice};
use super::Limits;
use crate::error::Result;

params! {
    /// `edges_f32`: `sum over t of (f_tj J_t[j, i])^2` for each slab of tokens, `J_t = sum_g U_g diag(d_tg) V + B`.
    pub struct EdgeParams {
        /// Workgroups: slabs times tiles.
        pub units: u32,
        pub tiles: u32,
        /// Tiles across the inputs.
        pub column_tiles: u32,
        pub n: u32,
        pub hidden: u32,
        pub k_in: u32,
        pub k_out: u32,
        /// Elements, as all offsets and strides.
        pub d_offset: u32,
        pub d_stride: u32,
        pub f_offset: u32,
        pub f_stride: u32,
        pub u_offset: u32,
        pub u_stride: u32,
        pub v_offset: u32,
        pub v_stride: u32,
        pub b_stride: u32,
        pub slab_tokens: u32,
        /// 1; see `shaders/frag/two_sum.wgsl`.
        pub one: f32,
        /// 0.
        pub zero: f32,
    }
}

params! {
    /// `edges_rank_one_f32`: `sum over t of f_tj^2 (s_t z1_ji + z0_ji + g_t l_tj y_ti)^2` for each slab of tokens.
    pub struct RankOneParams {
        /// Workgroups: slabs times tiles.
        pub units: u32,
        pub tiles: u32,
        /// Tiles across the inputs.
        pub column_tiles: u32,
        pub n: u32,
        pub k_in: u32,
        pub k_out: u32,
        /// Elements, as all offsets and strides.
        pub f_offset: u32,
        pub f_stride: u32,
        pub s_offset: u32,
        pub s_stride: u32,
        pub g_offset: u32,
        pub g_stride: u32,
        pub l_offset: u32,
        /// 0 for one row for all tokens, as of y.
        pub l_stride: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        pub z_stride: u32,
        pub slab_tokens: u32,
        /// 1; see `shaders/frag/two_sum.wgsl`.
        pub one: f32,
        /// 0.
        pub zero: f32,
    }
}

/// Hidden units that a tile holds in workgroup memory at a time.
const DEPTH: u32 = 16;
/// Tokens whose squares are added before they join the sum.
const TOKENS: u32 = 16;
/// Invocations along a side of a tile, which has four times as many rows and columns.
const SIDES: [u32; 2] = [8, 16];
/// Registers of an invocation, estimated.
const REGISTERS: u32 = 96;

/// Slabs of `n` tokens whose sums one binding holds; `None` where it does not hold those of one slab.
pub fn slabs(n: u32, k_in: u32, k_out: u32, limits: &Limits) -> Option<Slabs> {
    let most = limits.binding as u64 / (u64::from(k_in) * u64::from(k_out)).max(1);
    let Slabs { tokens, .. } = Slabs::of(n, k_in, k_out);
    let least = u64::from(n).div_ceil(most.max(1)) as u32;
    let tokens = tokens.max(least);
    (most > 0 && n > 0).then(|| Slabs { tokens, count: n.div_ceil(tokens) })
}

/// A launch of either kernel.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tiles in all, and across the inputs.
    pub tiles: u64,
    pub column_tiles: u64,
    pub choice: Choice,
}

impl Plan {
    pub fn configuration(&self) -> &Configuration {
        self.choice.configuration()
    }
}

/// What both choices have to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeShape {
    pub n: u32,
    pub k_in: u32,
    pub k_out: u32,
    pub slabs: Slabs,
    /// Whether the matrices, or for rank-one terms the rows, can be read in quads.
    pub quads: bool,
}

impl EdgeShape {
    /// The tile of `kernel` for `steps` products an edge and token; `right` says whether a configuration does what is
    /// asked for. Tiles do not touch the numbers.
    fn choose(
        &self,
        kernel: &'static Kernel,
        steps: u32,
        bytes: f64,
        right: impl Fn(&Configuration) -> std::result::Result<(), String>,
        limits: &Limits,
    ) -> Result<Plan> {
        let Self { n, k_in, k_out, slabs, quads } = *self;
        let flops = 2.0 * f64::from(steps) * f64::from(n) * f64::from(k_in) * f64::from(k_out);
        let side = |c: &Configuration| c.constants.get_int("override.SIDE").map_or(0, |side| side as u32);
        let tiles = |c: &Configuration| [k_out, k_in].map(|k| u64::from(k.div_ceil(4 * side(c))));
        let judge = |c: &Configuration| {
            super::same(c, "VECTOR", if quads { "v4" } else { "v1" }, "width of loads")?;
            right(c)?;
            super::fits(c, limits)?;
            let ([down, across], side) = (tiles(c), side(c));
            let steps = f64::from(slabs.tokens) * f64::from(steps);
            Ok(super::work(down * across * u64::from(slabs.count), (4, 4), (side, side), steps, REGISTERS))
        };
        let choice = tuning::choose(kernel, &limits.assumed(), flops, bytes, judge)?;
        let [down, across] = tiles(choice.configuration());
        Ok(Plan { tiles: down * across, column_tiles: across, choice })
    }

    /// The launch of `edges_f32` with 1 or 2 diagonals over `hidden` units.
    pub fn squares(&self, gates: u32, hidden: u32, limits: &Limits) -> Result<Plan> {
        let right = |c: &Configuration| match c.constants.get_int("GATES") {
            Some(found) if found == i64::from(gates) => Ok(()),
            _ => Err(format!("another number of diagonals, {gates} is asked for")),
        };
        let [n, k_in, k_out, hidden, gates] = [self.n, self.k_in, self.k_out, hidden, gates].map(f64::from);
        let weights = gates * hidden * k_in + hidden * k_out + 2.0 * k_in * k_out;
        let bytes = 4.0 * (n * (gates * hidden + k_in) + weights);
        // A product with the diagonal is spread over the rows of a tile; the square is one step more.
        self.choose(&EDGES, (hidden * gates) as u32 + 1, bytes, right, limits)
    }

    /// The launch of `edges_rank_one_f32`.
    pub fn rank_one(&self, limits: &Limits) -> Result<Plan> {
        let [n, k_in, k_out] = [self.n, self.k_in, self.k_out].map(f64::from);
        let bytes = 4.0 * (n * (2.0 * k_in + k_out + 2.0) + 3.0 * k_in * k_out);
        self.choose(&RANK_ONE, 3, bytes, |_| Ok(()), limits)
    }
}

fn edges(side: u32, gates: u32, quads: bool) -> Configuration {
    let constants = [("DEPTH", DEPTH), ("GATES", gates), ("override.SIDE", side)];
    let constants = super::vector(Constants::default().ints(constants), quads);
    let vector = constants.get_word("VECTOR").unwrap_or_default();
    let name = format!("{0}x{0}-{vector}-{1}", 4 * side, if gates == 2 { "gated" } else { "plain" });
    Configuration { name, constants, threads: side * side, shared: 16 * DEPTH * ((1 + gates) * side + gates) }
}

fn rank_one_configuration(side: u32, quads: bool) -> Configuration {
    let constants = super::vector(Constants::default().ints([("TOKENS", TOKENS), ("override.SIDE", side)]), quads);
    let name = format!("{0}x{0}-{1}", 4 * side, constants.get_word("VECTOR").unwrap_or_default());
    Configuration { name, constants, threads: side * side, shared: 0 }
}

fn each(configurations: impl Fn(u32, bool) -> Vec<Configuration>) -> Vec<Configuration> {
    SIDES.iter().flat_map(|&side| [false, true].map(|quads| configurations(side, quads))).flatten().collect()
}

pub static EDGES: Kernel = Kernel {
    name: "edges_f32",
    operation: "edges",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/edges_f32.wgsl"),
    params: EdgeParams::FIELDS,
    configurations: || each(|side, quads| vec![edges(side, 1, quads), edges(side, 2, quads)]),
};

pub static RANK_ONE: Kernel = Kernel {
    name: "edges_rank_one_f32",
    operation: "edges",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/edges_rank_one_f32.wgsl"),
    params: RankOneParams::FIELDS,
    configurations: || each(|side, quads| vec![rank_one_configuration(side, quads)]),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_of_all_slabs_fit_into_a_binding() {
        let limits = |binding| Limits { binding, ..Limits::BASELINE };
        assert_eq!(slabs(100, 10, 10, &limits(99)), None);
        for (n, k, binding) in [(1, 3, 9), (100_000, 10, 250), (4096, 33, 1 << 20), (100, 10, 100)] {
            let Slabs { tokens, count } = slabs(n, k, k, &limits(binding)).unwrap();
            assert!(tokens * count >= n && tokens * (count - 1) < n, "{n}");
            assert!((count * k * k) as usize <= binding, "{count} slabs of {k} x {k}");
        }
    }

    #[test]
    fn many_edges_take_the_large_tile_and_weak_adapters_the_small() {
        let name = |k, limits: &Limits| {
            let slabs = slabs(8192, k, k, limits).unwrap();
            let shape = EdgeShape { n: 8192, k_in: k, k_out: k, slabs, quads: true };
            shape.squares(2, 4 * k, limits).unwrap().configuration().name.clone()
        };
        assert_eq!(name(1000, &Limits::BASELINE), "64x64-v4-gated");
        assert_eq!(name(32, &Limits::BASELINE), "32x32-v4-gated");
        assert_eq!(name(1000, &Limits { workgroup_memory: 8 << 10, ..Limits::BASELINE }), "32x32-v4-gated");
    }
}
