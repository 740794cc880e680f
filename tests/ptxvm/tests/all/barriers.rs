//! Barriers: whole and partial, arrivals without waiting, divergence, deadlocks, endless loops.

use ptxvm::FaultKind;

use crate::support::{caught, options, run, variants};

/// A body for which `%at` is the thread's word of `out`, `%me` its number and `%warp` its warp.
fn framed(body: &str) -> String {
    format!(
        ".shared .align 16 .b8 tile[4096];
         .reg .b64 %out, %at; .reg .b32 %me, %warp, %a, %b, %c, %n; .reg .pred %p, %q;
         ld.param.u64 %out, [out]; mov.u32 %me, %tid.x; mad.wide.u32 %at, %me, 4, %out; shr.u32 %warp, %me, 5;
         shl.b32 %a, %me, 2; mov.b32 %b, tile; add.u32 %a, %a, %b;
         {body}"
    )
}

#[test]
fn a_barrier_in_one_branch_only_is_caught() {
    let with =
        |bound: u32| framed(&format!("setp.lt.u32 %p, %me, {bound}; @!%p bra SKIP; bar.sync 0; SKIP: st.global.b32 [%at], %me;"));
    caught(FaultKind::BarrierDivergence, "bar.sync", &with(16), &with(64), 1, 64, 64);
    let guarded = |bound: u32| framed(&format!("setp.lt.u32 %p, %me, {bound}; @%p bar.sync 0; st.global.b32 [%at], %me;"));
    caught(FaultKind::BarrierDivergence, "bar.sync", &guarded(16), &guarded(64), 1, 64, 64);
}

#[test]
fn lanes_at_two_barriers_of_their_own_are_caught() {
    let with = |bound: u32| {
        framed(&format!(
            "setp.lt.u32 %p, %me, {bound}; @%p bra ONE; bar.sync 0; bra END; ONE: bar.sync 0; END: st.global.b32 [%at], %me;"
        ))
    };
    // Whole warps may meet at different instructions that name one barrier; lanes of a warp may not.
    caught(FaultKind::BarrierDivergence, "bar.sync", &with(16), &with(32), 1, 64, 64);
}

#[test]
fn warps_that_wait_at_different_barriers_are_a_deadlock() {
    let with = |id: u32| {
        framed(&format!(
            "setp.eq.u32 %p, %warp, 0; @%p bra ONE; bar.sync {id}; bra END; ONE: bar.sync 1; END: st.global.b32 [%at], %me;"
        ))
    };
    caught(FaultKind::Deadlock, "bar.sync", &with(2), &with(1), 1, 64, 64);
    let fault = run(options(0), &with(2), 1, 64, 64).expect_err("a deadlock");
    assert!(fault.message.contains("barrier 1") && fault.message.contains("barrier 2"), "{fault}");
}

#[test]
fn a_barrier_for_more_threads_than_come_is_a_deadlock() {
    let with = |threads: u32| {
        framed(&format!("setp.ge.u32 %p, %me, 64; @%p bra END; bar.sync 1, {threads}; END: st.global.b32 [%at], %me;"))
    };
    caught(FaultKind::Deadlock, "bar.sync", &with(96), &with(64), 1, 96, 96);
}

#[test]
fn thread_counts_must_be_whole_warps_and_agree() {
    let with = |threads: &str| framed(&format!("bar.sync 1, {threads}; st.global.b32 [%at], %me;"));
    caught(FaultKind::IllegalOperand, "bar.sync", &with("48"), &with("64"), 1, 64, 64);
    caught(FaultKind::IllegalOperand, "bar.sync", &with("128"), &with("64"), 1, 64, 64);
    let disagree = |count: u32| {
        framed(&format!(
            "st.global.b32 [%at], %me; setp.eq.u32 %p, %warp, 2; @%p bra END;
             setp.eq.u32 %p, %warp, 0; selp.u32 %c, 64, {count}, %p; bar.sync 1, %c; END: ret;"
        ))
    };
    caught(FaultKind::BarrierDivergence, "bar.sync", &disagree(96), &disagree(64), 1, 96, 96);
}

