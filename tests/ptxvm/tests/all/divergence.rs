//! Lanes that go different ways: branches, loops, early exits, spinning lanes and warps.

use ptxvm::FaultKind;

use crate::support::{options, run, variants};

const FRAME: &str = "
    .reg .b64 %out, %at; .reg .b32 %me, %x, %y, %n; .reg .pred %p, %q;
    ld.param.u64 %out, [out]; mov.u32 %me, %tid.x; mad.wide.u32 %at, %me, 4, %out;";

fn every_way(body: &str, block: u32, expected: impl Fn(u32) -> u32) {
    for options in variants() {
        let found = run(options, &format!("{FRAME}{body}"), 1, block, block as usize).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(found, (0..block).map(&expected).collect::<Vec<_>>());
    }
}

#[test]
fn nested_branches_meet_again() {
    let body = "
        and.b32 %x, %me, 1; setp.eq.u32 %p, %x, 1;
        @%p bra ODD;
            and.b32 %x, %me, 2; setp.eq.u32 %q, %x, 2;
            @%q bra TWO;
                mov.b32 %y, 10;
                bra INNER;
            TWO:
                mov.b32 %y, 20;
            INNER:
            add.u32 %y, %y, 1;
            bra JOIN;
        ODD:
            mov.b32 %y, 30;
        JOIN:
        // All lanes are here together again, or this shuffle would be a fault.
        shfl.sync.idx.b32 %x, %y, 2, 31, -1;
        mad.lo.u32 %y, %x, 100, %y;
        st.global.b32 [%at], %y;";
    every_way(body, 64, |tid| 2100 + [11, 30, 21, 30][tid as usize % 4]);
}

#[test]
fn a_loop_runs_as_often_as_each_lane_asks() {
    let body = "
        and.b32 %n, %me, 7; mov.b32 %y, 0;
        LOOP:
            setp.eq.u32 %p, %n, 0;
            @%p bra END;
            add.u32 %y, %y, %n;
            sub.u32 %n, %n, 1;
            bra LOOP;
        END:
        bar.sync 0;
        shfl.sync.bfly.b32 %x, %y, 1, 31, -1;
        add.u32 %y, %y, %x;
        st.global.b32 [%at], %y;";
    let sum = |tid: u32| (tid % 8) * (tid % 8 + 1) / 2;
    every_way(body, 96, |tid| sum(tid) + sum(tid ^ 1));
}

#[test]
fn a_slow_path_at_the_end_of_the_text_comes_back() {
    let body = "
        setp.lt.u32 %p, %me, 5; mov.b32 %y, 1;
        @%p bra SLOW;
        BACK:
        shfl.sync.idx.b32 %x, %y, 0, 31, -1;
        add.u32 %x, %x, %y;
        st.global.b32 [%at], %x;
        ret;
        SLOW:
        mov.b32 %y, 7;
        bra BACK;";
    every_way(body, 32, |tid| if tid < 5 { 14 } else { 8 });
}

#[test]
fn threads_may_exit_before_a_barrier() {
    let body = "
        .shared .b32 word;
        st.global.b32 [%at], %me;
        setp.ge.u32 %p, %me, 70;
        @%p bra DONE;
        setp.eq.u32 %q, %me, 0;
        @%q st.shared.b32 [word], 5;
        bar.sync 0;
        ld.shared.b32 %x, [word];
        add.u32 %x, %x, %me;
        st.global.b32 [%at], %x;
        DONE: ret;";
    every_way(body, 128, |tid| if tid < 70 { tid + 5 } else { tid });
}

#[test]
fn a_lane_that_spins_lets_the_lane_it_waits_for_go_on() {
    // Lane by lane through a lock: the lanes that fail to take it go back and try again.
    let body = "
        .shared .b32 lock; .shared .b32 total;
        setp.eq.u32 %q, %me, 0;
        @%q st.shared.b32 [lock], 0; @%q st.shared.b32 [total], 0;
        bar.sync 0;
        TRY:
            atom.shared.cas.b32 %x, [lock], 0, 1;
            setp.ne.u32 %p, %x, 0;
            @%p bra TRY;
        ld.volatile.shared.b32 %y, [total];
        add.u32 %y, %y, 1;
        st.volatile.shared.b32 [total], %y;
        membar.cta;
        atom.shared.exch.b32 %x, [lock], 0;
        bar.sync 0;
        ld.volatile.shared.b32 %y, [total];
        st.global.b32 [%at], %y;";
    for options in variants().take(2) {
        let found = run(options, &format!("{FRAME}{body}"), 1, 64, 64).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(found, [64; 64]);
    }
}

#[test]
fn a_warp_that_spins_lets_others_go_on() {
    let body = "
        .shared .b32 flag;
        setp.eq.u32 %q, %me, 0;
        @%q st.shared.b32 [flag], 0;
        bar.sync 0;
        setp.ge.u32 %p, %me, 32;
        @%p bra SET;
        WAIT:
            ld.volatile.shared.b32 %x, [flag];
            setp.eq.u32 %p, %x, 0;
            @%p bra WAIT;
        bra DONE;
        SET:
        mov.b32 %x, 9;
        setp.eq.u32 %q, %me, 32;
        @%q atom.shared.exch.b32 %y, [flag], 9;
        DONE:
        st.global.b32 [%at], %x;";
    every_way(body, 64, |_| 9);
}

#[test]
fn a_uniform_branch_that_part_of_the_lanes_take_is_caught() {
    let with = |bound: u32| format!("{FRAME} setp.lt.u32 %p, %me, {bound}; @%p bra.uni DONE; DONE: st.global.b32 [%at], %me;");
    let fault = run(options(0), &with(7), 1, 32, 32).expect_err("a diverged uniform branch");
    assert_eq!((fault.kind, fault.line > 0), (FaultKind::WarpDivergence, true));
    run(options(0), &with(32), 1, 32, 32).unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn special_registers_say_who_and_where() {
    let registers =
        ["%tid.x", "%ntid.x", "%ctaid.x", "%nctaid.x", "%laneid", "%warpid", "%lanemask_lt", "%lanemask_ge", "%lanemask_eq"];
    let expected: [fn(u32, u32) -> u32; 9] = [
        |_, tid| tid,
        |_, _| 48,
        |cta, _| cta,
        |_, _| 2,
        |_, tid| tid % 32,
        |_, tid| tid / 32,
        |_, tid| (1 << (tid % 32)) - 1,
        |_, tid| u32::MAX << (tid % 32),
        |_, tid| 1 << (tid % 32),
    ];
    for (register, expected) in registers.iter().zip(expected) {
        let body = format!(
            "{FRAME} mov.u32 %x, %ctaid.x; mad.lo.u32 %x, %x, 48, %me; mad.wide.u32 %at, %x, 4, %out;
             mov.u32 %y, {register}; st.global.b32 [%at], %y;"
        );
        let found = run(options(3), &body, 2, 48, 96).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(found, (0..96).map(|i| expected(i / 48, i % 48)).collect::<Vec<_>>(), "{register}");
    }
}
