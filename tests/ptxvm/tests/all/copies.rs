//! Asynchronous copies: groups and waits, bytes in flight, filling with zeros, and when the source is read.

use ptxvm::{Completion, Fault, FaultKind, Machine, Options};

use crate::support::{Params, download, kernel, launch, options, upload, variants};

/// A kernel of 64 threads over `in` (u32 words, one 16-byte piece a thread) and `out`; `%from` is the thread's piece,
/// `%to` its place in shared memory, `%other` that of the thread 32 further.
fn framed(body: &str) -> String {
    format!(
        ".shared .align 16 .b8 tile[4096];
         .reg .b64 %in, %out, %from, %at; .reg .b32 %me, %to, %other, %c, %n, %x<4>; .reg .pred %p;
         ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; mov.u32 %me, %tid.x;
         mad.wide.u32 %from, %me, 16, %in; mad.wide.u32 %at, %me, 4, %out;
         mov.b32 %to, tile; mad.lo.u32 %other, %me, 16, %to; xor.b32 %other, %other, 512; mad.lo.u32 %to, %me, 16, %to;
         {body}"
    )
}

fn run(options: Options, body: &str) -> Result<Vec<u32>, Fault> {
    let kernel = kernel("u64:in u64:out", &framed(body));
    let mut machine = Machine::new(options);
    let words: Vec<u32> = (0..256).collect();
    let (input, out) = (upload(&mut machine, &words), machine.alloc(256).expect("memory"));
    launch(&mut machine, &kernel, 1, 64, 0, &Params::default().u64(input).u64(out))?;
    Ok(download(&machine, out, 64))
}

fn caught(kind: FaultKind, line: &str, defective: &str, correct: &str) {
    for options in variants() {
        let fault = run(options.clone(), defective).expect_err("the defect should be caught");
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.text.contains(line), "{fault}");
        run(options, correct).unwrap_or_else(|fault| panic!("the correct twin: {fault}"));
    }
}

const COPY: &str = "cp.async.cg.shared.global [%to], [%from], 16;\ncp.async.commit_group;\n";

#[test]
fn a_copy_arrives_at_its_wait() {
    let body = format!("{COPY} cp.async.wait_group 0;\nbar.sync 0;\nld.shared.b32 %c, [%other+4]; st.global.b32 [%at], %c;");
    for options in variants() {
        let words = run(options, &body).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(words, (0..64).map(|tid| (tid ^ 32) * 4 + 1).collect::<Vec<_>>());
    }
}

#[test]
fn bytes_in_flight_may_not_be_touched_by_anybody() {
    let own = |wait: &str| format!("{COPY} {wait}\nld.shared.b32 %c, [%to]; st.global.b32 [%at], %c;\ncp.async.wait_all;");
    caught(FaultKind::InFlight, "ld.shared", &own(""), &own("cp.async.wait_group 0;"));
    caught(FaultKind::InFlight, "ld.shared", &own("bar.sync 0;"), &own("cp.async.wait_all;"));
    caught(FaultKind::InFlight, "ld.shared", &own("cp.async.wait_group 1;"), &own("cp.async.wait_group 0;"));
    let store = |wait: &str| format!("{COPY} {wait}\nst.shared.b32 [%to], %me; cp.async.wait_all; st.global.b32 [%at], %me;");
    caught(FaultKind::InFlight, "st.shared", &store(""), &store("cp.async.wait_group 0;"));
    let twice = |wait: &str| {
        format!("{COPY} {wait}\ncp.async.ca.shared.global [%to+8], [%from], 4;\ncp.async.wait_all; st.global.b32 [%at], %me;")
    };
    caught(FaultKind::InFlight, "cp.async.ca", &twice(""), &twice("cp.async.wait_all;"));
}

#[test]
fn the_wait_of_one_thread_is_not_enough_for_another() {
    let with =
        |barrier: &str| format!("{COPY} cp.async.wait_group 0;\n{barrier}\nld.shared.b32 %c, [%other]; st.global.b32 [%at], %c;");
    for options in variants() {
        let fault = run(options.clone(), &with("")).expect_err("no barrier");
        assert!(matches!(fault.kind, FaultKind::InFlight | FaultKind::SharedRace | FaultKind::Unwritten), "{fault}");
        run(options, &with("bar.sync 0;")).unwrap_or_else(|fault| panic!("{fault}"));
    }
}

#[test]
fn a_barrier_before_the_wait_is_the_wrong_way_round() {
    let with =
        |first: &str, second: &str| format!("{COPY} {first}\n{second}\nld.shared.b32 %c, [%other]; st.global.b32 [%at], %c;");
    let right = with("cp.async.wait_group 0;", "bar.sync 0;");
    for options in variants() {
        let fault = run(options.clone(), &with("bar.sync 0;", "cp.async.wait_group 0;")).expect_err("the wrong way round");
        assert!(matches!(fault.kind, FaultKind::InFlight | FaultKind::SharedRace), "{fault}");
        run(options, &right).unwrap_or_else(|fault| panic!("{fault}"));
    }
}

