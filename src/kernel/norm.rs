//! The PTX kernels of `ops::norm`: parameter blocks, configurations and grids. It launches nothing.

use super::element::element;
use super::params::{Params, params};
use super::registry::{Configuration, Kernel, Language};
use super::template::Constants;
use super::tuning::registers;
use crate::device::DType;

params! {
    /// `norm_sm80`: `y = c / sqrt(mean(c^2) + eps) * w + b`, row by row.
    pub struct NormParams {
        /// Address of `[rows, cols]`, row stride `x_stride`.
        pub x: u64,
        /// Address of `[rows, cols]`, row stride `y_stride`.
        pub y: u64,
        /// Address of `[cols]`, or 0.
        pub w: u64,
        /// Address of `[cols]`, or 0.
        pub b: u64,
        pub eps: f64,
        pub rows: u32,
        pub cols: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub y_stride: u32,
    }
}

params! {
    /// `norm_slope_sm80`: tangents or cotangents of `norm_sm80`.
    pub struct SlopeParams {
        /// Address of `[primal_rows, cols]`, row stride `x_stride`.
        pub x: u64,
        /// Address of `[rows, cols]`, row stride `dx_stride`.
        pub dx: u64,
        /// Address of `[rows, cols]`, row stride `dy_stride`.
        pub dy: u64,
        /// Address of `[cols]`, or 0.
        pub w: u64,
        pub eps: f64,
        pub rows: u32,
        pub primal_rows: u32,
        pub cols: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub dx_stride: u32,
        pub dy_stride: u32,
        /// 1 adds to `dy`; cotangents only.
        pub accumulate: u32,
    }
}

params! {
    /// `norm_half_sm80`: the halves of a LayerNorm, with tangents and cotangents. Addresses of what a pass does not
    /// touch are 0.
    pub struct HalfParams {
        /// Address of `[primal_rows, cols]`.
        pub x: u64,
        /// Address of `[primal_rows, 1]`.
        pub v: u64,
        /// Address of `[rows, cols]`.
        pub dx: u64,
        /// Address of `[rows, 1]`.
        pub dv: u64,
        /// Address of `[rows, cols]`.
        pub out: u64,
        /// Address of `[rows, 1]`.
        pub out_v: u64,
        pub eps: f64,
        pub rows: u32,
        pub primal_rows: u32,
        pub cols: u32,
        /// Elements, as all strides.
        pub x_stride: u32,
        pub v_stride: u32,
        pub dx_stride: u32,
        pub dv_stride: u32,
        pub out_stride: u32,
        pub out_v_stride: u32,
        /// 1 adds to `out`; the cotangent of the variance only.
        pub accumulate: u32,
    }
}

/// Warps of a CTA, each with a row.
const WARPS: u32 = 4;
/// CTAs of which a multiprocessor holds the registers.
const RESIDENT: u32 = 8;

/// The CTAs for that many rows.
pub fn grid(rows: u32) -> [u32; 3] {
    [rows.div_ceil(WARPS), 1, 1]
}

/// Of `norm_sm80`: `f32-layer`.
pub fn norm_configuration(dtype: DType, rms: bool) -> Configuration {
    configuration(dtype, kind(rms), mean(rms, Constants::default()))
}

/// Of `norm_slope_sm80`: `f32-layer-tangent`.
pub fn slope_configuration(dtype: DType, rms: bool, transpose: bool) -> Configuration {
    let pass = if transpose { "cotangent" } else { "tangent" };
    let name = format!("{}-{pass}", kind(rms));
    configuration(dtype, &name, mean(rms, Constants::default()).word("PASS", pass))
}

/// A pass of `norm_half_sm80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Variance,
    VarianceTangent,
    VarianceCotangent,
    Normalise,
    NormaliseTangent,
    NormaliseCotangent,
}