#[test]
fn producers_arrive_and_consumers_wait() {
    // Warp 0 fills the tile for warp 1, in rounds, through a full and an empty barrier.
    let with = |empty_wait: &str| {
        framed(&format!(
            "mov.b32 %n, 0; and.b32 %c, %me, 31; shl.b32 %c, %c, 2; add.u32 %c, %c, %b;
             setp.ne.u32 %p, %warp, 0; @%p bra CONSUME;
             PRODUCE:
                 {empty_wait}
                 mad.lo.u32 %a, %n, 100, %me; st.shared.b32 [%c], %a;
                 bar.arrive 1, 64;
                 add.u32 %n, %n, 1; setp.lt.u32 %q, %n, 5; @%q bra PRODUCE;
             st.global.b32 [%at], %n;
             bra END;
             CONSUME:
                 bar.arrive 2, 64;
             AGAIN:
                 bar.sync 1, 64;
                 ld.shared.b32 %a, [%c];
                 add.u32 %n, %n, 1; setp.lt.u32 %q, %n, 5; @!%q bra OUT;
                 bar.arrive 2, 64;
                 bra AGAIN;
             OUT: st.global.b32 [%at], %a;
             END: ret;"
        ))
    };
    for options in variants() {
        let words = run(options.clone(), &with("bar.sync 2, 64;"), 1, 64, 64).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(words[..32], [5; 32]);
        assert_eq!(words[32..], (400..432).collect::<Vec<_>>());
        let fault = run(options, &with(""), 1, 64, 64).expect_err("nothing keeps the producer from running ahead");
        assert!(matches!(fault.kind, FaultKind::SharedRace | FaultKind::BarrierDivergence), "{fault}");
    }
}

#[test]
fn an_arrival_does_not_order_what_follows_it() {
    // The warp that only arrives may not read what the others wrote before the barrier.
    let with = |how: &str| {
        framed(&format!(
            "setp.eq.u32 %p, %warp, 0; @%p bra FIRST;
             st.shared.b32 [%a], %me; bar.sync 1, 64; mov.b32 %c, 0; bra END;
             FIRST: {how} 1, 64; ld.shared.b32 %c, [%a+128];
             END: st.global.b32 [%at], %c;"
        ))
    };
    for options in variants() {
        let fault = run(options.clone(), &with("bar.arrive"), 1, 64, 64).expect_err("unordered");
        assert!(matches!(fault.kind, FaultKind::SharedRace | FaultKind::Unwritten), "{fault}");
        let words = run(options, &with("bar.sync"), 1, 64, 64).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(words[..32], (32..64).collect::<Vec<_>>());
    }
}

#[test]
fn an_endless_loop_is_a_deadlock() {
    let body = framed("LOOP: setp.ne.u32 %p, %me, 999; @%p bra LOOP; st.global.b32 [%at], %me;");
    let fault = run(options(0), &body, 1, 32, 32).expect_err("it never ends");
    assert_eq!(fault.kind, FaultKind::Deadlock, "{fault}");
    assert!(fault.message.contains("without changing memory"), "{fault}");
}

#[test]
fn a_trap_is_a_fault_at_its_place() {
    let body = framed("mov.u32 %c, %ctaid.x; setp.eq.u32 %p, %c, 3; setp.eq.and.u32 %p, %me, 37, %p; @%p trap;");
    let fault = run(options(0), &body, 5, 64, 1).expect_err("a trap");
    assert_eq!((fault.kind, fault.cta, fault.warp, fault.lane), (FaultKind::Trap, [3, 0, 0], 1, Some(5)));
    assert_eq!(fault.kernel, "k");
    assert!(fault.text.ends_with("@%p trap;") && fault.to_string().contains("block (3, 0, 0), warp 1, lane 5"), "{fault}");
}
