//! Integer arithmetic, logic, bit fields, comparisons and selections against hand-computed vectors.

use crate::support::{apply, refusal};

const MINUS_1: u64 = 0xFFFF_FFFF;

#[test]
fn addition_and_subtraction_wrap_and_saturate_where_told() {
    assert_eq!(apply("add.u32 %d, %a, %b;", &["b32", "b32"], "b32", &[&[MINUS_1, 2], &[3, 4]]), [1, 7]);
    assert_eq!(apply("sub.s32 %d, %a, %b;", &["b32", "b32"], "b32", &[&[0, 1], &[7, 9]]), [MINUS_1, 0xFFFF_FFFE]);
    assert_eq!(apply("add.sat.s32 %d, %a, %b;", &["b32", "b32"], "b32", &[&[0x7FFF_FFFF, 1], &[5, 6]]), [0x7FFF_FFFF, 11]);
    assert_eq!(apply("sub.sat.s32 %d, %a, %b;", &["b32", "b32"], "b32", &[&[0x8000_0000, 1]]), [0x8000_0000]);
    assert_eq!(apply("add.s64 %d, %a, %b;", &["b64", "b64"], "b64", &[&[u64::MAX, 2]]), [1]);
    assert_eq!(apply("add.u16 %d, %a, %b;", &["b16", "b16"], "b16", &[&[0xFFFF, 2]]), [1]);
}

#[test]
fn products_have_low_high_and_wide_parts() {
    let (a, b) = (0x8000_0001, 3);
    assert_eq!(apply("mul.lo.u32 %d, %a, %b;", &["b32", "b32"], "b32", &[&[a, b]]), [0x8000_0003]);
    assert_eq!(apply("mul.hi.u32 %d, %a, %b;", &["b32", "b32"], "b32", &[&[a, b]]), [1]);
    assert_eq!(apply("mul.hi.s32 %d, %a, %b;", &["b32", "b32"], "b32", &[&[a, b]]), [0xFFFF_FFFE]);
    assert_eq!(apply("mul.wide.u32 %d, %a, %b;", &["b32", "b32"], "b64", &[&[a, b]]), [0x1_8000_0003]);
    assert_eq!(apply("mul.wide.s32 %d, %a, %b;", &["b32", "b32"], "b64", &[&[a, b]]), [0xFFFF_FFFE_8000_0003]);
    assert_eq!(apply("mul.hi.u64 %d, %a, %b;", &["b64", "b64"], "b64", &[&[1 << 63, 6]]), [3]);
    assert_eq!(apply("mul.wide.s16 %d, %a, %b;", &["b16", "b16"], "b32", &[&[0xFFFE, 3]]), [0xFFFF_FFFA]);
    assert_eq!(apply("mad.lo.s32 %d, %a, %b, %c;", &["b32", "b32", "b32"], "b32", &[&[MINUS_1, 5, 7]]), [2]);
    assert_eq!(apply("mad.hi.u32 %d, %a, %b, %c;", &["b32", "b32", "b32"], "b32", &[&[1 << 31, 4, 7]]), [9]);
    assert_eq!(apply("mad.wide.s32 %d, %a, %b, %c;", &["b32", "b32", "b64"], "b64", &[&[MINUS_1, 5, 7]]), [2]);
    assert_eq!(apply("mad.wide.u32 %d, %a, %b, %c;", &["b32", "b32", "b64"], "b64", &[&[MINUS_1, 2, 7]]), [0x2_0000_0005]);
}

#[test]
fn quotients_round_towards_zero() {
    let minus_7 = -7i32 as u32 as u64;
    assert_eq!(apply("div.s32 %d, %a, %b;", &["b32", "b32"], "b32", &[&[minus_7, 2], &[7, 2]]), [0xFFFF_FFFD, 3]);
    assert_eq!(apply("rem.s32 %d, %a, %b;", &["b32", "b32"], "b32", &[&[minus_7, 2], &[7, 2]]), [MINUS_1, 1]);
    assert_eq!(apply("div.u32 %d, %a, %b;", &["b32", "b32"], "b32", &[&[minus_7, 2]]), [0x7FFF_FFFC]);
    assert_eq!(apply("rem.u64 %d, %a, %b;", &["b64", "b64"], "b64", &[&[100, 7]]), [2]);
}

