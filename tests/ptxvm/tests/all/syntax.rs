//! The text: comments, scopes, labels, literals, constant expressions, and refusals that name line and instruction.

use ptxvm::Module;

use crate::support::{options, refusal, run, text};

fn words(body: &str) -> Vec<u32> {
    let body = format!(
        ".reg .b64 %out; .reg .b32 %a, %b, %c, %d; .reg .f32 %f; .reg .f64 %g; .reg .pred %p;
         ld.param.u64 %out, [out];\n{body}\nst.global.v4.b32 [%out], {{%a, %b, %c, %d}};"
    );
    run(options(0), &body, 1, 1, 4).unwrap_or_else(|fault| panic!("{fault}"))
}

#[test]
fn integers_may_be_written_in_every_base_and_as_expressions() {
    assert_eq!(words("mov.b32 %a, 0x1F; mov.b32 %b, 0b101; mov.b32 %c, 017; mov.b32 %d, 42U;"), [31, 5, 15, 42]);
    assert_eq!(
        words("mov.b32 %a, (64*4)|1; mov.b32 %b, -(3 - 10) % 4; mov.b32 %c, 1 << 5 >> 2 ^ 0xF; mov.b32 %d, ~0 & 0xFF00;"),
        [257, 3, 7, 0xFF00]
    );
    assert_eq!(
        words("mov.s32 %a, -1; mov.b32 %b, 7 / 2 + 2 * 3; mov.b32 %c, 1 + 2 << 3; mov.b32 %d, 6 & 3 | 8;"),
        [u32::MAX, 9, 24, 10]
    );
}

#[test]
fn floats_may_be_written_by_value_or_by_bits() {
    let body = "mov.f32 %f, 0f3FC00000; mov.b32 %a, %f; mov.f32 %f, 1.5; mov.b32 %b, %f; mov.f32 %f, -2.5e-1; mov.b32 %c, %f;
        mov.f64 %g, 0d3FF8000000000000; cvt.rn.f32.f64 %f, %g; mov.b32 %d, %f;";
    assert_eq!(words(body), [1.5f32, 1.5, -0.25, 1.5].map(f32::to_bits));
    assert_eq!(words("mov.b32 %a, 0f40490FDB; mov.b32 %b, 0; mov.b32 %c, 0; mov.b32 %d, 0;")[0], 0x4049_0FDB);
}

#[test]
fn scopes_have_registers_and_labels_of_their_own() {
    let body = "
        mov.b32 %a, 1; mov.b32 %d, 0;
        {
            .reg .b32 %a, %i<3>;       // hides the outer %a
            mov.b32 %a, 10; mov.b32 %i2, 5;
        AGAIN: /* a comment
                  of two lines */
            add.u32 %d, %d, 1; setp.lt.u32 %p, %d, 3; @%p bra AGAIN;
            add.u32 %b, %a, %i2;
        }
        {
            .reg .b32 %i<3>;
            mov.b32 %i2, 7;
        AGAIN:
            add.u32 %d, %d, 10; setp.lt.u32 %p, %d, 33; @%p bra AGAIN;
            mov.b32 %c, %i2;
            bra OUT;
            mov.b32 %c, 0;
        }
        OUT:
        .pragma \"nounroll\";";
    assert_eq!(words(body), [1, 15, 7, 33]);
}

#[test]
fn refusals_name_the_line_and_what_was_found() {
    let message = |body: &str| refusal("u64:out", &format!(".reg .b32 %a, %b;\n.reg .pred %p;\n{body}"));
    assert!(message("vadd.u32 %a, %a, %b;").contains("PTX line 8: the instruction `vadd.u32` is not supported"));
    assert!(message("add.u32.foo %a, %a, %b;").contains("line 8: `add` with `.foo` is not supported"));
    assert!(message("add.u32 %a, %a, %x;").contains("`%x`, which is not declared here"));
    assert!(message("\n\nbra NOWHERE;").contains("PTX line 10: the label `NOWHERE` is not declared"));
    assert!(message(".reg .b32 %a;").contains("`%a` is declared twice"));
    assert!(message(".reg .b32 %tid;").contains("expected a name of no special register"));
    assert!(message("L: L: ret;").contains("`L` is declared twice"));
    assert!(message("mov.b32 %a, 1 / 0;").contains("has no value of 64 bits"));
    assert!(message("mov.b32 %a, 0f3F8;").contains("3 hex digits; expected 8"));
    assert!(message("mov.b32 %a 1;").contains("in `mov.b32`: found `1`; expected `;`"));
    assert!(message("@%a mov.b32 %a, 1;").contains("as guard; expected a predicate"));
    assert!(message("add.u32 7, %a, %b;").contains("the integer 7 as destination"));
    assert!(message("ld.global.b32 %a, [%b];").contains("a .b32 register as address"));
    assert!(message("ld.global.b32 %a, %b;").contains("expected an address in brackets"));
    assert!(message("ld.b32 %a, [%b];").contains("without .global or .shared"));
    assert!(message("ld.shared.v2.b32 {%a, %b, %a}, [%b];").contains("found 3 registers; expected 2"));
    assert!(message("ld.shared.v4.f64 {%a, %b, %a, %b}, [%b];").contains("4 values of .f64"));
    assert!(message("cp.async.cg.shared.global [%a], [%b], 8;").contains("16 with .cg"));
    assert!(message("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 %a, %a, %a, %a;").contains("`mma` of this shape"));
    assert!(message("shfl.bfly.b32 %a, %b, 1, 31;").contains("without .sync"));
    assert!(message("setp.lt.u32 %a, %a, %b;").contains("expected a predicate"));
    assert!(message("call (%a), f, (%b);").contains("in `call`: found `%a`"));
}

#[test]
fn modules_outside_the_subset_are_refused() {
    let refused = |text: &str, says: &str| {
        let error = Module::parse(text).expect_err("a refusal").to_string();
        assert!(error.contains(says), "{error}");
    };
    refused("", "lacks .version or .target");
    refused(".version 7.0 .target gfx90a", "the target `gfx90a`");
    refused(".version 7.0 .target sm_80 .address_size 32", "found .address_size 32; expected 64");
    refused(".version 7.0 .target sm_80\n.global .b32 x;", "PTX line 2: `.global` is not supported at module level");
    refused(".version 7.0 .target sm_80 .func f() { ret; }", "`.func` is not supported");
    refused(".visible .entry k() { ret; }", "before .version and .target");
    refused(&text("", "/* never closed"), "PTX line 6: a comment opens here");
    refused(&text("", "ret; \u{a7}"), "expected PTX");
    refused(&text("", "ret; {"), "the end of the text");
    refused(&text("", ".shared .b8 a[49153];"), "`a` has more than 49152 bytes");
    let used = ".shared .b8 a[40000]; .shared .b8 b[40000]; .reg .b32 %r; mov.b32 %r, a; mov.b32 %r, b;";
    refused(&text("", used), "`k` has 80000 bytes of static shared memory");
    refused(".version 7.0 .target sm_80 .visible .entry k(.param .align 3 .b8 block[4]) { ret; }", "alignment 3");
    let twice = format!("{}\n.visible .entry k() {{ ret; }}", text("", "ret;"));
    refused(&twice, "the entry `k` is declared twice");
}
