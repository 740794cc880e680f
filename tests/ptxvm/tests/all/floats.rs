//! Floating point arithmetic and conversions against hand-computed vectors.

use crate::support::{apply, apply_f32, apply_f64, refusal};

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn arithmetic_rounds_to_nearest_and_fma_rounds_once() {
    assert_eq!(apply_f32("add.f32 %d, %a, %b;", &[&[1.0, 2.5], &[16_777_216.0, 1.0]]), [3.5, 16_777_216.0]);
    assert_eq!(apply_f32("sub.rn.f32 %d, %a, %b;", &[&[1.0, 2.5]]), [-1.5]);
    assert_eq!(apply_f32("mul.f32 %d, %a, %b;", &[&[3.0, -0.5]]), [-1.5]);
    let x = 1.0 + f32::EPSILON;
    // x * x = 1 + 2 eps + eps^2; only a single rounding keeps eps^2.
    assert_eq!(apply_f32("fma.rn.f32 %d, %a, %b, %c;", &[&[x, x, -(1.0 + 2.0 * f32::EPSILON)]]), [f32::EPSILON * f32::EPSILON]);
    let y = 1.0 + f64::EPSILON;
    assert_eq!(apply_f64("fma.rn.f64 %d, %a, %b, %c;", &[&[y, y, -(1.0 + 2.0 * f64::EPSILON)]]), [f64::EPSILON * f64::EPSILON]);
    assert_eq!(apply_f64("add.f64 %d, %a, %b;", &[&[0.1, 0.2]]), [0.1 + 0.2]);
    assert_eq!(apply_f64("mul.rn.f64 %d, %a, %b;", &[&[0.1, 0.2]]), [0.1 * 0.2]);
    assert_eq!(apply_f64("div.rn.f64 %d, %a, %b;", &[&[1.0, 3.0]]), [1.0 / 3.0]);
    assert_eq!(apply_f64("sqrt.rn.f64 %d, %a;", &[&[2.0]]), [2f64.sqrt()]);
    assert_eq!(apply_f64("rcp.rn.f64 %d, %a;", &[&[3.0]]), [1.0 / 3.0]);
    assert_eq!(apply_f32("div.rn.f32 %d, %a, %b;", &[&[1.0, 3.0]]), [1.0 / 3.0]);
    assert_eq!(apply_f32("sqrt.rn.f32 %d, %a;", &[&[2.0]]), [2f32.sqrt()]);
    assert_eq!(apply_f32("rcp.rn.f32 %d, %a;", &[&[3.0]]), [1.0 / 3.0]);
}

#[test]
fn directed_modes_round_as_named() {
    let tiny = f32::powi(2.0, -40);
    let modes =
        ["rn", "rz", "rm", "rp"].map(|mode| apply_f32(&format!("add.{mode}.f32 %d, %a, %b;"), &[&[1.0, tiny], &[-1.0, -tiny]]));
    let above = 1.0 + f32::EPSILON;
    assert_eq!(modes, [[1.0, -1.0], [1.0, -1.0], [1.0, -above], [above, -1.0]]);
    let thirds = ["rz", "rp"].map(|mode| apply_f32(&format!("div.{mode}.f32 %d, %a, %b;"), &[&[1.0, 3.0]])[0]);
    assert_eq!(thirds.map(f32::to_bits), [0x3EAA_AAAA, 0x3EAA_AAAB]);
    let roots = ["rm", "rp"].map(|mode| apply_f64(&format!("sqrt.{mode}.f64 %d, %a;"), &[&[2.0]])[0].to_bits());
    assert_eq!(roots[0] + 1, roots[1]);
    let doubles = ["rz", "rp"].map(|mode| apply_f64(&format!("fma.{mode}.f64 %d, %a, %b, %c;"), &[&[1.0, 1.0, 1e-30]])[0]);
    assert_eq!(doubles, [1.0, 1.0 + f64::EPSILON]);
    assert_eq!(apply_f32("mul.rz.f32 %d, %a, %b;", &[&[-3.0, 0.0]])[0].to_bits(), 0x8000_0000);
}

