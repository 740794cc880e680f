//! Loads, stores and atomics: widths, extension, bounds, alignment, written bytes, and the host's side of memory.

use ptxvm::{Class, FaultKind, Machine, MemoryError, Module, Options};

use crate::support::{Params, caught, download, kernel, launch, options, run, upload, variants};

/// A body for which `%at` is the thread's word of `out` and `%me` its number.
fn framed(body: &str) -> String {
    format!(
        ".reg .b64 %out, %at; .reg .b32 %me, %a, %b, %c, %x<4>; .reg .b64 %l<4>; .reg .b16 %h; .reg .pred %p;
         ld.param.u64 %out, [out]; mov.u32 %me, %tid.x; mad.wide.u32 %at, %me, 4, %out;
         {body}"
    )
}

#[test]
fn narrow_loads_extend_and_narrow_stores_keep_their_neighbours() {
    let body = framed(
        "mov.b32 %a, 0x80ff8001; st.global.b32 [%out], %a; mov.b32 %b, 0x1234; st.global.u8 [%out+1], %b;
         ld.global.s8 %x0, [%out+3]; ld.global.u8 %x1, [%out+3]; ld.global.s16 %x2, [%out+2]; ld.global.u16 %x3, [%out];
         st.global.v4.b32 [%out+16], {%x0, %x1, %x2, %x3};
         ld.global.s32 %l0, [%out]; st.global.b64 [%out+32], %l0; ld.global.b16 %h, [%out+2]; st.global.b16 [%out+40], %h;",
    );
    let words = run(options(0), &body, 1, 1, 12).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(words[0], 0x80FF_3401);
    assert_eq!(words[4..8], [0xFFFF_FF80, 0x80, 0xFFFF_80FF, 0x3401]);
    assert_eq!(words[8..10], [0x80FF_3401, 0xFFFF_FFFF]);
    assert_eq!(words[10], 0xFFFF_80FF, "the upper half was never written and reads as ones");
}

#[test]
fn parameters_are_read_by_name_offset_and_register() {
    let text = ".version 7.0 .target sm_80 .address_size 64
        .visible .entry k(.param .u32 n, .param .u64 out, .param .align 16 .b8 block[24]) {
            .reg .b64 %out, %p; .reg .b32 %n, %x<4>;
            ld.param.u32 %n, [n]; ld.param.u64 %out, [out];
            ld.param.v2.u32 {%x0, %x1}, [block+8]; mov.u64 %p, block; ld.param.u32 %x2, [%p+16]; ld.param.u16 %x3, [block+20];
            add.u32 %x0, %x0, %n;
            st.global.v4.b32 [%out], {%x0, %x1, %x2, %x3};
        }";
    let kernel = Module::parse(text).unwrap_or_else(|error| panic!("{error}")).kernel("k").expect("the entry k");
    let places: Vec<_> = kernel.params().iter().map(|p| (p.name.as_str(), p.offset, p.size, p.align)).collect();
    assert_eq!(places, [("n", 0, 4, 4), ("out", 8, 8, 8), ("block", 16, 24, 16)]);
    assert_eq!(kernel.param_bytes(), 40);
    let mut machine = Machine::new(options(0));
    let out = machine.alloc(16).expect("memory");
    let mut params = Params::default().u32(1000).u64(out);
    for word in [0u32, 1, 2, 3, 4, 0xABCD_0005] {
        params = params.u32(word);
    }
    launch(&mut machine, &kernel, 1, 1, 0, &params).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(download::<u32>(&machine, out, 4), [1002, 3, 4, 5]);
}

#[test]
fn vectors_go_through_shared_memory_in_order() {
    let body = framed(
        ".shared .align 16 .b8 tile[512];
         mov.b32 %a, tile; mad.lo.u32 %a, %me, 16, %a;
         add.u32 %x0, %me, 1; add.u32 %x1, %me, 2; add.u32 %x2, %me, 3; add.u32 %x3, %me, 4;
         st.shared.v4.u32 [%a], {%x0, %x1, %x2, %x3};
         ld.shared.v2.b32 {%b, _}, [%a+8]; ld.shared.b64 %l0, [%a];
         mov.b64 {%x0, %x1}, %l0; mad.lo.u32 %b, %b, 100, %x1;
         st.global.b32 [%at], %b;",
    );
    let words = run(options(0), &body, 1, 32, 32).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(words, (0..32).map(|tid| (tid + 3) * 100 + tid + 2).collect::<Vec<_>>());
}

