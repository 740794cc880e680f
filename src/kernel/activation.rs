//! The PTX kernels of elementwise activations, of their derivatives, and of the hidden layer of gated
//! MLPs: parameter blocks and configurations. It launches nothing.

use super::element::element;
use super::linear::Elementwise;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::sheet::THREADS;
use crate::device::DType;

params! {
    /// `activation_sm80`: `y = cap act(x inverse) u`.
    pub struct ActivationParams {
        /// Address of `[rows, cols]`, row stride `x_stride`.
        pub x: u64,
        /// Address of `[rows, cols]`, row stride `u_stride`; 0 for ones.
        pub u: u64,
        /// Address of `[rows, cols]`, row stride `y_stride`; may be that of `x`.
        pub y: u64,
        pub cap: f64,
        /// `1 / cap`.
        pub inverse: f64,
        pub rows: u32,
        pub cols: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub u_stride: u32,
        pub y_stride: u32,
        /// Of the [`super::sheet::Sheet`] over `[rows, cols]`, [`DEEP`] rows a thread.
        pub log_columns: u32,
    }
}

params! {
    /// `activation_tangent_sm80`: `dy = act'(x) u dx + act(x) du` and `dv = act(x) dx`.
    pub struct TangentParams {
        /// Address of `[rows, cols]`, row stride `x_stride`.
        pub x: u64,
        /// Address of `[rows, cols]`, row stride `u_stride`; 0 for ones.
        pub u: u64,
        /// Address of `[probes * rows, cols]`, row stride `dx_stride`.
        pub dx: u64,
        /// Address of `[probes * rows, cols]`, row stride `dy_stride`.
        pub dy: u64,
        /// Address of `[probes * rows, cols]`, row stride `du_stride`; 0 for zeros.
        pub du: u64,
        /// Address of `[probes * rows, cols]`, row stride `dv_stride`; 0 where it is not asked for.
        pub dv: u64,
        pub rows: u32,
        pub cols: u32,
        pub probes: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub u_stride: u32,
        pub dx_stride: u32,
        pub dy_stride: u32,
        pub du_stride: u32,
        pub dv_stride: u32,
        /// Of the [`super::sheet::Sheet`] over `[rows, cols]`, one row a thread.
        pub log_columns: u32,
    }
}

/// Elements that a thread has in flight.
pub const DEEP: u32 = 4;
/// Probes of a thread of `activation_tangent_sm80`, which share one activation.
pub const PROBES: u32 = 8;

/// The configuration for an activation in a dtype.
pub fn configuration(dtype: DType, act: Elementwise) -> Configuration {
    let constants = [("DEEP", DEEP), ("PROBES", PROBES), ("REGISTERS", 96)];
    let constants = element(dtype).ints(constants).word("ACTIVATION", act.name());
    Configuration { name: format!("{}-{}", dtype.name(), act.name()), constants, threads: THREADS, shared: 0 }
}

fn configurations() -> Vec<Configuration> {
    let acts = |dtype| Elementwise::ALL.map(|act| configuration(dtype, act));
    [DType::F32, DType::F64].into_iter().flat_map(acts).collect()
}

/// `y = cap act(x inverse) u`.
pub static ACTIVATION: Kernel = Kernel {
    name: "activation_sm80",
    operation: "activation",
    language: Language::SM80,
    source: include_str!("../../kernels/activation_sm80.ptx"),
    params: ActivationParams::FIELDS,
    configurations,
};

/// `dy = act'(x) u dx + act(x) du`.
pub static TANGENT: Kernel = Kernel {
    name: "activation_tangent_sm80",
    operation: "activation_tangent",
    language: Language::SM80,
    source: include_str!("../../kernels/activation_tangent_sm80.ptx"),
    params: TangentParams::FIELDS,
    configurations,
};