#[test]
fn saturation_and_flushing_do_what_they_say() {
    let rows: &[&[f32]] = &[&[0.75, 0.75], &[-1.0, 0.5], &[NAN, 1.0], &[0.25, 0.5]];
    assert_eq!(bits(&apply_f32("add.sat.f32 %d, %a, %b;", rows)), bits(&[1.0, 0.0, 0.0, 0.75]));
    let small = f32::MIN_POSITIVE / 2.0;
    assert_eq!(apply_f32("add.ftz.f32 %d, %a, %b;", &[&[small, f32::MIN_POSITIVE]]), [f32::MIN_POSITIVE]);
    assert_eq!(apply_f32("add.f32 %d, %a, %b;", &[&[small, f32::MIN_POSITIVE]]), [1.5 * f32::MIN_POSITIVE]);
    assert_eq!(bits(&apply_f32("mul.ftz.f32 %d, %a, %b;", &[&[-f32::MIN_POSITIVE, 0.5]])), [0x8000_0000]);
    assert_eq!(apply_f32("mul.f32 %d, %a, %b;", &[&[f32::MIN_POSITIVE, 0.5]]), [small]);
}

#[test]
fn minimum_and_maximum_skip_nan_unless_told_and_order_zeros() {
    let rows: &[&[f32]] = &[&[1.0, 2.0], &[NAN, 2.0], &[1.0, NAN], &[0.0, -0.0], &[-0.0, 0.0]];
    assert_eq!(bits(&apply_f32("min.f32 %d, %a, %b;", rows)), bits(&[1.0, 2.0, 1.0, -0.0, -0.0]));
    assert_eq!(bits(&apply_f32("max.f32 %d, %a, %b;", rows)), bits(&[2.0, 2.0, 1.0, 0.0, 0.0]));
    assert_eq!(bits(&apply_f32("max.NaN.f32 %d, %a, %b;", rows))[..3], [0x4000_0000, 0x7FFF_FFFF, 0x7FFF_FFFF]);
    assert_eq!(apply_f64("max.f64 %d, %a, %b;", &[&[f64::NAN, -3.0]]), [-3.0]);
}

#[test]
fn single_precision_nan_results_are_canonical() {
    assert_eq!(bits(&apply_f32("sub.f32 %d, %a, %b;", &[&[INF, INF], &[-NAN, 1.0]])), [0x7FFF_FFFF, 0x7FFF_FFFF]);
    assert_eq!(bits(&apply_f32("sqrt.rn.f32 %d, %a;", &[&[-1.0]])), [0x7FFF_FFFF]);
}

#[test]
fn signs_are_negated_dropped_and_copied() {
    assert_eq!(bits(&apply_f32("neg.f32 %d, %a;", &[&[0.0], &[-2.0]])), bits(&[-0.0, 2.0]));
    assert_eq!(apply_f32("abs.f32 %d, %a;", &[&[-2.0]]), [2.0]);
    assert_eq!(apply_f64("abs.f64 %d, %a;", &[&[-2.0]]), [2.0]);
    assert_eq!(apply_f32("copysign.f32 %d, %a, %b;", &[&[-1.0, 5.0], &[1.0, -5.0]]), [-5.0, 5.0]);
    assert_eq!(apply_f64("copysign.f64 %d, %a, %b;", &[&[-1.0, 5.0]]), [-5.0]);
}

#[test]
fn comparisons_with_nan_are_false_unless_unordered() {
    let compare = |op: &str| -> Vec<u64> {
        let rows: Vec<Vec<u64>> = [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0), (NAN, 1.0), (0.0, -0.0)]
            .iter()
            .map(|(a, b): &(f32, f32)| vec![a.to_bits().into(), b.to_bits().into()])
            .collect();
        let rows: Vec<&[u64]> = rows.iter().map(Vec::as_slice).collect();
        apply(&format!("setp.{op}.f32 %p, %a, %b; selp.b32 %d, 1, 0, %p;"), &["f32", "f32"], "b32", &rows)
    };
    let expected = [
        ("eq", [0, 0, 1, 0, 1]),
        ("ne", [1, 1, 0, 0, 0]),
        ("lt", [1, 0, 0, 0, 0]),
        ("le", [1, 0, 1, 0, 1]),
        ("gt", [0, 1, 0, 0, 0]),
        ("ge", [0, 1, 1, 0, 1]),
        ("equ", [0, 0, 1, 1, 1]),
        ("neu", [1, 1, 0, 1, 0]),
        ("ltu", [1, 0, 0, 1, 0]),
        ("leu", [1, 0, 1, 1, 1]),
        ("gtu", [0, 1, 0, 1, 0]),
        ("geu", [0, 1, 1, 1, 1]),
        ("num", [1, 1, 1, 0, 1]),
        ("nan", [0, 0, 0, 1, 0]),
    ];
    for (op, results) in expected {
        assert_eq!(compare(op), results, "{op}");
    }
}

