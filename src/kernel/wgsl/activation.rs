//! The WGSL kernels of elementwise activations, of their derivatives, and of the hidden layer of gated MLPs:
//! parameter blocks and configurations. It launches nothing.

use super::super::linear::Elementwise;
use super::super::params::{Params, params};
use super::super::registry::{Configuration, Kernel, Language};
use super::super::sheet::THREADS;
use super::super::template::Constants;

params! {
    /// `activation_f32`: `y = cap act(x inverse) u`.
    pub struct ActivationParams {
        pub rows: u32,
        pub cols: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub u_offset: u32,
        pub u_stride: u32,
        pub y_offset: u32,
        pub y_stride: u32,
        pub cap: f32,
        /// `1 / cap`.
        pub inverse: f32,
        /// 1 where there is a u; it is of ones otherwise.
        pub has_u: u32,
        /// Of the [`super::super::sheet::Sheet`] over `[rows, cols]`, [`DEEP`] rows an invocation.
        pub log_columns: u32,
        pub column_tiles: u32,
    }
}

params! {
    /// `activation_tangent_f32`: `dy = act'(x) u dx + act(x) du` and `dv = act(x) dx`.
    pub struct TangentParams {
        pub rows: u32,
        pub cols: u32,
        pub probes: u32,
        /// Elements, as all offsets and strides.
        pub x_offset: u32,
        pub x_stride: u32,
        pub u_offset: u32,
        pub u_stride: u32,
        pub dx_offset: u32,
        pub dx_stride: u32,
        pub du_offset: u32,
        pub du_stride: u32,
        pub dy_offset: u32,
        pub dy_stride: u32,
        pub dv_offset: u32,
        pub dv_stride: u32,
        /// [`HAS_U`], [`HAS_DU`], [`HAS_DV`].
        pub flags: u32,
        /// Of the [`super::super::sheet::Sheet`] over `[rows, cols]`, one row an invocation.
        pub log_columns: u32,
        pub column_tiles: u32,
        /// Tiles of the sheet.
        pub tiles: u32,
    }
}

/// There is a u; it is of ones otherwise.
pub const HAS_U: u32 = 1;
/// There is a du; it is of zeros otherwise.
pub const HAS_DU: u32 = 2;
/// dv is asked for.
pub const HAS_DV: u32 = 4;

/// Elements of an invocation of `activation_f32`.
pub const DEEP: u32 = 4;
/// Probes of an invocation of `activation_tangent_f32`, which share one activation.
pub const PROBES: u32 = 8;

/// Of `activation_f32`. In place there is the soft cap alone.
pub fn configuration(act: Elementwise, in_place: bool) -> Configuration {
    let constants = Constants::default().int("DEEP", DEEP as usize).word("ACTIVATION", act.name());
    let name = format!("{}{}", act.name(), if in_place { "-in_place" } else { "" });
    Configuration { name, constants: super::in_place(constants, in_place), threads: THREADS, shared: 0 }
}

/// Of `activation_tangent_f32`; `joint` where dy and dv are views of one buffer.
pub fn tangent_configuration(act: Elementwise, joint: bool) -> Configuration {
    let constants = Constants::default().ints([("DEEP", 1), ("PROBES", PROBES)]).word("ACTIVATION", act.name());
    let name = format!("{}{}", act.name(), if joint { "-joint" } else { "" });
    Configuration { name, constants: super::joint(constants, "DV", ["dy", "dv"], joint), threads: THREADS, shared: 0 }
}

/// `y = cap act(x inverse) u`.
pub static ACTIVATION: Kernel = Kernel {
    name: "activation_f32",
    operation: "activation",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/activation_f32.wgsl"),
    params: ActivationParams::FIELDS,
    configurations: || {
        let apart = Elementwise::ALL.map(|act| configuration(act, false));
        apart.into_iter().chain([configuration(Elementwise::Tanh, true)]).collect()
    },
};

/// `dy = act'(x) u dx + act(x) du` and `dv = act(x) dx`.
pub static TANGENT: Kernel = Kernel {
    name: "activation_tangent_f32",
    operation: "activation_tangent",
    language: Language::Wgsl,
    source: include_str!("../../../shaders/activation_tangent_f32.wgsl"),
    params: TangentParams::FIELDS,
    configurations: || Elementwise::ALL.iter().flat_map(|&act| [false, true].map(|j| tangent_configuration(act, j))).collect(),
};