#[test]
fn a_copy_over_what_another_still_reads_needs_a_barrier() {
    let with = |barrier: &str| {
        format!(
            "st.shared.v4.b32 [%to], {{%me, %me, %me, %me}}; bar.sync 0;\nld.shared.b32 %c, [%other]; {barrier}
             {COPY} cp.async.wait_all; st.global.b32 [%at], %c;"
        )
    };
    for options in variants() {
        let fault = run(options.clone(), &with("")).expect_err("no barrier");
        assert!(matches!(fault.kind, FaultKind::SharedRace | FaultKind::InFlight), "{fault}");
        run(options, &with("bar.sync 0;")).unwrap_or_else(|fault| panic!("{fault}"));
    }
}

#[test]
fn groups_complete_from_the_oldest_on() {
    let piece = |slot: u32, offset: u32| {
        format!("cp.async.ca.shared.global [%to+{}], [%from+{offset}], 4;\ncp.async.commit_group;\n", 1024 * slot)
    };
    let pieces = format!("{}{}{}", piece(0, 4), piece(1, 8), piece(2, 12));
    let with = |pending: u32, slot: u32| {
        format!(
            "{pieces} cp.async.wait_group {pending};\nld.shared.b32 %c, [%to+{}]; st.global.b32 [%at], %c; cp.async.wait_all;",
            1024 * slot
        )
    };
    for slot in 0..3 {
        for pending in 0..3 {
            for options in variants().take(4) {
                let result = run(options, &with(pending, slot));
                match slot + pending <= 2 {
                    true => assert_eq!(result.unwrap_or_else(|fault| panic!("{fault}"))[5], 21 + slot),
                    false => assert_eq!(result.expect_err("still in flight").kind, FaultKind::InFlight),
                }
            }
        }
    }
}

#[test]
fn a_group_never_waited_for_is_caught_at_the_exit() {
    let with = |wait: &str| format!("{COPY} st.global.b32 [%at], %me; {wait}\nret;");
    caught(FaultKind::UnwaitedCopy, "ret", &with(""), &with("cp.async.wait_group 0;"));
    let uncommitted =
        |wait: &str| format!("cp.async.cg.shared.global [%to], [%from], 16; st.global.b32 [%at], %me; {wait}\nret;");
    // Waiting for groups does not wait for what no group holds.
    caught(FaultKind::UnwaitedCopy, "ret", &uncommitted("cp.async.wait_group 0;"), &uncommitted("cp.async.wait_all;"));
}

#[test]
fn what_the_source_size_leaves_out_is_zero_and_not_read() {
    let with = |bytes: &str| {
        format!(
            "mov.b32 %n, {bytes}; setp.lt.u32 %p, %me, 32; selp.b64 %from, %from, 16, %p; selp.b32 %n, %n, 0, %p;
             cp.async.cg.shared.global [%to], [%from], 16, %n; cp.async.wait_all;
             ld.shared.v4.b32 {{%x0, %x1, %x2, %x3}}, [%to];
             mad.lo.u32 %c, %x1, 1000, %x2; add.u32 %c, %c, %x3; st.global.b32 [%at], %c;"
        )
    };
    for options in variants() {
        let words = run(options, &with("8")).unwrap_or_else(|fault| panic!("{fault}"));
        // The upper half of the threads names address 16, of which nothing is read.
        assert_eq!(words, (0..64).map(|tid| if tid < 32 { (4 * tid + 1) * 1000 } else { 0 }).collect::<Vec<_>>());
    }
    caught(FaultKind::IllegalOperand, "cp.async", &with("17"), &with("16"));
}

#[test]
fn both_sides_are_checked_when_the_copy_is_issued() {
    let with = |to: &str, from: &str| {
        format!("cp.async.cg.shared.global [%to{to}], [%from{from}], 16; cp.async.wait_all; st.global.b32 [%at], %me;")
    };
    caught(FaultKind::Misaligned, "cp.async", &with("+8", ""), &with("+16", ""));
    caught(FaultKind::Misaligned, "cp.async", &with("", "+8"), &with("", ""));
    caught(FaultKind::OutOfBounds, "cp.async", &with("", "+16"), &with("", ""));
    caught(FaultKind::OutOfBounds, "cp.async", &with("+4096", ""), &with("+1024", ""));
}

#[test]
fn a_source_overwritten_before_the_wait_shows() {
    // The thread writes its own source after issuing: early copies have the old words, late ones the new.
    let body = format!("{COPY} st.global.b32 [%from], 999; cp.async.wait_all; ld.shared.b32 %c, [%to]; st.global.b32 [%at], %c;");
    let words = |completion| run(Options { completion, ..options(0) }, &body).unwrap_or_else(|fault| panic!("{fault}"))[3];
    assert_eq!((words(Completion::Early), words(Completion::Late)), (12, 999));
    // Another thread doing it is a race.
    let other =
        "mov.b64 %at, %in; xor.b32 %n, %me, 32; mad.wide.u32 %at, %n, 16, %at; st.global.b32 [%at], 999; cp.async.wait_all;";
    for options in variants() {
        assert_eq!(run(options, &format!("{COPY} {other}")).expect_err("a race").kind, FaultKind::GlobalRace);
    }
}