#[test]
fn properties_are_tested() {
    let test = |op: &str| -> Vec<u64> {
        let values = [1.0, 0.0, f32::MIN_POSITIVE / 2.0, INF, NAN].map(|x: f32| [u64::from(x.to_bits())]);
        let rows: Vec<&[u64]> = values.iter().map(|row| row.as_slice()).collect();
        apply(&format!("testp.{op}.f32 %p, %a; selp.b32 %d, 1, 0, %p;"), &["f32"], "b32", &rows)
    };
    assert_eq!(test("finite"), [1, 1, 1, 0, 0]);
    assert_eq!(test("infinite"), [0, 0, 0, 1, 0]);
    assert_eq!(test("number"), [1, 1, 1, 1, 0]);
    assert_eq!(test("notanumber"), [0, 0, 0, 0, 1]);
    assert_eq!(test("normal"), [1, 1, 0, 0, 0]);
    assert_eq!(test("subnormal"), [0, 0, 1, 0, 0]);
}

/// Every approximation is close, and less accurate than a correctly rounded result somewhere.
#[test]
fn approximate_functions_have_errors_of_the_size_the_isa_states() {
    let arguments: Vec<f32> = (1..200).map(|k| k as f32 * 0.037).collect();
    let rows: Vec<&[f32]> = arguments.chunks(1).collect();
    type Exact = fn(f64) -> f64;
    let functions: [(&str, Exact, f64, bool); 10] = [
        ("rcp.approx.f32", |x| 1.0 / x, 2f64.powi(-23), true),
        ("rcp.approx.ftz.f32", |x| 1.0 / x, 2f64.powi(-23), true),
        ("sqrt.approx.f32", f64::sqrt, 2f64.powi(-22), true),
        ("rsqrt.approx.f32", |x| 1.0 / x.sqrt(), 2f64.powi(-22), true),
        ("ex2.approx.f32", f64::exp2, 2f64.powi(-22), true),
        ("ex2.approx.ftz.f32", f64::exp2, 2f64.powi(-22), true),
        ("lg2.approx.f32", f64::log2, 2f64.powi(-22), false),
        ("tanh.approx.f32", f64::tanh, 2f64.powi(-10), true),
        ("sin.approx.f32", f64::sin, 2f64.powi(-20), false),
        ("cos.approx.f32", f64::cos, 2f64.powi(-20), false),
    ];
    for (name, exact, bound, relative) in functions {
        let found = apply_f32(&format!("{name} %d, %a;"), &rows);
        let errors = arguments.iter().zip(&found).map(|(&x, &y)| {
            let exact = exact(x.into());
            let scale = if relative { exact.abs() } else { exact.abs().max(1.0) };
            (f64::from(y) - exact).abs() / scale
        });
        let worst = errors.fold(0.0, f64::max);
        assert!(worst <= 2.0 * bound, "{name}: {worst:e}");
        assert!(worst > 2f64.powi(-24), "{name} is as good as exact: {worst:e}");
    }
    let quotients = apply_f32("div.approx.f32 %d, %a, %b;", &[&[1.0, 4.0], &[7.0, 3.0]]);
    assert_eq!(quotients[0], 0.25);
    assert!((quotients[1] / (7.0 / 3.0) - 1.0).abs() < 4.0 * f32::EPSILON);
    assert_eq!(apply_f32("div.full.f32 %d, %a, %b;", &[&[1.0, 4.0]]), [0.25]);
    assert_eq!(apply_f32("ex2.approx.f32 %d, %a;", &[&[-INF], &[3.0], &[INF]]), [0.0, 8.0, INF]);
    assert_eq!(apply_f32("rcp.approx.f32 %d, %a;", &[&[-0.0], &[INF]]), [-INF, 0.0]);
    assert_eq!(apply_f32("lg2.approx.f32 %d, %a;", &[&[0.0], &[8.0]]), [-INF, 3.0]);
    assert_eq!(apply_f32("ex2.approx.ftz.f32 %d, %a;", &[&[-127.0]]), [0.0]);
    let rough = apply_f64("rsqrt.approx.f64 %d, %a;", &[&[2.0]])[0];
    assert!((rough * 2f64.sqrt() - 1.0).abs() < 1e-6 && rough.to_bits() as u32 == 0);
    let rough = apply_f64("rcp.approx.ftz.f64 %d, %a;", &[&[3.0]])[0];
    assert!((rough * 3.0 - 1.0).abs() < 1e-6 && rough.to_bits() as u32 == 0);
}

