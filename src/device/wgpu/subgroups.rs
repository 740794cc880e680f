//! Whether the subgroups of an adapter join numbers as barriers do. Each adapter is asked when it is opened: the bits of a
//! result may not depend on the way, and a driver may be wrong.

use std::fmt;

use ::wgpu::Features;

use super::{Launch, Wgpu};
use crate::error::{Error, Result};
use crate::kernel::Params;
use crate::kernel::wgsl::Transport;
use crate::kernel::wgsl::probe::{REDUCE, REDUCED, ReduceParams, reduce_configuration};

/// What is known about the subgroups of an open adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subgroups {
    /// It has none, or is not to use them.
    Absent,
    /// It has some, whose results are not those of barriers; they are not used.
    Wrong,
    /// Of so many lanes in the kernel that asked; another may be given others.
    Of(u32),
}

impl fmt::Display for Subgroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subgroups::Absent => write!(f, "no subgroups"),
            Subgroups::Wrong => write!(f, "wrong subgroups"),
            Subgroups::Of(lanes) => write!(f, "subgroups of {lanes}"),
        }
    }
}

/// Pairs whose sums round otherwise in another order: full mantissas, both signs, magnitudes far apart.
fn numbers() -> Vec<[f32; 2]> {
    let mut state = 1u32;
    // The generator of Numerical Recipes, of which the leading bits are taken.
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let sign = if state >> 31 == 0 { 1.0 } else { -1.0 };
        sign * (state >> 7 & 0xff_ffff | 1 << 23) as f32 * 2f32.powi((state % 1009 % 9) as i32 - 27)
    };
    (0..REDUCED).map(|_| [number(), number()]).collect()
}

/// What every invocation tells: how often it got other bits by subgroups than by barriers, and the size of its subgroup.
fn found(results: &[[u32; 2]]) -> Subgroups {
    match results.first() {
        Some([_, lanes]) if results.iter().all(|[differing, lanes]| *differing == 0 && *lanes > 0) => Subgroups::Of(*lanes),
        _ => Subgroups::Wrong,
    }
}

/// Asks the adapter.
pub(super) fn run(device: &Wgpu) -> Result<Subgroups> {
    if !device.device.features().contains(Features::SUBGROUP) || device.limits.max_compute_invocations_per_workgroup < REDUCED {
        return Ok(Subgroups::Absent);
    }
    let pipeline = match device.pipeline(&REDUCE, &reduce_configuration()) {
        Ok(pipeline) => pipeline,
        // The compiler of the driver does not take them.
        Err(Error::Jit { .. }) => return Ok(Subgroups::Wrong),
        Err(why) => return Err(why),
    };
    let inputs = device.buffer_of(bytemuck::cast_slice(&numbers()))?;
    let outputs = device.buffer(8 * u64::from(REDUCED))?;
    let [(input, _), (output, _)] =
        [device.bind(&inputs, 0..2 * REDUCED as usize)?, device.bind(&outputs, 0..2 * REDUCED as usize)?];
    let launch = Launch {
        pipeline: &pipeline,
        params: &ReduceParams { count: REDUCED }.bytes(),
        transport: Transport::Uniform,
        bindings: &[input, output],
        grid: [1, 1, 1],
    };
    device.submit(&[device.record(&launch)?])?;
    let bytes = device.download(&outputs, 0..8 * u64::from(REDUCED))?;
    Ok(found(&bytemuck::pod_collect_to_vec(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_or_an_invocation_without_a_subgroup_turns_them_off() {
        let good = [0, 32];
        assert_eq!(found(&[good; 3]), Subgroups::Of(32));
        for bad in [[1, 32], [0, 0]] {
            assert_eq!(found(&[good, bad, good]), Subgroups::Wrong);
        }
        assert_eq!(found(&[]), Subgroups::Wrong);
        let names = [Subgroups::Absent, Subgroups::Wrong, Subgroups::Of(8)].map(|s| s.to_string());
        assert_eq!(names, ["no subgroups", "wrong subgroups", "subgroups of 8"]);
    }

    #[test]
    fn the_numbers_tell_one_order_of_additions_from_others() {
        let x: Vec<f32> = numbers().iter().map(|n| n[0]).collect();
        assert!(x.iter().all(|x| x.is_normal()));
        let tree = |x: &[f32], near: bool| {
            let mut parts = x.to_vec();
            while parts.len() > 1 {
                let half = parts.len() / 2;
                parts =
                    (0..half).map(|i| if near { parts[2 * i] + parts[2 * i + 1] } else { parts[i] + parts[i + half] }).collect();
            }
            parts[0].to_bits()
        };
        // As they are dealt to 1, 2, 4 .. columns.
        let dealt = |columns: usize| -> Vec<f32> { (0..x.len()).map(|i| x[(i + 37 * columns) % x.len()]).collect() };
        let all: Vec<Vec<f32>> = (0..=REDUCED.ilog2()).map(|log| dealt(1 << log)).collect();
        assert!(all.iter().any(|x| tree(x, true) != tree(x, false)));
        assert!(all.iter().any(|x| x.iter().sum::<f32>().to_bits() != tree(x, false)));
    }
}
