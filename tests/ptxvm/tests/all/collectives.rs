//! Shuffles, votes, matches, reductions and the rules about who takes part.

use ptxvm::FaultKind;

use crate::support::{caught, options, run};

/// Runs a body for one warp that leaves a result in `%d`; `%lane` is the lane.
fn warp(body: &str) -> Vec<u32> {
    run(options(0), &framed(body), 1, 32, 32).unwrap_or_else(|fault| panic!("{fault}"))
}

fn framed(body: &str) -> String {
    format!(
        ".reg .b64 %out; .reg .b32 %lane, %d, %a, %b; .reg .pred %p, %q;
         ld.param.u64 %out, [out]; mov.u32 %lane, %laneid; mad.wide.u32 %out, %lane, 4, %out;
         {body}
         st.global.b32 [%out], %d;"
    )
}

fn lanes(f: impl Fn(u32) -> u32) -> Vec<u32> {
    (0..32).map(f).collect()
}

#[test]
fn shuffles_move_values_and_say_whether_the_source_was_inside() {
    let shuffle =
        |operands: &str| warp(&format!("shfl.sync.{operands}, 0xffffffff; selp.b32 %a, 100, 0, %p; add.u32 %d, %d, %a;"));
    assert_eq!(shuffle("bfly.b32 %d|%p, %lane, 5, 31"), lanes(|l| (l ^ 5) + 100));
    assert_eq!(shuffle("down.b32 %d|%p, %lane, 3, 31"), lanes(|l| if l + 3 < 32 { l + 103 } else { l }));
    assert_eq!(shuffle("up.b32 %d|%p, %lane, 3, 0"), lanes(|l| if l >= 3 { l + 97 } else { l }));
    assert_eq!(shuffle("idx.b32 %d|%p, %lane, 7, 31"), lanes(|_| 107));
    // Segments of eight lanes: c is (32 - 8) << 8 with the clamp of the mode.
    assert_eq!(shuffle("idx.b32 %d|%p, %lane, 2, 0x181f"), lanes(|l| (l & 24) + 102));
    assert_eq!(shuffle("down.b32 %d|%p, %lane, 6, 0x1807"), lanes(|l| if l % 8 < 2 { l + 106 } else { l }));
    assert_eq!(shuffle("up.b32 %d|%p, %lane, 6, 0x1800"), lanes(|l| if l % 8 >= 6 { l + 94 } else { l }));
    assert_eq!(shuffle("bfly.b32 %d|%p, %lane, 4, 0x181f"), lanes(|l| (l ^ 4) + 100));
    // Every lane may name another source.
    assert_eq!(warp("sub.u32 %a, 31, %lane; shfl.sync.idx.b32 %d, %lane, %a, 31, -1;"), lanes(|l| 31 - l));
}

#[test]
fn votes_matches_and_reductions_follow_the_members() {
    let odd = "and.b32 %a, %lane, 1; setp.eq.u32 %p, %a, 1;";
    assert_eq!(warp(&format!("{odd} vote.sync.ballot.b32 %d, %p, -1;")), lanes(|_| 0xAAAA_AAAA));
    assert_eq!(warp(&format!("{odd} vote.sync.ballot.b32 %d, !%p, -1;")), lanes(|_| 0x5555_5555));
    let vote =
        |mode: &str, condition: &str| warp(&format!("{condition} vote.sync.{mode}.pred %q, %p, -1; selp.b32 %d, 1, 0, %q;"))[3];
    let (all, none) = ("setp.lt.u32 %p, %lane, 32;", "setp.gt.u32 %p, %lane, 40;");
    assert_eq!(["all", "any", "uni"].map(|mode| vote(mode, odd)), [0, 1, 0]);
    assert_eq!(["all", "any", "uni"].map(|mode| vote(mode, all)), [1, 1, 1]);
    assert_eq!(["all", "any", "uni"].map(|mode| vote(mode, none)), [0, 0, 1]);
    assert_eq!(warp("and.b32 %a, %lane, 3; match.any.sync.b32 %d, %a, -1;"), lanes(|l| 0x1111_1111 << (l % 4)));
    let all_equal = "match.all.sync.b32 %d|%p, %a, -1; @!%p mov.b32 %d, 7;";
    assert_eq!(warp(&format!("mov.b32 %a, 5; {all_equal}")), lanes(|_| u32::MAX));
    assert_eq!(warp(&format!("mov.b32 %a, %lane; {all_equal}")), lanes(|_| 7));
    let reduce = |op: &str| warp(&format!("sub.u32 %a, %lane, 3; redux.sync.{op} %d, %a, -1;"))[9];
    assert_eq!(reduce("add.s32"), 31 * 16 - 96);
    assert_eq!(reduce("min.s32") as i32, -3);
    assert_eq!(reduce("min.u32"), 0);
    assert_eq!(reduce("max.s32"), 28);
    assert_eq!(reduce("or.b32"), u32::MAX);
    assert_eq!(warp("activemask.b32 %d;"), lanes(|_| u32::MAX));
    // Two halves with masks of their own, in one instruction.
    let halves = "setp.lt.u32 %p, %lane, 16; selp.b32 %b, 0xffff, 0xffff0000, %p; redux.sync.add.u32 %d, %lane, %b;";
    assert_eq!(warp(halves), lanes(|l| if l < 16 { 120 } else { 376 }));
}