#[test]
fn integers_convert_by_extension_truncation_and_saturation() {
    let convert = |op: &str, from: &str, to: &str, x: u64| apply(&format!("cvt.{op} %d, %a;"), &[from], to, &[&[x]])[0];
    assert_eq!(convert("u64.u32", "b32", "b64", 0xFFFF_FFFF), 0xFFFF_FFFF);
    assert_eq!(convert("s64.s32", "b32", "b64", 0xFFFF_FFFF), u64::MAX);
    assert_eq!(convert("u32.u64", "b64", "b32", 0x1_0000_0002), 2);
    assert_eq!(convert("s32.s8", "b32", "b32", 0x1FF), 0xFFFF_FFFF);
    assert_eq!(convert("u32.u8", "b32", "b32", 0x1FF), 0xFF);
    assert_eq!(convert("s8.s32", "b32", "b32", 0x80), 0xFFFF_FF80);
    assert_eq!(convert("sat.u8.s32", "b32", "b32", 300), 255);
    assert_eq!(convert("sat.s8.s32", "b32", "b32", -300i32 as u32 as u64), 0xFFFF_FF80);
    assert_eq!(convert("sat.u32.s32", "b32", "b32", 0xFFFF_FFFF), 0);
    assert_eq!(convert("u16.u32", "b32", "b16", 0x1_2345), 0x2345);
}

#[test]
fn integers_and_floats_convert_with_the_rounding_named() {
    let to_integer =
        |op: &str, x: f32| apply(&format!("cvt.{op}.f32 %d, %a;"), &["f32"], "b32", &[&[x.to_bits().into()]])[0] as u32;
    assert_eq!(["rni.s32", "rzi.s32", "rmi.s32", "rpi.s32"].map(|op| to_integer(op, 2.5) as i32), [2, 2, 2, 3]);
    assert_eq!(["rni.s32", "rzi.s32", "rmi.s32", "rpi.s32"].map(|op| to_integer(op, -3.5) as i32), [-4, -3, -4, -3]);
    assert_eq!(to_integer("rzi.u32", -1.0), 0);
    assert_eq!(to_integer("rzi.u32", 5e9), u32::MAX);
    assert_eq!(to_integer("rzi.s32", -5e9) as i32, i32::MIN);
    assert_eq!(to_integer("rzi.s32", NAN), 0);
    let wide = |x: f64| apply("cvt.rzi.s64.f64 %d, %a;", &["f64"], "b64", &[&[x.to_bits()]])[0] as i64;
    assert_eq!((wide(-1e15), wide(1e30), wide(f64::NAN)), (-1_000_000_000_000_000, i64::MAX, i64::MIN));
    let to_float = |op: &str, x: i32| apply(&format!("cvt.{op} %d, %a;"), &["b32"], "f32", &[&[x as u32 as u64]])[0] as u32;
    assert_eq!(
        ["rn", "rz", "rm", "rp"].map(|m| f32::from_bits(to_float(&format!("{m}.f32.s32"), -16_777_217))),
        [-16_777_216.0, -16_777_216.0, -16_777_218.0, -16_777_216.0]
    );
    assert_eq!(f32::from_bits(to_float("rn.f32.u32", -1)), 4_294_967_296.0);
    assert_eq!(f64::from_bits(apply("cvt.rn.f64.u64 %d, %a;", &["b64"], "f64", &[&[u64::MAX]])[0]), 18_446_744_073_709_551_616.0);
}