#[test]
fn minimum_maximum_negation_and_magnitude_know_signs() {
    let row: &[u64] = &[MINUS_1, 1];
    assert_eq!(apply("min.s32 %d, %a, %b;", &["b32", "b32"], "b32", &[row]), [MINUS_1]);
    assert_eq!(apply("min.u32 %d, %a, %b;", &["b32", "b32"], "b32", &[row]), [1]);
    assert_eq!(apply("max.s32 %d, %a, %b;", &["b32", "b32"], "b32", &[row]), [1]);
    assert_eq!(apply("max.u64 %d, %a, %b;", &["b64", "b64"], "b64", &[row]), [MINUS_1]);
    assert_eq!(apply("neg.s32 %d, %a;", &["b32"], "b32", &[&[5], &[0x8000_0000]]), [0xFFFF_FFFB, 0x8000_0000]);
    assert_eq!(apply("abs.s64 %d, %a;", &["b64"], "b64", &[&[-9i64 as u64]]), [9]);
}

#[test]
fn shifts_past_the_width_clamp() {
    let shift = |op: &str, rows: &[&[u64]]| apply(&format!("{op} %d, %a, %b;"), &["b32", "b32"], "b32", rows);
    assert_eq!(shift("shl.b32", &[&[3, 4], &[3, 31], &[3, 32], &[3, MINUS_1]]), [48, 0x8000_0000, 0, 0]);
    assert_eq!(shift("shr.u32", &[&[0x8000_0000, 31], &[0x8000_0000, 32]]), [1, 0]);
    assert_eq!(shift("shr.s32", &[&[0x8000_0000, 4], &[0x8000_0000, 32], &[0x8000_0000, 99]]), [0xF800_0000, MINUS_1, MINUS_1]);
    assert_eq!(apply("shl.b64 %d, %a, %b;", &["b64", "b32"], "b64", &[&[1, 63], &[1, 64]]), [1 << 63, 0]);
    assert_eq!(apply("shr.s64 %d, %a, %b;", &["b64", "b32"], "b64", &[&[1 << 63, 64]]), [u64::MAX]);
    let funnel = |op: &str, rows: &[&[u64]]| apply(&format!("{op} %d, %a, %b, %c;"), &["b32", "b32", "b32"], "b32", rows);
    assert_eq!(funnel("shf.l.wrap.b32", &[&[0x8000_0000, 1, 1], &[7, 9, 32]]), [3, 9]);
    assert_eq!(funnel("shf.l.clamp.b32", &[&[0x8000_0000, 1, 1], &[7, 9, 40]]), [3, 7]);
    assert_eq!(funnel("shf.r.wrap.b32", &[&[2, 1, 1]]), [0x8000_0001]);
    assert_eq!(funnel("shf.r.clamp.b32", &[&[2, 1, 33]]), [1]);
}

#[test]
fn logic_works_on_bits() {
    let two = |op: &str| apply(&format!("{op} %d, %a, %b;"), &["b32", "b32"], "b32", &[&[0b1100, 0b1010]])[0];
    assert_eq!((two("and.b32"), two("or.b32"), two("xor.b32")), (0b1000, 0b1110, 0b0110));
    assert_eq!(apply("not.b32 %d, %a;", &["b32"], "b32", &[&[0xF0]]), [0xFFFF_FF0F]);
    assert_eq!(apply("not.b64 %d, %a;", &["b64"], "b64", &[&[0]]), [u64::MAX]);
    let three = |table: u32| {
        let text = format!("lop3.b32 %d, %a, %b, %c, {table};");
        apply(&text, &["b32", "b32", "b32"], "b32", &[&[0xF0, 0xCC, 0xAA]])[0]
    };
    // The table is the result for the three patterns themselves.
    for table in [0x00, 0x80, 0x96, 0xE8, 0x3C, 0xFE, 0xFF] {
        let extended = if table & 1 == 1 { 0xFFFF_FF00 } else { 0 };
        assert_eq!(three(table), u64::from(table) | extended);
    }
}