#[test]
fn one_element_past_the_end_is_out_of_bounds() {
    let with = |count: u32| framed(&format!("setp.lt.u32 %p, %me, {count}; @%p st.global.b32 [%at], %me;"));
    caught(FaultKind::OutOfBounds, "st.global", &with(101), &with(100), 1, 128, 100);
    let before = framed("st.global.b32 [%out+-4], %me;");
    let fault = run(options(0), &before, 1, 1, 4).expect_err("before the first byte");
    assert!(fault.message.contains("4 bytes before the allocation"), "{fault}");
    let shared = |at: u32| framed(&format!(".shared .b32 words[8]; st.shared.b32 [words+{at}], %me; st.global.b32 [%at], %me;"));
    caught(FaultKind::OutOfBounds, "st.shared", &shared(32), &shared(28), 1, 1, 1);
    let null = framed("mov.b32 %a, 0; st.shared.b32 [%a], %a;");
    assert_eq!(run(options(0), &null, 1, 1, 4).expect_err("null").kind, FaultKind::OutOfBounds);
}

#[test]
fn freed_memory_is_out_of_bounds() {
    let kernel = kernel("u64:out", &framed("st.global.b32 [%at], %me;"));
    let mut machine = Machine::new(options(0));
    let out = machine.alloc(128).expect("memory");
    let params = Params::default().u64(out);
    launch(&mut machine, &kernel, 1, 32, 0, &params).unwrap_or_else(|fault| panic!("{fault}"));
    machine.free(out).expect("an allocation");
    machine.alloc(128).expect("memory");
    assert_eq!(launch(&mut machine, &kernel, 1, 32, 0, &params).expect_err("freed").kind, FaultKind::OutOfBounds);
}

#[test]
fn a_vector_must_be_aligned_as_a_whole() {
    let with = |offset: u32| {
        framed(&format!(
            "mov.b32 %x0, 1; mov.b32 %x1, 2; st.global.v2.b32 [%out+{offset}], {{%x0, %x1}}; st.global.b32 [%out+24], %x0;"
        ))
    };
    caught(FaultKind::Misaligned, "st.global.v2", &with(4), &with(8), 1, 1, 8);
    let shared = |offset: u32| {
        framed(&format!(
            ".shared .align 16 .b8 tile[64]; mov.b32 %x0, 1; st.shared.v4.b32 [tile+{offset}], {{%x0, %x0, %x0, %x0}}; st.global.b32 [%at], %x0;"
        ))
    };
    caught(FaultKind::Misaligned, "st.shared.v4", &shared(8), &shared(16), 1, 1, 1);
}

#[test]
fn bytes_nobody_wrote_cannot_be_loaded() {
    let with =
        |from: u32| framed(&format!("st.global.b32 [%out], %me; ld.global.b32 %a, [%out+{from}]; st.global.b32 [%out+8], %a;"));
    caught(FaultKind::Unwritten, "ld.global", &with(4), &with(0), 1, 1, 4);
    // Three of four bytes are not enough.
    let with = |last: &str| {
        framed(&format!(
            ".shared .b32 word; st.shared.u8 [word], %me; st.shared.u8 [word+1], %me; st.shared.u8 [word+2], %me; {last}
             ld.shared.b32 %a, [word]; st.global.b32 [%at], %a;"
        ))
    };
    caught(FaultKind::Unwritten, "ld.shared", &with(""), &with("st.shared.u8 [word+3], %me;"), 1, 1, 1);
}

#[test]
fn shared_memory_is_unwritten_again_in_the_next_block() {
    let with = |guard: &str| {
        framed(&format!(
            ".shared .b32 word; mov.u32 %a, %ctaid.x; setp.eq.u32 %p, %a, 0; {guard} st.shared.b32 [word], %a;
             ld.shared.b32 %b, [word]; mad.wide.u32 %at, %a, 4, %out; st.global.b32 [%at], %b;"
        ))
    };
    caught(FaultKind::Unwritten, "ld.shared", &with("@%p"), &with(""), 5, 1, 5);
}