#[test]
fn floats_convert_between_formats() {
    let one = |op: &str, from: &str, to: &str, x: u64| apply(&format!("cvt.{op} %d, %a;"), &[from], to, &[&[x]])[0];
    let single = |x: f32| u64::from(x.to_bits());
    assert_eq!(one("f64.f32", "f32", "f64", single(0.1)), f64::from(0.1f32).to_bits());
    assert_eq!(one("rn.f32.f64", "f64", "f32", 0.1f64.to_bits()), single(0.1));
    assert_eq!(one("rz.f32.f64", "f64", "f32", 0.1f64.to_bits()), single(0.1) - 1);
    assert_eq!(one("rn.f16.f32", "f32", "b16", single(1.0 / 3.0)), 0x3555);
    assert_eq!(one("f32.f16", "b16", "f32", 0x3555), single(0.333_251_95));
    assert_eq!(one("rn.bf16.f32", "f32", "b16", 0x3F80_8000), 0x3F80);
    assert_eq!(one("rn.bf16.f32", "f32", "b16", 0x3F81_8000), 0x3F82);
    assert_eq!(one("rz.bf16.f32", "f32", "b16", 0x3F81_FFFF), 0x3F81);
    assert_eq!(one("rn.bf16.f32", "f32", "b16", single(NAN)), 0x7FFF);
    assert_eq!(one("rn.bf16.f32", "f32", "b16", single(f32::MAX)), 0x7F80);
    assert_eq!(one("rn.relu.bf16.f32", "f32", "b16", single(-1.0)), 0);
    assert_eq!(one("rna.tf32.f32", "f32", "b32", 0x3F80_1000), 0x3F80_2000);
    assert_eq!(one("rna.tf32.f32", "f32", "b32", 0x3F80_0FFF), 0x3F80_0000);
    assert_eq!(one("rni.f32.f32", "f32", "f32", single(2.5)), single(2.0));
    assert_eq!(one("rpi.f64.f64", "f64", "f64", 2.1f64.to_bits()), 3f64.to_bits());
    assert_eq!(one("sat.f32.f32", "f32", "f32", single(1.5)), single(1.0));
    assert_eq!(one("ftz.f64.f32", "f32", "f64", 1), 0);
    let packed = |op: &str| apply(&format!("cvt.{op} %d, %a, %b;"), &["f32", "f32"], "b32", &[&[single(1.0), single(-2.0)]])[0];
    assert_eq!(packed("rn.bf16x2.f32"), 0x3F80_C000);
    assert_eq!(packed("rn.f16x2.f32"), 0x3C00_C000);
    assert_eq!(packed("rn.relu.bf16x2.f32"), 0x3F80_0000);
}

#[test]
fn missing_and_superfluous_modifiers_are_refused() {
    let with = |line: &str| refusal("", &format!(".reg .b16 %h; .reg .b32 %r; .reg .f32 %f; .reg .f64 %d;\n{line}"));
    assert!(with("fma.f32 %f, %f, %f, %f;").contains("`fma` on .f32 needs other modifiers"));
    assert!(with("div.f32 %f, %f, %f;").contains("`div` on .f32"));
    assert!(with("add.ftz.f64 %d, %d, %d;").contains("`add` on .f64"));
    assert!(with("ex2.approx.f64 %d, %d;").contains("`ex2` on .f64"));
    assert!(with("cvt.s32.f32 %r, %f;").contains("no rounding modifier"));
    assert!(with("cvt.f32.f64 %f, %d;").contains("no rounding modifier"));
    assert!(with("cvt.rn.f64.f32 %d, %f;").contains("`.rn`"));
    assert!(with("cvt.rn.bf16x2.f32 %r, %f;").contains("2 operands"));
    assert!(with("min.rn.f32 %f, %f, %f;").contains("min"));
}
