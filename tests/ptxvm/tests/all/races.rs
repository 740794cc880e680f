//! Accesses that nothing orders: in shared memory between warps and between lanes, in global memory within and between
//! blocks; and the orderings that make them legal.

use ptxvm::FaultKind;

use crate::support::{caught, options, run, variants};

/// A body for which `%at` is the thread's word of `out`, `%a` its word of `tile`, `%z` the next thread's.
fn framed(body: &str) -> String {
    format!(
        ".shared .align 16 .b8 tile[4096];
         .reg .b64 %out, %at, %next, %l; .reg .b32 %me, %cta, %a, %z, %b, %c; .reg .b16 %h; .reg .pred %p;
         ld.param.u64 %out, [out]; mov.u32 %me, %tid.x; mov.u32 %cta, %ctaid.x; mov.u32 %b, %ntid.x;
         add.u32 %c, %me, 1; rem.u32 %c, %c, %b; shl.b32 %z, %c, 2; shl.b32 %a, %me, 2;
         mad.wide.u32 %next, %c, 4, %out; mad.wide.u32 %at, %me, 4, %out;
         mov.b32 %b, tile; add.u32 %a, %a, %b; add.u32 %z, %z, %b;
         {body}"
    )
}

#[test]
fn a_read_of_anothers_write_needs_a_barrier() {
    let with =
        |barrier: &str| framed(&format!("st.shared.b32 [%a], %me; {barrier}\nld.shared.b32 %c, [%z]; st.global.b32 [%at], %c;"));
    let fault_kinds = |body: &str, block: u32| {
        let mut kinds: Vec<_> = variants().map(|options| run(options, body, 1, block, 64).expect_err("a race").kind).collect();
        kinds.dedup();
        kinds
    };
    // Between warps the reader may even come first, and find nothing written.
    for kind in fault_kinds(&with(""), 64) {
        assert!(matches!(kind, FaultKind::SharedRace | FaultKind::Unwritten));
    }
    assert!(fault_kinds(&with("bar.warp.sync -1;"), 64).contains(&FaultKind::SharedRace));
    caught(FaultKind::SharedRace, "ld.shared", &with(""), &with("bar.sync 0;"), 1, 32, 32);
    // Within a warp the warp's own barrier is enough; a shuffle orders no memory.
    let shuffle = "shfl.sync.idx.b32 %c, %c, 0, 31, -1;";
    caught(FaultKind::SharedRace, "ld.shared", &with(shuffle), &with("bar.warp.sync 0xffffffff;"), 1, 32, 32);
}

#[test]
fn a_write_after_anothers_read_needs_a_barrier() {
    let with = |barrier: &str| {
        framed(&format!(
            "st.shared.b32 [%a], %me; bar.sync 0; ld.shared.b32 %c, [%z]; {barrier}
             st.shared.b32 [%a], %c; st.global.b32 [%at], %c;"
        ))
    };
    caught(FaultKind::SharedRace, "shared.b32", &with(""), &with("bar.sync 0;"), 1, 128, 128);
    caught(FaultKind::SharedRace, "st.shared", &with(""), &with("bar.warp.sync -1;"), 1, 32, 32);
}

#[test]
fn a_write_over_anothers_write_needs_a_barrier() {
    let with =
        |barrier: &str| framed(&format!("st.shared.b32 [%a], %me; {barrier}\nst.shared.b32 [%z], 5; st.global.b32 [%at], %me;"));
    caught(FaultKind::SharedRace, "st.shared", &with(""), &with("bar.sync 0;"), 1, 64, 64);
    caught(FaultKind::SharedRace, "st.shared", &with(""), &with("bar.warp.sync -1;"), 1, 32, 32);
}

#[test]
fn a_warp_barrier_for_some_lanes_orders_only_those() {
    // Lanes 0 to 15 read the next lane's word; lane 15 reads lane 16's.
    let with = |last: u32| {
        framed(&format!(
            "st.shared.b32 [%a], %me; setp.lt.u32 %p, %me, 16; @!%p bra END;
             bar.warp.sync 0xffff;
             setp.lt.u32 %p, %me, {last}; @%p ld.shared.b32 %c, [%z];
             END: st.global.b32 [%at], %c;"
        ))
    };
    // The upper half stores before the branch, in the same instruction, and is not ordered.
    caught(FaultKind::SharedRace, "ld.shared", &with(16), &with(15), 1, 32, 32);
}

#[test]
fn neighbouring_halves_of_a_word_are_apart() {
    let with = |offset: u32| {
        framed(&format!(
            "mov.b32 %b, tile; mad.lo.u32 %b, %me, {offset}, %b; cvt.u16.u32 %h, %me; st.shared.b16 [%b], %h;
             st.global.b32 [%at], %me;"
        ))
    };
    run(options(0), &with(2), 1, 64, 64).unwrap_or_else(|fault| panic!("{fault}"));
    let overlapping = framed(
        "mov.b32 %b, tile; and.b32 %c, %me, 62; shl.b32 %c, %c, 1; add.u32 %b, %b, %c; cvt.u16.u32 %h, %me;
         and.b32 %c, %me, 1; setp.eq.u32 %p, %c, 1; @%p st.shared.b16 [%b], %h; @!%p st.shared.b16 [%b], %h; st.global.b32 [%at], %me;",
    );
    assert_eq!(run(options(0), &overlapping, 1, 64, 64).expect_err("two lanes, one half").kind, FaultKind::SharedRace);
}

