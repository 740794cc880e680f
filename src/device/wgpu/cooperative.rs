//! Whether linear maps run on an adapter's cooperative matrices: which of them fit the kernel, and the check that a device
//! opened with them has to pass. They are experimental in wgpu, so nothing takes them unasked.
//!
//! The check is the only place of the device that knows an operation: it runs small linear maps by both of their kernels.

use ::wgpu::{AdapterInfo, CooperativeMatrixProperties, CooperativeScalarType, ExperimentalFeatures, Features};

use super::{Adapter, View, Wgpu};
use crate::error::{Error, Result};
use crate::kernel::linear::{Elementwise, Epilogue, TANGENT_ROWS};
use crate::kernel::wgsl::linear_coop::Unit;
use crate::ops::linear_wgpu::{LinearCall, Road, linear_by};

/// What large linear maps are computed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cooperative {
    /// `linear_f32` alone.
    #[default]
    Off,
    /// The adapter's cooperative matrices; an adapter without them is not opened.
    Native,
    /// The same kernels on f16 alone, for subgroups of that many lanes, a multiple of `side`, which need not be the adapter's:
    /// for tests.
    Emulated { side: u32, lanes: u32 },
}

/// The largest relative difference between both kernels that the check lets pass.
const TOLERANCE: f64 = 1e-6;

/// The features that a unit needs.
pub(super) fn features(unit: Option<Unit>) -> Features {
    match unit {
        None => Features::empty(),
        Some(Unit { emulated: true, .. }) => Features::SHADER_F16,
        Some(_) => Features::SHADER_F16 | Features::EXPERIMENTAL_COOPERATIVE_MATRIX,
    }
}

/// The opt-in that goes with [`features`].
pub(super) fn experimental(unit: Option<Unit>) -> ExperimentalFeatures {
    if !features(unit).contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        return ExperimentalFeatures::disabled();
    }
    // SAFETY: wgpu asks for two things: to know that what is experimental may be undefined where wgpu is wrong, and to report
    // it. Cooperative matrices are used by one text of this build, by whole subgroups in uniform control flow, on arrays of
    // workgroup memory whose bounds its constants keep, and only by those who ask for them; results are checked on opening.
    unsafe { ExperimentalFeatures::enabled() }
}

/// What an adapter multiplies with, as asked for; an error says what it lacks.
pub(super) fn unit(raw: &::wgpu::Adapter, adapter: &Adapter, asked: Cooperative) -> Result<Option<Unit>> {
    let found = match asked {
        Cooperative::Off => return Ok(None),
        Cooperative::Emulated { side, lanes } => emulated(raw.features(), side, lanes),
        Cooperative::Native => native(raw.features(), &raw.cooperative_matrix_properties(), &raw.get_info()),
    };
    let limits = super::wgsl::Limits {
        invocations: adapter.invocations,
        workgroup_memory: adapter.workgroup_memory,
        ..super::wgsl::Limits::BASELINE
    };
    let found = found.and_then(|unit| {
        let asked =
            || format!("{} invocations and {} bytes of workgroup memory at most", limits.invocations, limits.workgroup_memory);
        if unit.fits(&limits) { Ok(unit) } else { Err(asked()) }
    });
    found.map(Some).map_err(|lacks| Error::Backend {
        backend: "wgpu",
        found: format!("{adapter} has {lacks}"),
        expected: "cooperative matrices 16x16x16 or 8x8x8 f16 -> f32, f16, and subgroups of always 8, 16, 32 or 64 lanes, or no \
                   --cooperative"
            .into(),
    })
}

fn emulated(features: Features, side: u32, lanes: u32) -> std::result::Result<Unit, String> {
    let known = Unit::SIDES.contains(&side) && Unit::LANES.contains(&lanes) && lanes.is_multiple_of(side);
    match features.contains(Features::SHADER_F16) {
        true if known => Ok(Unit { side, lanes, emulated: true }),
        true => Err(format!("no emulation of {side}x{side}x{side} by {lanes} lanes")),
        false => Err("no f16".into()),
    }
}

