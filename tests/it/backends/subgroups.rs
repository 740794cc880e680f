//! Operations that join the numbers of a workgroup: by subgroups and by barriers the same bytes.

use mechgraph::device::wgpu::{Options, Subgroups};
use mechgraph::device::{DType, Device, View};
use mechgraph::ops::activation::Activation;
use mechgraph::ops::norm::Kind;

use super::against_cpu::Case;
use super::planted::wgpu_with;
use super::sections::{Norm, mlp_moments, norm_rows, of_norm};
use super::{attention_closed, chunks, elementwise, loss, norm};

/// A device with these options, where subgroups are used as they say.
fn open(options: Options) -> Option<Device> {
    let device = wgpu_with(options)?;
    let Device::Wgpu { wgpu, .. } = &device else { unreachable!("a device of another backend") };
    if matches!(wgpu.subgroups(), Subgroups::Of(_)) == options.subgroups {
        return Some(device);
    }
    println!("skipped: {}", wgpu.describe());
    None
}

fn without() -> Options {
    Options { subgroups: false, ..Options::default() }
}

/// Every operation whose kernels join numbers, on ragged shapes and on rows of every width of workgroup.
fn cases() -> Vec<(String, Case)> {
    let f32 = DType::F32;
    let mut all: Vec<(String, Case)> = Vec::new();
    for shape in [(3, 5, 2), (7, 32, 1), (5, 61, 3), (6, 129, 3), (3, 2500, 9)] {
        for kind in [Kind::Layer, Kind::Rms] {
            all.push((format!("norm {kind:?} {shape:?}"), norm::whole(f32, kind, shape, true)));
            for transpose in [false, true] {
                let name = format!("slope {kind:?} {shape:?} {transpose}");
                all.push((name, norm::slope(f32, kind, shape, transpose, false)));
            }
        }
        for pass in 0..norm::PASSES {
            all.push((format!("half {pass} {shape:?}"), norm::half(f32, pass, shape)));
        }
        let solu = Activation::Solu;
        all.push((format!("solu {shape:?}"), elementwise::activated(f32, solu, shape)));
        for transpose in [false, true] {
            all.push((format!("solu' {shape:?}"), elementwise::derivative(f32, solu, shape, transpose)));
        }
    }
    for shape in [(1, 1), (2, 3), (37, 41), (137, 700)] {
        all.push((format!("loss {shape:?}"), loss::loss(f32, shape)));
        all.push((format!("losses {shape:?}"), loss::of_runs(f32, shape, 1)));
    }
    for (n, m) in [(1, 1), (13, 40), (140, 7), (1000, 3)] {
        all.push((format!("moments [{n}, {m}]"), mlp_moments(n, m, Activation::Silu, true, true)(f32, f32)));
    }
    for kind in [Norm::First, Norm::Second, Norm::Whole] {
        for (n, d) in [(2, 3), (9, 33), (11, 70), (5, 130)] {
            all.push((format!("{kind:?} [{n}, {d}]"), of_norm(kind, n, d, true)(f32, f32)));
            all.push((format!("rows {kind:?} [{n}, {d}]"), norm_rows(kind, n, d, true)(f32, f32)));
        }
    }
    for field in chunks::EDGES {
        all.push((format!("tangents {field:?}"), chunks::tangents(f32, field, 1)));
        for squared in [false, true] {
            all.push((format!("cotangents {field:?} {squared}"), chunks::cotangents(f32, field, squared, 1)));
        }
    }
    for shape in chunks::SHAPES {
        all.push((format!("readout {shape:?}"), chunks::read_out(f32, shape, 0)));
    }
    all.extend(attention_closed::in_f32().into_iter().enumerate().map(|(i, case)| (format!("closed form {i}"), case)));
    all
}

/// The bytes of the outputs of a case.
fn bytes(case: &Case, device: &Device) -> Vec<Vec<u8>> {
    let arena = case.run_on::<f32>(device).unwrap();
    let rows = |v: &View| (0..v.rows).flat_map(|i| bytemuck::cast_slice(arena.row(v, i)).to_vec()).collect();
    case.outputs.iter().map(rows).collect()
}

/// Cases with the bytes that barriers give.
type Expected = Vec<(String, Case, Vec<Vec<u8>>)>;

fn expected(barriers: &Device) -> Expected {
    let with_bytes = |(name, case): (String, Case)| {
        let bytes = bytes(&case, barriers);
        (name, case, bytes)
    };
    cases().into_iter().map(with_bytes).collect()
}

/// The first case that a device gives other bytes for.
fn differing<'a>(expected: &'a Expected, device: &Device) -> Option<&'a str> {
    let found = expected.iter().find(|(_, case, wanted)| bytes(case, device) != *wanted);
    found.map(|(name, ..)| name.as_str())
}

#[test]
fn wgpu_subgroups_and_barriers_give_the_same_bytes() {
    let (Some(subgroups), Some(barriers)) = (open(Options::default()), open(without())) else { return };
    let expected = expected(&barriers);
    assert_eq!(differing(&expected, &subgroups), None);
    // The same of subgroups that lack lanes.
    let lacking = Options { planted: Some(("if lanes < left {", "if lanes <= 1000u {")), ..Options::default() };
    let Some(alone) = open(lacking) else { panic!("subgroups that lack lanes are wrong") };
    assert_eq!(differing(&expected, &alone), None);
}

/// Bugs in what single kernels make of `frag/reduce_subgroup.wgsl`, which the probe of an adapter does not see: words of the
/// texts that have the fragment under this name, and what to put in their place.
const BUGS: [(&str, &str, &str); 8] = [
    ("the first part for all", "total_of_parts[place]", "total_of_parts[0]"),
    (
        "a lane joins its neighbour at every level",
        "total_of_join(sum, subgroupShuffle(sum, place ^ half))",
        "total_of_join(sum, subgroupShuffle(sum, place ^ 1u))",
    ),
    (
        "a lane's own number is lost",
        "totals_of_join(sum, subgroupShuffle(sum, place ^ half))",
        "subgroupShuffle(sum, place ^ half)",
    ),
    ("the largest of one half", "largest_of_join(sum, subgroupShuffle(sum, place ^ half))", "sum"),
    (
        "the best of every other invocation",
        "best_of_join(sum, subgroupShuffle(sum, place ^ half))",
        "best_of_join(sum, subgroupShuffle(sum, place ^ max(half, 2u)))",
    ),
    (
        "low parts are lost",
        "fold_join(sum, subgroupShuffle(sum, place ^ half))",
        "vec2<f32>(sum.x + subgroupShuffle(sum, place ^ half).x, 0.0)",
    ),
    (
        "no barrier behind what an earlier call left",
        "workgroupBarrier();\n    totals_of_parts[thread] = value;",
        "totals_of_parts[thread] = value;",
    ),
    (
        "no barrier before the parts are read",
        "total_of_parts[thread] = value;\n    workgroupBarrier();",
        "total_of_parts[thread] = value;",
    ),
];

#[test]
fn wgpu_bugs_planted_in_what_subgroups_join_are_caught() {
    let (Some(_), Some(barriers)) = (open(Options::default()), open(without())) else { return };
    let expected = expected(&barriers);
    let missed = BUGS.iter().filter(|(what, sound, broken)| {
        let bugged = open(Options { planted: Some((sound, broken)), ..Options::default() });
        differing(&expected, &bugged.unwrap_or_else(|| panic!("{what}: the probe met it"))).is_none()
    });
    let missed: Vec<&str> = missed.map(|(what, ..)| *what).collect();
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}