#[test]
fn atomics_do_not_race_with_each_other_but_with_plain_accesses() {
    let with = |barrier: &str| {
        framed(&format!(
            "setp.eq.u32 %p, %me, 0; @%p st.shared.b32 [tile], 0; bar.sync 0;
             red.shared.add.u32 [tile], 1; {barrier}
             ld.shared.b32 %c, [tile]; st.global.b32 [%at], %c;"
        ))
    };
    caught(FaultKind::SharedRace, "shared", &with(""), &with("bar.sync 0;"), 1, 64, 64);
    // A volatile load may look at any time; what it sees is another matter.
    let volatile = with("").replace("ld.shared", "ld.volatile.shared");
    run(options(0), &volatile, 1, 64, 64).unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn blocks_may_not_touch_what_another_writes() {
    let with = |index: &str| {
        framed(&format!(
            "mov.u32 %c, {index}; mad.wide.u32 %at, %c, 4, %out; setp.eq.u32 %p, %me, 0; @%p st.global.b32 [%at], 1;"
        ))
    };
    caught(FaultKind::GlobalRace, "st.global", &with("0"), &with("%cta"), 4, 32, 4);
    // Reading what another block wrote, in either order.
    let read = |from: &str| {
        framed(&format!(
            "mad.wide.u32 %at, %cta, 4, %out; setp.eq.u32 %p, %me, 0; @%p st.global.b32 [%at], 1;
             @%p ld.global.b32 %c, [{from}]; @%p st.global.b32 [%at+32], %c;"
        ))
    };
    run(options(0), &read("%at"), 8, 32, 16).unwrap_or_else(|fault| panic!("{fault}"));
    for options in variants() {
        let fault = run(options, &read("%out"), 8, 32, 16).expect_err("block 0 writes what all read");
        assert!(matches!(fault.kind, FaultKind::GlobalRace | FaultKind::Unwritten), "{fault}");
    }
    // Atomics of several blocks are fine; a plain read among them is not.
    let atomic =
        |read: &str| framed(&format!("setp.ne.u32 %p, %me, 0; @%p bra END; atom.global.exch.b32 %c, [%at], 1; {read} END: ret;"));
    let seeded = |body: &str, seed: u64| {
        use crate::support::{Params, kernel, launch};
        let mut machine = ptxvm::Machine::new(options(seed));
        let out = machine.alloc(256).expect("memory");
        machine.fill(out, 0, 256).expect("inside");
        launch(&mut machine, &kernel("u64:out", body), 4, 32, 0, &Params::default().u64(out))
    };
    for seed in 0..8 {
        seeded(&atomic(""), seed).unwrap_or_else(|fault| panic!("{fault}"));
        seeded(&atomic("ld.relaxed.gpu.global.b32 %c, [%at];"), seed).unwrap_or_else(|fault| panic!("{fault}"));
        let fault = seeded(&atomic("ld.global.b32 %c, [%at];"), seed).expect_err("a plain read");
        assert_eq!(fault.kind, FaultKind::GlobalRace, "{fault}");
    }
}

#[test]
fn global_memory_within_a_block_needs_the_same_barriers() {
    let with = |barrier: &str| {
        framed(&format!("st.global.b32 [%at], %me; {barrier}\nld.global.b32 %c, [%next]; st.global.b32 [%at+256], %c;"))
    };
    caught(FaultKind::GlobalRace, "ld.global", &with(""), &with("bar.warp.sync -1;"), 1, 32, 96);
    for options in variants() {
        let fault = run(options.clone(), &with("bar.warp.sync -1;"), 1, 64, 128).expect_err("two warps");
        assert!(matches!(fault.kind, FaultKind::GlobalRace | FaultKind::Unwritten), "{fault}");
        run(options, &with("bar.sync 0;"), 1, 64, 128).unwrap_or_else(|fault| panic!("{fault}"));
    }
    // What was read before a barrier does not count against a thread that reads again and writes.
    let again = framed(
        "st.global.b32 [%at], %me; bar.sync 0; ld.global.b32 %c, [%next]; ld.global.b32 %c, [%out]; bar.sync 0;
         ld.global.b32 %c, [%at]; add.u32 %c, %c, 1; st.global.b32 [%at], %c;",
    );
    for options in variants() {
        let words = run(options.clone(), &again, 1, 64, 64).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(words, (1..65).collect::<Vec<_>>());
        let within = again.replace("bar.sync 0;", "bar.warp.sync -1;");
        let words = run(options, &within, 1, 32, 32).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(words, (1..33).collect::<Vec<_>>());
    }
    let after_read = |barrier: &str| {
        framed(&format!("st.global.b32 [%at], %me; bar.sync 0; ld.global.b32 %c, [%next]; {barrier}\nst.global.b32 [%at], %c;"))
    };
    caught(FaultKind::GlobalRace, "global.b32", &after_read(""), &after_read("bar.sync 0;"), 1, 64, 64);
}

#[test]
fn bytes_read_as_constant_may_not_be_written_in_the_launch() {
    let with = |load: &str| framed(&format!("st.global.b32 [%at], %me; {load} %c, [%at]; st.global.b32 [%at+128], %c;"));
    caught(FaultKind::GlobalRace, "ld.global.nc", &with("ld.global.nc.b32"), &with("ld.global.b32"), 1, 32, 64);
}