#[test]
fn a_shuffle_inside_a_branch_with_a_mask_for_all_is_caught() {
    let with = |mask: &str| {
        framed(&format!(
            "mov.b32 %d, %lane; setp.lt.u32 %p, %lane, 16;
             @!%p bra DONE;
             shfl.sync.bfly.b32 %d, %d, 1, 31, {mask};
             DONE: add.u32 %d, %d, 1;"
        ))
    };
    caught(FaultKind::WarpDivergence, "shfl.sync", &with("0xffffffff"), &with("0xffff"), 1, 32, 32);
}

#[test]
fn a_guard_that_keeps_a_member_out_is_caught() {
    let with = |guard: &str| {
        framed(&format!("mov.b32 %d, 0; setp.lt.u32 %p, %lane, 8; {guard} shfl.sync.bfly.b32 %d, %lane, 1, 31, 0xffffffff;"))
    };
    caught(FaultKind::WarpDivergence, "shfl.sync", &with("@%p"), &with(""), 1, 32, 32);
}

#[test]
fn a_member_mask_without_the_lane_itself_or_with_exited_lanes_is_caught() {
    let with = |mask: &str| {
        framed(&format!("vote.sync.ballot.b32 %d, 1 , {mask};").replace("1 ,", "%p,"))
            .replace("mad.wide", "setp.eq.u32 %p, %lane, %lane; mad.wide")
    };
    caught(FaultKind::WarpDivergence, "vote.sync", &with("0xfffffffe"), &with("-1"), 1, 32, 32);
    let exits = |mask: &str| {
        framed(&format!(
            "setp.ge.u32 %p, %lane, 16; mov.b32 %d, 1; @%p st.global.b32 [%out], %d; @%p exit; bar.warp.sync {mask};"
        ))
    };
    caught(FaultKind::WarpDivergence, "bar.warp.sync", &exits("-1"), &exits("0xffff"), 1, 32, 32);
}

#[test]
fn a_value_from_a_lane_outside_the_mask_is_caught() {
    let with = |source: &str| {
        framed(&format!(
            "mov.b32 %d, %lane; setp.lt.u32 %p, %lane, 16;
             @!%p bra DONE;
             shfl.sync.idx.b32 %d, %d, {source}, 31, 0xffff;
             DONE: add.u32 %d, %d, 1;"
        ))
    };
    caught(FaultKind::WarpDivergence, "shfl.sync", &with("20"), &with("3"), 1, 32, 32);
}

#[test]
fn mma_and_ldmatrix_need_the_whole_warp() {
    let with = |guard: &str, threads: &str| {
        framed(&format!(
            ".reg .f64 %x, %y; mov.f64 %x, 1.0; mov.f64 %y, 0.0; mov.b32 %d, 0; setp.lt.u32 %p, %lane, {threads};
             {guard} mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {{%x, %y}}, {{%x}}, {{%y}}, {{%x, %y}};"
        ))
    };
    caught(FaultKind::WarpDivergence, "mma.sync", &with("@%p", "31"), &with("@%p", "32"), 1, 32, 32);
    // Part of a warp is not a warp.
    let fault = run(options(0), &with("", "32"), 1, 16, 32).expect_err("16 lanes cannot multiply");
    assert_eq!(fault.kind, FaultKind::WarpDivergence);
}