#[test]
fn bits_are_counted_reversed_extracted_and_inserted() {
    assert_eq!(apply("popc.b32 %d, %a;", &["b32"], "b32", &[&[0xF00F]]), [8]);
    assert_eq!(apply("popc.b64 %d, %a;", &["b64"], "b32", &[&[u64::MAX]]), [64]);
    assert_eq!(apply("clz.b32 %d, %a;", &["b32"], "b32", &[&[1], &[0]]), [31, 32]);
    assert_eq!(apply("clz.b64 %d, %a;", &["b64"], "b32", &[&[1]]), [63]);
    assert_eq!(apply("brev.b32 %d, %a;", &["b32"], "b32", &[&[1]]), [0x8000_0000]);
    let extract = |op: &str, rows: &[&[u64]]| apply(&format!("{op} %d, %a, %b, %c;"), &["b32", "b32", "b32"], "b32", rows);
    assert_eq!(extract("bfe.u32", &[&[0xABCD_1234, 8, 12], &[0xABCD_1234, 28, 9], &[5, 0, 0], &[5, 40, 3]]), [0xD12, 0xA, 0, 0]);
    assert_eq!(
        extract("bfe.s32", &[&[0xABCD_1234, 8, 12], &[0x8000_0000, 31, 8], &[0x8000_0000, 40, 3]]),
        [0xFFFF_FD12, MINUS_1, MINUS_1]
    );
    let insert = |row: &[u64]| apply("bfi.b32 %d, %a, %b, %c, %e;", &["b32"; 4], "b32", &[row])[0];
    assert_eq!(insert(&[0xFF, 0xAAAA_AAAA, 8, 4]), 0xAAAA_AFAA);
    assert_eq!(insert(&[0xFF, 0, 28, 8]), 0xF000_0000);
    assert_eq!(insert(&[0xFF, 0x1234, 32, 8]), 0x1234);
    assert_eq!(insert(&[0xFF, 0x1234, 0, 0]), 0x1234);
}

#[test]
fn bytes_are_permuted_with_and_without_their_sign() {
    let permute = |c: u64| apply("prmt.b32 %d, %a, %b, %c;", &["b32"; 3], "b32", &[&[0x3322_1180, 0x7766_5544, c]])[0];
    assert_eq!(permute(0x3210), 0x3322_1180);
    assert_eq!(permute(0x7654), 0x7766_5544);
    assert_eq!(permute(0x0415), 0x8044_1155);
    assert_eq!(permute(0x8F80), 0xFF00_FF80);
}

#[test]
fn comparisons_are_combined_and_come_with_their_complement() {
    let compare =
        |op: &str, rows: &[&[u64]]| apply(&format!("setp.{op} %p, %a, %b; selp.b32 %d, 1, 0, %p;"), &["b32", "b32"], "b32", rows);
    let rows: &[&[u64]] = &[&[1, MINUS_1], &[MINUS_1, 1], &[4, 4]];
    assert_eq!(compare("lt.s32", rows), [0, 1, 0]);
    assert_eq!(compare("lt.u32", rows), [1, 0, 0]);
    assert_eq!(compare("lo.u32", rows), [1, 0, 0]);
    assert_eq!(compare("le.s32", rows), [0, 1, 1]);
    assert_eq!(compare("ls.u32", rows), [1, 0, 1]);
    assert_eq!(compare("gt.s32", rows), [1, 0, 0]);
    assert_eq!(compare("hi.u32", rows), [0, 1, 0]);
    assert_eq!(compare("ge.s32", rows), [1, 0, 1]);
    assert_eq!(compare("hs.u32", rows), [0, 1, 1]);
    assert_eq!(compare("eq.b32", rows), [0, 0, 1]);
    assert_eq!(compare("ne.b32", rows), [1, 1, 0]);
    let text = |op: &str| {
        format!(
            "setp.eq.u32 %q, %c, 1;
             {{ .reg .pred %s, %r; .reg .b32 %x; setp.lt.{op}.u32 %r|%s, %a, %b, %q;
             selp.b32 %d, 2, 0, %r; selp.b32 %x, 1, 0, %s; or.b32 %d, %d, %x; }}"
        )
    };
    // Bit 1: the comparison combined with c = 1; bit 0: its negation combined.
    let rows: &[&[u64]] = &[&[1, 2, 1], &[1, 2, 0], &[2, 1, 1], &[2, 1, 0]];
    assert_eq!(apply(&text("and"), &["b32"; 3], "b32", rows), [2, 0, 1, 0]);
    assert_eq!(apply(&text("or"), &["b32"; 3], "b32", rows), [3, 2, 3, 1]);
    assert_eq!(apply(&text("xor"), &["b32"; 3], "b32", rows), [1, 2, 2, 1]);
}