#[test]
fn a_register_nobody_wrote_cannot_be_read() {
    let with = |guard: &str| framed(&format!("setp.lt.u32 %p, %me, 31; {guard} mov.b32 %a, 1; st.global.b32 [%at], %a;"));
    caught(FaultKind::UndefinedRegister, "st.global", &with("@%p"), &with(""), 1, 32, 32);
    let fault = run(options(0), &with("@%p"), 1, 32, 32).expect_err("lane 31 lacks it");
    assert_eq!(fault.lane, Some(31));
    assert!(fault.message.contains("%a"), "{fault}");
    let predicate = |guard: &str| framed(&format!("{guard} @%p st.global.b32 [%at], %me;"));
    caught(FaultKind::UndefinedRegister, "st.global", &predicate(""), &predicate("setp.lt.u32 %p, %me, 40;\n"), 1, 32, 32);
    let address = |set: &str| framed(&format!("{set}\nst.global.b32 [%l0], %me;"));
    caught(FaultKind::UndefinedRegister, "st.global", &address(""), &address("mov.u64 %l0, %at;"), 1, 32, 32);
}

#[test]
fn two_lanes_may_not_store_different_values_to_one_address() {
    let with = |value: &str| framed(&format!("st.global.b32 [%out], {value};"));
    caught(FaultKind::ConflictingStore, "st.global", &with("%me"), &with("7"), 1, 32, 1);
    let shared = |value: &str| framed(&format!(".shared .b32 word; st.shared.b32 [word], {value}; st.global.b32 [%at], %me;"));
    caught(FaultKind::ConflictingStore, "st.shared", &shared("%me"), &shared("7"), 1, 32, 32);
}

