//! The WGSL kernels of closed forms of attention, beside the products of matrices that those are made of: parameter blocks
//! and configurations. They launch nothing.
//!
//! They work on tiles of queries: some whole sequences, or some queries of one; query `i` of a sequence is its key
//! `start + i`. Offsets and strides are in elements; what has none begins with its binding and is contiguous.

use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::template::Constants;
use super::reduce::{barriers, ways};

params! {
    /// `attention_centre_f32`: `y = x` less the mean over the keys of each sequence.
    pub struct CentreParams {
        /// Workgroups.
        pub units: u32,
        /// Of one sequence.
        pub keys: u32,
        pub cols: u32,
        /// Workgroups across a row.
        pub across: u32,
        pub x_offset: u32,
        pub x_row: u32,
    }
}

params! {
    /// `attention_omega_f32`: averaged patterns and value deviations.
    pub struct OmegaParams {
        pub heads: u32,
        /// Of all sequences.
        pub queries: u32,
        /// Queries of one sequence.
        pub each: u32,
        /// Keys of one sequence.
        pub keys: u32,
        pub start: u32,
        /// At least 1.
        pub nodes: u32,
        pub d: u32,
        pub d_v: u32,
        pub q_offset: u32,
        pub q_row: u32,
        pub scale: f32,
    }
}

params! {
    /// `attention_contract_f32`: `out[f, h, i] = (a[f, h, i] . b[h, i]) q[i, h]`.
    pub struct ContractParams {
        /// Rows of the result.
        pub units: u32,
        pub heads: u32,
        pub queries: u32,
        pub length: u32,
        pub d: u32,
        pub q_offset: u32,
        pub q_row: u32,
    }
}

params! {
    /// `attention_directions_f32`: `out[h, t, s, j] = on_k[h, t, j] f[s, j] + f[t, j] on_q[h, s, j]`.
    pub struct DirectionsParams {
        /// Elements of the result.
        pub count: u32,
        pub queries: u32,
        /// Queries of one sequence.
        pub each: u32,
        /// Keys of one sequence.
        pub keys: u32,
        pub start: u32,
        /// Keys of all sequences.
        pub key_rows: u32,
        pub cols: u32,
        pub f_offset: u32,
        pub f_row: u32,
    }
}

params! {
    /// `attention_values_f32`: `psi[t, j, h, e] += a[h, t, j] v[j, h, e]`, set where `e` is not below `narrow`.
    pub struct ValuesParams {
        /// Elements of psi.
        pub count: u32,
        pub rows: u32,
        /// `heads wide`.
        pub width: u32,
        /// Columns of a head.
        pub wide: u32,
        pub narrow: u32,
        pub queries: u32,
    }
}

params! {
    /// `attention_squares_f32`: `out[c, r] += sum_t (j[t, r, c] + f[t, r] b[r, c])^2`.
    pub struct SquaresParams {
        pub queries: u32,
        pub rows: u32,
        pub cols: u32,
        pub f_offset: u32,
        pub f_row: u32,
        pub out_offset: u32,
        pub out_row: u32,
        /// 1; see `shaders/frag/two_sum.wgsl`.
        pub one: f32,
    }
}

/// Invocations of a workgroup of all these kernels.
pub const THREADS: u32 = 64;

/// The configuration of a kernel that exchanges nothing.
pub fn configuration() -> Configuration {
    Configuration { name: "rows".into(), constants: Constants::default(), threads: THREADS, shared: 0 }
}

/// That of `attention_contract_f32`, which adds up a number of each invocation.
pub fn contract() -> Configuration {
    barriers(Configuration { shared: 4 * THREADS, ..configuration() })
}

/// That of [`OMEGA`], which has a sum, a maximum and a weight of each invocation; by `quads` where every row of every head of q and of k begins at a multiple of 4 and has whole quads.
pub fn omega(quads: bool) -> Configuration {
    let constants = super::vector(Constants::default(), quads);
    let name = constants.get_word("VECTOR").unwrap_or_default().into();
    barriers(Configuration { name, constants, shared: 12 * THREADS, ..configuration() })
}

macro_rules! kernels {
    ($($(#[$doc:meta])* $name:ident = $file:literal, $params:ty, $configurations:expr;)*) => {
        $($(#[$doc])*
        pub static $name: Kernel = Kernel {
            name: $file,
            operation: "attention_closed",
            language: Language::Wgsl,
            source: include_str!(concat!("../../../shaders/", $file, ".wgsl")),
            params: <$params>::FIELDS,
            configurations: || $configurations,
        };)*
    };
}

kernels! {
    /// Rows less the mean of their sequence.
    CENTRE = "attention_centre_f32", CentreParams, vec![configuration()];
    /// Patterns and value deviations.
    OMEGA = "attention_omega_f32", OmegaParams, ways([false, true].map(omega));
    /// Rows of q weighted with products of deviations.
    CONTRACT = "attention_contract_f32", ContractParams, ways([contract()]);
    /// Changes of the scores along directions.
    DIRECTIONS = "attention_directions_f32", DirectionsParams, vec![configuration()];
    /// Changes of the values along directions.
    VALUES = "attention_values_f32", ValuesParams, vec![configuration()];
    /// Sums of squared Jacobians.
    SQUARES = "attention_squares_f32", SquaresParams, vec![configuration()];
}