/// The best of an adapter's cooperative matrices that the kernel can use, or what the adapter has instead.
fn native(
    features: Features,
    properties: &[CooperativeMatrixProperties],
    info: &AdapterInfo,
) -> std::result::Result<Unit, String> {
    if !features.contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        return Err("no cooperative matrices".into());
    }
    if !features.contains(Features::SHADER_F16) {
        return Err("cooperative matrices but no f16".into());
    }
    let has = |side: &u32| {
        let fits = |p: &CooperativeMatrixProperties| {
            (p.m_size, p.n_size, p.k_size) == (*side, *side, *side)
                && (p.ab_type, p.cr_type) == (CooperativeScalarType::F16, CooperativeScalarType::F32)
        };
        properties.iter().any(fits)
    };
    let Some(side) = Unit::SIDES.into_iter().find(has) else {
        let all: Vec<String> = properties.iter().map(super::adapters::cooperative).collect();
        return Err(format!("cooperative matrices {}", all.join(", ")));
    };
    let (least, most) = (info.subgroup_min_size, info.subgroup_max_size);
    match Unit::LANES.contains(&least) && least == most {
        true => Ok(Unit { side, lanes: least, emulated: false }),
        false => Err(format!("subgroups of {least} to {most} lanes")),
    }
}

/// A small linear map.
struct Map {
    n: usize,
    k: usize,
    m: usize,
    transpose: bool,
    epilogue: Epilogue,
    /// Powers of two that the elements of x and W are multiplied by.
    exponents: (i32, i32),
}

/// Ragged ones: in n, k and m, beyond one tile and beyond what is summed of k at a time, in both layouts of W and both widths
/// of loads, and of very large and small elements.
const MAPS: [Map; 3] = [
    Map { n: 67, k: 150, m: 70, transpose: false, epilogue: Epilogue::Store(Elementwise::Identity), exponents: (0, 0) },
    Map { n: 65, k: 36, m: 68, transpose: true, epilogue: Epilogue::Add, exponents: (-70, 90) },
    Map { n: 80, k: 140, m: 72, transpose: false, epilogue: Epilogue::Tangent(Elementwise::Silu), exponents: (3, -5) },
];

/// The largest relative difference between the kernels of linear maps; an error where it is too large.
pub(super) fn check(device: &Wgpu, unit: Unit) -> Result<f64> {
    let mut worst = 0.0;
    for map in &MAPS {
        let found = map.difference(device)?;
        if found > TOLERANCE || found.is_nan() {
            let Map { n, k, m, epilogue, .. } = map;
            return Err(Error::Numeric {
                place: format!("{unit} of {}", device.adapter()),
                found: format!("[{n}, {k}] x [{k}, {m}], {}, {found:.1e} from linear_f32", epilogue.name()),
                expected: format!("at most {TOLERANCE:.0e}, or no --cooperative"),
            });
        }
        worst = f64::max(worst, found);
    }
    Ok(worst)
}

impl Map {
    /// Relative Frobenius distance between both kernels' results.
    fn difference(&self, device: &Wgpu) -> Result<f64> {
        let Map { n, k, m, transpose, epilogue, exponents } = *self;
        let buffer = |values: Vec<f32>| device.buffer_of(bytemuck::cast_slice(&values));
        let (x, w) = (buffer(numbers(n * k, 1, exponents.0))?, buffer(numbers(k * m, 2, exponents.1))?);
        let b = buffer(numbers(m, 3, exponents.0 + exponents.1))?;
        let (w_rows, w_cols) = if transpose { (m, k) } else { (k, m) };
        let run = |road| {
            let y = device.buffer(4 * (n * m) as u64)?;
            let call = LinearCall {
                x: View::new(&x, n, k),
                w: View::new(&w, w_rows, w_cols),
                transpose,
                bias: Some(View::new(&b, 1, m)),
                epilogue,
                pre: None,
                y: View::new(&y, n, m),
            };
            device.submit(&linear_by(device, &call, road)?)?;
            device.download_f32(&y, 0..n * m)
        };
        let (scalar, found) = (run(Road::Tile(64, 64))?, run(Road::Cooperative)?);
        let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
        let norm = square(&mut scalar.iter().map(|&x| x.into()));
        let difference = square(&mut scalar.iter().zip(&found).map(|(&a, &b)| f64::from(a) - f64::from(b)));
        Ok((difference / norm).sqrt())
    }
}