impl Half {
    const ALL: [Self; 6] = [
        Half::Variance,
        Half::VarianceTangent,
        Half::VarianceCotangent,
        Half::Normalise,
        Half::NormaliseTangent,
        Half::NormaliseCotangent,
    ];
    /// The pass, what factors it takes, whether the mean of dx, the sum of what products, and what it writes.
    fn words(self) -> [&'static str; 5] {
        match self {
            Half::Variance => ["variance", "none", "_rms", "", "mean"],
            Half::VarianceTangent => ["variance_tangent", "none", "_rms", "", "mean"],
            Half::VarianceCotangent => ["variance_cotangent", "dv", "_rms", "_none", "c"],
            Half::Normalise => ["normalise", "v", "_rms", "_none", "scaled"],
            Half::NormaliseTangent => ["normalise_tangent", "v_dv", "", "_none", "tangent"],
            Half::NormaliseCotangent => ["normalise_cotangent", "v", "", "", "cotangent"],
        }
    }
}

/// Of `norm_half_sm80`: `f32-variance`.
pub fn half_configuration(dtype: DType, half: Half) -> Configuration {
    let [pass, factors, shift, dot, out] = half.words();
    let words = Constants::default().word("PASS", pass).word("FACTORS", factors).word("SHIFT", shift).word("DOT", dot);
    // The variance is the mean of c with itself, which is x less its mean; the tangent of it twice that of c with dx.
    let of = element(dtype);
    let literal = |name| of.get_word(name).unwrap_or_default().to_string();
    let two = if dtype == DType::F32 { "0f40000000" } else { "0d4000000000000000" };
    let (with, less, times) = match half {
        Half::Variance => ("%x", "%mean".to_string(), literal("ONE")),
        _ => ("%dx", literal("ZERO"), two.to_string()),
    };
    let words = words.word("OUT", out).word("WITH", with).word("LESS", less).word("TIMES", times);
    configuration(dtype, pass, words)
}

fn kind(rms: bool) -> &'static str {
    if rms { "rms" } else { "layer" }
}

fn mean(rms: bool, words: Constants) -> Constants {
    words.word("KIND", kind(rms)).word("MEAN", if rms { "_rms" } else { "" })
}

fn configuration(dtype: DType, name: &str, words: Constants) -> Configuration {
    let threads = 32 * WARPS;
    let all = element(dtype).with(&words).int("WARPS", WARPS as usize);
    let constants = all.int("REGISTERS", registers(RESIDENT, threads) as usize);
    Configuration { name: format!("{}-{name}", dtype.name()), constants, threads, shared: 0 }
}

fn of_both(each: impl Fn(DType) -> Vec<Configuration>) -> Vec<Configuration> {
    [DType::F32, DType::F64].into_iter().flat_map(each).collect()
}

pub static NORM: Kernel = Kernel {
    name: "norm_sm80",
    operation: "norm",
    language: Language::SM80,
    source: include_str!("../../kernels/norm_sm80.ptx"),
    params: NormParams::FIELDS,
    configurations: || of_both(|dtype| [false, true].map(|rms| norm_configuration(dtype, rms)).to_vec()),
};

pub static SLOPE: Kernel = Kernel {
    name: "norm_slope_sm80",
    operation: "norm",
    language: Language::SM80,
    source: include_str!("../../kernels/norm_slope_sm80.ptx"),
    params: SlopeParams::FIELDS,
    configurations: || {
        let forms = [(false, false), (false, true), (true, false), (true, true)];
        of_both(|dtype| forms.map(|(rms, transpose)| slope_configuration(dtype, rms, transpose)).to_vec())
    },
};

pub static HALF: Kernel = Kernel {
    name: "norm_half_sm80",
    operation: "norm",
    language: Language::SM80,
    source: include_str!("../../kernels/norm_half_sm80.ptx"),
    params: HalfParams::FIELDS,
    configurations: || of_both(|dtype| Half::ALL.map(|half| half_configuration(dtype, half)).to_vec()),
};
