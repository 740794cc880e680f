//! The WGSL kernels of moments: weighted column sums and the derivative rows of activations. Parameter blocks and
//! configurations; it launches nothing.

use super::super::linear::Elementwise;
use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::sheet::THREADS;
use super::super::template::Constants;
use super::reduce::{barriers, ways};

params! {
    /// `column_sums_f32`: `out[c] += sum_i weights[i] x[i, c]`.
    pub struct ColumnSumParams {
        pub rows: u32,
        pub cols: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub weights_offset: u32,
        pub out_offset: u32,
        /// [`HAS_WEIGHTS`].
        pub flags: u32,
        /// Of [`log_columns`].
        pub log_columns: u32,
        /// 1; see `shaders/frag/two_sum.wgsl`.
        pub one: f32,
        /// 0; see `shaders/frag/add_up.wgsl`.
        pub zero: f32,
    }
}

params! {
    /// `derivatives_f32`: the derivative rows of an activation under a quadrature.
    pub struct DerivativeParams {
        pub rows: u32,
        pub cols: u32,
        /// Elements, as all offsets and strides.
        pub pre_offset: u32,
        pub pre_stride: u32,
        pub up_offset: u32,
        pub up_stride: u32,
        pub out_offset: u32,
        pub out_stride: u32,
        /// Quadrature points.
        pub count: u32,
        /// [`GATED`].
        pub flags: u32,
        /// Of the [`super::super::sheet::Sheet`] over `[rows, cols]`, [`DEEP`] rows an invocation.
        pub log_columns: u32,
        pub column_tiles: u32,
    }
}

/// There are weights; they are ones otherwise.
pub const HAS_WEIGHTS: u32 = 1;
/// There is a linear branch.
pub const GATED: u32 = 1;
/// Elements of an invocation of `derivatives_f32`.
pub const DEEP: u32 = 4;

/// How many columns, as a power of two, a workgroup sums over `rows` rows: the more rows, the more lanes a column has.
pub fn log_columns(rows: usize, cols: usize) -> u32 {
    let lanes = (rows / 8).clamp(1, 64).next_power_of_two();
    let most = THREADS as usize / lanes;
    cols.clamp(1, most).next_power_of_two().ilog2()
}

/// The configuration of kernels that fold lanes of columns, each a pair in workgroup memory.
pub(super) fn lanes() -> Configuration {
    barriers(Configuration { name: "lanes".into(), constants: Constants::default(), threads: THREADS, shared: 8 * THREADS })
}

/// The configuration of `column_sums_f32`.
pub fn column_sums() -> Configuration {
    lanes()
}

/// The configuration of `derivatives_f32` for an activation.
pub fn derivatives(act: Elementwise) -> Configuration {
    let constants = Constants::default().ints([("DEEP", DEEP), ("THREADS", THREADS)]);
    Configuration { name: act.name().into(), constants: constants.word("ACTIVATION", act.name()), threads: THREADS, shared: 0 }
}

pub static COLUMN_SUMS: Kernel = Kernel {
    name: "column_sums_f32",
    operation: "moments",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/column_sums_f32.wgsl"),
    params: ColumnSumParams::FIELDS,
    configurations: || ways([column_sums()]),
};

pub static DERIVATIVES: Kernel = Kernel {
    name: "derivatives_f32",
    operation: "moments",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/derivatives_f32.wgsl"),
    params: DerivativeParams::FIELDS,
    configurations: || Elementwise::ALL.map(derivatives).into(),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_take_lanes_and_few_take_columns() {
        for (rows, cols, log) in [(1, 1000, 8), (7, 3, 2), (16, 2_400_000, 7), (100_000, 3072, 2), (100_000, 1, 0)] {
            assert_eq!(log_columns(rows, cols), log, "[{rows}, {cols}]");
        }
    }
}