/// Numbers in [-1, 1) times 2^exponent.
fn numbers(count: usize, seed: u32, exponent: i32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        // The generator of Numerical Recipes, from which the leading bits are taken.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f64::from(state >> 8) / f64::from(1 << 23) - 1.0) * 2f64.powi(exponent)
    };
    (0..count).map(|_| next() as f32).collect()
}

// The tangents of a map come in whole slabs.
const _: () = assert!(MAPS[2].n.is_multiple_of(TANGENT_ROWS as usize));

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(side: u32, ab_type: CooperativeScalarType, cr_type: CooperativeScalarType) -> CooperativeMatrixProperties {
        let (m_size, n_size, k_size) = (side, side, side);
        CooperativeMatrixProperties { m_size, n_size, k_size, ab_type, cr_type, saturating_accumulation: false }
    }

    #[test]
    fn the_largest_matrices_of_f16_to_f32_are_taken_and_subgroups_have_one_size() {
        use CooperativeScalarType::{F16, F32};
        let info = |least, most| AdapterInfo {
            subgroup_min_size: least,
            subgroup_max_size: most,
            ..AdapterInfo::new(::wgpu::DeviceType::Other, ::wgpu::Backend::Vulkan)
        };
        let all = Features::SHADER_F16 | Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        let (large, small) = (properties(16, F16, F32), properties(8, F16, F32));
        let half = properties(16, F16, F16);
        let wide = CooperativeMatrixProperties { k_size: 8, ..large };
        let unit = |side, lanes| Ok(Unit { side, lanes, emulated: false });
        assert_eq!(native(all, &[small, half, large], &info(32, 32)), unit(16, 32));
        assert_eq!(native(all, &[half, small], &info(64, 64)), unit(8, 64));
        let refused = |features, properties: &[_], (least, most)| native(features, properties, &info(least, most)).unwrap_err();
        assert_eq!(refused(Features::SHADER_F16, &[], (32, 32)), "no cooperative matrices");
        let found = refused(Features::EXPERIMENTAL_COOPERATIVE_MATRIX, std::slice::from_ref(&large), (32, 32));
        assert_eq!(found, "cooperative matrices but no f16");
        let found = refused(all, &[half, wide], (32, 32));
        assert_eq!(found, "cooperative matrices 16x16x16 f16 -> f16, 16x16x8 f16 -> f32");
        assert_eq!(refused(all, std::slice::from_ref(&large), (32, 64)), "subgroups of 32 to 64 lanes");
        assert_eq!(refused(all, &[large], (128, 128)), "subgroups of 128 to 128 lanes");
        assert_eq!(emulated(Features::empty(), 16, 8), Err("no f16".into()));
        for lanes in [0, 8, 128] {
            assert_eq!(emulated(all, 16, lanes), Err(format!("no emulation of 16x16x16 by {lanes} lanes")));
        }
        assert!(emulated(all, 8, 8).is_ok() && emulated(all, 16, 64).is_ok());
    }

    #[test]
    fn a_unit_asks_for_its_features_alone() {
        let unit = |emulated| Some(Unit { side: 16, lanes: 32, emulated });
        assert_eq!(features(None), Features::empty());
        assert_eq!(features(unit(true)), Features::SHADER_F16);
        assert!(features(unit(false)).contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX));
        assert!(
            !experimental(None).is_enabled() && !experimental(unit(true)).is_enabled() && experimental(unit(false)).is_enabled()
        );
    }
}