#[test]
fn selections_follow_a_predicate_or_a_sign() {
    let rows: &[&[u64]] = &[&[10, 20, 0], &[10, 20, MINUS_1]];
    assert_eq!(apply("slct.b32.s32 %d, %a, %b, %c;", &["b32"; 3], "b32", rows), [10, 20]);
    let nan = u64::from(f32::NAN.to_bits());
    let rows: &[&[u64]] = &[&[10, 20, 0x8000_0000], &[10, 20, nan], &[10, 20, u64::from((-1f32).to_bits())]];
    assert_eq!(apply("slct.b32.f32 %d, %a, %b, %c;", &["b32", "b32", "f32"], "b32", rows), [10, 20, 20]);
    let predicates = "setp.ne.b32 %p, %a, 0; setp.ne.b32 %q, %b, 0; and.pred %p, %p, %q; not.pred %p, %p; selp.u32 %d, 7, 8, %p;";
    assert_eq!(apply(predicates, &["b32"; 2], "b32", &[&[1, 1], &[1, 0]]), [8, 7]);
    assert_eq!(
        apply("setp.ne.b32 %p, %a, 0; mov.pred %q, %p; @!%q mov.b32 %a, 9; mov.b32 %d, %a;", &["b32"], "b32", &[&[0], &[5]]),
        [9, 5]
    );
}

#[test]
fn values_are_packed_and_unpacked() {
    assert_eq!(apply("mov.b64 %d, {%a, %b};", &["b32", "b32"], "b64", &[&[1, 2]]), [0x2_0000_0001]);
    assert_eq!(apply("mov.b32 %d, {%a, %b};", &["b16", "b16"], "b32", &[&[1, 2]]), [0x2_0001]);
    assert_eq!(apply("mov.b64 %d, {%a, %b, %c, %e};", &["b16"; 4], "b64", &[&[1, 2, 3, 4]]), [0x4_0003_0002_0001]);
    assert_eq!(apply("mov.b64 {_, %d}, %a;", &["b64"], "b32", &[&[0x2_0000_0001]]), [2]);
    assert_eq!(
        apply("{ .reg .b16 %h, %l; mov.b32 {%l, %h}, %a; mov.b32 %d, {%h, %l}; }", &["b32"], "b32", &[&[0x1234_5678]]),
        [0x5678_1234]
    );
}

#[test]
fn a_register_of_another_size_or_kind_is_refused() {
    let with =
        |line: &str| refusal("", &format!(".reg .b32 %r; .reg .b64 %l; .reg .f32 %f; .reg .s32 %s; .reg .pred %p;\n{line}"));
    assert!(with("add.u32 %r, %r, %l;").contains("a .b64 register where .u32"));
    assert!(with("add.f32 %f, %s, %f;").contains("a .s32 register where .f32"));
    assert!(with("add.u32 %r, %r, 0f3F800000;").contains("the float 1"));
    assert!(with("add.f32 %f, %f, 1;").contains("the integer 1"));
    assert!(with("add.u32 %r, %r, 4294967296;").contains("does not fit"));
    assert!(with("add.u32 %r, %r;").contains("`add` on .u32"));
    assert!(with("shl.u32 %r, %r, 1;").contains("`shl` on .u32"));
    assert!(with("setp.lt.b32 %p, %r, 1;").contains("setp.lt"));
    assert!(with("min.b32 %r, %r, %r;").contains("min"));
}