#[test]
fn atomics_combine_what_all_threads_bring() {
    let reduce = |op: &str, start: u32| {
        let body = framed(&format!(
            ".shared .b32 word; setp.eq.u32 %p, %me, 0; @%p st.shared.b32 [word], {start}; bar.sync 0;
             add.u32 %a, %me, 1; red.shared.{op} [word], %a; bar.sync 0; ld.shared.b32 %b, [word]; st.global.b32 [%at], %b;"
        ));
        variants().map(|options| run(options, &body, 1, 64, 64).unwrap_or_else(|fault| panic!("{fault}"))[9]).collect::<Vec<_>>()
    };
    assert!(reduce("add.u32", 5).iter().all(|&x| x == 5 + 65 * 32));
    assert!(reduce("max.s32", 0).iter().all(|&x| x == 64));
    assert!(reduce("min.u32", 99).iter().all(|&x| x == 1));
    assert!(reduce("or.b32", 0).iter().all(|&x| x == 127));
    assert!(reduce("and.b32", 0xFF).iter().all(|&x| x == 0));
    assert!(reduce("xor.b32", 0).iter().all(|&x| x == 64));
    // Every block adds to one counter; the old values are all different.
    let body = framed(
        "setp.eq.u32 %p, %me, 0; mov.u32 %b, %ctaid.x; add.u32 %b, %b, 1; mad.wide.u32 %at, %b, 4, %out;
         @%p atom.global.add.u32 %a, [%out], 1; @%p st.global.b32 [%at], %a;",
    );
    for options in variants() {
        let kernel = kernel("u64:out", &body);
        let mut machine = Machine::new(options);
        let out = machine.alloc(4 * 11).expect("memory");
        machine.fill(out, 0, 4).expect("a fill inside the allocation");
        launch(&mut machine, &kernel, 10, 32, 0, &Params::default().u64(out)).unwrap_or_else(|fault| panic!("{fault}"));
        let mut words: Vec<u32> = download(&machine, out, 11);
        words[1..].sort_unstable();
        assert_eq!(words, [10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
}

#[test]
fn atomics_add_floats_exchange_and_compare() {
    let body = framed(
        ".reg .f32 %f; .reg .f64 %d;
         mov.f32 %f, 0f3FC00000; atom.global.add.f32 %f, [%out], %f; st.global.f32 [%out+16], %f;
         mov.f64 %d, 0d3FF8000000000000; red.global.add.f64 [%out+8], %d;
         atom.global.exch.b32 %a, [%out+4], 77; st.global.b32 [%out+20], %a;
         atom.global.cas.b32 %a, [%out+4], 78, 1; atom.global.cas.b32 %b, [%out+4], 77, 2; st.global.v2.b32 [%out+24], {%a, %b};",
    );
    let kernel = kernel("u64:out", &body);
    let mut machine = Machine::new(options(0));
    let out = upload(&mut machine, &[2f32.to_bits(), 5, 0, 0x4000_0000, 0, 0, 0, 0]);
    launch(&mut machine, &kernel, 1, 1, 0, &Params::default().u64(out)).unwrap_or_else(|fault| panic!("{fault}"));
    let words: Vec<u32> = download(&machine, out, 8);
    assert_eq!(words[..2], [3.5f32.to_bits(), 2]);
    assert_eq!(download::<f64>(&machine, out + 8, 1), [3.5]);
    assert_eq!(words[4..], [2f32.to_bits(), 5, 77, 77]);
}

#[test]
fn the_hosts_writes_fills_and_copies_carry_the_written_state() {
    let mut machine = Machine::new(Options { memory: 1 << 20, ..Options::default() });
    assert_eq!(machine.memory(), (1 << 20, 1 << 20));
    let a = machine.alloc(10_000).expect("memory");
    let b = machine.alloc(10_000).expect("memory");
    assert_eq!((a % 256, b % 256), (0, 0));
    assert!(b > a + 10_000 + 4096, "a gap lies between");
    assert_eq!(machine.memory().0, (1 << 20) - 2 * 10_240);
    assert_eq!(download::<u8>(&machine, a, 3), [0xFF; 3]);
    machine.write(a + 4090, &[1, 2, 3, 4, 5, 6, 7, 8]).expect("inside");
    assert!(machine.is_written(a + 4090, 8) && !machine.is_written(a + 4089, 2) && !machine.is_written(a + 4097, 2));
    machine.fill(b, 9, 10_000).expect("inside");
    machine.copy(b + 100, a + 4000, 200).expect("inside");
    assert!(machine.is_written(b, 100) && !machine.is_written(b + 100, 1) && machine.is_written(b + 190, 8));
    assert_eq!(download::<u8>(&machine, b + 190, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(machine.is_written(b + 300, 9700) && !machine.is_written(b + 299, 1));
    machine.copy(a + 4092, a + 4090, 8).expect("overlapping ranges");
    assert_eq!(download::<u8>(&machine, a + 4090, 10), [1, 2, 1, 2, 3, 4, 5, 6, 7, 8]);

    assert!(matches!(machine.write(a + 9_999, &[0, 0]), Err(MemoryError::OutOfBounds { .. })));
    assert!(matches!(machine.read(a - 1, &mut [0]), Err(MemoryError::OutOfBounds { .. })));
    assert!(matches!(machine.free(a + 256), Err(MemoryError::NotAnAllocation { .. })));
    assert_eq!(machine.alloc(1 << 20), Err(MemoryError::OutOfMemory { asked: 1 << 20, free: (1 << 20) - 2 * 10_240 }));
    machine.free(a).expect("an allocation");
    assert!(matches!(machine.free(a), Err(MemoryError::NotAnAllocation { .. })));
    assert!(matches!(machine.read(a, &mut [0]), Err(MemoryError::OutOfBounds { .. })));
    machine.free(b).expect("an allocation");
    assert_eq!(machine.memory().0, 1 << 20);
}

#[test]
fn instructions_sectors_and_bank_conflicts_are_counted() {
    let count = |stride: u32| {
        let body = framed(&format!(
            ".shared .align 16 .b8 tile[4096]; mov.b32 %a, tile; mad.lo.u32 %a, %me, {stride}, %a;
             st.shared.b32 [%a], %me; mad.wide.u32 %at, %me, {stride}, %out; st.global.b32 [%at], %me;
             bar.sync 0;"
        ));
        let kernel = kernel("u64:out", &body);
        let mut machine = Machine::new(options(0));
        let out = machine.alloc(4096).expect("memory");
        launch(&mut machine, &kernel, 1, 32, 0, &Params::default().u64(out)).unwrap_or_else(|fault| panic!("{fault}"))
    };
    let (dense, sparse) = (count(4), count(128));
    assert_eq!((dense.bank_conflicts, dense.sectors, dense.sectors_least), (0, 4, 4));
    assert_eq!((sparse.bank_conflicts, sparse.sectors, sparse.sectors_least), (31, 32, 4));
    assert_eq!((dense.count(Class::Shared), dense.count(Class::Global), dense.barriers), (1, 1, 1));
    assert_eq!((dense.count(Class::Parameter), dense.count(Class::Control)), (1, 1));
    assert_eq!(dense.instructions, 10);
}
